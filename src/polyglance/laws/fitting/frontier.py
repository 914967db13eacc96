"""Pareto frontier of runs: those for which no other run has a lower loss at no more compute.

The frontier keeps the measured (C, y) of real runs, also where it is the lowest run of each bin of compute. Pairing
each minimum with the centre of its bin is not offered: it biases the law by several percent (LAION's published
protocol, measured at -1.6 to -4 %).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from polyglance.laws.arrays import Floats, Indices

__all__ = ["find_pareto_frontier"]


def find_pareto_frontier(
    compute: Floats,
    loss: Floats,
    *,
    runs: Sequence[Any] | None = None,
    window: int = 1,
    final_only: bool = False,
    min_gap: float = 0.0,
    bins: int = 0,
) -> Indices:
    """Return the indices of the strictly non-dominated runs, or of the lowest run of each bin, by increasing compute.

    A run is on the frontier when no other one has at most its compute and at most its loss; of equal runs the first.

    Args:
        compute: (n,), in any unit.
        loss: (n,), lower is better.
        runs: (n,) label of the run that each checkpoint belongs to; needed for `final_only` and `window`.
        window: number of neighbouring checkpoints, odd, by whose median loss runs are compared.
        final_only: use only the last checkpoint of each run.
        min_gap: smallest distance between two points, in decades of compute; the last point is always kept.
        bins: number of bins of compute, equally wide in its log, whose lowest runs are the frontier; 0: the runs that
            are not dominated.

    Raises:
        ValueError: compute and loss differ in length, runs are needed and not given, or an option is out of range.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the frontier's window is {window}; expected an odd number of checkpoints, 1 or more")
    if not 0 <= min_gap < np.inf:
        raise ValueError(f"the frontier's smallest gap is {min_gap} decades; expected 0 or more")
    if bins < 0 or bins == 1 or (bins and min_gap):
        raise ValueError(f"the frontier has {bins} bins; expected 0, or 2 or more without a smallest gap")
    compute, loss = np.asarray(compute, dtype=float), np.asarray(loss, dtype=float)
    if compute.shape != loss.shape or compute.ndim != 1:
        raise ValueError(f"compute and loss must be of one length, got {compute.shape} and {loss.shape}")
    candidates = np.arange(len(loss))
    if final_only or window > 1:
        if runs is None:
            raise ValueError("final_only and window need the run that each row belongs to; name its column as cluster")
        checkpoints = _group_checkpoints(compute, runs)
        if window > 1:
            loss = _smooth(loss, checkpoints, window)
        if final_only:
            candidates = np.array([members[-1] for members in checkpoints], dtype=np.int64)
    order = candidates[np.lexsort((loss[candidates], compute[candidates]))]
    if bins:
        return _find_lowest(compute, loss, order, bins)
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(loss[order])])[:-1]
    return _thin(compute, order[loss[order] < best_before], min_gap)


def _find_lowest(compute: Floats, loss: Floats, order: Indices, bins: int) -> Indices:
    """Return the run of the lowest loss in each bin of log compute, of those in `order`, by increasing compute."""
    logs = np.log(compute[order])
    width = float(np.ptp(logs)) / bins
    numbers = np.minimum((logs - logs.min()) / width, bins - 1).astype(int) if width > 0 else np.zeros(len(logs), int)
    by_loss = order[np.lexsort((compute[order], loss[order], numbers))]
    _, first = np.unique(np.sort(numbers), return_index=True)
    return by_loss[first]


def _group_checkpoints(compute: Floats, runs: Sequence[Any]) -> list[Indices]:
    """Return the indices of each run's checkpoints, by increasing compute."""
    members: dict[str, list[int]] = {}
    for index in np.argsort(compute, kind="stable").tolist():
        members.setdefault(str(runs[index]), []).append(index)
    return [np.array(indices) for indices in members.values()]


def _smooth(loss: Floats, checkpoints: Sequence[Indices], window: int) -> Floats:
    """Return the median of each loss over its neighbouring checkpoints of the same run."""
    smoothed = loss.copy()
    half = window // 2
    for members in checkpoints:
        for position, index in enumerate(members):
            smoothed[index] = np.median(loss[members[max(0, position - half) : position + half + 1]])
    return smoothed


def _thin(compute: Floats, frontier: Indices, min_gap: float) -> Indices:
    """Return the frontier without points that are closer than the gap to the next larger point."""
    if min_gap == 0 or len(frontier) == 0:
        return frontier
    kept = [frontier[-1]]
    for index in frontier[-2::-1]:
        if np.log10(compute[kept[-1]] / compute[index]) >= min_gap:
            kept.append(index)
    return np.array(kept[::-1])
