"""Content of a table, column by column, so that a user can check what was read before a law is fitted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polyglance.laws.config import PrepareConfig
from polyglance.laws.equations.roles import Role, resolve_roles
from polyglance.laws.tables.expressions import parse_expression
from polyglance.laws.tables.prepare import prepare_table
from polyglance.laws.tables.table import Table, is_missing, list_rows

__all__ = ["ColumnDescription", "TableDescription", "describe_table"]

ColumnKind = Literal["numbers", "texts", "mixed", "truths", "empty", "other"]
_DECORATION = re.compile(r"^(?:config|summary|params|metrics|tags)[./]|\.value$")
"""Text that trackers write around a name: `config.N.value`, `summary/loss`, `params.N`."""
_LONGEST_SAMPLE = 24


@dataclass(frozen=True, kw_only=True)
class ColumnDescription:
    """Content of one column."""

    name: str
    kind: ColumnKind
    num_missing: int
    """Empty cells."""
    num_distinct: int
    """Different cells, the empty ones not counted."""
    low: float | None
    """Smallest number; `high` is the largest. None without numbers."""
    high: float | None
    role: Role
    """Role that a predictor of this column would get, guessed from its name."""
    samples: tuple[str, ...]
    """Cells of the first two rows."""
    remark: str
    """Remark on cells without a number in a column of numbers; empty if there are none."""


@dataclass(frozen=True, kw_only=True)
class TableDescription:
    """Content of a table."""

    num_rows: int
    columns: tuple[ColumnDescription, ...]
    notes: tuple[str, ...]
    """Unusual features of the file as it was read, and how many rows a condition keeps."""


def describe_table(config: PrepareConfig, table: Any) -> TableDescription:
    """Describe the columns of a table, the computed ones among them.

    Args:
        table: a `Table`, or what `Table.from_data` makes one of.

    Raises:
        ValueError: as `fit_law`, for the table; one line.
    """
    table = prepare_table(config, Table.from_data(table))
    notes = list(table.notes)
    if config.where is not None:
        try:
            kept, undecided = parse_expression(config.where).choose_rows(table)
        except ValueError as error:
            raise ValueError(f"where: {error}") from None
        notes.append(f"{int(kept.sum())} of {len(table)} rows are {config.where!r}.")
        if undecided:
            row, problem = next(iter(sorted(undecided.items())))
            notes.append(f"{len(undecided)} rows leave the condition undecided; row {row + 1}: {problem}.")
    described = tuple(_describe_column(table, name) for name in table.columns)
    return TableDescription(num_rows=len(table), columns=described, notes=tuple(notes))


def _describe_column(table: Table, name: str) -> ColumnDescription:
    cells = table.column(name)
    values, problems = table.numbers(name)
    missing = sum(map(is_missing, cells))
    finite = values[np.isfinite(values)]
    others = {row: problem for row, problem in problems.items() if not is_missing(cells[row])}
    kind = _find_kind(cells, len(finite), missing)
    remark = ""
    if others and kind in ("numbers", "mixed"):
        row = min(others)
        remark = f"{len(others)} cells hold no number ({list_rows(sorted(others))}); row {row + 1} {others[row]}"
    return ColumnDescription(
        name=name,
        kind=kind,
        num_missing=missing,
        num_distinct=len({str(cell) for cell in cells if not is_missing(cell)}),
        low=float(finite.min()) if len(finite) else None,
        high=float(finite.max()) if len(finite) else None,
        role=_guess_role(name),
        samples=tuple(_shorten(cell) for cell in list(cells[:2])),
        remark=remark,
    )


def _find_kind(cells: Any, num_numbers: int, num_missing: int) -> ColumnKind:
    filled = len(cells) - num_missing
    if filled == 0:
        return "empty"
    if num_numbers:
        return "numbers" if 2 * num_numbers > filled else "mixed"
    texts = [cell for cell in cells if not is_missing(cell)]
    if all(str(cell).lower() in ("true", "false") for cell in texts):
        return "truths"
    return "texts" if all(isinstance(cell, str) for cell in texts) else "other"


def _guess_role(name: str) -> Role:
    plain = _DECORATION.sub("", _DECORATION.sub("", name))
    columns: Mapping[str, str] = {name: plain} if name != "y" else {}
    return resolve_roles(columns).get(name, "none")


def _shorten(cell: Any) -> str:
    text = "-" if is_missing(cell) else str(cell)
    return text if len(text) <= _LONGEST_SAMPLE else text[: _LONGEST_SAMPLE - 3] + "..."
