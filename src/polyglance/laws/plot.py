"""Plot of a law as SVG: log axes, the curve with its interval, the runs, the frontier, runs that were not fitted."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyglance.files import write_atomically
from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Floats, Indices
from polyglance.laws.law import Fit, Law
from polyglance.laws.prepare import prepare_again
from polyglance.laws.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_law"]

COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7b4b94", "#b8860b", "#4a4a4a")
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "polyglance",  # the same plot gives the same bytes
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def plot_law(
    law: Law, table: Table, path: str | Path, *, x: str | None = None, at: Mapping[str, float] | None = None
) -> None:
    """Draw all groups of a law over the table it was fitted to.

    With several predictors the curve runs along `x`. The others are held at their geometric mean (or at `at`), and
    every run is moved along the law to these values, so that its distance from the curve is its residual.

    Args:
        path: file to write, .svg.
        x: predictor on the horizontal axis; None: the form's first one.
        at: values of the other predictors.

    Raises:
        ValueError: unknown predictor, or a path that is not .svg.
    """
    path = Path(path)
    if path.suffix.lower() != ".svg":
        raise ValueError(f"{path}: plots are written as .svg")
    form = law.first.form
    x = x or form.predictors[0]
    if x not in form.predictors:
        raise ValueError(f"no predictor {x!r} to plot against; {did_you_mean(x, form.predictors)}")
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    table = prepare_again(law.config, table, law.columns.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for i, (label, fit) in enumerate(law.fits.items()):
            _draw_group(axes, fit, law.columns, table, x, at or {}, label if len(law.fits) > 1 else "", COLOURS[i % 6])
        if form.logarithmic:
            axes.set_xscale("log")
            axes.set_yscale("linear" if law.first.transform.is_score else "log")
            for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                set_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel(f"{x} ({law.columns[x]})" if law.columns[x] != x else x)
        axes.set_ylabel(law.columns["y"])
        axes.legend(frameon=False, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_atomically(path, buffer.getvalue())


def _draw_group(
    axes: "Axes",
    fit: Fit,
    columns: Mapping[str, str],
    table: Table,
    x: str,
    at: Mapping[str, float],
    label: str,
    colour: str,
) -> None:
    used = {name: table.numbers(columns[name])[0] for name in (*fit.form.predictors, "y")}
    fixed = {
        name: at.get(name, float(np.exp(np.log(used[name][fit.rows]).mean())))
        for name in fit.form.predictors
        if name != x
    }
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
