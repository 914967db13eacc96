"""Tables of runs: CSV, TSV, JSON lines, JSON records or Parquet, or columns from Python.

Rows are numbered from 1 in every message (the first row under the header of a CSV file is row 1). Cells are kept as
they were read; `numbers` converts a column to floats and describes each cell that holds no finite number.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Floats
from polyglance.tables import read_table, table_columns

__all__ = ["Table", "list_rows"]


@dataclass(frozen=True)
class Table:
    """Named columns of equal length."""

    columns: Mapping[str, Sequence[Any] | NDArray[Any]]
    source: str = "table"
    """Origin of the rows, for messages and for the law file."""

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{self.source}: columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> "Table":
        """Return a table of lists or one-dimensional arrays."""
        for name, column in columns.items():
            if np.ndim(column) != 1:
                raise ValueError(f"column {name!r} is not one-dimensional")
        return cls(dict(columns))

    @classmethod
    def read(cls, path: str | Path) -> "Table":
        """Read a .csv, .tsv, .jsonl (or .ndjson), .json (a list of records) or .parquet file.

        Raises:
            ValueError: no such file, unknown kind of file, or broken content, with the row.
        """
        names = table_columns(path)
        cells: dict[str, list[Any]] = {name: [] for name in names or ()}
        for number, row in enumerate(read_table(path)):
            if row.problem:
                raise ValueError(
                    f"{Path(path).with_name(row.where)}: {row.problem}{f' ({row.detail})' if row.detail else ''}"
                )
            if names is None:  # JSON lines: a column may begin in any row
                for name in row.values:
                    cells.setdefault(name, [None] * number)
            for name, column in cells.items():
                column.append(row.values.get(name))
        if not cells:
            raise ValueError(f"{path}: empty; a table needs columns and rows")
        return cls(cells, source=str(path))

    def column(self, name: str) -> Sequence[Any] | NDArray[Any]:
        """Return a column as it was read.

        Raises:
            ValueError: no column of that name; the message has the nearest one.
        """
        if name not in self.columns:
            raise ValueError(f"{self.source}: no column {name!r}; {did_you_mean(name, self.columns)}")
        return self.columns[name]

    def numbers(self, name: str) -> tuple[Floats, dict[int, str]]:
        """Return a column as floats (n,), and index -> problem for the cells without a finite number."""
        column = self.column(name)
        if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
            values = column.astype(float)
            problems: dict[int, str] = {}
        else:
            values, problems = _parse_cells(column)
        for index in np.flatnonzero(~np.isfinite(values)).tolist():
            problems.setdefault(index, "is not a number" if math.isnan(values[index]) else "is infinite")
        return values, problems

    def labels(self, name: str) -> list[str]:
        """Return a column as text, for groups and clusters; an empty cell is an empty text."""
        return ["" if value is None else str(value) for value in self.column(name)]

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return 12 hexadecimal digits of a SHA-256 over the values of these columns."""
        digest = hashlib.sha256()
        for name in names:
            column = self.column(name)
            values = column.tolist() if isinstance(column, np.ndarray) else list(column)
            digest.update(json.dumps([name, values], default=str).encode())
        return digest.hexdigest()[:12]


def list_rows(rows: Sequence[int], limit: int = 8) -> str:
    """Return row indices as numbers for a message: `rows 3, 5, 8 and 12 more`."""
    numbers = [str(row + 1) for row in rows[:limit]]
    more = f" and {len(rows) - limit} more" if len(rows) > limit else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(numbers)}{more}"


