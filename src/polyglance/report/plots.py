"""Figures of the report (paper Figs. 1 to 4), drawn from a study's files; each panel is one inline SVG.

A figure consists of several small panels, not one wide picture: they are side by side in a wide window and below each
other in a narrow one, with text of the same size. Colour and marker stand for family and starting point.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from polyglance.coverage import TASKS, Cell
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.laws import Fit, Law
from polyglance.laws.arrays import Floats
from polyglance.prediction_records import RunPrediction
from polyglance.report.comparisons import (
    Ladder,
    Variable,
    find_ladders,
    fit_monotone,
    list_series,
    runs_by_family,
)
from polyglance.report.folder import StudyFolder
from polyglance.report.svg import (
    COLOURS,
    MARKERS,
    SERIES,
    figure_of,
    make_log_axis,
    make_panel,
    render_svg,
    use_report_style,
)
from polyglance.report.wording import (
    COLUMN_NAMES,
    capitalise,
    format_loss,
    format_magnitude,
    format_share,
    format_signed,
    format_significant,
    name_family,
    name_language,
    name_run,
    name_series,
)
from polyglance.run_records import CellRecord, RunRow, Variant

__all__ = [
    "SCORES_AND_LOSSES",
    "SeriesMark",
    "choose_marks",
    "plot_compute",
    "plot_first_token",
    "plot_grid",
    "plot_ladders",
    "plot_language_bars",
    "plot_predictions",
    "plot_prefix_losses",
    "plot_right_language",
    "plot_score",
]

SCORES_AND_LOSSES = (
    ("UC_prefix", "cider_prefix"),
    ("UC", "cider"),
    ("ST", "bleu"),
    ("ST", "disambiguation"),
)
"""Loss -> score of the texts that the same runs generate (paper Fig. 5)."""


_NATS = "nats per token"
_SCORE_UNITS = {
    "cider": "CIDEr, 0 to 10",
    "cider_prefix": "CIDEr, 0 to 10",
    "bleu": "BLEU, 0 to 100",
    "disambiguation": "share; 50 % by chance",
}
_GLYPHS = dict(zip(MARKERS, "●■▲◆▼✚✖", strict=True))
_MAX_LABELLED_LINES = 12
_MAX_FITTED_LINES = 24
_GRID_ROW_PX = 54


class _CellStyle(NamedTuple):
    colour: str
    line: Any
    """Line of the border."""
    opacity: float
    """Opacity of the background."""
    words: str
    """Kind in words, for readers who do not see the figure."""


_CELL_STYLES = {
    "trained": _CellStyle("s2", "-", 0.12, "trained"),
    "unseen": _CellStyle("s1", (0, (4, 2.5)), 0.08, "not trained, measured"),
    "reconstruction": _CellStyle("s0", (0, (1, 1.5)), 0.08, "trained as reconstruction"),
    "not trained": _CellStyle("muted", (0, (1, 3)), 0.0, ""),
}


class SeriesMark(NamedTuple):
    """Colour and marker of a family with its starting point, in every figure."""

    name: str
    variable: str
    """CSS variable of the colour."""
    marker: str
    """Marker of matplotlib."""

    @property
    def colour(self) -> str:
        """Colour that is drawn in place of the CSS variable."""
        return COLOURS[self.variable]

    @property
    def glyph(self) -> str:
        """Character that looks like the marker."""
        return _GLYPHS[self.marker]


Marks = Mapping[tuple[str, str], SeriesMark]
"""(family, starting point) -> mark."""
_Describe = Callable[[float], str]


def choose_marks(runs: Sequence[RunRow]) -> Marks:
    """Choose a colour and a marker for every family and starting point, in the order of runs.csv."""
    return {
        pair: SeriesMark(name_series(*pair), f"s{index % len(SERIES)}", MARKERS[index % len(MARKERS)])
        for index, pair in enumerate(list_series(runs))
    }


def plot_grid(study: StudyFolder, run: RunRow | None) -> str:
    """Draw Fig. 1: the trained and the unseen cells, with the loss of one run in each. In UC it is the loss after the
    prefix where that was measured."""
    languages, records = study.coverage.languages, study.cells(run)
    words = []
    with use_report_style():
        axes = make_panel(400, 40 + _GRID_ROW_PX * len(languages), left=118, right=2, top=32, bottom=6)
        axes.set_axis_off()
        axes.set(xlim=(0, 2), ylim=(len(languages), 0))
        for column, task in enumerate(TASKS):
            head = "Captioning" if task == "caption" else "Translation"
            axes.text(column + 0.5, -0.22, head, ha="center", va="bottom", weight="bold")
        for row, code in enumerate(languages):
            axes.text(-0.06, row + 0.5, name_language(code), ha="right", va="center")
            for column, task in enumerate(TASKS):
                cell = Cell(task, code)
                kind, split, record = _kind_of(study, cell), study.coverage.split_of(cell), records.get(cell)
                variant: Variant = "prefix" if split == "UC" and record and "prefix" in record.losses else "plain"
                loss = None if record is None else record.loss(variant)
                _draw_cell(axes, column, row, kind, split or kind, loss)
                if kind != "not trained":
                    words.append(f"{task} {name_language(code)} {_CELL_STYLES[kind].words}, loss {format_loss(loss)}")
        return render_svg(axes, "grid", f"Grid of tasks and languages: {'; '.join(words)}.", {})


def _kind_of(study: StudyFolder, cell: Cell) -> str:
    if cell in study.coverage.cells:
        return "reconstruction" if cell == Cell("translation", SOURCE_LANGUAGE) else "trained"
    return "unseen" if study.coverage.split_of(cell) == "UC" else "not trained"


def _draw_cell(axes: Axes, column: int, row: int, kind: str, word: str, loss: float | None) -> None:
    colour, line, opacity, _ = _CELL_STYLES[kind]
    box: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.04", "mutation_aspect": 140 / _GRID_ROW_PX}
    for kwargs in ({"fc": COLOURS[colour], "ec": "none", "alpha": opacity}, {"fc": "none", "ec": COLOURS[colour]}):
        axes.add_patch(FancyBboxPatch((column + 0.03, row + 0.06), 0.94, 0.88, ls=line, lw=1.4, **box, **kwargs))
    middle = column + 0.5
    small: dict[str, Any] = {"ha": "center", "size": 10.5, "color": COLOURS["muted"]}
    if loss is not None and math.isfinite(loss):
        axes.text(middle, row + 0.48, format_loss(loss), ha="center", va="bottom", weight="bold", size=15)
        axes.text(middle, row + 0.6, word, va="top", **small)
    else:
        axes.text(middle, row + 0.5, word, va="center", **small)


def plot_compute(study: StudyFolder, column: str) -> str | None:
    """Draw Fig. 2: one loss against compute, with the frontier and the compute law with its band. None without runs."""
    runs = _with_numbers(study.runs, "C", column)
    if not runs:
        return None
    law = study.laws.get(f"compute-{column}")
    marks = choose_marks(study.runs)
    with use_report_style():
        axes = make_panel(360, 310)
        _set_titles(axes, f"{column.partition('_')[0]}: {COLUMN_NAMES[column]}", "compute C in GMAC", _NATS)
        make_log_axis(axes, "x", [run["C"] for run in runs], format_significant)
        make_log_axis(axes, "y", [run[column] for run in runs], format_significant)
        if law is not None and _list_predictors(law) == ("C",):
            _draw_compute_law(axes, law, study.runs, column, marks)
        titles = _draw_runs(axes, runs, marks, "C", column, lambda loss: f"{COLUMN_NAMES[column]} {format_loss(loss)}")
        lowest = min(run[column] for run in runs)
        label = f"{COLUMN_NAMES[column]} against compute for {len(runs)} runs; the lowest is {lowest:.2f}."
        return render_svg(axes, f"compute-{column}", label, titles)


def _draw_compute_law(axes: Axes, law: Law, runs: Sequence[RunRow], column: str, marks: Marks) -> None:
    """Draw the law of each family over its own runs, or that of all runs where there is one family; with bands."""
    groups = [group for group in law.fits if group != "all"] or ["all"]
    x = np.geomspace(*axes.get_xlim(), 60)
    for group in groups:
        fit = law.fits[group]
        prediction = fit.predict({"C": x})
        if len(groups) == 1:  # several outer bands would overlap
            _draw_band(axes, x, prediction.low_new, prediction.high_new, opacity=0.08)
        _draw_band(axes, x, prediction.low, prediction.high, opacity=0.16)
        colour = next((mark.colour for (family, _), mark in marks.items() if family == group), COLOURS["ink"])
        axes.plot(x, prediction.mean, color=colour, lw=1.3)
        frontier = _with_numbers([runs[row] for row in fit.frontier], "C", column)
        points = [run["C"] for run in frontier], [run[column] for run in frontier]
        axes.plot(*points, "o", ms=15, mfc="none", mec=COLOURS["ink"], mew=1, zorder=2.5)


def _draw_band(axes: Axes, x: Floats, low: Floats | None, high: Floats | None, *, opacity: float) -> None:
    if low is not None and high is not None:
        axes.fill_between(x, low, high, color=COLOURS["ink"], alpha=opacity, lw=0)


def _draw_runs(axes: Axes, runs: Sequence[RunRow], marks: Marks, x: str, y: str, describe: _Describe) -> dict[str, str]:
    """Draw one marker per run, the larger the larger the model.

    Args:
        describe: number on the y axis -> its text when the pointer rests on the marker.

    Returns:
        gid of a marker -> text.
    """
    sizes = sorted({run["P"] for run in runs if math.isfinite(run["P"])})
    titles = {}
    for run in runs:
        mark = marks[run.family, run.start]
        rank = sizes.index(run["P"]) / (len(sizes) - 1) if run["P"] in sizes and len(sizes) > 1 else 0.5
        gid = f"run-{run.id}"
        style: dict[str, Any] = {"ms": 6 + 4 * rank, "mec": COLOURS["paper"], "mew": 0.6, "zorder": 3}
        axes.plot([run[x]], [run[y]], mark.marker, color=mark.colour, gid=gid, **style)
        titles[gid] = f"{name_run(run)}: {describe(run[y])}"
    return titles


def plot_ladders(study: StudyFolder, family: str, variable: Variable, column: str) -> str | None:
    """Draw Fig. 3: the loss against P, S or T; a line joins runs that differ in it only. None where no two runs do."""
    runs = runs_by_family(study.runs)
    lines = [ladder for ladder in find_ladders(runs[family], variable, column) if len(ladder.rungs) > 1]
    if not lines:
        return None
    fit = _find_product_fit(study, family, column)
    with use_report_style():
        axes = make_panel(360, 300, right=74)
        _set_titles(axes, name_family(family), COLUMN_NAMES[variable], _NATS)
        make_log_axis(axes, "x", [rung.x for ladder in lines for rung in ladder.rungs], format_magnitude)
        make_log_axis(axes, "y", [run[column] for run in _with_numbers(study.runs, column)], format_significant)
        marks = choose_marks(study.runs)
        titles: dict[str, str] = {}
        for ladder in lines:
            titles |= _draw_ladder(axes, ladder, marks, column)
            if fit is not None and len(lines) <= _MAX_FITTED_LINES:
                _draw_fit(axes, ladder, fit, _line_colour(ladder, marks))
        _label_lines(axes, lines, marks)
        losses = (f"{one.name}: {', '.join(format_loss(rung.y) for rung in one.rungs)}" for one in lines)
        label = f"Loss against {COLUMN_NAMES[variable]}, {name_family(family)}: {'; '.join(losses)}."
        number = list(runs).index(family)  # a family's name is chosen by the user and must not be part of an id
        return render_svg(axes, f"ladder-{variable}-{number}", label, titles)


def _find_product_fit(study: StudyFolder, family: str, column: str) -> Fit | None:
    """Return the product law of the family, or of all runs; None where it has variables that are not drawn here."""
    law = study.laws.get(f"product-{column}")
    if law is None or any(law.columns.get(name, name) not in ("P", "S", "T") for name in _list_predictors(law)):
        return None
    return law.fits.get(family) or law.fits.get("all")


def _list_predictors(law: Law) -> tuple[str, ...]:
    return next(iter(law.fits.values())).form.predictors


def _draw_ladder(axes: Axes, ladder: Ladder, marks: Marks, column: str) -> dict[str, str]:
    line = _line_colour(ladder, marks)
    axes.plot([rung.x for rung in ladder.rungs], [rung.y for rung in ladder.rungs], color=line, lw=1.2, alpha=0.75)
    titles = {}
    for rung in ladder.rungs:
        first = rung.runs[0]
        mark = marks[first.family, first.start]
        if len(rung.runs) > 1:
            values = [run[column] for run in rung.runs]
            axes.plot([rung.x] * len(values), values, "_", color=mark.colour, ms=7, alpha=0.7)
        gid = f"rung-{first.id}"
        axes.plot(
            rung.x, rung.y, mark.marker, color=mark.colour, ms=7, mec=COLOURS["paper"], mew=0.6, gid=gid, zorder=3
        )
        seeds = f"mean of {len(rung.runs)} seeds" if len(rung.runs) > 1 else "one seed"
        titles[gid] = f"{ladder.name}: {ladder.variable} = {format_magnitude(rung.x)}, {format_loss(rung.y)} ({seeds})"
    return titles


def _draw_fit(axes: Axes, ladder: Ladder, fit: Fit, colour: str) -> None:
    """Draw the product law along a ladder, with the other variables at the ladder's mean."""
    xs = [rung.x for rung in ladder.rungs]
    x = np.geomspace(xs[0] / 1.08, xs[-1] * 1.08, 40)
    runs = [run for rung in ladder.rungs for run in rung.runs]
    means = {name: float(np.mean([run[name] for run in runs])) for name in fit.form.predictors}
    inputs = {name: x if name == ladder.variable else np.full_like(x, mean) for name, mean in means.items()}
    if all(mean > 0 for mean in means.values()):  # NaN where a run lacks one
        axes.plot(x, fit.predict(inputs).mean, color=colour, lw=1.2, ls=(0, (4, 2)))


