"""Rows of unit length out of .npy files or arrays, a block at a time or by number."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

__all__ = ["Embeddings", "Part"]

Part = Path | np.ndarray
"""A .npy file or an array of float16 or float32, one row a thing."""


class Embeddings:
    """Several parts as one table; a row's number runs through all of them.

    Files are mapped, not read: memory holds a block and what the system likes to cache. Rows are brought to unit length
    as they are read, so that inner products are cosine similarities (float16 rows are of unit length to 1e-3 only).

    Raises:
        ValueError: no part, a file that is not such an array, or parts of different width.
    """

    def __init__(self, parts: Sequence[Part] | Part) -> None:
        self._parts = [parts] if isinstance(parts, (Path, np.ndarray)) else list(parts)
        if not self._parts:
            raise ValueError("there are no embeddings: give one part or more")
        shapes = [self._open(part).shape for part in range(len(self._parts))]
        self.dim: int = shapes[0][1]
        """Width of a row."""
        for part, shape in enumerate(shapes):
            if shape[1] != self.dim:
                raise ValueError(f"{self._name(part)}: rows of {shape[1]} numbers, those before have {self.dim}")
        self._starts = np.cumsum([0, *(shape[0] for shape in shapes)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def blocks(self, num_rows: int) -> Iterator[tuple[int, Float32[np.ndarray, "b dim"]]]:
        """Number of the first row and the rows, of all rows in order; no block reaches over two parts."""
        for part, start in enumerate(self._starts[:-1].tolist()):
            rows = self._open(part)
            for first in range(0, len(rows), num_rows):
                block = rows[first : first + num_rows].astype(np.float32)
                yield start + first, self._unit(block, part, np.arange(first, first + len(block)))

    def take(self, numbers: Int64[np.ndarray, "n"]) -> Float64[np.ndarray, "n dim"]:
        """The rows with these numbers, in float64: products of such rows are exact but for the last digit."""
        taken = np.empty((len(numbers), self.dim))
        parts = np.searchsorted(self._starts, numbers, side="right") - 1
        for part in np.unique(parts).tolist():
            at = np.flatnonzero(parts == part)
            at = at[np.argsort(numbers[at], kind="stable")]  # a file is read front to back
            wanted = numbers[at] - self._starts[part]
            taken[at] = self._unit(self._open(part)[wanted].astype(np.float64), part, wanted)
        return taken

    def all(self) -> Float32[np.ndarray, "n dim"]:
        """All rows in memory."""
        return np.concatenate([block for _, block in self.blocks(2**16)] or [np.empty((0, self.dim), np.float32)])

    def _name(self, part: int) -> str:
        value = self._parts[part]
        return str(value) if isinstance(value, Path) else f"part {part}"

    def _open(self, part: int) -> Float[np.ndarray, "n dim"]:
        value = self._parts[part]
        if isinstance(value, Path):
            try:
                value = np.load(value, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                detail = str(error).partition("\n")[0]
                raise ValueError(f"{self._name(part)}: not a whole .npy file ({detail})") from None
        if value.ndim != 2 or value.dtype not in (np.float16, np.float32) or value.shape[1] == 0:
            raise ValueError(
                f"{self._name(part)}: {value.dtype} of shape {value.shape}; rows of float16 or float32 are needed"
            )
        return value

    def _unit(self, rows: Float[np.ndarray, "n dim"], part: int, numbers: Int64[np.ndarray, "n"]) -> np.ndarray:
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        wrong = ~(np.isfinite(lengths) & (lengths > 0))
        if wrong.any():
            row = int(numbers[np.flatnonzero(wrong)[0]])
            raise ValueError(f"{self._name(part)}: row {row} is zero or not finite, it has no direction")
        rows /= lengths[:, None]
        return rows
