"""Bootstrap intervals of scores, and paired tests of two systems, for every metric.

All work is done on the statistics of segments, never on texts. A draw is a vector of weights (how often each segment
was drawn), so that the statistics of many draws are one matrix product. Random numbers depend on (seed, draw) only:
every metric and every system has the same draws, whatever is computed together.

Bootstrap of a test set: Koehn 2004, https://aclanthology.org/W04-3250. Approximate randomisation: Riezler and Maxwell
2005, https://aclanthology.org/W05-0908. p-values count the observed outcome as one of the draws, (c + 1) / (n + 1), as
sacrebleu and multeval do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from polyglance.evaluate.metrics.metric import Metric, Statistics
from polyglance.languages import did_you_mean

__all__ = ["MIN_SAMPLES", "PairedMethod", "PairedResult", "Resampling", "bootstrap_intervals", "run_paired_test"]

PairedMethod = Literal["permutation", "bootstrap"]
MIN_SAMPLES = 20
"""Smallest number of draws. Fewer may leave the score itself outside its interval."""

_BOOTSTRAP, _PERMUTATION = 0, 1  # purpose of random numbers
_CHUNK_VALUES = 4_000_000
"""Number of weights held in memory at once: 32 MB."""
_EQUAL = 1e-10
"""Largest difference of scores, as a share of the metric's scale, that counts as a tie, because of rounding."""


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """Number, seed and level of the draws that intervals and paired tests make."""

    num_samples: int = 1000
    """Number of draws. 0: no intervals."""
    seed: int = 0
    """Seed of the draws."""
    level: float = 0.95
    """Share of the draws inside an interval."""


@dataclass(frozen=True, kw_only=True)
class PairedResult:
    """Scores of systems a and b on the same segments, and whether they differ by more than chance."""

    score_a: float
    score_b: float
    p_value: float
    """Two-sided: probability of a difference at least as large by chance alone. Systems with equal scores have 1."""
    interval: tuple[float, float]
    """Bootstrap interval of the difference, whichever test gives the p-value."""

    @property
    def difference(self) -> float:
        """Score of a minus score of b."""
        return self.score_a - self.score_b


@runtime_checkable
class _ScoresDraws(Protocol):
    """A metric whose score of a draw is not always a function of summed statistics."""

    def draw_scores(
        self, statistics: Statistics, weights: Float[np.ndarray, "draws N"]
    ) -> dict[str, Float[np.ndarray, "draws"]]: ...


def bootstrap_intervals(
    metric: Metric, statistics: Statistics, resampling: Resampling
) -> dict[str, tuple[float, float]]:
    """Compute score name -> percentile interval over test sets drawn with replacement from this one.

    Raises:
        ValueError: fewer than `MIN_SAMPLES` draws, a level outside (0, 1), or no segments.
    """
    _check(resampling, statistics)
    (draws,) = _bootstrap_scores(metric, (statistics,), resampling)
    return {name: _quantiles(values, resampling.level) for name, values in draws.items()}


def run_paired_test(
    metric: Metric, a: Statistics, b: Statistics, *, method: PairedMethod = "permutation", resampling: Resampling
) -> dict[str, PairedResult]:
    """Test whether systems a and b differ by more than chance, on the same segments in the same order.

    `permutation` swaps the two systems' outputs at random, segment by segment (approximate randomisation): p is the
    share of swaps that make a difference as large. It keeps its level however few segments differ. Where there are no
    more ways to swap the segments that differ than draws are asked for, all of them are tried once, and p is exact.

    `bootstrap` draws other segments: p is the share of draws whose difference is at least as far from their mean as the
    observed one is from 0. Where few segments differ its p-values are too small (benchmarks/paired_tests.py). Document
    frequencies come from the references and stay the same. One segment says nothing about chance: p is 1.

    Returns:
        Score name -> result.

    Raises:
        ValueError: different numbers of segments or statistics, an unknown method, or as `bootstrap_intervals`.
    """
    if method not in ("bootstrap", "permutation"):
        raise ValueError(f"unknown method {method!r}: {did_you_mean(method, ('bootstrap', 'permutation'))}")
    if a.names != b.names or len(a.values) != len(b.values):
        raise ValueError(
            f"the two systems have {len(a.values)} and {len(b.values)} segments of {len(a.names)} and {len(b.names)} "
            "statistics; expected the same segments and metric"
        )
    _check(resampling, a)
    score_a, score_b = (metric.scores(x.values.sum(axis=0), len(x.values)) for x in (a, b))
    drawn_a, drawn_b = _bootstrap_scores(metric, (a, b), resampling)
    (swapped_a, swapped_b), is_exact = (
        _permutation_scores(metric, (a, b), resampling) if method == "permutation" else ((drawn_a, drawn_b), False)
    )
    results = {}
    for name in score_a:
        differences, observed = drawn_a[name] - drawn_b[name], float(score_a[name] - score_b[name])
        null = differences - differences.mean() if method == "bootstrap" else swapped_a[name] - swapped_b[name]
        num_extreme = int(np.count_nonzero(np.abs(null) >= abs(observed) - _EQUAL * metric.scale))
        share = num_extreme / len(null) if is_exact else (num_extreme + 1) / (len(null) + 1)
        results[name] = PairedResult(
            score_a=float(score_a[name]),
            score_b=float(score_b[name]),
            p_value=share if len(a.values) > 1 else 1.0,
            interval=_quantiles(differences, resampling.level),
        )
    return results


