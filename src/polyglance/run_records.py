"""Records of measured runs: losses.json, initial.json, captions.jsonl and runs.csv are read and written here only.

record = LossRecord.read(run / "losses.json")
record.split_loss("UC", "prefix")        # nats per token
rows = read_runs(study / "runs.csv")
rows[0]["UC_prefix"]                     # the same number, NaN where it was not measured
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, Self, TypeVar

from polyglance.config import from_dict
from polyglance.coverage import SPLITS, Cell, Split
from polyglance.files import (
    parse_json,
    read_json,
    read_record,
    read_text,
    seal_files,
    write_atomically,
    write_json,
    write_record,
)
from polyglance.tables import read_table, table_columns

__all__ = [
    "INITIAL_NAME",
    "NUMBER_COLUMNS",
    "RUN_COLUMNS",
    "VARIANTS",
    "CaptionScores",
    "CellLoss",
    "CellRecord",
    "GeneratedCaption",
    "LossRecord",
    "RunRow",
    "Variant",
    "average_split",
    "average_splits",
    "cells_from_json",
    "cells_to_json",
    "measured_columns",
    "read_captions",
    "read_initial",
    "read_runs",
    "write_captions",
    "write_initial",
    "write_runs",
]

Variant = Literal["plain", "prefix", "shuffled", "prefix_shuffled"]
VARIANTS: tuple[Variant, ...] = ("plain", "prefix", "shuffled", "prefix_shuffled")
"""Ways to measure a cell. `plain`: every token of the target counts. `prefix`: the decoder is given the language's
prefix, and only the tokens after it count. `shuffled`: as `plain`, with the image of the next sample, so that only the
prompt can help. `prefix_shuffled`: both."""

INITIAL_NAME = "initial.json"
"""Name of the record of an untrained model's losses."""
_FORMAT = 1
T = TypeVar("T")
_MAX_NUMBER = 1e30
"""Largest absolute value in runs.csv; no count, loss or compute comes near it."""


@dataclass(frozen=True, kw_only=True)
class CellLoss:
    """Loss of one cell in one variant. The sums are kept, so that other averages can be taken from the record."""

    samples: int
    """Held-out samples."""
    tokens: int
    """Target tokens that count, end tokens included."""
    bytes: int
    """UTF-8 bytes of the text that those tokens write."""
    nats: float
    """Sum of the tokens' cross-entropies."""
    mean_nats: float
    """Mean over the samples of each sample's mean per token: the loss of the paper (section 5.1), and of the report's
    headline."""
    first_nats: float
    """Mean cross-entropy of the first token that counts. Without a prefix this token decides the language."""

    @property
    def bits_per_byte(self) -> float:
        """Sum of the loss in bits, divided by the bytes of the text; NaN for an empty text."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan


@dataclass(frozen=True, kw_only=True)
class CaptionScores:
    """Scores of the greedy captions or translations of one cell. Shares of the samples are between 0 and 1."""

    samples: int
    """Texts that were generated."""
    right_language: float
    """Share identified as the language that was asked for (`polyglance.language_identity`)."""
    right_language_of_references: float | None = None
    """The same share of the data set's own texts: the highest share that the identifier can reach. None in old ones."""
    close_language: float = 0.0
    """Share identified as a language that is nearly the same in writing, such as Danish for Norwegian."""
    exact_match: float
    """Share equal to the reference, character by character."""
    attributes: Mapping[str, float] = field(default_factory=dict)
    """Built-in world only: attribute, such as colour -> share of the reference's values that the caption names at the
    same place."""
    cider: float | None = None
    """Captions: CIDEr, 0 to 10, with the document frequencies of these references."""
    bleu: float | None = None
    """Translations: BLEU, 0 to 100."""

    @property
    def attribute_accuracy(self) -> float | None:
        """Unweighted mean of the shares of the attributes; None if there are none."""
        return fmean(self.attributes.values()) if self.attributes else None


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """Everything that was measured of one cell."""

    split: Split | None
    """Split that the cell belongs to; None for the reconstruction cell, and where the coverage is not known."""
    losses: Mapping[Variant, CellLoss]
    """Variant -> loss."""
    generation: Mapping[Variant, CaptionScores] = field(default_factory=dict)
    """`plain` and `prefix` -> scores of the texts generated without and with the prefix; empty where none were."""
    disambiguation: float | None = None
    """Share of ambiguous sentences whose right translation, by the image, costs less than the other one; 0.5 by chance.
    None where it was not measured."""

    def loss(self, variant: Variant = "plain") -> float | None:
        """Return the mean loss in nats per token; None where the variant was not measured."""
        return self.losses[variant].mean_nats if variant in self.losses else None

    def score(self, name: str, variant: Variant = "plain") -> float | None:
        """Return a field of `CaptionScores`, or `attribute_accuracy`, of the generated texts; None if not scored."""
        return getattr(self.generation[variant], name) if variant in self.generation else None


