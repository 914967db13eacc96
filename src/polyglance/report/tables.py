"""Tables of the page. A column is a function from the object of a row to a number or a text."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Generic, TypeVar

from polyglance.report.comparisons import measure_image_gain
from polyglance.report.folder import StudyFolder
from polyglance.report.wording import (
    format_count,
    format_fixed,
    format_loss,
    format_magnitude,
    format_score,
    format_share,
    format_signed,
    format_significant,
    name_family,
    name_language,
)
from polyglance.run_records import CellRecord, RunRow

__all__ = [
    "LanguageTable",
    "TableColumn",
    "make_language_tables",
    "make_runs_columns",
    "number_column",
    "text_column",
]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TableColumn(Generic[T]):
    """One column of a table."""

    head: str
    text: Callable[[T], str]
    """Object of a row -> text of the cell."""
    number: Callable[[T], float | None] | None = None
    """Object of a row -> number that the column sorts by; None for a column of texts."""
    title: str = ""
    """The head in full, shown when the pointer rests on it."""

    def sort_key(self, row: T) -> str:
        """Return the number of a cell in full; empty where it is missing, and in a column of texts."""
        value = self.number(row) if self.number else None
        return repr(value) if value is not None and math.isfinite(value) else ""


def number_column(
    head: str, number: Callable[[T], float | None], show: Callable[[float | None], str], title: str = ""
) -> TableColumn[T]:
    """Make a column of numbers, each shown by a function of `polyglance.report.wording`."""
    return TableColumn(head=head, text=lambda row: show(number(row)), number=number, title=title)


def text_column(head: str, text: Callable[[T], str]) -> TableColumn[T]:
    """Make a column of texts."""
    return TableColumn(head=head, text=text)


@dataclass(frozen=True, kw_only=True)
class LanguageTable:
    """Unseen captioning per language by one run."""

    run: RunRow
    columns: tuple[TableColumn[tuple[str, CellRecord]], ...]
    rows: tuple[tuple[str, CellRecord], ...]
    """(language code, what was measured of its captions)."""


def make_language_tables(study: StudyFolder, runs: Iterable[RunRow]) -> tuple[LanguageTable, ...]:
    """Make one table per run, without the runs that have no losses per language."""
    return tuple(
        LanguageTable(run=run, columns=_language_columns([cell for _, cell in rows]), rows=rows)
        for run in runs
        if (rows := tuple(study.unseen_cells(run).items()))
    )


def _language_columns(cells: Sequence[CellRecord]) -> tuple[TableColumn[tuple[str, CellRecord]], ...]:
    names = dict.fromkeys(name for cell in cells if "prefix" in cell.generation for name in _attributes(cell))
    return (
        text_column("language", lambda row: name_language(row[0])),
        number_column("UC", lambda row: row[1].loss(), format_loss),
        number_column("after the prefix", lambda row: row[1].loss("prefix"), format_loss),
        number_column("images shuffled", lambda row: row[1].loss("prefix_shuffled"), format_loss),
        number_column("bits per byte", _bits_per_byte, format_fixed),
        number_column("in the language", lambda row: row[1].score("right_language"), format_share),
        number_column("with prefix", lambda row: row[1].score("right_language", "prefix"), format_share),
        number_column(
            "references",
            lambda row: row[1].score("right_language_of_references"),
            format_share,
            "References identified as being in the language: what captions can reach",
        ),
        *([_CLOSE_LANGUAGE] if any(cell.score("close_language") for cell in cells) else []),
        number_column("exact", lambda row: row[1].score("exact_match"), format_share),
        number_column("with prefix", lambda row: row[1].score("exact_match", "prefix"), format_share),
        number_column("CIDEr, prefix", lambda row: row[1].score("cider", "prefix"), format_fixed),
        *(number_column(name, partial(_attribute, name), format_share) for name in names),
    )


_CLOSE_LANGUAGE: TableColumn[tuple[str, CellRecord]] = number_column(
    "close language",
    lambda row: row[1].score("close_language"),
    format_share,
    "Captions identified as a language that is nearly the same in writing",
)


def _bits_per_byte(row: tuple[str, CellRecord]) -> float | None:
    plain = row[1].losses.get("plain")
    return None if plain is None else plain.bits_per_byte


def _attributes(cell: CellRecord) -> dict[str, float]:
    return dict(cell.generation["prefix"].attributes) if "prefix" in cell.generation else {}


def _attribute(name: str, row: tuple[str, CellRecord]) -> float | None:
    return _attributes(row[1]).get(name)


def make_runs_columns(runs: Sequence[RunRow]) -> tuple[TableColumn[RunRow], ...]:
    """Return the columns of the table of runs; columns in which no run has a number are left out."""
    texts: tuple[TableColumn[RunRow], ...] = (
        text_column("run", lambda run: run.id),
        text_column("family", lambda run: name_family(run.family)),
        text_column("start", lambda run: run.start),
        text_column("size", lambda run: run.size),
        TableColumn(
            head="seed", text=lambda run: "" if run.seed is None else f"{run.seed}", number=lambda run: run.seed
        ),
    )
    return (*texts, *(column for column in _RUN_NUMBERS if any(column.sort_key(run) for run in runs)))


_RUN_NUMBERS: tuple[TableColumn[RunRow], ...] = tuple(
    number_column(head, measure_image_gain if name == "image gain" else itemgetter(name), show, title)
    for head, name, show, title in (
        ("P", "P", format_magnitude, "Parameters"),
        ("S", "S", format_count, "Samples seen in training"),
        ("C", "C", format_significant, "Compute in GMAC"),
        ("T", "T", format_loss, "Loss of the untrained start on UC"),
        ("UC after prefix", "UC_prefix", format_loss, "Unseen captioning after the prefix, nats per token"),
        ("images shuffled", "image gain", format_signed, "Loss that other samples' images add to UC_prefix"),
        ("UC", "UC", format_loss, "Unseen captioning without a prefix, nats per token"),
        ("ST", "ST", format_loss, "Seen translation, nats per token"),
        ("SC", "SC", format_loss, "Seen captioning, nats per token"),
        ("first token", "UC_first", format_loss, "Loss of the first token of an unseen caption, nats"),
        ("language", "right_language", format_share, "Captions in the asked language, no prefix"),
        ("language, prefix", "right_language_prefix", format_share, "Captions in the asked language, prefix"),
        ("attributes", "attribute_accuracy", format_share, "Attributes right, no prefix"),
        ("attributes, prefix", "attribute_accuracy_prefix", format_share, "Attributes right, prefix"),
        ("exact", "exact_match", format_share, "Captions equal to the reference, no prefix"),
        ("exact, prefix", "exact_match_prefix", format_share, "Captions equal to the reference, prefix"),
        ("CIDEr", "cider", format_fixed, "CIDEr of unseen captions, 0 to 10, no prefix"),
        ("CIDEr, prefix", "cider_prefix", format_fixed, "CIDEr of unseen captions, 0 to 10, prefix"),
        ("BLEU", "bleu", format_score, "BLEU of translations, 0 to 100"),
        (
            "settled",
            "disambiguation",
            format_share,
            "Ambiguous sentences settled rightly; 50 % by chance",
        ),
        ("bits/byte", "UC_bits_per_byte", format_fixed, "UC without a prefix, in bits per byte"),
        ("Pₜ", "P_t", format_magnitude, "Trainable parameters"),
        ("F", "F", format_significant, "Forward pass in GMAC per sample"),
    )
)
