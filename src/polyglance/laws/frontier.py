"""The Pareto frontier of runs: those that no other run beats at no more compute.

The frontier keeps the real runs, (C, y) as measured. Binned minima paired with a bin's centre are biased by several
percent (reference: LAION's published protocol, measured at -1.6 to -4 %), so they are not offered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrontierConfig", "pareto_frontier"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FrontierConfig:
    """Which runs may be on a frontier, and how close together."""

    window: int = 1
    """Median over this many neighbouring checkpoints of a run before comparing; the loss kept is the real one."""
    final_only: bool = False
    """Only each run's last checkpoint (needs a cluster column that tells runs apart)."""
    min_gap_decades: float = 0.0
    """Thin the frontier: points lie at least this far apart in log10 compute, the last one always kept."""

    def __post_init__(self) -> None:
        if self.window < 1 or self.window % 2 == 0:
            raise ValueError(f"frontier window is {self.window}; it must be an odd number of checkpoints, 1 or more")
        if not 0 <= self.min_gap_decades < np.inf:
            raise ValueError(f"frontier min_gap_decades is {self.min_gap_decades}; it must be 0 or more")


def pareto_frontier(
    compute: Floats,
    loss: Floats,
    *,
    groups: Sequence[Any] | None = None,
    runs: Sequence[Any] | None = None,
    config: FrontierConfig | None = None,
) -> Indices:
    """Indices of the strictly non-dominated runs, by increasing compute (per group, groups in order of appearance).

    A run is on the frontier when no other one has at most its compute and at most its loss; of equals the first stays.

    Args:
        compute: (n,), any unit.
        loss: (n,), lower is better.
        groups: (n,) labels, such as languages or models, each with a frontier of its own.
        runs: (n,) labels of the run that each checkpoint belongs to; needed for `final_only` and `window`.
    """
    config = config or FrontierConfig()
    compute, loss = np.asarray(compute, dtype=float), np.asarray(loss, dtype=float)
    if compute.shape != loss.shape or compute.ndim != 1:
        raise ValueError(f"compute and loss must be of one length, got {compute.shape} and {loss.shape}")
    if runs is None and (config.final_only or config.window > 1):
        raise ValueError("final_only and window need the run that each row belongs to; name its column as cluster")
    candidates = np.arange(len(loss))
    compared = loss
    if runs is not None:
        compared = _smoothed(compute, loss, runs, config.window)
        if config.final_only:
            candidates = np.array([members[-1] for members in _by_label(compute, runs)], dtype=np.int64)
    if groups is None:
        return _one_frontier(compute, compared, candidates, config.min_gap_decades)
    labels = np.array([str(group) for group in groups])
    parts = [
        _one_frontier(compute, compared, candidates[labels[candidates] == label], config.min_gap_decades)
        for label in dict.fromkeys(labels.tolist())
    ]
    return np.concatenate(parts) if parts else candidates


def _one_frontier(compute: Floats, loss: Floats, candidates: Indices, min_gap_decades: float) -> Indices:
    order = candidates[np.lexsort((loss[candidates], compute[candidates]))]
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(loss[order])[:-1]]) if len(order) else loss[order]
    frontier = order[loss[order] < best_before]
    if min_gap_decades == 0 or len(frontier) == 0:
        return frontier
    kept = [frontier[-1]]
    for index in frontier[-2::-1]:
        if np.log10(compute[kept[-1]] / compute[index]) >= min_gap_decades:
            kept.append(index)
    return np.array(kept[::-1])


def _by_label(compute: Floats, runs: Sequence[Any]) -> list[Indices]:
    """Indices of each run's checkpoints, by increasing compute."""
    members: dict[str, list[int]] = {}
    for index in np.argsort(compute, kind="stable").tolist():
        members.setdefault(str(runs[index]), []).append(index)
    return [np.array(indices) for indices in members.values()]


def _smoothed(compute: Floats, loss: Floats, runs: Sequence[Any], window: int) -> Floats:
    if window == 1:
        return loss
    smoothed = loss.copy()
    for members in _by_label(compute, runs):
        half = window // 2
        for position, index in enumerate(members):
            near = members[max(0, position - half) : position + half + 1]
            smoothed[index] = np.median(loss[near])
    return smoothed
