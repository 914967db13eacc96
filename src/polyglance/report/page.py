"""`write_report`: a study folder in, `report/index.html` and `report/results.json` out."""

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from polyglance import __version__
from polyglance.files import write_atomically
from polyglance.languages import language
from polyglance.report import laws, plots, wording
from polyglance.report.comparisons import best_run, best_runs, families, headline_column, image_gain
from polyglance.report.examples import Gallery, galleries
from polyglance.report.findings import caveats, summary, tiles
from polyglance.report.folder import Run, StudyFolder, read_study
from polyglance.report.results import finite, results
from polyglance.report.tables import language_tables, runs_table

__all__ = ["ReportResult", "write_report"]

_CONTENTS = (
    ("summary", "Summary"),
    ("grid", "Tasks and languages"),
    ("compute", "Loss and compute"),
    ("scaling", "Size, data, start"),
    ("prefix", "Prefix"),
    ("examples", "Examples"),
    ("laws", "Laws"),
    ("runs", "Runs"),
    ("definitions", "Definitions"),
    ("configuration", "Configuration"),
)
"""Id of a section -> its name in the list of contents."""


@dataclass(frozen=True, kw_only=True)
class ReportResult:
    """What was written, and the numbers a person asks for first."""

    page: Path
    """The HTML page."""
    results: Path
    """The same numbers as JSON."""
    num_runs: int
    best_run: str | None
    """Id of the run with the lowest headline loss; None where none was measured."""
    best_losses_nats: Mapping[str, float]
    """Its losses in nats per token, by column of runs.csv, as far as measured."""
    image_gain_nats: float | None
    """Loss with the images of other samples minus loss with the right ones, of that run, after the prefix."""
    notes: tuple[str, ...]
    """What was missing or could not be read, one sentence each."""


def write_report(study_dir: Path) -> ReportResult:
    """Write the report of a study from its files.

    Raises:
        ValueError: study.toml or runs.csv is missing, damaged or empty. Anything else that is missing or damaged
            is left out and named on the page.
    """
    study = read_study(Path(study_dir))
    column = headline_column(study.runs)
    notes = list(study.notes)
    html = _page(study, column, notes)
    numbers = results(study, column, notes)
    folder = study.path / "report"
    text = json.dumps(numbers, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / "results.json", f"{text}\n")
    write_atomically(folder / "index.html", html)
    best = best_run(study.runs, column)
    losses = {name: best[name] for name in ("UC_prefix", "UC", "ST", "SC")} if best else {}
    return ReportResult(
        page=folder / "index.html",
        results=folder / "results.json",
        num_runs=len(study.runs),
        best_run=best.id if best else None,
        best_losses_nats={name: value for name, value in losses.items() if math.isfinite(value)},
        image_gain_nats=finite(image_gain(best)) if best else None,
        notes=tuple(notes),
    )


def _page(study: StudyFolder, column: str, notes: list[str]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polyglance.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(wording=wording, law=laws)
    script = _asset(environment, "sort.js")
    best = best_runs(study.runs, column)
    shown = galleries(study, sorted(best, key=lambda run: run[column]), notes)
    context = {
        "study": study,
        "notes": notes,
        "column": column,
        "version": __version__,
        "nan": math.nan,
        "lede": _lede(study),
        "contents": [entry for entry in _CONTENTS if shown or entry[0] != "examples"],
        "unseen": {cell.language for cell in study.coverage.split("UC")},
        "prefix_example": _prefix_example(study, shown),
        "has_law": {form: any(law.form == form for law in study.laws.values()) for form in ("compute", "product")},
        "confidence": _confidence(study),
        "tiles": tiles(study, column),
        "best": best_run(study.runs, column),
        "summary": summary(study, column),
        "caveats": caveats(study, column),
        "markers": plots.legend(study.runs),
        "figures": _figures(study, column, best),
        "languages": language_tables(study, best),
        "runs_table": runs_table(study.runs, best),
        "laws_by_form": laws.laws_by_form(study.laws),
        "galleries": shown,
        "environment": _environment_rows(study),
        "style": Markup(_asset(environment, "style.css")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment.get_template("page.html.j2").render(context)


def _lede(study: StudyFolder) -> str:
    """The coverage in words."""

    def names(codes: Sequence[str]) -> str:
        listed = [wording.language_name(code) for code in codes]
        return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"

    coverage = study.coverage
    parts = []
    if coverage.caption:
        parts.append(f"captions in {names(coverage.caption)}")
    if coverage.translation:
        parts.append(f"translations from English into {names(coverage.translation)}")
    trained = f"Trained on {', and on '.join(parts)}."
    unseen = [cell.language for cell in study.coverage.split("UC")]
    return (
        f"{trained} Captions in {names(unseen)} were never trained; how well they come out is measured here."
        if unseen
        else trained
    )


def _prefix_example(study: StudyFolder, shown: Sequence[Gallery]) -> str:
    """`“La photo montre”`: the prefix of an unseen language, as the runs were given it where that is known."""
    codes = [cell.language for cell in study.coverage.split("UC")] or list(study.coverage.languages)
    lines = [line for gallery in shown for example in gallery.examples for line in example.lines]
    given = [line.prefix for line in lines if line.prefix and line.language == codes[0]]
    return f"“{given[0] if given else language(codes[0]).prefix}”"


def _confidence(study: StudyFolder) -> str:
    """Of the laws' intervals, in words."""
    levels = {wording.share(fit.confidence): None for law in study.laws.values() for fit in law.fits.values()}
    return " or ".join(levels)


def _asset(environment: jinja2.Environment, name: str) -> str:
    loader = environment.loader
    assert loader is not None
    return loader.get_source(environment, name)[0]


def _figures(study: StudyFolder, column: str, best: Sequence[Run]) -> dict[str, Any]:
    """Figure -> its panels, for Fig. 3 per family; a panel whose numbers were not measured is left out."""
    ladders = {
        family: _panels(plots.plot_ladders(study, family, variable, column) for variable in ("P", "S", "T"))
        for family in families(study.runs)
    }
    return {
        "grid": _panels([plots.plot_grid(study, best_run(study.runs, column))]),
        "compute": _panels(plots.plot_compute(study, name) for name in ("UC_prefix", "ST", "SC")),
        "ladders": [(family, panels) for family, panels in ladders.items() if panels],
        "prefix": _panels(
            [
                plots.plot_prefix_losses(study, best),
                plots.plot_right_language(study, best),
                plots.plot_first_token(study),
            ]
        ),
    }


def _panels(drawn: Iterable[str | None]) -> list[Markup]:
    """Our own SVG: whatever users named is text in it, escaped when it was written."""
    return [Markup(svg) for svg in drawn if svg is not None]


def _environment_rows(study: StudyFolder) -> list[tuple[str, str]]:
    """Name -> value as the runs' env.json have it; where runs differ, the commonest values with their runs."""
    names = dict.fromkeys(name for values in study.environments.values() for name in values)
    return [
        (name, _values(Counter(values[name] for values in study.environments.values() if name in values)))
        for name in names
    ]


def _values(counts: Counter[str]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    shown = [f"{value} (runs: {count})" for value, count in counts.most_common(3)]
    return "; ".join([*shown, *([f"{len(counts) - 3} more"] if len(counts) > 3 else [])])
