"""Whether two sets of predictions differ by more than chance, told from the statistics of their scores."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from polyglance.evaluate.metrics.resampling import PairedMethod, paired_test
from polyglance.evaluate.score_report import Measurement, ScoreReport

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two systems under one metric and protocol."""

    name: str
    """Of the score: `CIDEr`."""
    protocol: str
    system_a: str
    system_b: str
    score_a: float
    score_b: float
    difference: float
    """Score of b minus score of a: above 0 where b has more."""
    interval: tuple[float, float] | None
    """95 % interval of the difference; None after a permutation test."""
    p_value: float
    """Two-sided."""
    num_ties: int
    """Segments on which the two have the same statistics."""
    num_segments: int
    method: PairedMethod


def compare(
    a: ScoreReport, b: ScoreReport, *, method: PairedMethod = "bootstrap", num_samples: int = 1000, seed: int = 0
) -> tuple[Comparison, ...]:
    """Paired tests of everything that both reports measured.

    Raises:
        ValueError: the two measured nothing in common, or not the same thing: other references, protocol, versions,
            document frequencies or scale. The message names the first part of the signatures that differs.
    """
    measured_b = {one.key: one for one in b.measurements}
    pairs = [(one, measured_b[one.key]) for one in a.measurements if one.key in measured_b]
    if not pairs:
        raise ValueError(f"{a.source} and {b.source} have no metric and protocol in common")
    results = []
    for one, other in pairs:
        _check_same(one, other, a, b)
        results += _compared(one, _reordered(other, a, b), a, b, method=method, num_samples=num_samples, seed=seed)
    return tuple(results)


def _compared(
    one: Measurement,
    other: Measurement,
    a: ScoreReport,
    b: ScoreReport,
    *,
    method: PairedMethod,
    num_samples: int,
    seed: int,
) -> list[Comparison]:
    # The second system goes first: differences are its score minus the first's.
    tested = paired_test(
        one.metric, other.statistics, one.statistics, method=method, num_samples=num_samples, seed=seed
    )
    # Equal but for rounding, which depends on the order in which references were read.
    ties = int(np.isclose(one.statistics.values, other.statistics.values, rtol=1e-9, atol=1e-12).all(axis=1).sum())
    return [
        Comparison(
            name=name,
            protocol=one.protocol,
            system_a=a.source,
            system_b=b.source,
            score_a=result.score_b * one.factor,
            score_b=result.score_a * one.factor,
            difference=result.difference * one.factor,
            interval=None
            if result.interval is None
            else (result.interval[0] * one.factor, result.interval[1] * one.factor),
            p_value=result.p_value,
            num_ties=ties,
            num_segments=len(one.statistics.values),
            method=method,
        )
        for name, result in tested.items()
    ]


def _check_same(one: Measurement, other: Measurement, a: ScoreReport, b: ScoreReport) -> None:
    difference = _first_difference(one.parts, other.parts)
    if difference is not None:
        key, left, right = difference
        raise ValueError(
            f"{a.source} and {b.source} cannot be compared on {one.metric.name}: their signatures say {key}:{left} and "
            f"{key}:{right}; score both with the same references and settings"
        )
    if set(map(str, a.ids)) != set(map(str, b.ids)):
        raise ValueError(f"{a.source} and {b.source} cannot be compared: they are scores of different ids")


def _first_difference(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, str, str] | None:
    for key in dict.fromkeys((*one, *other)):
        if one.get(key) != other.get(key):
            return key, one.get(key, "(none)"), other.get(key, "(none)")
    return None


def _reordered(other: Measurement, a: ScoreReport, b: ScoreReport) -> Measurement:
    """The second system's statistics in the order of the first's ids."""
    rows = {str(name): row for row, name in enumerate(b.ids)}
    order = [rows[str(name)] for name in a.ids]
    if order == list(range(len(order))):
        return other
    values = other.statistics.values[order]
    return replace(other, statistics=replace(other.statistics, values=values))
