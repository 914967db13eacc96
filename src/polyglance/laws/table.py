"""Tables of runs, as users bring them: CSV, TSV, JSON lines or Parquet, or columns from Python.

Rows are numbered from 1 in every message (the first row under a CSV's header is row 1). Reading keeps what was written;
`numbers` turns a column into floats and says of each bad cell what is wrong with it.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyglance.languages import did_you_mean

__all__ = ["Table", "listed"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Named columns of equal length."""

    columns: Mapping[str, Sequence[Any] | NDArray[Any]]
    source: str = "table"
    """Where the rows came from, for messages and provenance."""

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{self.source}: columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> "Table":
        """A table of columns at hand (lists or one-dimensional arrays)."""
        for name, column in columns.items():
            if np.ndim(column) != 1:
                raise ValueError(f"column {name!r} is not one-dimensional")
        return cls(dict(columns))

    @classmethod
    def read(cls, path: str | Path) -> "Table":
        """Read .csv, .tsv, .jsonl (or .ndjson) or .parquet.

        Raises:
            ValueError: no such file, unknown kind, or broken content, with the row.
        """
        path = Path(path)
        readers = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
        reader = readers.get(path.suffix.lower())
        if reader is None:
            raise ValueError(f"{path}: tables are read from {', '.join(readers)}, not {path.suffix or 'no suffix'!r}")
        try:
            return cls(reader(path), source=str(path))
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: cannot be read ({error})") from None

    def column(self, name: str) -> Sequence[Any] | NDArray[Any]:
        """A column as it was read.

        Raises:
            ValueError: there is none of that name; the nearest is named.
        """
        if name not in self.columns:
            raise ValueError(f"{self.source}: no column {name!r}; {did_you_mean(name, self.columns)}")
        return self.columns[name]

    def numbers(self, name: str) -> tuple[Floats, dict[int, str]]:
        """A column as floats, and for each index that holds no finite number what it holds instead."""
        column = self.column(name)
        if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
            values = column.astype(float)
            problems: dict[int, str] = {}
        else:
            values, problems = _parsed(column)
        for index in np.flatnonzero(~np.isfinite(values)).tolist():
            problems.setdefault(index, "is not a number" if math.isnan(values[index]) else "is infinite")
        return values, problems

    def labels(self, name: str) -> list[str]:
        """A column as text, for groups and clusters; empty cells are empty text."""
        return ["" if value is None else str(value) for value in self.column(name)]

    def fingerprint(self, names: Sequence[str]) -> str:
        """12 hexadecimal digits that change when any value of these columns does."""
        digest = hashlib.sha256()
        for name in names:
            column = self.column(name)
            values = column.tolist() if isinstance(column, np.ndarray) else list(column)
            digest.update(json.dumps([name, values], default=str).encode())
        return digest.hexdigest()[:12]


def listed(rows: Sequence[int], limit: int = 8) -> str:
    """Row indices as numbers for a message: `rows 3, 5, 8 and 12 more`."""
    numbers = [str(row + 1) for row in rows[:limit]]
    more = f" and {len(rows) - limit} more" if len(rows) > limit else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(numbers)}{more}"


def _parsed(column: Sequence[Any] | NDArray[Any]) -> tuple[Floats, dict[int, str]]:
    values = np.full(len(column), np.nan)
    problems = {}
    for index, cell in enumerate(column):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            problems[index] = "is empty"
        elif isinstance(cell, bool | np.bool_):
            problems[index] = f"is {cell}, not a number"
        else:
            try:
                values[index] = float(cell.replace("_", " ") if isinstance(cell, str) else cell)
            except (TypeError, ValueError, OverflowError):
                problems[index] = f"is {_short(cell)}, not a number"
    return values, problems


def _short(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 30 else text[:27] + "..."


def _csv(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            header = [name.strip() for name in next(reader, [])]
            rows = [row for row in reader if row]
        except csv.Error as error:
            raise ValueError(f"{path}: line {reader.line_num}: {error}") from None
    _check_header(path, header)
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}")
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    return {name: list(column) for name, column in zip(header, columns, strict=True)}


def _jsonl(path: Path) -> dict[str, list[Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}: line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}: line {number} is not an object of column: value")
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_header(path, names)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(path: Path) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    _check_header(path, table.column_names)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _check_header(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise ValueError(f"{path}: empty; a table needs a header and rows")
    doubled = sorted({name for name in names if list(names).count(name) > 1})
    if doubled:
        raise ValueError(f"{path}: column name given twice: {', '.join(map(repr, doubled))}")
