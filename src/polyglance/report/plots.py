"""The report's figures (paper Figs. 1 to 4), drawn from a study's files; each panel is one inline SVG.

A figure is several small panels rather than one wide picture, so that they stand side by side on a wide window and
below each other on a narrow one with letters of the same size. Colour and marker stand for family and starting point
in every figure.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from polyglance.laws import Fit, Law
from polyglance.report import wording
from polyglance.report.comparisons import Ladder, Variable, families, ladders, series
from polyglance.report.folder import Run, StudyFolder
from polyglance.report.svg import COLOURS, MARKERS, SERIES, drawing, figure_of, log_axis, panel, render
from polyglance.report.tables import GridCell, coverage_grid, language_rows

__all__ = [
    "LegendEntry",
    "legend",
    "plot_compute",
    "plot_first_token",
    "plot_grid",
    "plot_ladders",
    "plot_prefix_losses",
    "plot_right_language",
]

Floats = NDArray[np.float64]

_GLYPHS = dict(zip(MARKERS, "●■▲◆▼✚✖", strict=True))
_MAX_LABELLED_LINES = 12
_MAX_FITTED_LINES = 24
_GRID_ROW_PX = 54
_KINDS = {
    "trained": ("s2", "-", 0.12),
    "unseen": ("s1", (0, (4, 2.5)), 0.08),
    "reconstruction": ("s0", (0, (1, 1.5)), 0.08),
    "none": ("muted", (0, (1, 3)), 0.0),
}
"""Kind of cell -> colour, line of its border, opacity of its ground."""


class LegendEntry(NamedTuple):
    """A family with its starting point, as the figures mark it."""

    name: str
    colour: str
    """CSS variable."""
    glyph: str


class _Mark(NamedTuple):
    colour: str
    marker: str


def legend(runs: Sequence[Run]) -> tuple[LegendEntry, ...]:
    """What colours and markers mean."""
    variables = {colour: name for name, colour in COLOURS.items()}
    return tuple(
        LegendEntry(wording.series_name(family, start), variables[mark.colour], _GLYPHS[mark.marker])
        for (family, start), mark in _marks(runs).items()
    )


def plot_grid(study: StudyFolder, run: Run | None) -> str:
    """Fig. 1: which cells are trained, and the loss of one run in each."""
    rows = coverage_grid(study, run)
    with drawing():
        height_px = 40 + _GRID_ROW_PX * len(rows)
        axes = panel(400, height_px, left=118, right=2, top=32, bottom=6)
        axes.set_axis_off()
        axes.set(xlim=(0, 2), ylim=(len(rows), 0))
        for column, task in enumerate(("Captioning", "Translation")):
            axes.text(column + 0.5, -0.22, task, ha="center", va="bottom", weight="bold")
        for row, cells in enumerate(rows):
            name = wording.language_name(cells[0].cell.language)
            axes.text(-0.06, row + 0.5, name, ha="right", va="center")
            for column, cell in enumerate(cells):
                _draw_cell(axes, column, row, cell)
        return render(axes, "grid", _grid_label(rows), {})


def _draw_cell(axes: Axes, column: int, row: int, cell: GridCell) -> None:
    name, line, opacity = _KINDS[cell.kind]
    box: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.04", "mutation_aspect": 140 / _GRID_ROW_PX}
    for kwargs in ({"fc": COLOURS[name], "ec": "none", "alpha": opacity}, {"fc": "none", "ec": COLOURS[name]}):
        axes.add_patch(FancyBboxPatch((column + 0.03, row + 0.06), 0.94, 0.88, ls=line, lw=1.4, **box, **kwargs))
    word = cell.split or ("reconstruction" if cell.kind == "reconstruction" else "not trained")
    middle = column + 0.5
    small: dict[str, Any] = {"ha": "center", "size": 10.5, "color": COLOURS["muted"]}
    if math.isfinite(cell.loss_nats):
        axes.text(middle, row + 0.48, wording.loss(cell.loss_nats), ha="center", va="bottom", weight="bold", size=15)
        axes.text(middle, row + 0.6, word, va="top", **small)
    else:
        axes.text(middle, row + 0.5, word, va="center", **small)


def _grid_label(rows: Sequence[tuple[GridCell, GridCell]]) -> str:
    kinds = {"trained": "trained", "unseen": "not trained, measured", "reconstruction": "trained as reconstruction"}
    parts = [
        f"{cell.cell.task} {wording.language_name(cell.cell.language)} {kinds[cell.kind]}, loss "
        f"{wording.loss(cell.loss_nats)}"
        for cells in rows
        for cell in cells
        if cell.kind in kinds
    ]
    return f"Grid of tasks and languages: {'; '.join(parts)}."


def plot_compute(study: StudyFolder, column: str) -> str | None:
    """Fig. 2: one loss against compute, the frontier marked, the compute law with its band. None without runs."""
    runs = _measured(study.runs, "C", column)
    if not runs:
        return None
    law = study.laws.get(f"compute-{column}")
    marks = _marks(study.runs)
    with drawing():
        axes = panel(360, 310)
        _head(axes, f"{column.partition('_')[0]}: {wording.COLUMN_NAMES[column]}", "compute C in GMAC")
        log_axis(axes, "x", [run["C"] for run in runs], FuncFormatter(lambda value, _: wording.significant(value)))
        log_axis(axes, "y", [run[column] for run in runs], FuncFormatter(lambda value, _: wording.significant(value)))
        if law is not None and _predictors(law) == ("C",):
            _draw_compute_law(axes, law, study.runs, column, marks)
        titles = _draw_runs(axes, runs, marks, "C", column)
        lowest = min(run[column] for run in runs)
        label = f"{wording.COLUMN_NAMES[column]} against compute for {len(runs)} runs; the lowest is {lowest:.2f}."
        return render(axes, f"compute-{column}", label, titles)


def _draw_compute_law(
    axes: Axes, law: Law, runs: Sequence[Run], column: str, marks: Mapping[tuple[str, str], _Mark]
) -> None:
    """The law over all runs with its band where there is one, else the law of each family without."""
    groups = ["all"] if "all" in law.fits else list(law.fits)
    x = np.geomspace(*axes.get_xlim(), 60)
    for group in groups:
        fit = law.fits[group]
        prediction = fit.predict({"C": x})
        if group == "all":
            _draw_band(axes, x, prediction.low_new, prediction.high_new, opacity=0.08)
            _draw_band(axes, x, prediction.low, prediction.high, opacity=0.16)
        colour = next((mark.colour for (family, _), mark in marks.items() if family == group), COLOURS["ink"])
        axes.plot(x, prediction.mean, color=colour, lw=1.3)
        frontier = _measured([runs[row] for row in fit.frontier], "C", column)
        points = [run["C"] for run in frontier], [run[column] for run in frontier]
        axes.plot(*points, "o", ms=15, mfc="none", mec=COLOURS["ink"], mew=1, zorder=2.5)


def _draw_band(axes: Axes, x: Floats, low: Floats | None, high: Floats | None, *, opacity: float) -> None:
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=COLOURS["ink"], alpha=opacity, lw=0)


def _draw_runs(
    axes: Axes, runs: Sequence[Run], marks: Mapping[tuple[str, str], _Mark], x: str, y: str, titles: str = ""
) -> dict[str, str]:
    """One marker per run, the larger the larger the model; returns gid -> what to show on it."""
    sizes = sorted({run["P"] for run in runs if math.isfinite(run["P"])})
    shown = {}
    for run in runs:
        mark = marks[run.family, run.start]
        rank = sizes.index(run["P"]) / (len(sizes) - 1) if run["P"] in sizes and len(sizes) > 1 else 0.5
        gid = f"run-{run.row}"
        style: dict[str, Any] = {"ms": 6 + 4 * rank, "mec": COLOURS["paper"], "mew": 0.6, "zorder": 3}
        axes.plot([run[x]], [run[y]], mark.marker, color=mark.colour, gid=gid, **style)
        shown[gid] = f"{wording.run_name(run)}: {titles or wording.COLUMN_NAMES.get(y, y)} {wording.loss(run[y])}"
    return shown


def plot_ladders(study: StudyFolder, family: str, variable: Variable, column: str) -> str | None:
    """Fig. 3: the loss against P, S or T; a line joins runs that differ in it only. None where no two runs do."""
    every = ladders(study.runs, variable, column)
    found = [one for one in every if one.family == family and len(one.rungs) > 1]
    if not found:
        return None
    fit = _product_fit(study, family, column)
    with drawing():
        axes = panel(360, 300, right=74)
        _head(axes, wording.family_name(family), wording.COLUMN_NAMES[variable])
        text = FuncFormatter(lambda value, _: wording.magnitude(value))
        log_axis(axes, "x", [rung.x for one in found for rung in one.rungs], text)
        all_losses = [run[column] for run in _measured(study.runs, column)]
        log_axis(axes, "y", all_losses, FuncFormatter(lambda value, _: wording.significant(value)))
        marks = _marks(study.runs)
        titles: dict[str, str] = {}
        for one in found:
            titles |= _draw_ladder(axes, one, marks, column)
            if fit is not None and len(found) <= _MAX_FITTED_LINES:
                _draw_fit(axes, one, fit, _line_colour(one, marks))
        _label_lines(axes, found, marks)
        label = (
            f"Loss against {wording.COLUMN_NAMES[variable]}, {wording.family_name(family)}: "
            + "; ".join(f"{one.name}: {', '.join(wording.loss(rung.y) for rung in one.rungs)}" for one in found)
            + "."
        )
        number = families(study.runs).index(family)  # names of users are no part of an id
        return render(axes, f"ladder-{variable}-{number}", label, titles)


def _product_fit(study: StudyFolder, family: str, column: str) -> Fit | None:
    """The product law of the family, or of all runs, where it is one of the variables drawn here."""
    law = study.laws.get(f"product-{column}")
    if law is None or any(law.columns.get(name, name) not in ("P", "S", "T") for name in _predictors(law)):
        return None
    return law.fits.get(family) or law.fits.get("all")


def _predictors(law: Law) -> tuple[str, ...]:
    return next(iter(law.fits.values())).form.predictors


def _draw_ladder(axes: Axes, ladder: Ladder, marks: Mapping[tuple[str, str], _Mark], column: str) -> dict[str, str]:
    line = _line_colour(ladder, marks)
    axes.plot([rung.x for rung in ladder.rungs], [rung.y for rung in ladder.rungs], color=line, lw=1.2, alpha=0.75)
    titles = {}
    for rung in ladder.rungs:
        first = rung.runs[0]
        mark = marks[first.family, first.start]
        if len(rung.runs) > 1:
            values = [run[column] for run in rung.runs]
            axes.plot([rung.x] * len(values), values, "_", color=mark.colour, ms=7, alpha=0.7)
        gid = f"rung-{ladder.variable}-{first.row}"
        axes.plot(
            rung.x, rung.y, mark.marker, color=mark.colour, ms=7, mec=COLOURS["paper"], mew=0.6, gid=gid, zorder=3
        )
        seeds = f"mean of {len(rung.runs)} seeds" if len(rung.runs) > 1 else "one seed"
        titles[gid] = (
            f"{ladder.name}: {ladder.variable} = {wording.magnitude(rung.x)}, {wording.loss(rung.y)} ({seeds})"
        )
    return titles


def _draw_fit(axes: Axes, ladder: Ladder, fit: Fit, colour: str) -> None:
    """The product law along a ladder, the other variables at the ladder's mean."""
    xs = [rung.x for rung in ladder.rungs]
    x = np.geomspace(xs[0] / 1.08, xs[-1] * 1.08, 40)
    runs = [run for rung in ladder.rungs for run in rung.runs]
    means = {name: float(np.mean([run[name] for run in runs])) for name in fit.form.predictors}
    inputs = {name: x if name == ladder.variable else np.full_like(x, mean) for name, mean in means.items()}
    if all(mean > 0 for mean in means.values()):  # NaN where a run lacks one
        axes.plot(x, fit.predict(inputs).mean, color=colour, lw=1.2, ls=(0, (4, 2)))