def _line_colour(ladder: Ladder, marks: Marks) -> str:
    """Return the colour of the starting point; a neutral one where the starting point varies along the ladder."""
    first = ladder.rungs[0].runs[0]
    return COLOURS["muted"] if ladder.variable == "T" else marks[first.family, first.start].colour


def _label_lines(axes: Axes, lines: Sequence[Ladder], marks: Marks) -> None:
    """Write the settings that a line's runs share at its right end; labels that would overlap are moved apart."""
    if len(lines) > _MAX_LABELLED_LINES:
        return
    ends = sorted(((_fraction(axes, one.rungs[-1].y), one) for one in lines), key=lambda pair: pair[0])
    lowest = -0.02
    for place, one in ends:
        place = max(place, lowest)
        first = one.rungs[0].runs[0]
        samples = format_magnitude(first["S"])
        text = {"P": f"S {samples}", "S": first.size, "T": f"{first.size}, {samples}"}[one.variable]
        colour = _line_colour(one, marks)
        axes.text(1.03, place, text, transform=axes.transAxes, va="center", size=10.5, color=colour)
        lowest = place + 0.062


def _fraction(axes: Axes, y: float) -> float:
    """Return the height of a value on the logarithmic y axis, between 0 and 1."""
    low, high = axes.get_ylim()
    return math.log(y / low) / math.log(high / low)