CellValue = Callable[[CellRecord], float | None]


def average_split(cells: Iterable[CellRecord], split: Split, value: CellValue = CellRecord.loss) -> float | None:
    """Return the unweighted mean of a value over the cells of a split. The default value is the loss in nats per token.

    Returns:
        None if no cell belongs to the split, or one of its cells has no such value.
    """
    values = [value(cell) for cell in cells if cell.split == split]
    return fmean(v for v in values if v is not None) if values and None not in values else None


def average_splits(cells: Iterable[CellRecord]) -> dict[str, float]:
    """Return split -> mean loss of its cells without prefix in nats per token, for the splits that were measured."""
    cells = list(cells)
    means = {split: average_split(cells, split, lambda cell: cell.loss("plain")) for split in SPLITS}
    return {split: mean for split, mean in means.items() if mean is not None}


@dataclass(frozen=True, kw_only=True)
class LossRecord:
    """Losses of a run after training, and those of its starting point: the content of losses.json."""

    run: str
    """Id of the run, or name of the model's folder."""
    cells: Mapping[Cell, CellRecord]
    """Measurements of the trained model."""
    initial: Mapping[Cell, CellRecord] | None = None
    """Measurements of the untrained model on the cells of UC; None where it was not measured."""

    def split_loss(self, split: Split, variant: Variant = "plain") -> float | None:
        """Return the mean loss of a split in nats per token; None where it was not measured."""
        return average_split(self.cells.values(), split, lambda cell: cell.loss(variant))

    def initial_loss(self, variant: Variant = "plain") -> float | None:
        """Return T, the loss of the untrained model on UC in nats per token; None where it was not measured."""
        return average_split((self.initial or {}).values(), "UC", lambda cell: cell.loss(variant))

    def summary(self) -> dict[str, float]:
        """Return UC, ST, SC and T, each also with the ending `_prefix`, in nats per token, as far as measured."""
        losses: dict[str, float | None] = {}
        endings: dict[Variant, str] = {"plain": "", "prefix": "_prefix"}
        for variant, ending in endings.items():
            losses |= {f"{split}{ending}": self.split_loss(split, variant) for split in SPLITS}
            losses[f"T{ending}"] = self.initial_loss(variant)
        return {name: loss for name, loss in losses.items() if loss is not None}

    def to_json(self, *, summary: bool = False) -> dict[str, Any]:
        """Return plain values, as losses.json holds them.

        Args:
            summary: add the numbers of `summary` at the top level, as `polyglance eval loss` does.
        """
        values: dict[str, Any] = {"format": _FORMAT, "run": self.run, "cells": cells_to_json(self.cells)}
        if self.initial is not None:
            values["initial"] = cells_to_json(self.initial)
        return values | (self.summary() if summary else {})

    def write(self, path: Path, *, summary: bool = False) -> None:
        """Write losses.json; `summary` as in `to_json`."""
        write_json(path, self.to_json(summary=summary))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read losses.json.

        Raises:
            ValueError: no such file, another format version, or a value missing or of another type: one line.
        """
        values = read_json(path)
        version = values.get("format") if isinstance(values, dict) else None
        if version != _FORMAT:
            raise ValueError(f"{path}: format {version!r}; this version of polyglance reads format {_FORMAT}")
        values = {name: values[name] for name in ("run", "cells", "initial") if name in values}
        return _read(cls, values, str(path))


_OPTIONAL = ("generation", "disambiguation")
"""Fields of a cell that are left out of the files where they were not measured."""


def cells_to_json(cells: Mapping[Cell, CellRecord]) -> dict[str, Any]:
    """Return cells as plain values, as initial.json holds them: `{"caption-fr": {"split": "UC", "losses": {...}}}`."""
    return {
        str(cell): {name: value for name, value in asdict(record).items() if value or name not in _OPTIONAL}
        for cell, record in cells.items()
    }


def cells_from_json(values: Any, where: str) -> dict[Cell, CellRecord]:
    """Make cells from the plain values of `cells_to_json`.

    Args:
        where: file, for error messages.

    Raises:
        ValueError: an unknown cell, or a value missing or of another type: one line.
    """
    return dict(_read(LossRecord, {"run": "", "cells": values}, where).cells)


def write_initial(folder: Path, cells: Mapping[Cell, CellRecord]) -> None:
    """Write initial.json, the losses of an untrained model, and its digest."""
    write_record(folder / INITIAL_NAME, cells_to_json(cells), indent=None)
    seal_files(folder, [INITIAL_NAME])


def read_initial(folder: Path) -> dict[Cell, CellRecord]:
    """Read the initial.json of a folder.

    Raises:
        ValueError: it is missing or damaged: one line.
    """
    path = folder / INITIAL_NAME
    return cells_from_json(read_record(path), str(path))


def _read(cls: type[T], values: Any, where: str) -> T:
    try:
        return from_dict(cls, values, allow_nan=True)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class GeneratedCaption:
    """One generated caption: a line of captions.jsonl."""

    key: str
    """Image key."""
    language: str
    """Code of the language that was asked for."""
    prefix: str
    """Words that the decoder was started with; empty where it started freely."""
    caption: str
    """The whole text, prefix included."""
    reference: str
    """Text of the data set."""


def write_captions(path: Path, captions: Iterable[GeneratedCaption]) -> None:
    """Write captions.jsonl."""
    write_atomically(path, "".join(json.dumps(asdict(caption), ensure_ascii=False) + "\n" for caption in captions))


def read_captions(path: Path) -> tuple[GeneratedCaption, ...]:
    """Read captions.jsonl, in the order of the file.

    Raises:
        ValueError: no such file, not UTF-8, or a line that is not a caption: one line with file and line number.
    """
    lines = read_text(path).split("\n")
    places = ((f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip())
    return tuple(_read(GeneratedCaption, parse_json(line, where), where) for where, line in places)


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One finished run: a row of runs.csv. A number is None, and its cell in the file empty, where it was not measured.

    Losses are in nats per token on held-out data, each the mean over the cells of its split.
    """

    id: str
    """Name of the run, unique in its study, and of its folder below runs/."""
    family: str
    """Family of models that it belongs to."""
    size: str = ""
    """Size of the model: `d96`, `3.5b`."""
    start: str = ""
    """Starting point: `random`, or the name of the language model that the decoder starts from."""
    seed: int | None = None
    """Seed of initial weights and sample order."""
    P: float | None = None
    """Parameters."""
    P_t: float | None = None
    """Parameters that training updates."""
    F: float | None = None
    """Forward pass of one sample, in GMAC."""
    S: float | None = None
    """Samples seen in training."""
    C: float | None = None
    """Training compute S F (1 + P_t / P), in GMAC."""
    T: float | None = None
    """UC of the model before training."""
    T_prefix: float | None = None
    """UC of the model before training, after the prefix."""
    UC: float | None = None
    """Unseen captioning."""
    UC_prefix: float | None = None
    """Unseen captioning after the prefix."""
    ST: float | None = None
    """Seen translation."""
    SC: float | None = None
    """Seen captioning."""
    UC_shuffled: float | None = None
    """UC with the images of other samples."""
    UC_prefix_shuffled: float | None = None
    """UC after the prefix with the images of other samples."""
    UC_bits_per_byte: float | None = None
    """UC in bits per UTF-8 byte."""
    UC_first: float | None = None
    """UC of the first token alone, in nats."""
    right_language: float | None = None
    """Share of unseen captions generated in the language that was asked for."""
    right_language_prefix: float | None = None
    """The same after the prefix."""
    exact_match: float | None = None
    """Share of unseen captions equal to their reference."""
    exact_match_prefix: float | None = None
    """The same after the prefix."""
    attribute_accuracy: float | None = None
    """Share of attributes that unseen captions name correctly, mean over the attributes; built-in world only."""
    attribute_accuracy_prefix: float | None = None
    """The same after the prefix."""
    cider: float | None = None
    """CIDEr of unseen captions, 0 to 10."""
    cider_prefix: float | None = None
    """The same after the prefix."""
    bleu: float | None = None
    """BLEU of translations, 0 to 100."""
    disambiguation: float | None = None
    """Share of ambiguous sentences whose right translation, by the image, costs less; 0.5 by chance."""

    def __getitem__(self, column: str) -> float:
        """Return the number in one of `NUMBER_COLUMNS`; NaN where it was not measured."""
        value = getattr(self, column)
        return math.nan if value is None else float(value)