def _line_colour(ladder: Ladder, marks: Mapping[tuple[str, str], _Mark]) -> str:
    """The colour of the starting point where all runs share one."""
    first = ladder.rungs[0].runs[0]
    return COLOURS["muted"] if ladder.variable == "T" else marks[first.family, first.start].colour


def _label_lines(axes: Axes, found: Sequence[Ladder], marks: Mapping[tuple[str, str], _Mark]) -> None:
    """What a line's runs share, at its right end, moved apart where labels would overlap."""
    if len(found) > _MAX_LABELLED_LINES:
        return
    ends = sorted(((_fraction(axes, one.rungs[-1].y), one) for one in found), key=lambda pair: pair[0])
    lowest = -0.02
    for place, one in ends:
        place = max(place, lowest)
        first = one.rungs[0].runs[0]
        samples = wording.magnitude(first["S"])
        text = {"P": f"S {samples}", "S": first.size, "T": f"{first.size}, {samples}"}[one.variable]
        colour = _line_colour(one, marks)
        axes.text(1.03, place, text, transform=axes.transAxes, va="center", size=10.5, color=colour)
        lowest = place + 0.062


def _fraction(axes: Axes, y: float) -> float:
    low, high = axes.get_ylim()
    return math.log(y / low) / math.log(high / low)


