"""Checksums of the blocks of a file: a file that is read in pieces is checked as it is read, and no byte is read twice.

The sums are CRC-32, 4 bytes a block, in a file of their own (`write_sums`). Its SHA-256 is in a sealed record, so that
a change of any byte of the data, of the sums or of the record is found (`polyglance.checksums`).

    sums = write_sums(folder / "targets.bin", folder / "targets.sums", block_bytes=4096)
    array = CheckedArray(folder / "targets.bin", np.dtype("<u4"), sums, block_bytes=4096)
    array[1000:1010]                     # reads and checks one block
"""

import io
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from polyglance.checksums import crc32
from polyglance.files import DamagedError, replacing

__all__ = ["CheckedArray", "CheckedFile", "compute_sums", "read_sums", "sum_pieces", "write_sums"]

_SUM = np.dtype("<u4")


def compute_sums(file: BinaryIO, *, block_bytes: int) -> np.ndarray:
    """Return the sum of each block of an open file, from its beginning: uint32 [blocks]."""
    sums = []
    while block := file.read(block_bytes):
        sums.append(crc32(block))
    return np.array(sums, _SUM)


def sum_pieces(file: BinaryIO, starts: Sequence[int], size_bytes: int) -> list[int]:
    """Return the sum of each piece of an open file, given by their first bytes; the last one ends with the file."""
    file.seek(starts[0])
    return [crc32(file.read(end - start)) for start, end in pairwise([*starts, size_bytes])]


def write_sums(path: Path, sums_path: Path, *, block_bytes: int) -> np.ndarray:
    """Write the sums of a file's blocks into another file; return them."""
    with path.open("rb") as file:
        sums = compute_sums(file, block_bytes=block_bytes)
    with replacing(sums_path) as partial:
        partial.write_bytes(sums.tobytes())
    return sums


def read_sums(content: bytes, where: str, *, size_bytes: int, block_bytes: int) -> np.ndarray:
    """Return the sums of a file of this size from the content of their file.

    Raises:
        DamagedError: they are not as many as the file has blocks.
    """
    if len(content) != _SUM.itemsize * -(-size_bytes // block_bytes):
        raise DamagedError(f"{where}: damaged (not the sums of a file of {size_bytes} bytes)")
    return np.frombuffer(content, _SUM)


class CheckedArray:
    """A memory-mapped array of one dimension, whose blocks are compared with their sums when they are first read.

    Args:
        sums: sum of each block; None: nothing is compared.
        on_damage: called with a message before the error is raised.
    """

    def __init__(
        self,
        path: Path,
        dtype: "np.dtype[Any]",
        sums: np.ndarray | None,
        *,
        block_bytes: int,
        on_damage: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        size_bytes = path.stat().st_size
        # An empty file cannot be mapped; a plain array is indexed several times faster than a memmap.
        self._bytes = np.asarray(np.memmap(path, np.uint8, "r")) if size_bytes else np.zeros(0, np.uint8)
        self._values = self._bytes.view(dtype)
        self._sums, self._block_bytes, self._on_damage = sums, block_bytes, on_damage
        self._per_block = block_bytes // dtype.itemsize
        self._is_checked = np.zeros(0 if sums is None else len(sums), np.bool_)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: Any) -> Any:
        """Return the values at an index, in a slice of step 1, or at an array of indices, as numpy does.

        Raises:
            DamagedError: a block that holds one of them differs from what was written.
        """
        if isinstance(key, slice):
            first, stop, _ = key.indices(len(self))
            self.check(first, stop)
        elif isinstance(key, np.ndarray):
            if self._sums is not None and key.size:
                self._check_blocks(np.asarray(key, dtype=np.int64) // self._per_block)
        else:
            self.check(key, key + 1)
        return self._values[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self.check(0, len(self))
        return np.array(self._values, dtype=dtype, copy=copy)

    def check(self, first: int, stop: int) -> None:
        """Check the blocks with the values from `first` to before `stop`."""
        if self._sums is None or stop <= first:
            return
        blocks = slice(first // self._per_block, (stop - 1) // self._per_block + 1)
        if not self._is_checked[blocks].all():
            self._check_blocks(np.arange(blocks.start, blocks.stop))

    def _check_blocks(self, blocks: np.ndarray) -> None:
        assert self._sums is not None
        for block in np.unique(blocks[~self._is_checked[blocks]]).tolist():
            content = self._bytes[block * self._block_bytes : (block + 1) * self._block_bytes]
            if crc32(content.data) != self._sums[block]:
                self._on_damage()
                raise DamagedError(
                    f"{self.path}: damaged or changed: the bytes from {block * self._block_bytes} differ from what was "
                    "written; it is made again at the next start"
                )
            self._is_checked[block] = True


class CheckedFile(io.RawIOBase):
    """A file open for reading whose pieces are compared with their sums at every reading.

    Args:
        starts: first byte of each piece, ascending; the last piece ends with the file.
        sums: sum of each piece.
        name: name of the file, for error messages.
    """

    def __init__(self, file: BinaryIO, starts: np.ndarray, sums: np.ndarray, *, size_bytes: int, name: str) -> None:
        super().__init__()
        self._file, self._sums, self._name, self._at = file, sums.tolist(), name, 0
        self._ends = [*starts.tolist(), size_bytes]

    @property
    def last_start(self) -> int:
        """First byte of the last piece."""
        return self._ends[-2]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Read bytes.

        Raises:
            OSError: a piece that holds some of them differs from what was written.
        """
        left = max(0, self._ends[-1] - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        first, last = bisect_right(self._ends, self._at) - 1, bisect_left(self._ends, self._at + size) - 1
        start = self._ends[first]
        self._file.seek(start)
        read = self._file.read(self._ends[last + 1] - start)
        content = memoryview(read)
        for piece in range(first, last + 1):
            if crc32(content[self._ends[piece] - start : self._ends[piece + 1] - start]) != self._sums[piece]:
                raise OSError(0, f"the bytes from {self._ends[piece]} differ from what was written", self._name)
        self._at += size
        return read if len(read) == size else bytes(content[self._at - size - start : self._at - start])

    def close(self) -> None:
        self._file.close()
        super().close()