def measured_columns(record: LossRecord) -> dict[str, float | None]:
    """Return column -> number of a `RunRow`, for the columns that come from losses.json."""
    cells = record.cells.values()
    scores = {
        f"{name}{ending}": average_split(cells, "UC", _caption_score(name, variant))
        for variant, ending in _ENDINGS.items()
        for name in ("right_language", "exact_match", "attribute_accuracy", "cider")
    }
    return {
        "T": record.initial_loss(),
        "T_prefix": record.initial_loss("prefix"),
        "UC": record.split_loss("UC"),
        "UC_prefix": record.split_loss("UC", "prefix"),
        "ST": record.split_loss("ST"),
        "SC": record.split_loss("SC"),
        "UC_shuffled": record.split_loss("UC", "shuffled"),
        "UC_prefix_shuffled": record.split_loss("UC", "prefix_shuffled"),
        "UC_bits_per_byte": average_split(cells, "UC", lambda cell: cell.losses["plain"].bits_per_byte),
        "UC_first": average_split(cells, "UC", lambda cell: cell.losses["plain"].first_nats),
        **scores,
        "bleu": average_split(cells, "ST", lambda cell: cell.score("bleu")),
        "disambiguation": average_split(cells, "ST", lambda cell: cell.disambiguation),
    }