def plot_prefix_losses(study: StudyFolder, runs: Sequence[Run]) -> str | None:
    """Fig. 4, left: per unseen language, the loss without the prefix (open) and after it (filled)."""
    values = {run.id: {row.language: (row.plain, row.prefix) for row in language_rows(study, run)} for run in runs}
    return _plot_pairs(study, runs, values, "prefix-loss", "UC loss", "nats per token", wording.loss)


def plot_right_language(study: StudyFolder, runs: Sequence[Run]) -> str | None:
    """Fig. 4, middle: per unseen language, the share of captions in it without the prefix and after it."""
    values = {
        run.id: {
            row.language: (100 * row.right_language, 100 * row.right_language_prefix)
            for row in language_rows(study, run)
        }
        for run in runs
    }

    def percent(value: float) -> str:
        return wording.share(value / 100)

    return _plot_pairs(study, runs, values, "right-language", "Captions in the asked language", "per cent", percent)


def _plot_pairs(
    study: StudyFolder,
    runs: Sequence[Run],
    values: Mapping[str, Mapping[str, tuple[float, float]]],
    name: str,
    title: str,
    xlabel: str,
    text: Any,
) -> str | None:
    languages = list(dict.fromkeys(code for rows in values.values() for code in rows))
    numbers = [number for rows in values.values() for pair in rows.values() for number in pair if math.isfinite(number)]
    if not numbers:
        return None
    marks, label = _marks(study.runs), []
    with drawing():
        axes = panel(360, max(300, 76 + 20 * len(languages) * len(runs)), left=90)
        _head(axes, title, xlabel)
        axes.grid(axis="y", visible=False)
        axes.set_yticks(range(len(languages)), [_short_language(code) for code in languages])
        axes.set(ylim=(len(languages) - 0.5, -0.5), xlim=_linear_limits(numbers))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        for index, run in enumerate(runs):
            mark = marks[run.family, run.start]
            shift = (index - (len(runs) - 1) / 2) * min(0.3, 0.7 / len(runs))
            for code, (plain, prefix) in values[run.id].items():
                y = languages.index(code) + shift
                axes.plot([plain, prefix], [y, y], color=mark.colour, lw=1.6, alpha=0.5)
                axes.plot(plain, y, mark.marker, mfc=COLOURS["paper"], mec=mark.colour, mew=1.5, ms=7)
                axes.plot(prefix, y, mark.marker, color=mark.colour, ms=7.5)
                series = wording.series_name(run.family, run.start)
                label.append(f"{wording.language_name(code)}, {series}: {text(plain)} without, {text(prefix)} after it")
        return render(axes, name, f"{title} without the prefix and after it. {'; '.join(label)}.", {})


