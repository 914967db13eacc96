"""Comparison of two systems: whether their scores differ by more than chance, from the statistics of the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from polyglance.evaluate.metrics.resampling import PairedMethod, Resampling, run_paired_test
from polyglance.evaluate.score_report import Measurement, ScoreReport, scale_interval

__all__ = ["SystemComparison", "compare_systems", "correct_p_values", "find_order", "pair_measurements"]


@dataclass(frozen=True, kw_only=True)
class SystemComparison:
    """Two systems under one metric and protocol."""

    name: str
    """Name of the score: `CIDEr`."""
    protocol: str
    system_a: str
    system_b: str
    score_a: float
    score_b: float
    difference: float
    """Score of b minus score of a: positive where b scores higher."""
    interval: tuple[float, float] | None
    """Bootstrap interval of the difference, 95 % by default; None for one segment."""
    p_value: float
    """Two-sided p-value."""
    p_holm: float
    """The p-value corrected for the number of systems that are compared on this score (Holm 1979)."""
    num_ties: int
    """Number of segments on which the two have the same statistics."""
    num_segments: int
    method: PairedMethod


def compare_systems(
    a: ScoreReport,
    b: ScoreReport,
    *,
    names: tuple[str, str] | None = None,
    method: PairedMethod = "permutation",
    resampling: Resampling,
) -> tuple[SystemComparison, ...]:
    """Run paired tests of everything that both reports measured.

    Args:
        names: names of the two systems; their files of predictions if not given.

    Raises:
        ValueError: the two measured nothing in common, or not the same thing: other references, protocol, versions,
            document frequencies or scale. The message names the first part of the signatures that differs.
    """
    comparisons: list[SystemComparison] = []
    for one, other in pair_measurements(a, b):
        comparisons += _compare(one, other, names or (a.source, b.source), method, resampling)
    return tuple(comparisons)


def pair_measurements(a: ScoreReport, b: ScoreReport) -> list[tuple[Measurement, Measurement]]:
    """Return the measurements that both reports have, the second's segments in the order of the first's.

    Raises:
        ValueError: as `compare_systems`.
    """
    measured_b = {one.key: one for one in b.measurements}
    pairs = [(one, measured_b[one.key]) for one in a.measurements if one.key in measured_b]
    if not pairs:
        raise ValueError(f"{a.source} and {b.source} have no metric and protocol in common")
    for one, other in pairs:
        _check_same(one, other, a, b)
    return [(one, _reorder(other, a, b)) for one, other in pairs]


def correct_p_values(comparisons: Sequence[SystemComparison]) -> tuple[SystemComparison, ...]:
    """Correct the p-values of each score for the number of systems that were compared on it (Holm 1979).

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on; none falls below the one before.
    """
    corrected = list(comparisons)
    for key in dict.fromkeys((one.protocol, one.name) for one in comparisons):
        places = [place for place, one in enumerate(comparisons) if (one.protocol, one.name) == key]
        largest = 0.0
        for rank, place in enumerate(sorted(places, key=lambda place: comparisons[place].p_value)):
            largest = min(1.0, max(largest, comparisons[place].p_value * (len(places) - rank)))
            corrected[place] = replace(comparisons[place], p_holm=largest)
    return tuple(corrected)


def _compare(
    one: Measurement, other: Measurement, systems: tuple[str, str], method: PairedMethod, resampling: Resampling
) -> list[SystemComparison]:
    # The second system goes first: differences are its score minus the first's.
    tested = run_paired_test(one.metric, other.statistics, one.statistics, method=method, resampling=resampling)
    # Rounding differences, which depend on the order in which references were read, count as equal.
    ties = np.isclose(one.statistics.values, other.statistics.values, rtol=1e-9, atol=1e-12).all(axis=1)
    return [
        SystemComparison(
            name=name,
            protocol=one.parts["proto"],
            system_a=systems[0],
            system_b=systems[1],
            score_a=result.score_b * one.factor,
            score_b=result.score_a * one.factor,
            difference=result.difference * one.factor,
            interval=scale_interval(result.interval, one.factor) if len(ties) > 1 else None,
            p_value=result.p_value,
            p_holm=result.p_value,
            num_ties=int(ties.sum()),
            num_segments=len(one.statistics.values),
            method=method,
        )
        for name, result in tested.items()
    ]


def _check_same(one: Measurement, other: Measurement, a: ScoreReport, b: ScoreReport) -> None:
    """Refuse measurements of different things."""
    difference = _find_difference(one.parts, other.parts)
    if difference is not None:
        key, left, right = difference
        raise ValueError(
            f"{a.source} and {b.source} cannot be compared on {one.metric.name}: their signatures say {key}:{left} and "
            f"{key}:{right}; score both with the same references and settings"
        )
    if set(map(str, a.ids)) != set(map(str, b.ids)):
        raise ValueError(f"{a.source} and {b.source} cannot be compared: their ids differ")


def _find_difference(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return key and both values of the first part of two signatures that differs."""
    for key in dict.fromkeys((*one, *other)):
        if one.get(key) != other.get(key):
            return key, one.get(key, "(none)"), other.get(key, "(none)")
    return None


def find_order(a: ScoreReport, b: ScoreReport) -> list[int]:
    """Return the row of the second report for each segment of the first; both have the same ids."""
    rows = {str(name): row for row, name in enumerate(b.ids)}
    return [rows[str(name)] for name in a.ids]


def _reorder(other: Measurement, a: ScoreReport, b: ScoreReport) -> Measurement:
    """Bring the second system's statistics into the order of the first's ids."""
    order = find_order(a, b)
    if order == list(range(len(order))):
        return other
    values = other.statistics.values[order]
    return replace(other, statistics=replace(other.statistics, values=values))
