"""From a solution and its draws to the `Fit` of one group: reported values, intervals, scores, warnings."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyglance.laws.data import Rows
from polyglance.laws.diagnose import Evidence, diagnose
from polyglance.laws.forms import Form, PowerSum, bounded_exp
from polyglance.laws.frontier import pareto_frontier
from polyglance.laws.intervals import Interval
from polyglance.laws.law import Fit, SolverReport
from polyglance.laws.setup import MANY_ROWS, Layout
from polyglance.laws.solve import Solution
from polyglance.laws.uncertainty import (
    choose_method,
    leave_one_out_shifts,
    parameter_intervals,
    profile_interval,
    small_sample_spread,
)

if TYPE_CHECKING:
    from polyglance.laws.fit import FitConfig

__all__ = ["describe", "frontier_of", "r_squared"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

AGREEMENT = 1e-6
"""Starts agree when their objectives differ by less than this, relative."""


def describe(
    config: "FitConfig",
    layout: Layout,
    label: str,
    everything: Rows,
    polished: Solution,
    num_starts: int,
    draws: Solution,
) -> Fit:
    """The fit of one group.

    Args:
        everything: the group's rows before a frontier was chosen.
        polished: the polished starts, (starts, q).
        draws: bootstrap replicates, (R, q).
    """
    form, rows = layout.form, layout.groups[label]
    best = polished[[int(np.argmin(polished.value))]]
    theta = layout.theta(label, best.free)[0]
    usable = draws.free[np.isfinite(draws.free).all(axis=1)]
    theta_draws = layout.theta(label, usable)
    log_mean = form.log_mean(theta[None], layout.block(label).design)[0]
    residuals = log_mean - np.log(rows.y)
    to_origin = np.asarray(np.linalg.inv(form.centring(layout.reference)), dtype=float)
    origin, origin_draws = theta @ to_origin.T, theta_draws @ to_origin.T
    estimate = dict(zip(form.parameters, form.to_reported(origin).tolist(), strict=True))
    spread, intervals, t_intervals = _intervals(config, layout, label, origin, origin_draws)
    report = _report(layout, label, polished, num_starts)
    frontier = frontier_of(config, everything) if len(form.predictors) == 1 else None
    evidence = Evidence(
        form=form,
        rows=rows,
        num_free=len(layout.free),
        clustered=config.cluster is not None,
        estimate=estimate,
        intervals=intervals,
        draws=origin_draws,
        num_failed=int((~draws.converged).sum()),
        influence=_influence(layout, label, best, usable, to_origin, residuals),
        residuals=residuals,
        r2_log=r_squared(np.log(rows.y), log_mean, rows.weights),
        constant=layout.constant,
        told_across=layout.told_across,
        solver=report,
        frontier=None if frontier is None else everything.indices[frontier],
        on_frontier=config.frontier,
        all_rows=everything,
    )
    warnings, unidentified = diagnose(evidence)
    return Fit(
        form=form,
        theta=theta,
        reference=layout.reference,
        draws=theta_draws,
        spread=spread,
        confidence=config.confidence,
        seed=config.seed,
        objective=float(best.value[0]),
        r2_log=evidence.r2_log,
        r2_raw=r_squared(rows.y, bounded_exp(log_mean), rows.weights),
        rows=rows.indices,
        frontier=everything.indices[frontier] if frontier is not None else np.empty(0, dtype=np.int64),
        ranges=_ranges(form, rows),
        residuals=residuals,
        intervals=intervals,
        t_intervals=t_intervals,
        profile_intervals=_profiles(config, layout, label, best) if config.profile else {},
        unidentified=unidentified,
        solver=report,
        warnings=warnings,
    )


def _intervals(
    config: "FitConfig", layout: Layout, label: str, origin: Floats, origin_draws: Floats
) -> tuple[float, dict[str, Interval], dict[str, Interval]]:
    """The small-sample spread, and percentile and t intervals of the group's free parameters."""
    num_clusters, num_free = int(layout.clusters.max()) + 1, len(layout.free)
    method = choose_method(config.method, num_clusters, layout.problem.objective)
    spread = small_sample_spread(method, num_clusters, num_free, config.confidence)
    smallest = float(layout.groups[label].y.min())
    both = parameter_intervals(
        layout.form, origin, origin_draws, spread, num_clusters - num_free, config.confidence, smallest
    )
    percentile, student = (
        {name: ends for name, ends in one.items() if layout.position(name, label) is not None} for one in both
    )
    return spread, percentile, student


