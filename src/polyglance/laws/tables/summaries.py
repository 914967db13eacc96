"""Rows of a table that look like summaries of the others: a mean, a total, a count."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

__all__ = ["find_summaries"]

_WORDS = frozenset(
    [
        *("mean", "average", "avg", "avg.", "total", "totals", "sum", "subtotal", "std", "stdev", "sd", "stderr"),
        *("median", "min", "max", "minimum", "maximum", "count", "all", "overall", "25%", "50%", "75%"),
    ]
)
_MOST = 8
"""Largest number of rows at an end of a table that are taken for summaries: `describe` of pandas has eight."""


def find_summaries(columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> list[str]:
    """Note the rows at the end or at the beginning of a table that are called `mean`, `total` or the like, where no
    other row is."""
    notes = []
    for name, column in columns.items():
        labels = [cell.strip().rstrip(":").lower() if isinstance(cell, str) else "" for cell in column]
        found = [row for row, label in enumerate(labels) if label in _WORDS]
        ends = (list(range(len(found))), list(range(len(labels) - len(found), len(labels))))
        if 0 < len(found) <= min(_MOST, len(labels) - 1) and found in ends:
            rows = ", ".join(f"{row + 1} ({str(column[row]).strip()})" for row in found)
            notes.append(
                f"Rows may summarise the others, by the column {name!r}: {rows}. They are read as runs; if they are "
                f"none, leave them out (--where)."
            )
    return notes
