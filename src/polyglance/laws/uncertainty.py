"""Uncertainty of a fit: bootstrap draws, the widening for small samples, the influence of single runs.

    pairs   clusters are drawn with replacement: rows of one run stay together (Cameron, Gelbach, Miller 2008)
    wild    log residuals of each cluster get a random sign and are inflated by the rows' leverage; the inputs stay as
            they are, so it also works for few rows (Rademacher weights, HC3 inflation: Davidson, Flachaire 2008)

Every replicate is refitted from the optimum and from a second start; the better result is kept.
Shapes: R replicates, n rows, q free parameters, p parameters of the form.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy import stats

from polyglance.laws.arrays import Floats, Indices, bounded_exp
from polyglance.laws.config import FitConfig
from polyglance.laws.form import Form
from polyglance.laws.intervals import Interval, widen_interval
from polyglance.laws.layout import MANY_ROWS, Layout
from polyglance.laws.objectives import FitObjective
from polyglance.laws.solve import REFIT, Solution, minimise, pick_best

__all__ = [
    "choose_method",
    "compute_spread",
    "draw_replicates",
    "find_parameter_intervals",
    "leave_one_out",
    "resample_clusters",
]

BLOCKS = 4_000
"""With more than MANY_ROWS rows, clusters are drawn in this many blocks."""
WILD_BELOW = 60
"""With fewer clusters than this, `auto` takes the wild bootstrap."""
SECOND_OFFSET = 0.3
"""The second start's log offset differs from the optimum's by at least this."""


def choose_method(config: FitConfig, layout: Layout) -> Literal["pairs", "wild"]:
    """Return the bootstrap method for this table.

    `auto` is pairs where clusters are many, and wild where they are few. It is always pairs for the asymmetric
    objective, which fits an envelope and not a centre, so that its residuals cannot change sign; and for more than
    `MANY_ROWS` rows.
    """
    if len(layout.y) > MANY_ROWS:
        return "pairs"
    if config.method != "auto":
        return config.method
    return "wild" if layout.num_clusters < WILD_BELOW and config.objective != "asymmetric" else "pairs"


def draw_replicates(config: FitConfig, layout: Layout, optimum: Floats) -> Solution:
    """Return `config.bootstrap` refits (R, q) about the optimum (q,).

    With more than `MANY_ROWS` rows a replicate is one Newton step from the optimum, which is then as good.
    """
    if len(layout.y) > MANY_ROWS:
        return _step_replicates(config, layout, optimum)
    y, weights = layout.y[None], layout.weights[None]
    if choose_method(config, layout) == "wild":
        y = _draw_wild(config, layout, optimum)
    else:
        weights = weights * resample_clusters(layout.num_clusters, config)[:, layout.clusters]
    starts = [
        np.repeat(start[None], config.bootstrap, axis=0) for start in (optimum, _choose_second_start(layout, optimum))
    ]
    return pick_best([minimise(layout.problem, start, y, weights, REFIT) for start in starts])


def resample_clusters(num_clusters: int, config: FitConfig) -> Floats:
    """Return the number of times that each cluster is drawn, (R, clusters)."""
    rng = np.random.default_rng([config.seed, 1])
    shares = np.full(num_clusters, 1 / num_clusters)
    return rng.multinomial(num_clusters, shares, size=config.bootstrap).astype(float)


def _draw_wild(config: FitConfig, layout: Layout, optimum: Floats) -> Floats:
    """Return observations (R, n): the fitted mean, and the residuals of each cluster with a random sign.

    The residuals are those of log least squares for every objective. A fit by absolute error passes through as many
    rows as it has parameters; the residuals of these rows are zero and would make the replicates too quiet (measured:
    80 % coverage).
    """
    num_rows = len(layout.y)
    log_mean = layout.problem.log_mean(optimum[None], num_rows)[0]
    smooth = replace(layout.problem, objective=FitObjective(name="log-lsq"))
    centre = minimise(smooth, optimum[None], layout.y[None], layout.weights[None]).free[0]
    residuals = np.log(layout.y) - layout.problem.log_mean(centre[None], num_rows)[0]
    residuals /= 1 - _compute_leverage(layout.problem.jacobian(centre, num_rows))
    rng = np.random.default_rng([config.seed, 2])
    signs = rng.choice([-1.0, 1.0], size=(config.bootstrap, layout.num_clusters))
    return bounded_exp(log_mean + residuals * signs[:, layout.clusters])


def _compute_leverage(jacobian: Floats) -> Floats:
    """Return the diagonal of the hat matrix of the linearised law, (n,), at most 0.9."""
    basis, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    kept = basis[:, values > 1e-9 * max(values.max(initial=0.0), 1e-300)]
    return np.minimum((kept**2).sum(axis=1), 0.9)


def _choose_second_start(layout: Layout, optimum: Floats) -> Floats:
    """Return a start (q,) unlike the optimum: the best start from the data with other offsets (if the form has one)."""
    starts = layout.starts()
    offsets = [i for i, (name, _) in enumerate(layout.free) if name == layout.form.offset]
    values = layout.problem.value(starts, layout.y[None], layout.weights[None])
    differs = (np.abs(starts[:, offsets] - optimum[offsets]) > SECOND_OFFSET).all(axis=1)
    ranked = np.where(differs & np.isfinite(values), values, np.inf)
    return np.asarray(starts[int(np.argmin(ranked))])


def _step_replicates(config: FitConfig, layout: Layout, optimum: Floats) -> Solution:
    """Return replicates by pairs of blocks of clusters, each one Newton step from the optimum."""
    blocks = layout.clusters % BLOCKS
    shifts = _shift_by_newton(layout, optimum, blocks)
    counts = resample_clusters(int(blocks.max()) + 1, config)
    free = np.clip(optimum - (counts - 1) @ shifts, layout.problem.lower, layout.problem.upper)
    unknown = np.full(len(free), np.nan)
    return Solution(free=free, value=unknown, decrement=unknown, converged=np.ones(len(free), dtype=bool))


def compute_spread(config: FitConfig, layout: Layout) -> float:
    """Return the factor that widens percentile intervals.

    It is the ratio of Student to normal quantile, for pairs times sqrt(n / (n - q)), with n clusters.
    """
    num = layout.num_clusters
    degrees = max(num - len(layout.free), 1)
    tail = 0.5 + config.confidence / 2
    factor = float(stats.t.ppf(tail, degrees) / stats.norm.ppf(tail))
    return factor * np.sqrt(num / degrees) if choose_method(config, layout) == "pairs" else factor


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


def leave_one_out(layout: Layout, optimum: Floats, *, num_refitted: int = 30) -> Floats:
    """Return the shift (clusters, q) of the free parameters when each cluster is left out.

    Shifts are estimated by one Newton step; the clusters with the largest are refitted, the others are reported as 0.
    """
    shifts = _shift_by_newton(layout, optimum, layout.clusters)
    size = np.abs(shifts / np.maximum(shifts.std(axis=0), 1e-300)).max(axis=1)
    chosen = np.argsort(-size, kind="stable")[:num_refitted]
    without = layout.weights * (layout.clusters[None] != chosen[:, None])
    starts = np.repeat(optimum[None], len(chosen), axis=0)
    result = np.zeros_like(shifts)
    result[chosen] = minimise(layout.problem, starts, layout.y[None], without, REFIT).free - optimum
    return result


def _shift_by_newton(layout: Layout, optimum: Floats, clusters: Indices) -> Floats:
    """Return H^-1 times the gradient of each cluster, (clusters, q)."""
    problem, y, weights = layout.problem, layout.y[None], layout.weights[None]
    _, slope, _ = problem.objective.evaluate(problem.log_mean(optimum[None], y.shape[1]), y)
    scores = (weights * slope)[0][:, None] * problem.jacobian(optimum, y.shape[1])
    sums = np.zeros((int(clusters.max()) + 1, len(optimum)))
    np.add.at(sums, clusters, scores)
    hessian = problem.derivatives(optimum[None], y, weights, None)[2][0]
    return sums @ np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
