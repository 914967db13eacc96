"""The report: a study folder in, `report/index.html` and `report/results.json` out."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from polyglance.environment import read_commit
from polyglance.files import write_atomically
from polyglance.languages import SOURCE_LANGUAGE, get_language
from polyglance.prediction_records import RunPrediction
from polyglance.report.comparisons import choose_headline, find_best_run, find_best_runs, runs_by_family
from polyglance.report.examples import Gallery, make_galleries
from polyglance.report.findings import find_caveats, make_tiles, summarise, take_away
from polyglance.report.folder import StudyFolder, read_study
from polyglance.report.laws import group_laws
from polyglance.report.opening import make_opening
from polyglance.report.planner import hash_script, list_planner_laws, make_payload, read_planner_script
from polyglance.report.plots import (
    SCORES_AND_LOSSES,
    choose_marks,
    plot_compute,
    plot_first_token,
    plot_grid,
    plot_ladders,
    plot_language_bars,
    plot_predictions,
    plot_prefix_losses,
    plot_right_language,
    plot_score,
)
from polyglance.report.predictions import PREDICTION_COLUMNS, check_predictions, describe_predictions
from polyglance.report.results import collect_results
from polyglance.report.tables import make_language_tables, make_runs_columns
from polyglance.report.templating import read_asset, render_page
from polyglance.report.wording import format_share, join_names
from polyglance.run_records import RunRow

__all__ = ["ReportResult", "write_report"]

_CONTENTS = (
    ("summary", "Summary"),
    ("examples", "Examples"),
    ("predictions", "Predictions"),
    ("grid", "Tasks and languages"),
    ("compute", "Loss and compute"),
    ("scaling", "Size, data, start"),
    ("prefix", "Prefix"),
    ("scores", "Scores"),
    ("laws", "Laws"),
    ("planner-section", "Planner"),
    ("runs", "Runs"),
    ("definitions", "Definitions"),
    ("configuration", "Configuration"),
)
"""Id of a section -> its name in the list of contents."""


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """Files of a report."""

    page: Path
    """The HTML page."""
    results: Path
    """The same numbers as JSON."""
    num_runs: int
    notes: tuple[str, ...]
    """Files and numbers that are missing or could not be read, one sentence each."""
    predictions: tuple[str, ...] = ()
    """How far predictions and measurements are apart, one sentence per family and loss."""


def write_report(study_dir: Path, remarks: Sequence[str] = ()) -> ReportResult:
    """Write the report of a study from its files.

    Args:
        remarks: sentences about what is missing from it, besides those that its files tell.

    Raises:
        ValueError: study.toml or runs.csv is missing, damaged or empty. Anything else that is missing or damaged is
            left out and named on the page.
    """
    study = read_study(Path(study_dir))
    column = choose_headline(study.runs)
    notes = [*remarks, *study.notes]
    html = _make_page(study, column, notes)
    folder = study.path / "report"
    text = json.dumps(collect_results(study, column, notes), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "results.json", f"{text}\n")
    write_atomically(folder / "index.html", html)
    return ReportResult(
        page=folder / "index.html",
        results=folder / "results.json",
        num_runs=len(study.runs),
        notes=tuple(notes),
        predictions=describe_predictions(study.predictions, check_predictions(study)),
    )


def _make_page(study: StudyFolder, column: str, notes: list[str]) -> str:
    script, planner_script = read_asset("sort.js"), read_planner_script()
    best = find_best_runs(study.runs, column)
    galleries = make_galleries(study, sorted(best, key=lambda run: run[column]), notes)
    figures = _draw_figures(study, column, best)
    checked = check_predictions(study)
    predicted = describe_predictions(study.predictions, checked)
    has = {"examples": bool(galleries), "predictions": bool(predicted), "scores": bool(figures["scores"])}
    return render_page(
        "page.html.j2",
        study=study,
        notes=notes,
        column=column,
        lede=_describe_coverage(study),
        opening=make_opening(study, column, galleries),
        contents=[entry for entry in _CONTENTS if has.get(entry[0], True)],
        unseen={cell.language for cell in study.coverage.split("UC")},
        prefix_example=_choose_prefix_example(study, galleries),
        has_law={form: any(law.form == form for law in study.laws.values()) for form in ("compute", "product")},
        confidence=_describe_confidence(study),
        has_several_families=len(runs_by_family(study.runs)) > 1,
        tiles=make_tiles(study, column),
        best=find_best_run(study.runs, column),
        best_runs=best,
        take_away=take_away(study, column),
        summary=summarise(study, column),
        caveats=find_caveats(study, column),
        markers=choose_marks(study.runs).values(),
        figures=figures,
        languages=make_language_tables(study, best),
        runs_columns=make_runs_columns(study.runs),
        laws_by_form=group_laws(study.laws),
        galleries=galleries,
        predicted=predicted,
        predictions=checked,
        prediction_columns=PREDICTION_COLUMNS,
        prediction_confidence=format_share(study.predictions.confidence if study.predictions else None),
        environment=_list_environment(study),
        date=datetime.now(UTC).date().isoformat(),
        commit=read_commit(),
        script=Markup(script),
        script_hash=hash_script(script),
        planner_payload=make_payload(list_planner_laws(study, column), keeps_address=False),
        planner_style=Markup(read_asset("planner.css")),
        planner_script=Markup(planner_script),
        planner_hash=hash_script(planner_script),
    )


def _describe_coverage(study: StudyFolder) -> str:
    coverage = study.coverage
    parts = []
    if coverage.caption:
        parts.append(f"captions in {join_names(coverage.caption)}")
    if coverage.translation:
        parts.append(f"translations from English into {join_names(coverage.translation)}")
    trained = f"Trained on {', and on '.join(parts)}."
    unseen = [cell.language for cell in study.coverage.split("UC")]
    if not unseen:
        return trained
    return f"{trained} Captions in {join_names(unseen)} were never trained; how well they come out is measured here."


def _choose_prefix_example(study: StudyFolder, galleries: Sequence[Gallery]) -> str:
    """Return `“La photo montre”`: the prefix of an unseen language, as the runs were given it where that is known."""
    codes = [cell.language for cell in study.coverage.split("UC")] or list(study.coverage.languages)
    lines = [line for gallery in galleries for image in gallery.examples for line in image.lines]
    given = [line.prefix for line in lines if line.prefix and line.language == codes[0]]
    return f"“{given[0] if given else get_language(codes[0]).prefix or get_language(SOURCE_LANGUAGE).prefix}”"


def _describe_confidence(study: StudyFolder) -> str:
    """Return the confidence level of the laws' intervals: `95 %`."""
    levels = {format_share(fit.confidence): None for law in study.laws.values() for fit in law.fits.values()}
    return " or ".join(levels)


