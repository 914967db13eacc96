"""What lies in a study folder, read once: configuration, runs, losses, captions, laws, versions, images.

Only files are read, and nothing is trusted: a file without which there is no report is a one-line `ValueError`; any
other that is missing or damaged leaves a note, which the page shows.
"""

import csv
import io
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from polyglance.config import from_dict
from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import read_records
from polyglance.laws import Law

__all__ = ["NUMBERS", "CaptionRow", "CellRecord", "Run", "StudyFolder", "read_captions", "read_images", "read_study"]

NUMBERS = (
    *("P", "P_t", "F", "S", "C", "T", "T_prefix"),
    *("UC", "UC_prefix", "ST", "SC", "UC_shuffled", "UC_prefix_shuffled", "UC_bits_per_byte", "UC_first"),
    *("right_language", "right_language_prefix", "attribute_accuracy", "attribute_accuracy_prefix"),
    *("exact_match", "exact_match_prefix", "train_s"),
)
"""The columns of runs.csv that hold numbers (DESIGN, table)."""

LOSSES_FORMAT = 1
LARGEST = 1e30
"""No count, loss or compute is larger."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One row of runs.csv."""

    id: str
    family: str
    size: str
    start: str
    """Name of the starting point: `random`, or the language mix its decoder was trained on."""
    seed: str
    row: int
    """Place in runs.csv, counted from 0; laws name their rows so."""
    numbers: Mapping[str, float] = field(repr=False)

    def __getitem__(self, column: str) -> float:
        """The number in a column of `NUMBERS`; NaN where the file has none."""
        return self.numbers.get(column, math.nan)


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """What losses.json says about one cell; conditions are plain, prefix, shuffled and prefix_shuffled."""

    cell: Cell
    mean_nats: Mapping[str, float]
    """Condition -> mean over samples of the per-sample token mean, in nats per token."""
    bits_per_byte: Mapping[str, float]
    right_language: Mapping[str, float]
    """Condition -> share of greedy captions in the asked language."""
    exact_match: Mapping[str, float]
    attributes: Mapping[str, Mapping[str, float]]
    """Condition -> attribute such as colour -> share of captions that get it right."""


@dataclass(frozen=True, kw_only=True)
class CaptionRow:
    """One generated caption (a line of captions.jsonl)."""

    key: str
    language: str
    prefix: str
    caption: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """Everything the report is made from, except the images."""

    path: Path
    title: str
    config_text: str
    coverage: Coverage
    runs: tuple[Run, ...]
    cells: Mapping[str, Mapping[Cell, CellRecord]] = field(repr=False)
    """Run id -> cell -> record, for the runs whose losses.json can be read."""
    environments: Mapping[str, Mapping[str, str]] = field(repr=False)
    """Run id -> name such as `torch` or `machine.cpu` -> value."""
    laws: Mapping[str, Law] = field(repr=False)
    """File name without suffix (`product-UC_prefix`) -> law."""
    notes: tuple[str, ...]
    """What was missing or could not be read, one sentence each."""

    def relative(self, text: str) -> str:
        """A message with paths as seen from the study folder."""
        return _relative(text, self.path)


