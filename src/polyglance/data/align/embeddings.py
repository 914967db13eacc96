"""Embeddings: rows of unit length from .npy files or arrays, read a block at a time or by number."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from polyglance.error_text import first_line

__all__ = ["Embeddings"]


class Embeddings:
    """Several tables of rows as one; a row's number runs through all of them.

    Files are mapped, not read: memory holds one block and what the system caches. Rows are brought to unit length as
    they are read, so inner products are cosine similarities (float16 rows have unit length only to 1e-3).

    Args:
        tables: .npy files or arrays of float16 or float32.

    Raises:
        ValueError: no table, a file that is not such an array, or tables of different width.
    """

    def __init__(self, tables: Sequence[Path | np.ndarray] | Path | np.ndarray) -> None:
        self._tables = [tables] if isinstance(tables, (Path, np.ndarray)) else list(tables)
        if not self._tables:
            raise ValueError("there are no embeddings: give one table or more")
        shapes = [self._open(number).shape for number in range(len(self._tables))]
        self.dim: int = shapes[0][1]
        """Width of a row."""
        for number, shape in enumerate(shapes):
            if shape[1] != self.dim:
                raise ValueError(f"{self._name(number)}: rows of {shape[1]} numbers, those before have {self.dim}")
        self._starts = np.cumsum([0, *(shape[0] for shape in shapes)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def blocks(self, num_rows: int) -> Iterator[tuple[int, Float32[np.ndarray, "b dim"]]]:
        """Yield number of the first row and rows of each block, in order; no block spans two tables."""
        for number, start in enumerate(self._starts[:-1].tolist()):
            rows = self._open(number)
            for first in range(0, len(rows), num_rows):
                block = rows[first : first + num_rows].astype(np.float32)
                yield start + first, self._to_unit(block, number, np.arange(first, first + len(block)))

    def take(self, numbers: Int64[np.ndarray, "n"]) -> Float64[np.ndarray, "n dim"]:
        """Read the rows with these numbers, in float64: products of such rows are exact up to the last digit."""
        rows = np.empty((len(numbers), self.dim))
        table_of_row = np.searchsorted(self._starts, numbers, side="right") - 1
        for number in np.unique(table_of_row).tolist():
            at = np.flatnonzero(table_of_row == number)
            at = at[np.argsort(numbers[at], kind="stable")]  # a file is read front to back
            wanted = numbers[at] - self._starts[number]
            rows[at] = self._to_unit(self._open(number)[wanted].astype(np.float64), number, wanted)
        return rows

    def all(self) -> Float32[np.ndarray, "n dim"]:
        """Read all rows."""
        return np.concatenate([block for _, block in self.blocks(2**16)] or [np.empty((0, self.dim), np.float32)])

    def _name(self, number: int) -> str:
        table = self._tables[number]
        return str(table) if isinstance(table, Path) else f"table {number}"

    def _open(self, number: int) -> Float[np.ndarray, "n dim"]:
        table = self._tables[number]
        if isinstance(table, Path):
            try:
                table = np.load(table, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                detail = first_line(error)
                raise ValueError(f"{self._name(number)}: not a whole .npy file ({detail})") from None
        if table.ndim != 2 or table.dtype not in (np.float16, np.float32) or table.shape[1] == 0:
            raise ValueError(
                f"{self._name(number)}: {table.dtype} of shape {table.shape}; expected rows of float16 or float32"
            )
        return table

    def _to_unit(
        self, rows: Float[np.ndarray, "n dim"], number: int, row_numbers: Int64[np.ndarray, "n"]
    ) -> np.ndarray:
        """Divide rows by their lengths, in place."""
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        wrong = ~(np.isfinite(lengths) & (lengths > 0))
        if wrong.any():
            row = int(row_numbers[np.flatnonzero(wrong)[0]])
            raise ValueError(f"{self._name(number)}: row {row} is zero or not finite, it has no direction")
        rows /= lengths[:, None]
        return rows
