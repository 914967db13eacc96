"""Uncertainty of a fit: bootstrap draws, the widening for small samples, the influence of single runs.

    pairs   clusters are drawn with replacement: rows of one run stay together (Cameron, Gelbach, Miller 2008)
    wild    log residuals of each cluster get a random sign and are inflated by the rows' leverage; the inputs stay as
            they are, so this also works for few rows (Rademacher weights, HC3 inflation: Davidson, Flachaire 2008). For
            objectives with a kink, independent rows exchange the sizes of their residuals

Replicates are refitted from the optimum, and from a second start where that helped one of the first; the better
result is kept. A table of many rows is refitted on a sample of its clusters, and the distances of the replicates from
the sample's own optimum are shrunk by the root of the sampled share: the same way at every size.
Shapes: R replicates, n rows, q free parameters, p parameters of the form.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Literal

import numpy as np
from scipy import special

from polyglance.laws.arrays import Floats, Indices, bounded_exp
from polyglance.laws.config import FitConfig
from polyglance.laws.equations.form import Form
from polyglance.laws.fitting.layout import Layout, Sample
from polyglance.laws.fitting.levels import AlikeLevels
from polyglance.laws.fitting.objectives import FitObjective
from polyglance.laws.fitting.solve import REFIT, Effort, FitProblem, Solution, minimise, pick_best
from polyglance.laws.intervals import Interval, widen_interval

__all__ = [
    "choose_method",
    "compute_spread",
    "draw_replicates",
    "find_parameter_intervals",
    "resample_clusters",
]

_MOST_REFITTED = 4_000
"""Rows of the largest table that replicates are refitted on."""
_NUM_TRIED = 100
"""Number of replicates that are refitted from the second start. If one of them improves, so are all others."""
_IMPROVEMENT = 1e-4
"""Relative decrease of the objective that counts as better."""
_DISTANCE = 0.5
"""Distance above which two minima count as different, in standard deviations over the replicates."""
_WILD_BELOW = 60
"""With fewer clusters than this, `auto` takes the wild bootstrap."""
_LEAST_ALIKE = 5
"""Fewest rows that exchange the sizes of their residuals."""
_MOST_LEVERAGE = 0.9
"""Largest leverage of a row or cluster that residuals are corrected for."""
_SECOND_OFFSET = 0.3
"""The second start's log offset differs from the optimum's by at least this."""


def choose_method(config: FitConfig, layout: Layout) -> Literal["pairs", "wild"]:
    """Return the bootstrap method for this table.

    `auto` is pairs where clusters are many, and wild where they are few. It is always pairs for the asymmetric
    objective, which fits an envelope and not a centre, so that its residuals cannot change sign.
    """
    if config.method != "auto":
        return config.method
    return "wild" if layout.num_clusters < _WILD_BELOW and config.objective != "asymmetric" else "pairs"


def draw_replicates(config: FitConfig, layout: Layout, optimum: Floats, levels: AlikeLevels | None = None) -> Solution:
    """Return `config.bootstrap` refits (R, q) about the optimum (q,).

    Args:
        levels: levels of a predictor whose rows are drawn together.
    """
    layout = levels.layout if levels else layout
    sample = layout.draw_sample(_MOST_REFITTED, _MOST_REFITTED) if levels else layout.draw_sample(_MOST_REFITTED)
    data = _Data(layout, sample)
    centre = optimum
    if len(data.y) < len(layout.y):
        centre = minimise(data.problem, optimum[None], data.y[None], data.weights[None]).free[0]
    y, weights = data.y[None], data.weights[None]
    if choose_method(config, layout) == "wild":
        y = _draw_wild(config, data, centre, by_row=levels is not None)
    else:
        weights = weights * resample_clusters(sample.num_clusters, config)[:, data.clusters]
    second = _choose_second_start(layout, data, centre)
    refits = _refit(data.problem, centre, second, y, weights, config.bootstrap)
    if centre is optimum:
        return refits
    shrinkage = float(np.sqrt(sample.num_clusters / layout.num_clusters))
    if levels:
        shrinkage = levels.find_shrinkage(len(sample.rows))
    free = optimum + shrinkage * (refits.free - centre)
    return replace(refits, free=np.clip(free, layout.problem.lower, layout.problem.upper))


class _Data:
    """The rows of a sample, with their clusters numbered from 0."""

    def __init__(self, layout: Layout, sample: Sample) -> None:
        self.problem = sample.problem
        self.y: Floats = layout.y[sample.rows]
        self.weights: Floats = layout.weights[sample.rows]
        self.clusters: Indices = np.unique(layout.clusters[sample.rows], return_inverse=True)[1]


def _refit(
    problem: FitProblem, centre: Floats, other: Floats, y: Floats, weights: Floats, num_replicates: int
) -> Solution:
    """Return the replicates refitted from the centre, and from another start if that improved one of the first."""
    moves = np.sqrt(len(centre) / y.shape[1])  # rough distance that replicates move, in units of the residuals' scale
    nearby = replace(REFIT, coarsest=min(1.0, 2 * float(moves)))
    first = _refit_from(centre, problem, y, weights, slice(0, num_replicates), nearby)
    tried = slice(0, _NUM_TRIED)
    second = _refit_from(other, problem, y, weights, tried, REFIT)
    distance = np.abs(second.free - first.free[tried]) / np.maximum(first.free.std(axis=0), 1e-300)
    better = (second.value < first.value[tried] * (1 - _IMPROVEMENT)) & (distance > _DISTANCE).any(axis=1)
    if better.any() and num_replicates > _NUM_TRIED:
        tried = slice(0, num_replicates)
        second = _refit_from(other, problem, y, weights, tried, REFIT)
    chosen, rest = pick_best([first[tried], second]), first[tried.stop :]
    return Solution(**{f.name: np.concatenate([getattr(chosen, f.name), getattr(rest, f.name)]) for f in fields(first)})


def _refit_from(
    start: Floats, problem: FitProblem, y: Floats, weights: Floats, chosen: slice, effort: Effort
) -> Solution:
    y, weights = (values if len(values) == 1 else values[chosen] for values in (y, weights))
    return minimise(problem, np.repeat(start[None], max(len(y), len(weights)), axis=0), y, weights, effort)


def resample_clusters(num_clusters: int, config: FitConfig) -> Floats:
    """Return the number of times that each cluster is drawn, (R, clusters)."""
    rng = np.random.default_rng([config.seed, 1])
    shares = np.full(num_clusters, 1 / num_clusters)
    return rng.multinomial(num_clusters, shares, size=config.bootstrap).astype(float)


def _draw_wild(config: FitConfig, data: _Data, optimum: Floats, *, by_row: bool) -> Floats:
    """Return observations (R, n): the fitted mean, and the residuals of each cluster with a random sign.

    The residuals are those of log least squares for every objective. A fit by absolute error passes through as many
    rows as it has parameters; the residuals of these rows are zero, which would make the replicates vary too little
    (measured: 80 % coverage). For the same reason, rows with a residual near zero would keep every replicate of such an
    objective in place. If rows are independent, each therefore gets the size of another row's residual. The curve of
    4 x 4 runs is then covered in 97 %, and in 90 % without (`benchmarks/laws_coverage.py`).

    Args:
        by_row: correct the residuals for the leverage of rows, not of clusters: for levels of a predictor, whose
            degrees of freedom `compute_spread` has.
    """
    num_rows = len(data.y)
    log_mean = data.problem.log_mean(optimum[None], num_rows)[0]
    smooth = replace(data.problem, objective=FitObjective(name="log-lsq"))
    centre = minimise(smooth, optimum[None], data.y[None], data.weights[None]).free[0]
    residuals = np.log(data.y) - data.problem.log_mean(centre[None], num_rows)[0]
    pulled_by = np.arange(num_rows) if by_row else data.clusters
    residuals = _add_leverage(residuals, data.problem.jacobian(centre, num_rows), data.weights, pulled_by)
    rng = np.random.default_rng([config.seed, 2])
    signs = rng.choice([-1.0, 1.0], size=(config.bootstrap, int(data.clusters.max()) + 1))
    if not data.problem.objective.smooth and len(signs[0]) == num_rows:
        residuals = _exchange_sizes(np.abs(residuals), data.weights, len(signs), rng)
    return bounded_exp(log_mean + residuals * signs[:, data.clusters])


def _add_leverage(residuals: Floats, jacobian: Floats, weights: Floats, clusters: Indices) -> Floats:
    """Return the residuals (n,) that the clusters would have had without their own pull on the linearised law.

    It is (I - H)^-1 r with the block H of each cluster of the hat matrix, whose eigenvalues are taken as at most 0.9.
    """
    scale = np.sqrt(weights)
    basis, values, _ = np.linalg.svd(jacobian * scale[:, None], full_matrices=False)
    basis = basis[:, values > 1e-9 * max(values.max(initial=0.0), 1e-300)]
    if int(clusters.max()) + 1 == len(residuals):
        return np.asarray(residuals / (1 - np.minimum((basis**2).sum(axis=1), _MOST_LEVERAGE)))
    added = residuals * scale
    for cluster in range(int(clusters.max()) + 1):
        rows = np.flatnonzero(clusters == cluster)
        directions, sizes, _ = np.linalg.svd(basis[rows], full_matrices=False)
        leverage = np.minimum(sizes**2, _MOST_LEVERAGE)
        added[rows] += directions @ (leverage / (1 - leverage) * (directions.T @ added[rows]))
    return np.asarray(added / scale)


def _exchange_sizes(sizes: Floats, weights: Floats, num_replicates: int, rng: np.random.Generator) -> Floats:
    """Return (R, n) for each row the size of the residual of a row of the same weight or, where fewer than
    LEAST_ALIKE have it, of a neighbour by weight: rows of other weights are as a rule noisier or less noisy."""
    if np.ptp(weights) == 0:
        return np.asarray(rng.choice(sizes, size=(num_replicates, len(sizes))))
    order = np.argsort(weights, kind="stable")
    ranked, places = weights[order], np.arange(len(weights))
    first, last = np.searchsorted(ranked, ranked, "left"), np.searchsorted(ranked, ranked, "right")
    start = np.clip(places - _LEAST_ALIKE // 2, 0, max(len(places) - _LEAST_ALIKE, 0))
    is_rare = last - first < _LEAST_ALIKE
    first = np.where(is_rare, start, first)
    last = np.where(is_rare, np.minimum(start + _LEAST_ALIKE, len(places)), last)
    exchanged = np.empty((num_replicates, len(sizes)))
    exchanged[:, order] = sizes[order[rng.integers(first, last, size=exchanged.shape)]]
    return exchanged


def _choose_second_start(layout: Layout, data: _Data, optimum: Floats) -> Floats:
    """Return a start (q,) unlike the optimum: the best start from the data with other offsets (if the form has one)."""
    starts = layout.starts
    offsets = [i for i, (name, _) in enumerate(layout.free) if name == layout.form.offset]
    values = data.problem.value(starts, data.y[None], data.weights[None])
    differs = (np.abs(starts[:, offsets] - optimum[offsets]) > _SECOND_OFFSET).all(axis=1)
    ranked = np.where(differs & np.isfinite(values), values, np.inf)
    return np.asarray(starts[int(np.argmin(ranked))])


def compute_spread(config: FitConfig, layout: Layout, levels: AlikeLevels | None = None) -> float:
    """Return the factor that widens percentile intervals.

    It is the ratio of Student to normal quantile, for pairs and for levels times sqrt(n / (n - q)), with n clusters.
    """
    num = levels.num_levels if levels else layout.num_clusters
    is_short = levels is not None or choose_method(config, layout) == "pairs"
    degrees = levels.degrees if levels else max(num - len(layout.free), 1)
    tail = 0.5 + config.confidence / 2
    factor = float(special.stdtrit(degrees, tail) / special.ndtri(tail))
    return factor * float(np.sqrt(num / degrees)) if is_short else factor


def find_parameter_intervals(
    form: Form,
    estimate: Floats,
    draws: Floats,
    spread: float,
    confidence: float,
    smallest: float,
    bounds: Mapping[str, tuple[float, float]],
) -> dict[str, Interval]:
    """Return the widened percentile intervals of the reported parameters.

    They are formed where the sampling distribution is closest to symmetric: amplitudes in logs, offset and exponents
    as they are. An interval ends at the bounds that the user gave.

    Args:
        estimate: (p,) at the origin, on the solver's scale; draws (R, p) likewise.
        smallest: the smallest y; an end of the offset's interval below a millionth of it is reported as 0.
        bounds: the user's, in reported units.
    """
    if len(draws) == 0:
        return {}
    estimate, draws = np.array(estimate), np.array(draws)
    offset = form.parameters.index(form.offset) if form.offset else None
    if offset is not None:
        estimate[offset], draws[:, offset] = bounded_exp(estimate[offset]), bounded_exp(draws[:, offset])
    ends = np.stack(widen_interval(estimate, draws, spread, confidence))
    reported = form.to_reported(ends)
    if offset is not None:
        reported[:, offset] = np.where(ends[:, offset] < 1e-6 * smallest, 0.0, ends[:, offset])
    reported = np.clip(np.sort(reported, axis=0), -1e300, 1e300)
    for name, (lowest, highest) in bounds.items():
        j = form.parameters.index(name)
        reported[:, j] = np.clip(reported[:, j], lowest, highest)
    low, high = reported.tolist()
    return dict(zip(form.parameters, zip(low, high, strict=True), strict=True))