_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "%": 1e-2}
"""Suffix of a number, in lower case -> factor: 6.9B parameters, 13M samples, 5 %."""
_NUMBER = re.compile(r"(?P<number>[+-]?[0-9][0-9.,\u00a0\u202f' ]*(?:e[+-]?[0-9]+)?) *(?P<unit>[kmbgt%]?)", re.I)
_BLANKS = "'\u00a0\u202f "
_COMMA_GROUPS = re.compile(rf"[+-]?[0-9]{{1,3}}(?:[,{_BLANKS}][0-9]{{3}})+(?:\.[0-9]+)?")
_DOT_GROUPS = re.compile(rf"[+-]?[0-9]{{1,3}}(?:[.{_BLANKS}][0-9]{{3}})+(?:,[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


def _parse_cells(column: Sequence[Any] | NDArray[Any]) -> tuple[Floats, dict[int, str]]:
    values = np.full(len(column), np.nan)
    problems = {}
    commas = _find_meaning_of_commas(column)
    for index, cell in enumerate(column):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            problems[index] = "is empty"
        elif isinstance(cell, bool | np.bool_):
            problems[index] = f"is {cell}, not a number"
        else:
            try:
                values[index] = _parse_number(cell, commas) if isinstance(cell, str) else float(cell)
            except _AmbiguousError:
                problems[index] = f"is {_shorten(cell)}, which can be read as two numbers: write it without separators"
            except (TypeError, ValueError, OverflowError):
                problems[index] = f"is {_shorten(cell)}, not a number"
    return values, problems


class _AmbiguousError(ValueError):
    """A separator can stand between groups of thousands or before decimals, and nothing in the column decides."""


Commas = Literal["groups", "decimals", "unknown"]
"""Meaning of the commas in the numbers of a column."""


def _find_meaning_of_commas(column: Sequence[Any] | NDArray[Any]) -> Commas:
    """Decide from the cells that can be read in one way only: `3,14` and `1.234,5` have a decimal comma, `1,234,567`
    and `1,234.5` have groups. Cells of both kinds, or of neither, decide nothing: `3,704` is 3704 or 3.704."""
    numbers = [match["number"].strip() for cell in column if isinstance(cell, str) and (match := _match_number(cell))]
    found: set[Commas] = set()
    for number in numbers:
        if "," not in number:
            continue
        has_groups, has_decimals = _COMMA_GROUPS.fullmatch(number), _is_decimal(number)
        if bool(has_groups) != has_decimals:
            found.add("groups" if has_groups else "decimals")
    return found.pop() if len(found) == 1 else "unknown"


def _is_decimal(number: str) -> bool:
    return bool(_DECIMAL_COMMA.fullmatch(number) or ("," in number and _DOT_GROUPS.fullmatch(number)))


def _match_number(text: str) -> re.Match[str] | None:
    return _NUMBER.fullmatch(text.strip())


def _parse_number(text: str, commas: Commas) -> float:
    """Read a number that people write: with a suffix (6.9B, 13M, 5 %), groups of thousands, or a decimal comma.

    Args:
        commas: meaning of commas in the column.

    Raises:
        ValueError: no number, or one that can be read in two ways.
    """
    match = _match_number(text)
    if match is None:
        return float("x" if "_" in text else text)  # nan, inf, or no number
    number = match["number"].strip()
    if commas == "decimals" and re.fullmatch(r"[+-]?[0-9]{1,3}\.[0-9]{3}", number):
        raise _AmbiguousError(number)
    if "," in number:
        if commas == "unknown" and (_COMMA_GROUPS.fullmatch(number) or _is_decimal(number)):
            raise _AmbiguousError(number)
        number = _drop_groups(number, commas)
    elif _COMMA_GROUPS.fullmatch(number):
        number = re.sub(f"[{_BLANKS}]", "", number)
    return float(number) * _UNITS[match["unit"].lower()]


def _drop_groups(number: str, commas: Commas) -> str:
    if commas == "decimals" and _is_decimal(number):
        return re.sub(f"[.{_BLANKS}]", "", number).replace(",", ".")
    return re.sub(f"[,{_BLANKS}]", "", number) if _COMMA_GROUPS.fullmatch(number) else number


def _shorten(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 30 else text[:27] + "..."