def _draw_figures(study: StudyFolder, column: str, best: Sequence[RunRow]) -> dict[str, Any]:
    """Return figure -> its panels, for Fig. 3 by family. A panel whose numbers were not measured is left out."""
    ladders = [
        (family, _mark_safe(plot_ladders(study, family, variable, column) for variable in ("P", "S", "T")))
        for family in runs_by_family(study.runs)
    ]
    prefix = (
        plot_prefix_losses(study, best),
        plot_right_language(study, best),
        plot_first_token(study),
    )
    return {
        "grid": _mark_safe([plot_grid(study, find_best_run(study.runs, column))]),
        "compute": _mark_safe(plot_compute(study, name) for name in ("UC_prefix", "ST", "SC")),
        "ladders": [(family, panels) for family, panels in ladders if panels],
        "prefix": _mark_safe(prefix),
        "predictions": _mark_safe(_plot_predictions(study)),
        "bars": _mark_safe([plot_language_bars(study, best)]),
        "scores": _mark_safe(plot_score(study, loss, score) for loss, score in SCORES_AND_LOSSES),
    }


def _plot_predictions(study: StudyFolder) -> list[str]:
    by_target: dict[str, list[tuple[RunRow, RunPrediction]]] = {}
    for one in check_predictions(study):
        by_target.setdefault(one.made.target, []).append((one.run, one.made))
    return [plot_predictions(study, target, pairs) for target, pairs in by_target.items()]


def _mark_safe(panels: Iterable[str | None]) -> list[Markup]:
    """Mark SVG as safe to embed: texts of users in it were escaped when it was written."""
    return [Markup(svg) for svg in panels if svg is not None]


def _list_environment(study: StudyFolder) -> list[tuple[str, str]]:
    """Return (name, value) of the runs' env.json; where runs differ, the commonest values with the number of runs."""
    names = dict.fromkeys(name for values in study.environments.values() for name in values)
    return [
        (name, _list_values(Counter(values[name] for values in study.environments.values() if name in values)))
        for name in names
    ]


def _list_values(counts: Counter[str]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    shown = [f"{value} (runs: {count})" for value, count in counts.most_common(3)]
    return "; ".join([*shown, *([f"{len(counts) - 3} more"] if len(counts) > 3 else [])])
