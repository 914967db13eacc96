"""Result tables: the user's models beside the rows that the paper prints, on one scale.

    tables = make_result_tables("xm3600", read_models(["out/eval/mine"]))
    print(format_markdown(tables))

Means are the paper's (section 5.2): Multi30K over 2016, 2017 and mscoco; CoMMuTE's X over German, French, Russian and
Chinese; XM3600's unseen over French, Spanish, Russian and Chinese. A mean is given only if all of its parts are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from polyglance.files import check_output_file
from polyglance.languages import did_you_mean
from polyglance.report.published_results import (
    PREFIXED,
    Place,
    PublishedResult,
    Setting,
    list_mean_parts,
    read_published_results,
)
from polyglance.report.score_folders import ModelScores
from polyglance.table_text import (
    escape_latex,
    escape_markdown,
    format_csv_rows,
    format_latex_comment,
    format_latex_line,
    format_markdown_line,
)

__all__ = [
    "TABLES",
    "TABLE_FORMATS",
    "ResultColumn",
    "ResultFormat",
    "ResultRow",
    "ResultTable",
    "choose_format",
    "format_csv",
    "format_json",
    "format_latex",
    "format_markdown",
    "make_result_tables",
]

TableName = Literal["headline", "multi30k", "commute", "coco", "xm3600"]
_MEANS_SOURCE = "v1 Table 4"
_PAPER = "published rows: arXiv 2503.09443v1, on its scales (percent, CIDEr times 100)"
_SUSPECT = "?"
"""Mark of a published number that is contradicted by another published number."""


@dataclass(frozen=True, kw_only=True)
class ResultColumn:
    """One column: its head, and benchmark, split, language and metric of its numbers."""

    head: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One model."""

    model: str
    setting: str
    """How a published model was trained; empty for the user's."""
    source: str
    """Published table: `v1 Table 8`; empty for the user's."""
    values: tuple[float | None, ...]
    """One per column, on the published scale; None where there is none."""
    suspect: tuple[str, ...]
    """One per column: evidence against the number, empty where there is none."""

    @property
    def published(self) -> bool:
        """Whether the row is the paper's."""
        return bool(self.source)

    @property
    def origin(self) -> str:
        """Source of the numbers, as the last column shows it."""
        return f"published, {self.source}" if self.published else "own scores"

    def texts(self) -> list[str]:
        """Return the cells with one decimal, as the paper prints, and a mark on numbers that are suspect."""
        return [
            "" if value is None else f"{value:.1f}{_SUSPECT if reason else ''}"
            for value, reason in zip(self.values, self.suspect, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """A table ready to be written."""

    title: str
    columns: tuple[ResultColumn, ...]
    rows: tuple[ResultRow, ...]
    """The published rows in the paper's order, then the user's."""
    notes: tuple[str, ...]
    """Facts that a reader has to know, one sentence each."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads of all columns, as Markdown and LaTeX show them."""
        return ("Model", "Setting", *(column.head for column in self.columns), "From")


@dataclass(frozen=True)
class _Layout:
    title: str
    source: str
    """Published table whose models are the rows."""
    columns: tuple[ResultColumn, ...]
    settings: tuple[Setting, ...] = ("supervised", "fine-tuned", "zero-shot")


def _column(head: str, benchmark: str, split: str, language: str, metric: str) -> ResultColumn:
    return ResultColumn(head=head, place=Place(benchmark, split, language, metric))


def _columns(
    benchmark: str, split: str, languages: Sequence[str], metrics: Sequence[str], head: str = "{language} {metric}"
) -> tuple[ResultColumn, ...]:
    """Make a column for every language and metric of a benchmark's split."""
    return tuple(
        _column(head.format(language=language, metric=metric), benchmark, split, language, metric)
        for language in languages
        for metric in metrics
    )


def _headline_layout(title: str, settings: tuple[Setting, ...], english: str, german: str, unseen: str) -> _Layout:
    columns = (
        _column("M30K de", "multi30k-task1", "mean", "de", "BLEU"),
        _column("M30K fr", "multi30k-task1", "mean", "fr", "BLEU"),
        _column("CoMM de", "commute-translation", "test", "de", "BLEU"),
        _column("CoMM X", "commute-translation", "test", "X", "BLEU"),
        _column("Amb de", "commute-disambiguation", "test", "de", "accuracy"),
        _column("Amb X", "commute-disambiguation", "test", "X", "accuracy"),
        _column("COCO en", "coco-karpathy", "test", "en", english),
        _column("M30K en", "multi30k-task2", "test_2016", "en", english),
        _column("M30K de cap.", "multi30k-task2", "test_2016", "de", german),
        _column("XM en", "xm3600", "all", "en", english),
        _column("XM de", "xm3600", "all", "de", german),
        _column("XM unseen", "xm3600", "all", "unseen", unseen),
    )
    return _Layout(title, "v1 Table 4", columns, settings)


def _task1_layout(language: str, name: str) -> _Layout:
    splits = {
        "2016": "test_2016_flickr",
        "2017": "test_2017_flickr",
        "2018": "test_2018_flickr",
        "mscoco": "test_2017_mscoco",
        "mean": "mean",
    }
    columns = (
        column
        for head, split in splits.items()
        for column in _columns("multi30k-task1", split, (language,), ("BLEU", "COMET-22"), f"{head} {{metric}}")
    )
    return _Layout(f"Multi30K task 1, English to {name}", "v1 Table 8", tuple(columns))


_COMMUTE = ("de", "fr", "ru", "zh", "X")
_TASK2 = ("multi30k-task2", "test_2016")
TABLES: Mapping[TableName, tuple[_Layout, ...]] = MappingProxyType(
    {
        "headline": (
            _headline_layout(
                "Supervised and fine-tuned (translation BLEU, disambiguation accuracy, captioning CIDEr)",
                ("supervised", "fine-tuned"),
                *("CIDEr", "CIDEr", "CIDEr"),
            ),
            _headline_layout(
                "Zero-shot (translation BLEU, disambiguation accuracy, captioning CLIPScore; unseen CIDEr with prefix)",
                ("zero-shot",),
                *("CLIPScore", "mCLIPScore", f"CIDEr{PREFIXED}"),
            ),
        ),
        "multi30k": (
            _task1_layout("fr", "French"),
            _task1_layout("de", "German"),
            _Layout(
                "Multi30K task 2, captions, test 2016",
                "v1 Table 12",
                (
                    *_columns(*_TASK2, ("en",), ("BLEU-4", "CIDEr", "CLIPScore")),
                    *_columns(*_TASK2, ("de",), ("BLEU-4", "CIDEr", "mCLIPScore")),
                ),
            ),
        ),
        "commute": (
            _Layout(
                "CoMMuTE, translation",
                "v1 Table 9",
                _columns("commute-translation", "test", _COMMUTE, ("BLEU", "COMET-22")),
            ),
            _Layout(
                "CoMMuTE, disambiguation accuracy (chance is 50)",
                "v1 Table 10",
                _columns("commute-disambiguation", "test", _COMMUTE, ("accuracy",), "{language}"),
            ),
        ),
        "coco": (
            _Layout(
                "COCO, Karpathy's test split, English",
                "v1 Table 11",
                _columns("coco-karpathy", "test", ("en",), ("BLEU-4", "CIDEr", "CLIPScore"), "{metric}"),
            ),
        ),
        "xm3600": (
            _Layout(
                "XM3600, CIDEr",
                "v1 Table 13",
                _columns("xm3600", "all", ("en", "de", "fr", "es", "ru", "zh", "unseen"), ("CIDEr",), "{language}"),
            ),
        ),
    }
)


def make_result_tables(
    name: str, models: Sequence[ModelScores] = (), notes: Sequence[str] = ()
) -> tuple[ResultTable, ...]:
    """Make a published result table, with the user's models below its rows.

    Args:
        name: one of `TABLES`.
        models: as `read_models` returns them.
        notes: sentences for the notes of the first table, such as those of `note_unscored`.

    Raises:
        ValueError: there is no such table.
    """
    layouts = next((layouts for known, layouts in TABLES.items() if known == name), None)
    if layouts is None:
        raise ValueError(f"there is no table {name!r}; {did_you_mean(name, TABLES)}")
    first, *others = (_fill(layout, models) for layout in layouts)
    return (replace(first, notes=(*first.notes, *notes)), *others)


def _fill(layout: _Layout, models: Sequence[ModelScores]) -> ResultTable:
    """Fill in a layout. Columns without any number are left out."""
    published = _find_published(layout)
    columns = tuple(
        column
        for column in layout.columns
        if any(column.place in results for results in published.values())
        or any(_find_value(column, model) is not None for model in models)
    )
    rows = [_published_row(layout, columns, *key, results) for key, results in published.items()]
    rows += [_user_row(columns, model) for model in models]
    return ResultTable(
        title=layout.title,
        columns=columns,
        rows=tuple(rows),
        notes=(
            _PAPER,
            *_note_means(columns),
            *_note_suspects(columns, rows),
            *(note for model in models for note in _note_scores(columns, model)),
        ),
    )


def _find_published(layout: _Layout) -> dict[tuple[str, Setting], dict[Place, PublishedResult]]:
    """Return (model, setting) -> its numbers: those of the layout's source, and the means that only table 4 prints."""
    models: dict[tuple[str, Setting], dict[Place, PublishedResult]] = {}
    places = {part for column in layout.columns for part in (column.place, *list_mean_parts(column.place))}
    for result in read_published_results():
        if result.source == layout.source and result.setting in layout.settings and result.place in places:
            models.setdefault((result.model, result.setting), {})[result.place] = result
    for result in read_published_results():
        is_mean = len(list_mean_parts(result.place)) > 1
        if is_mean and result.source == _MEANS_SOURCE and (result.model, result.setting) in models:
            models[result.model, result.setting][result.place] = result
    return models


def _published_row(
    layout: _Layout,
    columns: Sequence[ResultColumn],
    model: str,
    setting: Setting,
    results: Mapping[Place, PublishedResult],
) -> ResultRow:
    cells = [results.get(column.place) for column in columns]
    return ResultRow(
        model=model,
        setting=setting,
        source=layout.source,
        values=tuple(cell.value if cell else None for cell in cells),
        suspect=tuple(cell.suspect if cell else "" for cell in cells),
    )


def _user_row(columns: Sequence[ResultColumn], model: ModelScores) -> ResultRow:
    values = tuple(_find_value(column, model) for column in columns)
    return ResultRow(model=model.name, setting="", source="", values=values, suspect=("",) * len(columns))


def _find_value(column: ResultColumn, model: ModelScores) -> float | None:
    """Return the model's number, or the mean of its numbers; None where a part is missing."""
    scores = [model.scores.get(part) for part in list_mean_parts(column.place)]
    values = [score.value for score in scores if score is not None]
    return sum(values) / len(values) if len(values) == len(scores) else None


def _note_means(columns: Sequence[ResultColumn]) -> list[str]:
    """Say which columns are means, and of what: a head such as X or M30K de does not."""
    heads: dict[str, list[str]] = {}
    for column in columns:
        parts = list_mean_parts(column.place)
        if len(parts) > 1:
            names = (part.language if part.split == column.place.split else part.split for part in parts)
            heads.setdefault(", ".join(names), []).append(column.head)
    return [f"{', '.join(names)}: mean of {parts}" for parts, names in heads.items()]


def _note_suspects(columns: Sequence[ResultColumn], rows: Sequence[ResultRow]) -> list[str]:
    notes = []
    for row in rows:
        heads: dict[str, list[str]] = {}
        for column, reason in zip(columns, row.suspect, strict=True):
            if reason:
                heads.setdefault(reason, []).append(column.head)
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in heads.items())
        if reasons:
            notes.append(f"{_SUSPECT} {row.model} ({row.setting}), {reasons}")
    return notes


def _note_scores(columns: Sequence[ResultColumn], model: ModelScores) -> list[str]:
    """Return the notes on a model's numbers in these columns, and on means that are missing."""
    shown = {place for column in columns for place in list_mean_parts(column.place)}
    notes = list(dict.fromkeys(f"{model.name}: {note}" for place, note in model.notes if place in (None, *shown)))
    for column in columns:
        parts = list_mean_parts(column.place)
        missing = [part for part in parts if part not in model.scores]
        if 0 < len(missing) < len(parts):
            lacking = ", ".join(f"{part.split} {part.language}" for part in missing)
            notes.append(f"{model.name}: no mean in {column.head}, because {lacking} is missing")
    if not shown & set(model.scores):
        notes.append(f"{model.name} has no score for this table")
    return notes


def format_markdown(tables: Sequence[ResultTable]) -> str:
    """Format tables for a README; the user's models are in bold."""
    return "\n\n".join(_format_markdown_table(table) for table in tables) + "\n"


def _format_markdown_table(table: ResultTable) -> str:
    lines = [f"**{escape_markdown(table.title)}**", "", format_markdown_line(list(map(escape_markdown, table.heads)))]
    lines.append("|---|---|" + "---:|" * len(table.columns) + "---|")
    for row in table.rows:
        name = escape_markdown(row.model)
        name = name if row.published else f"**{name}**"
        others = (row.setting, *row.texts(), row.origin)
        lines.append(format_markdown_line((name, *map(escape_markdown, others))))
    return "\n".join([*lines, *(f"\n{escape_markdown(note)}" for note in table.notes)])


def format_latex(tables: Sequence[ResultTable]) -> str:
    """Format `tabular` environments for the booktabs package; the user's models stand below a rule."""
    return "\n".join(_format_latex_table(table) for table in tables)


def _format_latex_table(table: ResultTable) -> str:
    lines = [format_latex_comment(table.title), f"\\begin{{tabular}}{{ll{'r' * len(table.columns)}l}}", "\\toprule"]
    lines.append(_latex_line(table.heads))
    for published in (True, False):
        if rows := [row for row in table.rows if row.published is published]:
            lines.append("\\midrule")
            lines += [_latex_line((row.model, row.setting, *row.texts(), row.origin)) for row in rows]
    notes = map(format_latex_comment, table.notes)
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *notes, ""])