def plot_first_token(study: StudyFolder) -> str | None:
    """Fig. 4, right: how sure each run is of the first word, and whether its captions come out in the language."""
    runs = _measured(study.runs, "UC_first", "right_language", positive=False)
    if not runs:
        return None
    with drawing():
        axes = panel(360, 300)
        _head(axes, "No prefix: first token and language", "loss of the first token, nats")
        axes.set(ylim=(-0.05, 1.05), xlim=_linear_limits([run["UC_first"] for run in runs]))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.xaxis.set_major_locator(MaxNLocator(6))
        titles = _draw_runs(axes, runs, _marks(study.runs), "UC_first", "right_language", "share in the asked language")
        label = f"Share of captions in the asked language against the loss of the first token, {len(runs)} runs."
        return render(axes, "first-token", label, titles)


def _head(axes: Axes, title: str, xlabel: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=12, x=-_left_share(axes))
    axes.set_xlabel(xlabel, fontsize=11, labelpad=5)


def _left_share(axes: Axes) -> float:
    """The left margin in units of the axes' width."""
    box = axes.get_position()
    return (box.x0 - 8 / (figure_of(axes).get_figwidth() * 72)) / box.width


def _linear_limits(values: Sequence[float]) -> tuple[float, float]:
    high = max(*values, 0.0)
    return (-0.04 * high or -0.1, 1.05 * high or 1.0)


def _short_language(code: str) -> str:
    name = wording.language_name(code)
    return name if len(name) <= 10 else name.split()[-1]


def _measured(runs: Sequence[Run], *columns: str, positive: bool = True) -> list[Run]:
    return [
        run
        for run in runs
        if all(math.isfinite(run[column]) and (run[column] > 0 or not positive) for column in columns)
    ]


def _marks(runs: Sequence[Run]) -> dict[tuple[str, str], _Mark]:
    return {
        pair: _Mark(SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)])
        for index, pair in enumerate(series(runs))
    }
