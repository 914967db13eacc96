"""How sure a score is, and a difference of two: bootstrap intervals and paired tests of every metric.

All work on the statistics of segments, never on texts. A draw is a vector of weights (how often each segment was
drawn), so that the statistics of many draws are one matrix product. Random numbers depend on (seed, draw) only: every
metric and every system has the same draws, whatever is computed together.

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

__all__ = ["MIN_SAMPLES", "PairedMethod", "PairedResult", "bootstrap_intervals", "paired_test"]

PairedMethod = Literal["bootstrap", "permutation"]
MIN_SAMPLES = 20
"""Fewer draws may leave the score itself outside its interval."""

_BOOTSTRAP, _PERMUTATION = 0, 1  # what random numbers are for
_CHUNK_VALUES = 4_000_000
"""Weights held in memory at once: 32 MB."""
_EQUAL = 1e-10
"""Differences of scores, as a share of the metric's scale, that rounding alone may make: these count as ties."""


@dataclass(frozen=True, kw_only=True)
class PairedResult:
    """Two systems on the same segments."""

    score_a: float
    score_b: float
    p_value: float
    """Two-sided: how often chance alone makes a difference at least as large. Systems with equal scores have 1."""
    interval: tuple[float, float] | None
    """95 % interval of the difference; None after a permutation test, which has none."""
    method: PairedMethod
    num_samples: int

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
    metric: Metric, statistics: Statistics, *, num_samples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Score name -> percentile interval over test sets drawn with replacement from this one.

    Args:
        level: the share of draws inside.

    Raises:
        ValueError: fewer than one draw, a level outside (0, 1), or no segments.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; a share between 0 and 1, such as 0.95, is right")
    _check_draws(num_samples, statistics)
    draws = _bootstrap_scores(metric, (statistics,), num_samples=num_samples, seed=seed)[0]
    return {name: _interval(values, level) for name, values in draws.items()}


def paired_test(
    metric: Metric,
    a: Statistics,
    b: Statistics,
    *,
    method: PairedMethod = "bootstrap",
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, PairedResult]:
    """Score name -> whether systems a and b differ by more than chance, on the same segments in the same order.

    `bootstrap` asks how far a difference moves when other segments are drawn: p is the share of draws whose difference
    is at least as far from their mean as the observed one is from 0. `permutation` asks how often swapping the two
    systems' outputs at random, segment by segment, makes a difference as large (approximate randomisation); document
    frequencies are the references' and stay.

    Raises:
        ValueError: unlike numbers of segments or statistics, fewer than one draw, or an unknown method.
    """
    if method not in ("bootstrap", "permutation"):
        raise ValueError(f"unknown method {method!r}: {did_you_mean(method, ('bootstrap', 'permutation'))}")
    if a.names != b.names or len(a.values) != len(b.values):
        raise ValueError(
            f"the two systems have {len(a.values)} and {len(b.values)} segments of {len(a.names)} and {len(b.names)} "
            "statistics: the same segments and metric are right"
        )
    _check_draws(num_samples, a)
    score_a, score_b = (metric.scores(x.values.sum(axis=0), len(x.values)) for x in (a, b))
    draw = _bootstrap_differences if method == "bootstrap" else _permutation_differences
    results = {}
    for name, differences in draw(metric, a, b, num_samples=num_samples, seed=seed).items():
        observed = float(score_a[name] - score_b[name])
        null = differences - differences.mean() if method == "bootstrap" else differences
        results[name] = PairedResult(
            score_a=float(score_a[name]),
            score_b=float(score_b[name]),
            p_value=_p_value(null, observed, equal=_EQUAL * metric.scale),
            interval=_interval(differences, 0.95) if method == "bootstrap" else None,
            method=method,
            num_samples=num_samples,
        )
    return results


def _check_draws(num_samples: int, statistics: Statistics) -> None:
    if num_samples < MIN_SAMPLES:
        raise ValueError(f"num_samples is {num_samples}; at least {MIN_SAMPLES} draws make an interval")
    if not len(statistics.values):
        raise ValueError("no segments to draw from")


def _p_value(null: Float[np.ndarray, "draws"], observed: float, *, equal: float) -> float:
    extreme = np.count_nonzero(np.abs(null) >= abs(observed) - equal)
    return (int(extreme) + 1) / (len(null) + 1)


def _interval(values: Float[np.ndarray, "draws"], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _bootstrap_differences(
    metric: Metric, a: Statistics, b: Statistics, *, num_samples: int, seed: int
) -> dict[str, Float[np.ndarray, "draws"]]:
    scores_a, scores_b = _bootstrap_scores(metric, (a, b), num_samples=num_samples, seed=seed)
    return {name: scores_a[name] - scores_b[name] for name in scores_a}


def _bootstrap_scores(
    metric: Metric, systems: tuple[Statistics, ...], *, num_samples: int, seed: int
) -> list[dict[str, Float[np.ndarray, "draws"]]]:
    """Scores of each system in the same draws."""
    num_segments = len(systems[0].values)
    chunks: list[list[dict[str, Float[np.ndarray, "_"]]]] = [[] for _ in systems]
    for weights in _draws(_drawn_counts, num_segments, num_samples=num_samples, seed=seed, purpose=_BOOTSTRAP):
        for scored, statistics in zip(chunks, systems, strict=True):
            if isinstance(metric, _ScoresDraws):
                scored.append(metric.draw_scores(statistics, weights))
            else:
                scored.append(metric.scores(weights @ statistics.values, num_segments))
    return [_joined(scored) for scored in chunks]


def _permutation_differences(
    metric: Metric, a: Statistics, b: Statistics, *, num_samples: int, seed: int
) -> dict[str, Float[np.ndarray, "draws"]]:
    num_segments, gap = len(a.values), a.values - b.values
    sum_a, sum_b = a.values.sum(axis=0), b.values.sum(axis=0)
    chunks = []
    for swapped in _draws(_coins, num_segments, num_samples=num_samples, seed=seed, purpose=_PERMUTATION):
        moved = swapped @ gap
        first, second = (metric.scores(total, num_segments) for total in (sum_a - moved, sum_b + moved))
        chunks.append({name: first[name] - second[name] for name in first})
    return _joined(chunks)


def _joined(chunks: list[dict[str, Float[np.ndarray, "_"]]]) -> dict[str, Float[np.ndarray, "draws"]]:
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _draws(
    one: Callable[[np.random.Generator, int], Int[np.ndarray, "N"]],
    num_segments: int,
    *,
    num_samples: int,
    seed: int,
    purpose: int,
) -> Iterator[Float[np.ndarray, "draws N"]]:
    """`num_samples` vectors of weights, in chunks that fit into memory."""
    per_chunk = max(_CHUNK_VALUES // num_segments, 1)
    for start in range(0, num_samples, per_chunk):
        weights = np.empty((min(per_chunk, num_samples - start), num_segments))
        for row, weight in enumerate(weights):
            weight[:] = one(np.random.default_rng([seed, start + row, purpose]), num_segments)
        yield weights


def _drawn_counts(rng: np.random.Generator, num_segments: int) -> Int[np.ndarray, "N"]:
    return np.bincount(rng.integers(num_segments, size=num_segments), minlength=num_segments)


def _coins(rng: np.random.Generator, num_segments: int) -> Int[np.ndarray, "N"]:
    return rng.integers(2, size=num_segments)
