"""The page's tables: the task-language grid, unseen captioning per language, all runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from polyglance.coverage import Cell, Split
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.report import wording
from polyglance.report.comparisons import image_gain
from polyglance.report.folder import CellRecord, Run, StudyFolder

__all__ = [
    "Column",
    "GridCell",
    "LanguageRow",
    "LanguageTable",
    "RunsTable",
    "coverage_grid",
    "language_rows",
    "language_tables",
    "runs_table",
]


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """One cell of the task-language grid."""

    cell: Cell
    kind: Literal["trained", "reconstruction", "unseen", "none"]
    split: Split | None
    loss_nats: float


@dataclass(frozen=True, kw_only=True)
class LanguageRow:
    """Unseen captioning of one language by one run; losses in nats per token, shares between 0 and 1."""

    language: str
    plain: float
    prefix: float
    shuffled: float
    """After the prefix, with the images of other samples."""
    bits_per_byte: float
    right_language: float
    right_language_prefix: float
    exact_match: float
    exact_match_prefix: float
    attributes_prefix: Mapping[str, float]
    """Attribute such as colour -> share of captions after the prefix that get it right."""


def coverage_grid(study: StudyFolder, run: Run | None) -> tuple[tuple[GridCell, GridCell], ...]:
    """Per language (caption cell, translation cell), with the loss of one run in each; UC after the prefix."""
    records = study.cells.get(run.id, {}) if run else {}

    def grid_cell(cell: Cell) -> GridCell:
        split = study.coverage.split_of(cell)
        nats = records[cell].mean_nats if cell in records else {}
        loss = nats.get("prefix", nats.get("plain", math.nan)) if split == "UC" else nats.get("plain", math.nan)
        return GridCell(cell=cell, kind=_kind(study, cell), split=split, loss_nats=loss)

    return tuple(
        (grid_cell(Cell("caption", code)), grid_cell(Cell("translation", code))) for code in study.coverage.languages
    )


def _kind(study: StudyFolder, cell: Cell) -> Literal["trained", "reconstruction", "unseen", "none"]:
    if cell in study.coverage.cells:
        return "reconstruction" if cell == Cell("translation", SOURCE_LANGUAGE) else "trained"
    return "unseen" if study.coverage.split_of(cell) == "UC" else "none"


def language_rows(study: StudyFolder, run: Run) -> tuple[LanguageRow, ...]:
    """Unseen captioning per language, as far as losses.json of this run has it."""
    records = study.cells.get(run.id, {})
    return tuple(_language_row(records[cell]) for cell in study.coverage.split("UC") if cell in records)


def _language_row(record: CellRecord) -> LanguageRow:
    return LanguageRow(
        language=record.cell.language,
        plain=record.mean_nats.get("plain", math.nan),
        prefix=record.mean_nats.get("prefix", math.nan),
        shuffled=record.mean_nats.get("prefix_shuffled", math.nan),
        bits_per_byte=record.bits_per_byte.get("plain", math.nan),
        right_language=record.right_language.get("plain", math.nan),
        right_language_prefix=record.right_language.get("prefix", math.nan),
        exact_match=record.exact_match.get("plain", math.nan),
        exact_match_prefix=record.exact_match.get("prefix", math.nan),
        attributes_prefix=record.attributes.get("prefix", {}),
    )


@dataclass(frozen=True, kw_only=True)
class LanguageTable:
    """Unseen captioning per language by one run."""

    run: Run
    rows: tuple[LanguageRow, ...]
    attributes: tuple[str, ...]
    """Every attribute that some row has."""


def language_tables(study: StudyFolder, runs: Sequence[Run]) -> tuple[LanguageTable, ...]:
    """One table per run, without the runs that have no losses per language."""
    tables = []
    for run in runs:
        if rows := language_rows(study, run):
            attributes = dict.fromkeys(name for row in rows for name in row.attributes_prefix)
            tables.append(LanguageTable(run=run, rows=rows, attributes=tuple(attributes)))
    return tuple(tables)


@dataclass(frozen=True)
class Column:
    """One column of the table of runs."""

    head: str
    title: str
    """The head in full."""
    text: Callable[[float], str]
    """Number -> what the cell shows."""
    of: str | Callable[[Run], float]
    """Column of runs.csv, or how to compute the number."""

    def number(self, run: Run) -> float:
        return run[self.of] if isinstance(self.of, str) else self.of(run)


_COLUMNS = (
    Column("P", "Parameters", wording.magnitude, "P"),
    Column("S", "Samples seen in training", wording.count, "S"),
    Column("C", "Compute in GMAC", wording.significant, "C"),
    Column("T", "Loss of the untrained start on UC", wording.loss, "T"),
    Column("UC after prefix", "Unseen captioning after the prefix, nats per token", wording.loss, "UC_prefix"),
    Column("images shuffled", "What other samples' images add to UC after the prefix", wording.signed, image_gain),
    Column("UC", "Unseen captioning without a prefix, nats per token", wording.loss, "UC"),
    Column("ST", "Seen translation, nats per token", wording.loss, "ST"),
    Column("SC", "Seen captioning, nats per token", wording.loss, "SC"),
    Column("first token", "Loss of the first token of an unseen caption, nats", wording.loss, "UC_first"),
    Column("language", "Captions in the asked language, no prefix", wording.share, "right_language"),
    Column("language, prefix", "Captions in the asked language, prefix", wording.share, "right_language_prefix"),
    Column("attributes", "Attributes right, no prefix", wording.share, "attribute_accuracy"),
    Column("attributes, prefix", "Attributes right, prefix", wording.share, "attribute_accuracy_prefix"),
    Column("exact", "Captions equal to the reference, no prefix", wording.share, "exact_match"),
    Column("exact, prefix", "Captions equal to the reference, prefix", wording.share, "exact_match_prefix"),
    Column("bits/byte", "Unseen captioning without a prefix in bits per byte", wording.fixed, "UC_bits_per_byte"),
    Column("Pₜ", "Trainable parameters", wording.magnitude, "P_t"),
    Column("F", "Forward pass in GMAC per sample", wording.significant, "F"),
    Column("seconds", "Training time in seconds", wording.count, "train_s"),
)


@dataclass(frozen=True, kw_only=True)
class RunsTable:
    """All runs."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Run, bool, tuple[tuple[str, str], ...]], ...]
    """(run, whether it is the best of its family, per column what the cell shows and what it sorts by)."""


def runs_table(runs: Sequence[Run], best: Sequence[Run]) -> RunsTable:
    """Every run, with the columns that some run has a number in."""
    columns = tuple(column for column in _COLUMNS if any(math.isfinite(column.number(run)) for run in runs))

    def cell(number: float, column: Column) -> tuple[str, str]:
        return column.text(number), repr(number) if math.isfinite(number) else ""

    rows = ((run, run in best, tuple(cell(column.number(run), column) for column in columns)) for run in runs)
    return RunsTable(columns=columns, rows=tuple(rows))