def frontier_of(config: "FitConfig", rows: Rows) -> Indices:
    """Positions of a group's non-dominated rows (its first predictor is the compute)."""
    runs = rows.clusters.tolist() if config.cluster else None
    return pareto_frontier(rows.x[:, 0], rows.y, runs=runs, config=config.frontier_options)


def r_squared(observed: Floats, predicted: Floats, weights: Floats) -> float:
    """Share of the weighted variance explained, in the space of its arguments; 0 where nothing varies."""
    total = float((weights * (observed - np.average(observed, weights=weights)) ** 2).sum())
    return 1 - float((weights * (observed - predicted) ** 2).sum()) / total if total > 0 else 0.0


def _report(layout: Layout, label: str, polished: Solution, num_starts: int) -> SolverReport:
    best = int(np.argmin(polished.value))
    value = polished.value[best]
    free, lower, upper = polished.free[best], layout.problem.lower, layout.problem.upper
    starts = layout.starts()
    near = np.isclose(free, lower, rtol=0, atol=1e-6) | np.isclose(free, upper, rtol=0, atol=1e-6)
    still = (starts == free).any(axis=0) & (np.ptp(starts, axis=0) > 0) & ~near
    own = {position: name for name in layout.form.parameters if (position := layout.position(name, label)) is not None}
    floor = 1e-24 * layout.weights.sum()
    return SolverReport(
        num_starts=num_starts,
        agreement=float(np.mean(polished.value <= value * (1 + AGREEMENT) + floor)),
        decrement=float(polished.decrement[best]),
        converged=bool(polished.converged[best]),
        at_bound=tuple(name for position, name in own.items() if near[position]),
        unmoved=tuple(name for position, name in own.items() if still[position]),
    )


def _ranges(form: Form, rows: Rows) -> dict[str, tuple[float, float]]:
    columns = {**{name: rows.x[:, i] for i, name in enumerate(form.predictors)}, "y": rows.y}
    return {name: (float(column.min()), float(column.max())) for name, column in columns.items()}


def _influence(
    layout: Layout, label: str, best: Solution, draws: Floats, to_origin: Floats, residuals: Floats
) -> Floats | None:
    """Leave-one-cluster-out shifts of a group's parameters in bootstrap standard errors, (clusters, p)."""
    if len(draws) == 0 or len(layout.groups) > 1 or len(layout.y) > MANY_ROWS:
        return None
    shifts = leave_one_out_shifts(layout.problem, best, layout.y[None], layout.weights[None], layout.clusters)
    block = layout.block(label)
    errors = _outlier_free(residuals) * (draws @ block.matrix.T @ to_origin.T).std(axis=0)
    moved = shifts @ block.matrix.T @ to_origin.T
    return np.asarray(np.divide(moved, errors, out=np.zeros_like(moved), where=errors > 1e-12))


def _outlier_free(residuals: Floats) -> float:
    """What standard errors would shrink by if an outlier had not blown them up: robust over usual residual scale."""
    usual = float(residuals.std())
    return min(1.4826 * float(np.median(np.abs(residuals))) / usual, 1.0) if usual > 0 else 1.0


def _profiles(config: "FitConfig", layout: Layout, label: str, best: Solution) -> dict[str, Interval]:
    """Profile intervals of exponents and offset (an amplitude at the origin has none of its own)."""
    form = layout.form
    skipped = {term.amplitude for term in form.terms if term.exponents} if isinstance(form, PowerSum) else set()
    result = {}
    for name in form.parameters:
        position = layout.position(name, label)
        if position is None or (name in skipped and name not in layout.anchored):
            continue
        ends = profile_interval(layout.problem, best, layout.y[None], layout.weights[None], position, config.confidence)
        result[name] = tuple(None if end is None else _reported(form, name, end) for end in ends)
    return {name: (ends[0], ends[1]) for name, ends in result.items()}


def _reported(form: Form, name: str, value: float) -> float:
    theta = np.zeros(len(form.parameters))
    theta[form.parameters.index(name)] = value
    return float(form.to_reported(theta)[form.parameters.index(name)])