def _check(resampling: Resampling, statistics: Statistics) -> None:
    if not 0 < resampling.level < 1:
        raise ValueError(f"level is {resampling.level}; expected a share between 0 and 1, such as 0.95")
    if resampling.num_samples < MIN_SAMPLES:
        raise ValueError(f"num_samples is {resampling.num_samples}; expected at least {MIN_SAMPLES} for an interval")
    if not len(statistics.values):
        raise ValueError("no segments to draw from")


def _quantiles(values: Float[np.ndarray, "draws"], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _bootstrap_scores(
    metric: Metric, systems: tuple[Statistics, ...], resampling: Resampling
) -> list[dict[str, Float[np.ndarray, "draws"]]]:
    """Compute the scores of each system in the same draws."""
    num_segments = len(systems[0].values)
    chunks: list[list[dict[str, Float[np.ndarray, "_"]]]] = [[] for _ in systems]
    for weights in _draw_weights(_draw_counts, num_segments, resampling, purpose=_BOOTSTRAP):
        for scored, statistics in zip(chunks, systems, strict=True):
            if isinstance(metric, _ScoresDraws):
                scored.append(metric.draw_scores(statistics, weights))
            else:
                scored.append(metric.scores(weights @ statistics.values, num_segments))
    return [_join(scored) for scored in chunks]


def _permutation_scores(
    metric: Metric, systems: tuple[Statistics, ...], resampling: Resampling
) -> tuple[list[dict[str, Float[np.ndarray, "draws"]]], bool]:
    """Compute the scores of two systems whose segments are swapped, at random or in all ways once if these are few.

    Returns:
        The scores of each system, and whether they are of all ways.
    """
    a, b = (system.values for system in systems)
    sums, gap = (a.sum(axis=0), b.sum(axis=0)), a - b
    differing = np.flatnonzero((gap != 0).any(axis=1))
    is_exact = 2 ** len(differing) <= resampling.num_samples
    if is_exact:
        gap = gap[differing]
        draws = _list_swaps(len(differing))
    else:
        draws = _draw_weights(_flip_coins, len(a), resampling, purpose=_PERMUTATION)
    chunks: list[list[dict[str, Float[np.ndarray, "_"]]]] = [[], []]
    for swapped in draws:
        moved = swapped @ gap
        chunks[0].append(metric.scores(sums[0] - moved, len(a)))
        chunks[1].append(metric.scores(sums[1] + moved, len(a)))
    return [_join(scored) for scored in chunks], is_exact


def _list_swaps(num_segments: int) -> Iterator[Float[np.ndarray, "swaps N"]]:
    """List every row of 0 and 1 for so many segments, in chunks that fit into memory."""
    per_chunk = max(_CHUNK_VALUES // max(num_segments, 1), 1)
    for start in range(0, 2**num_segments, per_chunk):
        numbers = np.arange(start, min(start + per_chunk, 2**num_segments))
        yield ((numbers[:, None] >> np.arange(num_segments)) & 1).astype(float)


def _join(chunks: list[dict[str, Float[np.ndarray, "_"]]]) -> dict[str, Float[np.ndarray, "draws"]]:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _draw_weights(
    draw_one: Callable[[np.random.Generator, int], Int[np.ndarray, "N"]],
    num_segments: int,
    resampling: Resampling,
    *,
    purpose: int,
) -> Iterator[Float[np.ndarray, "draws N"]]:
    """Draw a vector of weights for each draw, in chunks that fit into memory."""
    per_chunk = max(_CHUNK_VALUES // num_segments, 1)
    for start in range(0, resampling.num_samples, per_chunk):
        weights = np.empty((min(per_chunk, resampling.num_samples - start), num_segments))
        for row, weight in enumerate(weights):
            weight[:] = draw_one(np.random.default_rng([resampling.seed, start + row, purpose]), num_segments)
        yield weights


def _draw_counts(rng: np.random.Generator, num_segments: int) -> Int[np.ndarray, "N"]:
    """Draw segments with replacement; return how often each was drawn."""
    return np.bincount(rng.integers(num_segments, size=num_segments), minlength=num_segments)


def _flip_coins(rng: np.random.Generator, num_segments: int) -> Int[np.ndarray, "N"]:
    """Return 0 or 1 for each segment."""
    return rng.integers(2, size=num_segments)