_ENDINGS: Mapping[Variant, str] = {"plain": "", "prefix": "_prefix"}


def _caption_score(name: str, variant: Variant) -> CellValue:
    return lambda cell: cell.score(name, variant)


RUN_COLUMNS = tuple(f.name for f in fields(RunRow))
"""Columns of runs.csv, in the order of the file."""
_TEXT_COLUMNS = ("id", "family", "size", "start")
NUMBER_COLUMNS = tuple(name for name in RUN_COLUMNS if name not in (*_TEXT_COLUMNS, "seed"))
"""Columns that hold counts, losses, compute and shares."""


def write_runs(path: Path, rows: Iterable[RunRow]) -> None:
    """Write runs.csv; the same rows give the same bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, RUN_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    write_atomically(path, text.getvalue())


def read_runs(path: Path) -> tuple[RunRow, ...]:
    """Read runs.csv, or a hand-written table of the same kind. Only the columns id and family are required; columns
    with other names are ignored.

    Raises:
        ValueError: no such file, no row, a missing column, an id that is repeated or cannot be the name of a folder, or
            a cell that is not a number: one line with file and line.
    """
    columns: Sequence[str] = table_columns(path) or ()
    if missing := {"id", "family"} - set(columns):
        raise ValueError(f"{path}: the column {min(missing)!r} is missing")
    rows: dict[str, RunRow] = {}
    for table_row in read_table(path):
        where = f"{path.parent / table_row.where}"
        if table_row.problem:
            raise ValueError(f"{where}: {table_row.problem}: {table_row.detail}")
        row = _run_row(table_row.values, where)
        if row.id in rows:
            raise ValueError(f"{where}: the run {row.id!r} occurs twice")
        rows[row.id] = row
    if not rows:
        raise ValueError(f"{path}: no run is finished yet")
    return tuple(rows.values())


def _run_row(values: Mapping[str, str], where: str) -> RunRow:
    cells: dict[str, Any] = {name: values.get(name, "") for name in _TEXT_COLUMNS}
    for column, text in cells.items():
        if not text.isprintable():
            raise ValueError(f"{where}: {column}: {text!r} has characters that cannot be printed")
    run = cells["id"]
    if not run or run in (".", "..") or Path(run).name != run:
        raise ValueError(f"{where}: id: {run!r} cannot be the name of a folder in runs/")
    for column in ("seed", *NUMBER_COLUMNS):
        cells[column] = _number(values.get(column, ""), f"{where}: {column}")
    if cells["seed"] is not None:
        if not cells["seed"].is_integer():
            raise ValueError(f"{where}: seed: expected a whole number, got {values['seed']!r}")
        cells["seed"] = int(cells["seed"])
    return RunRow(**cells)


def _number(text: str, where: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{where}: expected a number, got {text!r}") from None
    if _MAX_NUMBER < abs(value) < math.inf:
        raise ValueError(f"{where}: {text} is out of range")
    return value
