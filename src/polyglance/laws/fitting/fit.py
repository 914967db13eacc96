"""Fitting a law to a table of runs: rows, solver, bootstrap, intervals and warnings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy

from polyglance.laws.arrays import Floats
from polyglance.laws.config import FitConfig
from polyglance.laws.equations.form import Form
from polyglance.laws.fitting.accuracy import r_squared
from polyglance.laws.fitting.columns import notice_columns
from polyglance.laws.fitting.diagnose import Evidence, InfluentialRun, diagnose
from polyglance.laws.fitting.held_out import measure_held_out
from polyglance.laws.fitting.influence import find_influence
from polyglance.laws.fitting.layout import MANY_ROWS, Layout, lay_out, minimise_from_starts
from polyglance.laws.fitting.levels import AlikeLevels, find_alike_levels
from polyglance.laws.fitting.rows import ALL, Rows, choose_rows, find_frontier, resolve_form, select_rows
from polyglance.laws.fitting.scores import notice_scores
from polyglance.laws.fitting.solve import Solution
from polyglance.laws.fitting.uncertainty import compute_spread, draw_replicates, find_parameter_intervals
from polyglance.laws.law import Fit, Law, SolverReport
from polyglance.laws.tables.prepare import prepare_table
from polyglance.laws.tables.table import Table

__all__ = ["fit_law"]

_NUM_POLISHED = 8
"""Number of scanned starts that are followed to the end."""
_NUM_POLISHED_OF_MANY = 2
"""The same for tables with more than MANY_ROWS rows."""
_AGREEMENT = 1e-6
"""Starts agree when their objectives differ by less than this, relative."""


def fit_law(config: FitConfig, table: Any, *, form: Form | None = None) -> Law:
    """Fit a law, or one per group, with intervals and warnings.

    Args:
        table: a `Table`, or what `Table.from_data` makes one of: a frame, records, columns.
        form: a form that is not built in, in place of the config's.

    Raises:
        ValueError: a column is missing, rows cannot be used, too few rows, or contradictory options; one line.
    """
    form, columns, roles = resolve_form(config, form)
    used = config.list_columns(columns)
    table = prepare_table(config, Table.from_data(table), used)
    rows, table_warnings = select_rows(config, form, columns, table)
    groups, chosen = rows.split_groups(), choose_rows(config, form, rows)
    fits: dict[str, Fit] = {}
    for joint in [chosen] if config.share else [{label: group} for label, group in chosen.items()]:
        fits |= _fit_jointly(config, form, joint, groups)
    if not config.share:
        held_out = {label: measure_held_out(config, form, roles, group) for label, group in chosen.items()}
        fits = {label: replace(fit, held_out=held_out[label]) for label, fit in fits.items()}
    return Law(
        form=form.name,
        columns=columns,
        roles=roles,
        fits=fits,
        config={**config.to_dict(), "form": form.name},
        data={
            "source": table.source,
            "fingerprint": table.fingerprint(used),
            "num_rows": len(table),
            "dropped": {str(index + 1): reason for index, reason in rows.dropped.items()},
            "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
        },
        warnings=(*table_warnings, *notice_scores(form, chosen), *notice_columns(columns, used, table, rows)),
    )


def _fit_jointly(
    config: FitConfig, form: Form, groups: Mapping[str, Rows], all_groups: Mapping[str, Rows]
) -> dict[str, Fit]:
    """Return the fits of one minimisation over the rows of the given groups.

    Args:
        all_groups: all rows of each group, before a frontier was chosen.
    """
    layout = lay_out(config, form, groups)
    if len(layout.y) < len(layout.free):
        names = ", ".join(name for name, _ in layout.free)
        where = "" if ALL in groups else f"group {next(iter(groups))!r}: "
        raise ValueError(f"{where}{len(layout.y)} rows cannot determine {len(layout.free)} parameters ({names})")
    num_polished = _NUM_POLISHED if len(layout.y) <= MANY_ROWS else _NUM_POLISHED_OF_MANY
    polished = minimise_from_starts(layout, layout.weights[None], num_polished)
    optimum = polished.best
    has_draws = config.bootstrap > 0 and layout.has_noise
    levels = find_alike_levels(config, layout, optimum.free[0]) if has_draws else None
    draws = draw_replicates(config, layout, optimum.free[0], levels) if has_draws else optimum[:0]
    return {
        label: _describe_group(config, layout, label, all_groups[label], polished, draws, levels) for label in groups
    }


def _describe_group(
    config: FitConfig,
    layout: Layout,
    label: str,
    all_rows: Rows,
    polished: Solution,
    replicates: Solution,
    levels: AlikeLevels | None,
) -> Fit:
    """Return the fit of one group, with intervals and warnings.

    Args:
        all_rows: the group's rows, before a frontier was chosen.
        polished: the polished starts, (starts, q).
        replicates: the bootstrap replicates, (R, q).
        levels: levels of a predictor whose rows were drawn together.
    """
    fit = _make_fit(config, layout, label, all_rows, polished, replicates, compute_spread(config, layout, levels))
    evidence = Evidence(
        fit=fit,
        rows=layout.groups[label],
        all_rows=all_rows,
        layout=layout,
        has_clusters=config.cluster is not None,
        num_failed=int((~replicates.converged).sum()),
        influential=_describe_influence(layout, fit, polished.best.free[0]),
        on_frontier=config.frontier,
        levels=levels,
    )
    warnings, unidentified = diagnose(evidence)
    return replace(fit, warnings=warnings, unidentified=unidentified)


def _make_fit(
    config: FitConfig,
    layout: Layout,
    label: str,
    all_rows: Rows,
    polished: Solution,
    replicates: Solution,
    spread: float,
) -> Fit:
    """Return the fit of one group without warnings; arguments as for `_describe_group`."""
    form, rows, block = layout.form, layout.groups[label], layout.block(label)
    theta = block.theta(polished.best.free)[0]
    log_mean = form.log_mean(theta[None], block.design)[0]
    usable = replicates.free[np.isfinite(replicates.free).all(axis=1)]
    frontier = find_frontier(config, all_rows) if len(form.predictors) == 1 else np.empty(0, dtype=np.int64)
    y, transform = rows.transform.invert(rows.y), rows.transform
    columns = {**dict(zip(form.predictors, rows.x.T, strict=True)), "y": y}
    fit = Fit(
        form=form,
        transform=transform,
        theta=theta,
        reference=layout.reference,
        draws=block.theta(usable),
        spread=spread,
        confidence=config.confidence,
        seed=config.seed,
        objective=float(polished.best.value[0]),
        r2_log=r_squared(np.log(rows.y), log_mean, rows.weights),
        r2_raw=r_squared(y, transform.invert_log(log_mean), rows.weights),
        rows=rows.indices,
        frontier=all_rows.indices[frontier],
        ranges={name: (float(column.min()), float(column.max())) for name, column in columns.items()},
        residuals=log_mean - np.log(rows.y),
        intervals={},
        solver=_report_solver(config, layout, label, polished),
    )
    intervals = find_parameter_intervals(
        form,
        fit.at_origin(theta),
        fit.at_origin(fit.draws),
        fit.spread,
        fit.confidence,
        float(rows.y.min()),
        config.bounds,
    )
    is_free = {name: layout.position(name, label) is not None for name in form.parameters}
    return replace(fit, intervals={name: ends for name, ends in intervals.items() if is_free[name]})


def _report_solver(config: FitConfig, layout: Layout, label: str, polished: Solution) -> SolverReport:
    best, starts = polished.best, layout.starts
    free, lower, upper = best.free[0], layout.problem.lower, layout.problem.upper
    near = np.isclose(free, lower, rtol=0, atol=1e-6) | np.isclose(free, upper, rtol=0, atol=1e-6)
    still = (starts == free).any(axis=0) & (np.ptp(starts, axis=0) > 0) & ~near
    positions = {name: layout.position(name, label) for name in layout.form.parameters}
    given = layout.find_user_bounds(config)
    rounding = 1e-24 * layout.weights.sum()
    return SolverReport(
        num_starts=len(starts),
        agreement=float(np.mean(polished.value <= best.value[0] * (1 + _AGREEMENT) + rounding)),
        decrement=float(best.decrement[0]),
        converged=bool(best.converged[0]),
        at_bound=tuple(name for name, position in positions.items() if position is not None and near[position]),
        at_user_bound=tuple(
            name
            for name, position in positions.items()
            if position is not None and np.isclose(free[position], given[position], rtol=0, atol=1e-6).any()
        ),
        unmoved=tuple(name for name, position in positions.items() if position is not None and still[position]),
    )


def _describe_influence(layout: Layout, fit: Fit, optimum: Floats) -> InfluentialRun | None:
    """Return the run that moves the law by more than noise would.

    None if there is none, for joint fits, for more than `MANY_ROWS` rows, and without a bootstrap.
    """
    if len(fit.draws) == 0 or len(layout.groups) > 1 or len(layout.y) > MANY_ROWS:
        return None
    influence = find_influence(layout, optimum)
    if influence is None:
        return None
    (block,) = layout.problem.blocks
    moved = np.abs(fit.at_origin(influence.shift @ block.matrix.T))
    errors = _measure_outliers(fit.residuals) * fit.at_origin(fit.draws).std(axis=0)
    shifts = np.divide(moved, errors, out=np.zeros_like(moved), where=errors > 1e-12)
    most = int(shifts.argmax())
    return InfluentialRun(
        cluster=influence.cluster,
        parameter=fit.form.parameters[most],
        shift=float(shifts[most]),
        distance=influence.distance,
    )


def _measure_outliers(residuals: Floats) -> float:
    """Return the robust scale of the residuals divided by their standard deviation, at most 1.

    A standard error times this factor is roughly the standard error without the outliers.
    """
    usual = float(residuals.std())
    return min(1.4826 * float(np.median(np.abs(residuals))) / usual, 1.0) if usual > 0 else 1.0
