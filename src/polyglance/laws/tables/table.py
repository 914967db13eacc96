"""Tables of runs: files, frames, records or columns.

Rows are numbered from 1 in every message (the first row under the header of a CSV file is row 1). Cells are kept as
they were read; `numbers` converts a column to floats and describes each cell that holds no finite number.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Floats
from polyglance.laws.tables.numerals import Commas, find_commas, needs_other_columns, number_of_label, parse_numbers
from polyglance.laws.tables.summaries import find_summaries
from polyglance.laws.tables.table_files import read_columns
from polyglance.laws.tables.table_frames import columns_of

__all__ = ["Table", "is_missing", "list_rows"]

_MOST_ROWS_LISTED = 8
"""Largest number of rows that a message names one by one."""


@dataclass(frozen=True)
class Table:
    """Named columns of equal length."""

    columns: Mapping[str, Sequence[Any] | NDArray[Any]]
    source: str = "table"
    """Origin of the rows, for messages and for the law file."""
    notes: tuple[str, ...] = ()
    """Notes on deviations from a plain header and rows, one sentence each."""
    problems: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    """Computed column -> row -> why the value is missing."""
    _numbers: dict[str, tuple[Floats, dict[int, str]]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{self.source}: columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> "Table":
        """Return a table of lists or one-dimensional arrays."""
        return cls(columns_of(columns))

    @classmethod
    def from_data(cls, data: Any) -> "Table":
        """Return a table of a frame (pandas, polars, Arrow), a list of records, or a dict of columns.

        Raises:
            ValueError: another kind of object, or two columns of one name.
        """
        return data if isinstance(data, Table) else cls(columns_of(data))

    @classmethod
    def read(cls, path: str | Path, *, header_rows: int | None = None, encoding: str = "auto") -> "Table":
        """Read a .csv, .tsv, .jsonl (or .ndjson), .json or .parquet file.

        Args:
            header_rows: lines of the header of a CSV or TSV; their cells are joined to one name. None: one, and a table
                that seems to have more is refused.
            encoding: codec of Python for a table of text; `auto`: UTF-8, UTF-16 or UTF-32, found from the first bytes.

        Raises:
            ValueError: no such file, unknown kind of file, or broken content, with the row.
        """
        columns, notes = read_columns(Path(path), header_rows=header_rows, encoding=encoding)
        if not columns:
            raise ValueError(f"{path}: empty; a table needs columns and rows")
        return cls(columns, source=str(path), notes=(*notes, *find_summaries(columns)))

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
        if name not in self._numbers:
            self._numbers[name] = self._read_numbers(name)
        values, problems = self._numbers[name]
        return values, dict(problems)

    def _read_numbers(self, name: str) -> tuple[Floats, dict[int, str]]:
        column = self.column(name)
        problems = dict(self.problems.get(name, {}))
        if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
            values = column.astype(float)
        else:
            values, found = parse_numbers(column, self._commas if needs_other_columns(column) else "unknown")
            problems = found | problems
        for index in np.flatnonzero(~np.isfinite(values)).tolist():
            problems.setdefault(index, "is not a number" if math.isnan(values[index]) else "is infinite")
        return values, problems

    @cached_property
    def _commas(self) -> Commas:
        """Meaning of commas in the columns that show it."""
        return find_commas(self.columns.values())

    def texts(self, name: str) -> list[str]:
        """Return a column as text without blanks around it; an empty cell is an empty text."""
        return ["" if is_missing(value) else str(value).strip() for value in self.column(name)]

    def labels(self, name: str) -> list[str]:
        """Return a column as the labels of groups and clusters. Cells that are one number, such as 1 and 1.0 or 1B and
        1000M, are one label, written as the first of them."""
        spellings = self.find_spellings(name)
        return [spellings.get(text, text) for text in self.texts(name)]

    def find_spellings(self, name: str) -> dict[str, str]:
        """Return the text of a cell -> the label of an earlier cell that is the same number in another spelling."""
        first: dict[Decimal, str] = {}
        found = {}
        for text in dict.fromkeys(self.texts(name)):
            if (number := number_of_label(text)) is not None and first.setdefault(number, text) != text:
                found[text] = first[number]
        return found

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return 12 hexadecimal digits of a SHA-256 over the values of these columns."""
        digest = hashlib.sha256()
        for name in names:
            column = self.column(name)
            values = column.tolist() if isinstance(column, np.ndarray) else list(column)
            digest.update(json.dumps([name, values], default=str).encode())
        return digest.hexdigest()[:12]


def is_missing(value: Any) -> bool:
    """Tell whether a cell is empty: None, an empty text, or the NaN that frames write for a missing value."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def list_rows(rows: Sequence[int]) -> str:
    """Return row indices as numbers for a message: `rows 3, 5, 8 and 12 more`."""
    numbers = [str(row + 1) for row in rows[:_MOST_ROWS_LISTED]]
    more = f" and {len(rows) - len(numbers)} more" if len(rows) > len(numbers) else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(numbers)}{more}"