def plot_prefix_losses(study: StudyFolder, runs: Sequence[RunRow]) -> str | None:
    """Draw Fig. 4, left: the loss of each unseen language without the prefix (open) and after it (filled)."""

    def read_losses(cell: CellRecord) -> tuple[float | None, float | None]:
        return cell.loss(), cell.loss("prefix")

    return _plot_pairs(study, runs, read_losses, "prefix-loss", "UC loss", "nats per token", format_loss)


def plot_right_language(study: StudyFolder, runs: Sequence[RunRow]) -> str | None:
    """Draw Fig. 4, middle: the share of captions in the asked language without the prefix and after it."""

    def read_percentages(cell: CellRecord) -> tuple[float | None, float | None]:
        plain, prefix = cell.score("right_language"), cell.score("right_language", "prefix")
        return None if plain is None else 100 * plain, None if prefix is None else 100 * prefix

    def show(percent: float) -> str:
        return format_share(percent / 100)

    title = "Captions in the asked language"
    return _plot_pairs(study, runs, read_percentages, "right-language", title, "per cent", show)


def _plot_pairs(
    study: StudyFolder,
    runs: Sequence[RunRow],
    read: Callable[[CellRecord], tuple[float | None, float | None]],
    name: str,
    title: str,
    xlabel: str,
    show: Callable[[float], str],
) -> str | None:
    """Draw two numbers of each unseen language and run, without the prefix and after it, joined by a line.

    Args:
        read: measured cell -> the two numbers.
        show: number -> its text.
    """
    values = {
        run.id: {
            code: tuple(math.nan if number is None else number for number in read(cell))
            for code, cell in study.unseen_cells(run).items()
        }
        for run in runs
    }
    languages = list(dict.fromkeys(code for rows in values.values() for code in rows))
    numbers = [number for rows in values.values() for pair in rows.values() for number in pair if math.isfinite(number)]
    if not numbers:
        return None
    marks, label = choose_marks(study.runs), []
    with use_report_style():
        axes = make_panel(360, max(300, 76 + 20 * len(languages) * len(runs)), left=90)
        _set_titles(axes, title, xlabel)
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
                series = name_series(run.family, run.start)
                label.append(f"{name_language(code)}, {series}: {show(plain)} without, {show(prefix)} after it")
        return render_svg(axes, name, f"{title} without the prefix and after it. {'; '.join(label)}.", {})


