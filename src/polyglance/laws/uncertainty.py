"""Uncertainty of a fit: bootstrap draws, their small-sample spread, profile intervals.

    pairs   clusters are drawn with replacement: rows of one run stay together (Cameron, Gelbach, Miller 2008)
    wild    log residuals of each cluster get a random sign and are inflated by the rows' leverage: the design stays as
            it is, so it also serves small designs (Rademacher weights, HC3 inflation: Davidson, Flachaire 2008)

Every replicate is refitted from the optimum and from a second start, all in one batch.
Shapes: R replicates, n rows, q free parameters.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from polyglance.laws.forms import Form, PowerSum, bounded_exp
from polyglance.laws.intervals import Interval, widened_interval
from polyglance.laws.objectives import Objective
from polyglance.laws.setup import MANY_ROWS
from polyglance.laws.solve import POLISH, REFIT, Problem, Solution, best_of, minimise

__all__ = [
    "Method",
    "bootstrap",
    "choose_method",
    "leave_one_out_shifts",
    "parameter_intervals",
    "profile_interval",
    "small_sample_spread",
]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Method = Literal["auto", "pairs", "wild"]

BLOCKS = 4_000
"""Beyond MANY_ROWS clusters are drawn in this many blocks."""
WILD_BELOW = 60
"""With fewer clusters than this, `auto` takes the wild bootstrap."""


def choose_method(method: Method, num_clusters: int, objective: Objective) -> Literal["pairs", "wild"]:
    """`auto` resolved: pairs where clusters are many, wild where they are few.

    An asymmetric objective fits an envelope, not a centre, so its residuals cannot change sign: always pairs.
    """
    if method != "auto":
        return method
    return "wild" if num_clusters < WILD_BELOW and objective.name != "asymmetric" else "pairs"


def bootstrap(
    problem: Problem,
    starts: Floats,
    y: Floats,
    weights: Floats,
    clusters: Indices,
    *,
    num_draws: int,
    method: Literal["pairs", "wild"],
    seed: int,
) -> Solution:
    """Refit `num_draws` replicates from each of the starts (k, q), the optimum first, and keep the best of each.

    Beyond `MANY_ROWS` a replicate is one Newton step from the optimum, which is then as good (and always by pairs).
    """
    if y.shape[1] > MANY_ROWS:
        return _one_step_bootstrap(problem, starts[0], y, weights, clusters, num_draws, seed)
    if method == "wild":
        y = wild_samples(problem, starts[0], y, weights, clusters, num_draws, seed)
    else:
        weights = weights * resampled_counts(int(clusters.max()) + 1, num_draws, seed)[:, clusters]
    refits = [minimise(problem, np.repeat(start[None], num_draws, axis=0), y, weights, REFIT) for start in starts]
    return best_of(refits)


def resampled_counts(num_clusters: int, num_draws: int, seed: int) -> Floats:
    """How often each cluster is drawn, (R, clusters)."""
    rng = np.random.default_rng([seed, 1])
    return rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=num_draws).astype(float)


def wild_samples(
    problem: Problem, optimum: Floats, y: Floats, weights: Floats, clusters: Indices, num_draws: int, seed: int
) -> Floats:
    """Observations (R, n): the fitted mean, and residuals with the sign of each cluster drawn anew.

    The residuals are those of log least squares whatever the objective: a fit by absolute error runs through as many
    rows as it has parameters, and their zero residuals would make the replicates too quiet (measured: 80 % coverage).
    """
    log_mean = problem.log_mean(optimum[None], y.shape[1])[0]
    smooth = replace(problem, objective=Objective(name="log-lsq"))
    centre = minimise(smooth, optimum[None], y, weights, POLISH).free[0]
    residuals = np.log(y[0]) - problem.log_mean(centre[None], y.shape[1])[0]
    residuals /= 1 - _leverage(problem, centre, y.shape[1])
    signs = np.random.default_rng([seed, 2]).choice([-1.0, 1.0], size=(num_draws, int(clusters.max()) + 1))
    return bounded_exp(log_mean + residuals * signs[:, clusters])


def small_sample_spread(method: Literal["pairs", "wild"], num_clusters: int, num_free: int, confidence: float) -> float:
    """What percentile intervals are widened by: Student over normal quantile, and for pairs sqrt(n / (n - p))."""
    degrees = max(num_clusters - num_free, 1)
    tail = 0.5 + confidence / 2
    factor = float(stats.t.ppf(tail, degrees) / stats.norm.ppf(tail))
    return factor * np.sqrt(num_clusters / degrees) if method == "pairs" else factor


def _leverage(problem: Problem, optimum: Floats, num_rows: int) -> Floats:
    """Diagonal of the hat matrix of the linearised law, (n,), kept below 0.9."""
    jacobian = np.zeros((num_rows, len(optimum)))
    for block in problem.blocks:
        theta = (block.matrix @ optimum + block.shift)[None]
        jacobian[block.rows] = block.form.jacobian(theta, block.design)[0] @ block.matrix
    basis, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    kept = basis[:, values > 1e-9 * max(values.max(initial=0.0), 1e-300)]
    return np.minimum((kept**2).sum(axis=1), 0.9)


def profile_interval(
    problem: Problem, solution: Solution, y: Floats, weights: Floats, parameter: int, confidence: float
) -> Interval:
    """Profile likelihood interval of one free parameter, at the solver's scale; None where it has no end.

    The others are fitted anew at each value; the ends are where the objective has risen by the quasi-likelihood
    threshold 1/2 F(1, n - p) mean(psi^2) / mean(psi') (for least squares this is the usual F test).
    """
    best = solution.free[0]
    threshold = _threshold(problem, best, y, weights, confidence)
    low, high = (_profile_end(problem, solution, y, weights, parameter, sign, threshold) for sign in (-1.0, 1.0))
    return low, high


def _profile_end(
    problem: Problem,
    solution: Solution,
    y: Floats,
    weights: Floats,
    parameter: int,
    direction: float,
    threshold: float,
) -> float | None:
    best, low_value = solution.free[0], float(solution.value[0])
    near, far = 0.0, None
    for _ in range(4):  # each round looks at a grid of values between the last one inside and the first one outside
        widths = near + np.geomspace(1e-4, 8.0, 24) if far is None else np.linspace(near, far, 12)
        starts = np.repeat(best[None], len(widths), axis=0)
        starts[:, parameter] += direction * widths
        inside = (starts[:, parameter] >= problem.lower[parameter]) & (starts[:, parameter] <= problem.upper[parameter])
        widths, starts = widths[inside], starts[inside]
        if len(starts) == 0:
            return None
        lower, upper = (np.repeat(bound[None], len(starts), axis=0) for bound in (problem.lower, problem.upper))
        lower[:, parameter] = upper[:, parameter] = starts[:, parameter]
        values = minimise(problem, starts, y, weights, REFIT, lower=lower, upper=upper).value
        outside = np.flatnonzero(values > low_value + threshold)
        if len(outside) == 0:
            return None
        first = int(outside[0])
        near, far = float(widths[first - 1]) if first else 0.0, float(widths[first])
    return float(best[parameter] + direction * far) if far is not None else None


def _threshold(problem: Problem, best: Floats, y: Floats, weights: Floats, confidence: float) -> float:
    log_mean = problem.log_mean(best[None], y.shape[1])
    residual = problem.objective.residuals(log_mean, y)
    num_rows, num_free = y.shape[1], len(best)
    degrees = max(num_rows - num_free, 1)
    name = problem.objective.name
    if name == "log-huber":
        delta = problem.objective.delta
        psi = np.clip(residual, -delta, delta)
        bend = _density_bend(residual, delta)
    elif name == "asymmetric":
        psi = np.where(residual > 0, problem.objective.overestimate, -1.0)
        bend = _density_bend(residual, 0.0) * (problem.objective.overestimate + 1) / 2
    else:
        psi, bend = 2 * residual, 2.0
    scale = float((weights * psi**2).sum() / weights.sum()) / bend * num_rows / degrees
    return 0.5 * scale * float(stats.f.ppf(confidence, 1, degrees))


def _density_bend(residual: Floats, delta: float) -> float:
    """Mean of psi' for a psi with a kink, by the share of residuals within a smoothing width around the middle."""
    width = max(delta, 0.5 * float(np.median(np.abs(residual))), 1e-300)
    share = max(float((np.abs(residual) <= width).mean()), 1.0 / residual.size)
    return share * (max(delta, 1e-300) / width if delta else 2 / (2 * width))


def parameter_intervals(
    form: Form, estimate: Floats, draws: Floats, spread: float, degrees: int, confidence: float, smallest: float
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """Widened percentile intervals and Student t intervals of the reported parameters.

    Both are formed where the sampling distribution is closest to symmetric: amplitudes in logs, offset and exponents as
    they are.

    Args:
        estimate: (p,) at the origin, on the solver's scale; draws (R, p) likewise.
        degrees: degrees of freedom of the t interval.
        smallest: the smallest y; an end of the offset's interval below a millionth of it is reported as 0.
    """
    if len(draws) == 0:
        return {}, {}
    offset = form.parameters.index(form.offset) if isinstance(form, PowerSum) and form.offset else None
    estimate, draws = _offset_as_is(estimate, offset), _offset_as_is(draws, offset)
    percentiles = np.stack(widened_interval(estimate, draws, spread, confidence))
    reach = float(stats.t.ppf(0.5 + confidence / 2, max(degrees, 1))) * draws.std(axis=0, ddof=1)
    results = []
    for ends in (percentiles, np.stack([estimate - reach, estimate + reach])):
        reported = form.to_reported(ends)
        if offset is not None:
            reported[:, offset] = np.where(ends[:, offset] < 1e-6 * smallest, 0.0, ends[:, offset])
        low, high = np.clip(np.sort(reported, axis=0), -1e300, 1e300).tolist()
        results.append(dict(zip(form.parameters, zip(low, high, strict=True), strict=True)))
    return results[0], results[1]


def _offset_as_is(theta: Floats, offset: int | None) -> Floats:
    """Parameters (..., p) with the log offset replaced by the offset."""
    theta = np.array(theta)
    if offset is not None:
        theta[..., offset] = bounded_exp(theta[..., offset])
    return theta


def leave_one_out_shifts(
    problem: Problem, best: Solution, y: Floats, weights: Floats, clusters: Indices, *, num_refitted: int = 30
) -> Floats:
    """Shift (clusters, q) of the free parameters when each cluster is left out.

    All clusters are judged by one Newton step; those that move most are refitted.
    """
    num = int(clusters.max()) + 1
    shifts = _one_step_shifts(problem, best.free, y, weights, clusters)
    size = np.abs(shifts / np.maximum(shifts.std(axis=0), 1e-300)).max(axis=1)
    chosen = np.argsort(-size, kind="stable")[: min(num, num_refitted)]
    without = weights * (clusters[None] != chosen[:, None])
    refitted = minimise(problem, np.repeat(best.free, len(chosen), axis=0), y, without, REFIT)
    result = np.zeros_like(shifts)
    result[chosen] = refitted.free - best.free
    return result


def _one_step_bootstrap(
    problem: Problem, optimum: Floats, y: Floats, weights: Floats, clusters: Indices, num_draws: int, seed: int
) -> Solution:
    blocks = clusters % BLOCKS
    shifts = _one_step_shifts(problem, optimum[None], y, weights, blocks)
    counts = resampled_counts(int(blocks.max()) + 1, num_draws, seed)
    free = np.clip(optimum - (counts - 1) @ shifts, problem.lower, problem.upper)
    unknown = np.full(num_draws, np.nan)
    return Solution(free=free, value=unknown, decrement=unknown, converged=np.ones(num_draws, dtype=bool))


def _one_step_shifts(problem: Problem, free: Floats, y: Floats, weights: Floats, clusters: Indices) -> Floats:
    """H^-1 times each cluster's gradient, (clusters, q)."""
    scores = np.zeros((y.shape[1], free.shape[1]))
    for block in problem.blocks:
        theta = free @ block.matrix.T + block.shift
        _, slope, _ = problem.objective.evaluate(block.form.log_mean(theta, block.design), y[:, block.rows])
        jacobian = block.form.jacobian(theta, block.design)[0] @ block.matrix
        scores[block.rows] = (weights[:, block.rows] * slope)[0][:, None] * jacobian
    sums = np.zeros((int(clusters.max()) + 1, free.shape[1]))
    np.add.at(sums, clusters, scores)
    hessian = problem.derivatives(free, y, weights, None)[2][0]
    return sums @ np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