def _latex_line(cells: Sequence[str]) -> str:
    return format_latex_line([escape_latex(cell) for cell in cells])


def format_csv(tables: Sequence[ResultTable]) -> str:
    """Format one line per number, unrounded, so that several tables are one file."""
    rows: list[tuple[object, ...]] = [("table", "model", "setting", "from", *Place._fields, "value", "suspect")]
    rows += [
        (table.title, row.model, row.setting, row.origin, *column.place, value, reason)
        for table in tables
        for row in table.rows
        for column, value, reason in zip(table.columns, row.values, row.suspect, strict=True)
        if value is not None
    ]
    return format_csv_rows(rows)


def format_json(tables: Sequence[ResultTable]) -> str:
    """Format tables for machines, unrounded; a missing number is null."""
    return json.dumps([_table_values(table) for table in tables], ensure_ascii=False, indent=2) + "\n"


def _table_values(table: ResultTable) -> dict[str, object]:
    return {
        "title": table.title,
        "columns": [{"head": column.head, **column.place._asdict()} for column in table.columns],
        "rows": [
            {
                "model": row.model,
                "setting": row.setting or None,
                "published": row.published,
                "from": row.origin,
                "values": list(row.values),
                "suspect": [reason or None for reason in row.suspect],
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


@dataclass(frozen=True)
class ResultFormat:
    """A format of result tables."""

    write: Callable[[Sequence[ResultTable]], str]
    endings: tuple[str, ...]
    """Endings of the names of its files."""


TABLE_FORMATS: Mapping[str, ResultFormat] = MappingProxyType(
    {
        "md": ResultFormat(format_markdown, (".md", ".markdown")),
        "csv": ResultFormat(format_csv, (".csv",)),
        "latex": ResultFormat(format_latex, (".tex", ".latex")),
        "json": ResultFormat(format_json, (".json",)),
    }
)
"""Formats by name."""


def choose_format(name: str | None, out: Path | None) -> str:
    """Choose the format of a table: the one given, else that of the file's ending, else Markdown.

    Args:
        name: one of `TABLE_FORMATS`.
        out: file that gets the table.

    Raises:
        ValueError: the ending is that of another format, or the file cannot be written.
    """
    endings = {ending: known for known, entry in TABLE_FORMATS.items() for ending in entry.endings}
    if out is not None and name is None:
        check_output_file(out, "--out", tuple(endings))
        name = endings.get(out.suffix.lower())
    elif out is not None and name is not None:
        check_output_file(out, f"--format {name} --out", TABLE_FORMATS[name].endings)
    return name or "md"