def plot_first_token(study: StudyFolder) -> str | None:
    """Draw Fig. 4, right: the loss of the first token, and the share of captions in the asked language."""
    runs = _with_numbers(study.runs, "UC_first", "right_language", positive=False)
    if not runs:
        return None
    with use_report_style():
        axes = make_panel(360, 300)
        words = "captions in the asked language"
        _set_titles(axes, "No prefix: first token and language", "loss of the first token, nats", words)
        axes.set(ylim=(-0.05, 1.05), xlim=_linear_limits([run["UC_first"] for run in runs]))
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.xaxis.set_major_locator(MaxNLocator(6))
        marks = choose_marks(study.runs)
        words = "in the asked language"
        titles = _draw_runs(axes, runs, marks, "UC_first", "right_language", lambda y: f"{format_share(y)} {words}")
        label = f"Share of captions in the asked language against the loss of the first token, {len(runs)} runs."
        return render_svg(axes, "first-token", label, titles)


def plot_language_bars(study: StudyFolder, runs: Sequence[RunRow]) -> str | None:
    """Draw the share of attributes, or of whole captions, that each run has right in every language after the prefix:
    the unseen languages in full colour, those with captions lighter, as a scale. None where nothing was scored."""
    unseen = [cell.language for cell in study.coverage.split("UC")]
    languages = list(dict.fromkeys((*unseen, *study.coverage.caption)))
    found = [
        (title, shares)
        for name, title in (("attribute_accuracy", "Attributes right"), ("exact_match", "Captions right word for word"))
        if any(map(math.isfinite, (shares := _scores_per_language(study, runs, languages, name)).values()))
    ]
    if not found:
        return None
    title, shares = found[0]
    marks, label, height = choose_marks(study.runs), [], 0.8 / max(len(runs), 1)
    with use_report_style():
        axes = make_panel(400, 76 + (14 + 18 * len(runs)) * len(languages), left=124, right=52)
        _set_titles(axes, f"{title}, after the prefix", "per cent")
        axes.grid(axis="y", visible=False)
        names = [f"{_short_language(code)}{'' if code in unseen else ' (captions)'}" for code in languages]
        axes.set_yticks(range(len(languages)), names)
        axes.set(ylim=(len(languages) - 0.5, -0.5), xlim=(0, 100))
        for index, run in enumerate(runs):
            mark = marks[run.family, run.start]
            for row, code in enumerate(languages):
                share = shares[run.id, code]
                if math.isfinite(share):
                    y = row + (index - (len(runs) - 1) / 2) * height
                    opacity = 1.0 if code in unseen else 0.35
                    axes.barh(y, 100 * share, height=0.9 * height, color=mark.colour, alpha=opacity, lw=0)
                    axes.text(100 * share + 1, y, format_share(share), va="center", size=10.5)
                    kind = "" if code in unseen else " (trained with captions)"
                    label.append(f"{name_language(code)}{kind}, {mark.name}: {format_share(share)}")
        return render_svg(axes, "language-bars", f"{title} after the prefix. {'; '.join(label)}.", {})


