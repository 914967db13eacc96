"""Plots as SVG: a law (log axes, the curve with its interval, the runs, the frontier, runs that were not fitted), and
the sizes along a budget."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyglance.files import write_atomically
from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Floats, Indices
from polyglance.laws.law import Fit, Law
from polyglance.laws.planning.spend import BudgetPlan
from polyglance.laws.tables.prepare import prepare_again
from polyglance.laws.tables.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_budget", "plot_law"]

_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#b8860b", "#4a4a4a")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "polyglance",  # the same plot gives the same bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plot_law(law: Law, table: Table, path: str | Path, *, x: str | None = None) -> None:
    """Draw all groups of a law over the table it was fitted to.

    With several predictors the curve runs along `x`. The others are held at their geometric mean, and every run is
    moved along the law to these values, so that its distance from the curve is its residual.

    Args:
        path: file to write, .svg.
        x: predictor on the horizontal axis; None: the form's first one.

    Raises:
        ValueError: unknown predictor, or a path that is not .svg.
    """
    path = _check_path(path)
    form = law.first.form
    x = x or form.predictors[0]
    if x not in form.predictors:
        raise ValueError(f"no predictor {x!r} to plot against; {did_you_mean(x, form.predictors)}")
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    table = prepare_again(law.config, table, law.columns.values())
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for i, (label, fit) in enumerate(law.fits.items()):
            _draw_group(axes, fit, law.columns, table, x, label if len(law.fits) > 1 else "", _COLOURS[i % 6])
        if form.logarithmic:
            axes.set_xscale("log")
            axes.set_yscale("linear" if law.first.transform.is_score else "log")
            for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                set_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(f"{x} ({law.columns[x]})" if law.columns[x] != x else x)
        axes.set_ylabel(law.columns["y"])
        axes.legend(frameon=False, fontsize=8)
        _write_figure(figure, path)


def plot_budget(plan: BudgetPlan, path: str | Path) -> None:
    """Draw the y of each size along a budget (the isoFLOP curve) with its interval, the best size and the candidates.

    Args:
        path: file to write, .svg.

    Raises:
        ValueError: a path that is not .svg, or a plan without a curve and candidates.
    """
    path = _check_path(path)
    fitting = [option for option in plan.options if option.loss is not None]
    if not plan.curve and not fitting:
        raise ValueError(f"{path}: there is nothing to draw: {'; '.join(plan.notes)}")
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        if plan.curve:
            sizes = [point.size for point in plan.curve]
            values, lows, highs = (
                [_known(getattr(point.loss, name)) for point in plan.curve] for name in ("value", "low", "high")
            )
            axes.plot(sizes, values, color=_COLOURS[0], lw=1.6, label="along the budget")
            axes.fill_between(sizes, lows, highs, color=_COLOURS[0], alpha=0.18, lw=0, label="interval of the mean")
        if plan.best is not None:
            size = _known(plan.best.size.value)
            label = f"best size {size:.4g}"
            axes.scatter([size], [_known(plan.best.loss.value)], s=46, color=_COLOURS[0], label=label)
        for option in fitting:
            y = _known(option.loss.value if option.loss else None)
            axes.scatter([option.size], [y], s=24, color=_COLOURS[1], marker="s")
            axes.annotate(option.name, (option.size, y), textcoords="offset points", xytext=(5, 5))
        limits = ", ".join(f"{name} {value:.4g}" for name, value in plan.limits.items())
        axes.set_title(limits, fontsize=9)
        axes.set_xlabel(plan.size)
        axes.set_ylabel(plan.noun)
        axes.legend(frameon=False, fontsize=8)
        _write_figure(figure, path)


def _known(value: float | None) -> float:
    return np.nan if value is None else value


def _check_path(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".svg":
        raise ValueError(f"{path}: plots are written as .svg")
    return path


def _write_figure(figure: "Figure", path: Path) -> None:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_atomically(path, buffer.getvalue())


def _draw_group(
    axes: "Axes",
    fit: Fit,
    columns: Mapping[str, str],
    table: Table,
    x: str,
    label: str,
    colour: str,
) -> None:
    used = {name: table.numbers(columns[name])[0] for name in (*fit.form.predictors, "y")}
    fixed = {name: float(np.exp(np.log(used[name][fit.rows]).mean())) for name in fit.form.predictors if name != x}
    usable = np.all([np.isfinite(column) & (column > 0) for column in used.values()], axis=0)
    moved = np.full(len(usable), np.nan)
    runs = {name: used[name][usable] for name in fit.form.predictors}
    shift = fit.log_mean({**fixed, x: runs[x]})[0] - fit.log_mean(runs)[0]
    moved[usable] = fit.transform.invert(fit.transform.apply(used["y"][usable]) * np.exp(shift))
    curve_x = _curve_x(fit, used[x][fit.rows])
    prediction = fit.predict({**fixed, x: curve_x})
    prefix = f"{label}: " if label else ""
    inside = (curve_x >= fit.ranges[x][0]) & (curve_x <= fit.ranges[x][1])
    axes.plot(curve_x, prediction.mean, color=colour, lw=1, ls="--")
    axes.plot(curve_x[inside], prediction.mean[inside], color=colour, lw=1.6, label=f"{prefix}law")
    if prediction.low is not None and prediction.high is not None:
        name = f"{prefix}{100 * fit.confidence:.0f} % of the mean curve"
        axes.fill_between(curve_x, prediction.low, prediction.high, color=colour, alpha=0.18, lw=0, label=name)
    axes.scatter(used[x][fit.rows], moved[fit.rows], s=14, color=colour, alpha=0.8, label=f"{prefix}runs fitted")
    others: Indices = np.setdiff1d(np.flatnonzero(usable), fit.rows)
    if label == "" and len(others):
        axes.scatter(
            used[x][others], moved[others], s=14, facecolors="none", edgecolors="#777777", label="runs not fitted"
        )
    if len(fit.frontier):
        name = f"{prefix}frontier"
        axes.scatter(
            used[x][fit.frontier], moved[fit.frontier], s=46, facecolors="none", edgecolors=colour, lw=1.1, label=name
        )


def _curve_x(fit: Fit, values: Floats) -> Floats:
    low, high = float(values.min()), float(values.max())
    if not fit.form.logarithmic:
        return np.linspace(low, high, 200)
    return np.geomspace(low / 1.5, high * 10, 240)