def read_study(path: Path) -> StudyFolder:
    """Read a study folder.

    Raises:
        ValueError: no such folder; study.toml or runs.csv missing, damaged or empty.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: no such study folder")
    title, config_text, coverage = _read_config(path / "study.toml")
    runs = _read_runs(path / "runs.csv")
    notes = _unusable(runs)
    cells = _read_per_run(path, runs, "losses.json", _read_cells, notes)
    environments = _read_per_run(path, runs, "env.json", _read_environment, notes)
    laws = _read_laws(path / "laws", len(runs), notes)
    return StudyFolder(
        path=path,
        title=title,
        config_text=config_text,
        coverage=coverage,
        runs=runs,
        cells=cells,
        environments=environments,
        laws=laws,
        notes=tuple(_relative(note, path) for note in notes),
    )


def read_captions(study: StudyFolder, run: Run) -> tuple[CaptionRow, ...]:
    """The captions a run generated, in the file's order; empty where it has none.

    Raises:
        ValueError: a line is not what captions.jsonl holds.
    """
    path = study.path / "runs" / run.id / "captions.jsonl"
    if not path.is_file():
        return ()
    rows = []
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            rows.append(CaptionRow(**{name: str(values[name]) for name in CaptionRow.__dataclass_fields__}))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a caption row ({_one_line(error)})") from None
    return tuple(rows)


def read_images(study: StudyFolder, keys: Iterable[str]) -> dict[str, bytes]:
    """The encoded images with these keys, as far as the test shards have them.

    Raises:
        ValueError: the shards cannot be read.
    """
    wanted = set(keys)
    folder = study.path / "data" / "test"
    images: dict[str, bytes] = {}
    if not wanted or not folder.is_dir():
        return images
    for record in read_records(folder):
        if record.key in wanted:
            images[record.key] = record.image
            if len(images) == len(wanted):
                break
    return images


def _read_config(path: Path) -> tuple[str, str, Coverage]:
    text = _read_text(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    if "coverage" not in values:
        raise ValueError(f"{path}: the table [coverage] is missing")
    try:
        coverage = from_dict(Coverage, values["coverage"])
    except ValueError as error:
        raise ValueError(f"{path}: coverage: {error}") from None
    return str(values.get("title") or path.resolve().parent.name), text, coverage


def _read_runs(path: Path) -> tuple[Run, ...]:
    text = _read_text(path)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if missing := {"id", "family"} - set(reader.fieldnames or ()):
        raise ValueError(f"{path}: the column {min(missing)!r} is missing")
    runs: dict[str, Run] = {}
    for row, values in enumerate(reader):
        run = _run(values, row, f"{path}:{reader.line_num}")
        if run.id in runs:
            raise ValueError(f"{path}:{reader.line_num}: the run {run.id!r} is there twice")
        runs[run.id] = run
    if not runs:
        raise ValueError(f"{path}: no run is finished yet, so there is nothing to report")
    return tuple(runs.values())


def _unusable(runs: Iterable[Run]) -> list[str]:
    """A note on numbers that are there and are none, such as those of a run that diverged."""
    found = [f"{name} of {run.id}" for run in runs for name, value in run.numbers.items() if not math.isfinite(value)]
    if not found:
        return []
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"runs.csv has values that are not finite, treated as missing: {', '.join(found[:3])}{more}."]


def _run(values: Mapping[str, str | None], row: int, where: str) -> Run:
    names = {name: values.get(name) or "" for name in ("id", "family", "size", "start", "seed")}
    if not names["id"] or names["id"] in (".", "..") or Path(names["id"]).name != names["id"]:
        raise ValueError(f"{where}: id: {names['id']!r} does not name a folder below runs/")
    for column, text in names.items():
        if not text.isprintable():
            raise ValueError(f"{where}: {column}: {text!r} has characters that cannot be printed")
    numbers = {}
    for column in NUMBERS:
        if text := (values.get(column) or "").strip():
            try:
                numbers[column] = float(text)
            except ValueError:
                raise ValueError(f"{where}: {column}: expected a number, got {text!r}") from None
            if LARGEST < abs(numbers[column]) < math.inf:
                raise ValueError(f"{where}: {column}: {text} is out of range")
    return Run(**names, row=row, numbers=numbers)


def _read_per_run(
    path: Path, runs: Iterable[Run], name: str, read: Callable[[Path], T], notes: list[str]
) -> dict[str, T]:
    """One file per run; what is absent or damaged is noted in one sentence for all runs."""
    found: dict[str, T] = {}
    absent = []
    for run in runs:
        file = path / "runs" / run.id / name
        if not file.is_file():
            absent.append(run.id)
            continue
        try:
            found[run.id] = read(file)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            notes.append(f"runs/{run.id}/{name} could not be read and is left out ({_one_line(error)}).")
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        notes.append(f"{name} is missing for {', '.join(absent[:3])}{more}: what rests on it is left out.")
    return found


def _read_cells(path: Path) -> dict[Cell, CellRecord]:
    values = json.loads(_read_text(path))
    if values["format"] != LOSSES_FORMAT:
        raise ValueError(f"format {values['format']!r}, this version reads {LOSSES_FORMAT}")
    return {cell: _cell_record(cell, record) for name, record in values["cells"].items() for cell in [Cell.parse(name)]}


def _cell_record(cell: Cell, values: Mapping[str, Any]) -> CellRecord:
    losses: Mapping[str, Any] = values.get("losses") or {}
    generation: Mapping[str, Any] = values.get("generation") or {}

    def shares(name: str) -> dict[str, float]:
        return {condition: _number(record.get(name)) for condition, record in generation.items()}

    return CellRecord(
        cell=cell,
        mean_nats={condition: _number(record.get("mean_nats")) for condition, record in losses.items()},
        bits_per_byte={condition: _bits_per_byte(record) for condition, record in losses.items()},
        right_language=shares("right_language"),
        exact_match=shares("exact_match"),
        attributes={
            condition: {name: _number(share) for name, share in (record.get("attributes") or {}).items()}
            for condition, record in generation.items()
        },
    )


def _bits_per_byte(record: Mapping[str, Any]) -> float:
    nats, num_bytes = _number(record.get("nats")), _number(record.get("bytes"))
    return nats / math.log(2) / num_bytes if num_bytes > 0 else math.nan


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _read_environment(path: Path) -> dict[str, str]:
    values = json.loads(_read_text(path))
    if not isinstance(values, dict):
        raise ValueError("expected an object")
    return dict(_flatten(values))


def _flatten(values: Mapping[str, Any], parent: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{parent}{key}.")
        else:
            yield f"{parent}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_laws(folder: Path, num_runs: int, notes: list[str]) -> dict[str, Law]:
    laws = {}
    for path in sorted(folder.glob("*.json")):
        try:
            law = Law.load(path)
        except (ValueError, OSError) as error:
            notes.append(f"laws/{path.name} could not be read and is left out ({_one_line(error)}).")
            continue
        if not law.fits:
            notes.append(f"laws/{path.name} holds no fit and is left out.")
            continue
        if any(row >= num_runs for fit in law.fits.values() for row in (*fit.rows, *fit.frontier)):
            notes.append(f"laws/{path.name} was fitted on more runs than runs.csv holds and is left out.")
            continue
        laws[path.stem] = law
    return laws


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as UTF-8 text ({_one_line(error)})") from None


def _relative(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "")


def _one_line(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"the key {error} is missing"
    return " ".join(str(error).split()) or type(error).__name__