def _scores_per_language(
    study: StudyFolder, runs: Sequence[RunRow], languages: Sequence[str], name: str
) -> dict[tuple[str, str], float]:
    """Return (run id, language code) -> score of the captions after the prefix; NaN where there is none."""
    scores = {}
    for run in runs:
        for code in languages:
            cell = study.cells(run).get(Cell("caption", code))
            value = None if cell is None else cell.score(name, "prefix")
            scores[run.id, code] = math.nan if value is None else value
    return scores


def plot_score(study: StudyFolder, loss: str, score: str) -> str | None:
    """Draw Fig. 5: a score of the generated texts against the loss, with the decreasing function that fits best. None
    for fewer than three runs, or if all values are equal."""
    fit = fit_monotone(study.runs, loss, score)
    runs = _with_numbers(study.runs, loss, score, positive=False)
    if fit is None or fit.x[0] <= 0:
        return None
    with use_report_style():
        axes = make_panel(360, 300)
        _set_titles(axes, capitalise(COLUMN_NAMES[score]), f"{COLUMN_NAMES[loss]}, nats per token", _SCORE_UNITS[score])
        make_log_axis(axes, "x", list(fit.x), format_significant)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        show = format_share if score == "disambiguation" else format_significant
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))
        axes.plot(fit.x, fit.y, color=COLOURS["muted"], lw=1.3)
        titles = _draw_runs(axes, runs, choose_marks(study.runs), loss, score, show)
        correlation = f"rank correlation {format_signed(fit.rank_correlation)}"
        axes.text(0.03, 0.04, correlation, transform=axes.transAxes, size=10.5)
        label = f"{COLUMN_NAMES[score]} against {COLUMN_NAMES[loss]} for {len(runs)} runs: {correlation}."
        return render_svg(axes, f"score-{loss}-{score}", label, titles)


def plot_predictions(study: StudyFolder, target: str, pairs: Sequence[tuple[RunRow, RunPrediction]]) -> str:
    """Draw the predicted loss, with the interval of a new run, against the measured one; on the line they are equal."""
    marks, label, titles = choose_marks(study.runs), [], {}
    ends = [end for run, made in pairs for end in (run[target], made.value, made.low, made.high) if end is not None]
    values = [end for end in ends if end > 0]
    with use_report_style():
        axes = make_panel(360, 320)
        _set_titles(
            axes,
            f"Predicted {target.partition('_')[0]}: {COLUMN_NAMES[target]}",
            f"measured, {_NATS}",
            f"predicted, {_NATS}",
        )
        for which in ("x", "y"):
            make_log_axis(axes, which, values, format_significant)
        axes.plot([min(values), max(values)], [min(values), max(values)], color=COLOURS["muted"], lw=1.2)
        for run, made in pairs:
            mark, gid = marks[run.family, run.start], f"predicted-{run.id}"
            if made.low is not None and made.high is not None:
                low = max(made.low, min(values))
                axes.plot([run[target]] * 2, [low, made.high], color=mark.colour, lw=1.6, alpha=0.5)
            axes.plot([run[target]], [made.value], mark.marker, color=mark.colour, ms=8, gid=gid, zorder=3)
            titles[gid] = f"{name_run(run)}: predicted {format_loss(made.value)}, measured {format_loss(run[target])}"
            label.append(titles[gid])
        return render_svg(axes, f"predicted-{target}", f"{COLUMN_NAMES[target]}. {'; '.join(label)}.", titles)


def _set_titles(axes: Axes, title: str, xlabel: str, ylabel: str = "") -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=12, x=-_left_share(axes))
    axes.set_xlabel(xlabel, fontsize=11, labelpad=5)
    axes.set_ylabel(ylabel, fontsize=11, labelpad=4)


def _left_share(axes: Axes) -> float:
    """Return the left margin in units of the axes' width."""
    box = axes.get_position()
    return (box.x0 - 8 / (figure_of(axes).get_figwidth() * 72)) / box.width


def _linear_limits(values: Sequence[float]) -> tuple[float, float]:
    high = max(*values, 0.0)
    return (-0.04 * high or -0.1, 1.05 * high or 1.0)


def _short_language(code: str) -> str:
    name = name_language(code)
    return name if len(name) <= 10 else name.split()[-1]


def _with_numbers(runs: Sequence[RunRow], *columns: str, positive: bool = True) -> list[RunRow]:
    """Return the runs that have a number in all columns; a logarithmic axis needs positive ones."""
    return [
        run
        for run in runs
        if all(math.isfinite(run[column]) and (run[column] > 0 or not positive) for column in columns)
    ]
