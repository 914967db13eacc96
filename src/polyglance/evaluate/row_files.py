"""Rows of predictions while they are being made: files that grow batch by batch and survive a kill.

Each process of a run has a file `predictions.jsonl.partial*` of its own and a lock on it. A batch counts when all of
its rows are there. Rows of an incomplete batch are dropped and made again, so that a row is always computed in the same
batch. Each row has a checksum in front of it; a row whose checksum differs counts as missing.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from polyglance.checksums import crc32
from polyglance.evaluate.prediction_set import PREDICTIONS_NAME, PredictionRow, read_prediction_rows
from polyglance.files import lock, read_digests, replacing, seal_files, write_atomically

__all__ = ["RowFile", "count_rows", "find_done_batches", "has_row_file", "join_row_files", "keep_whole_batches"]


class RowFile:
    """The file that one process appends to, locked for as long as it is open."""

    def __init__(self, folder: Path, process: int) -> None:
        path = _row_path(folder, process)
        self._file = path.open("ab")
        lock(self._file)
        if not _ends_with_a_line(path):  # a killed process has left a half, which the next row is not to join
            self._file.write(b"\n")

    def append(self, rows: Sequence[PredictionRow]) -> None:
        """Write a batch; when this returns, it is on the disk."""
        self._file.write(_format_checked(rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def keep_whole_batches(folder: Path, batches: Sequence[Sequence[str]]) -> set[int]:
    """Put the rows of whole batches into one file; drop the other rows and files.

    Waits for processes of a killed run that have not ended yet.

    Args:
        batches: the ids of each batch.

    Returns:
        Numbers of the batches that are done.
    """
    paths = sorted(folder.glob(f"{PREDICTIONS_NAME}*"))
    rows = _read_finished(folder)
    for path in paths:
        with path.open("rb") as file:
            lock(file)
            rows |= _read_rows(path)
    done = {number for number, ids in enumerate(batches) if all(name in rows for name in ids)}
    kept = [rows[name] for number in sorted(done) for name in batches[number]]
    write_atomically(_row_path(folder, 0), _format_checked(kept))
    for path in paths:
        if path != _row_path(folder, 0):
            path.unlink(missing_ok=True)
    return done


def find_done_batches(folder: Path, batches: Sequence[Sequence[str]]) -> set[int]:
    """Return the numbers of the batches whose rows are all there, while others may add rows. Nothing is changed."""
    rows = _read_finished(folder)
    for path in folder.glob(f"{PREDICTIONS_NAME}.partial*"):
        rows |= _read_rows(path)
    return {number for number, ids in enumerate(batches) if all(name in rows for name in ids)}


def join_row_files(folder: Path, ids: Sequence[str]) -> list[PredictionRow]:
    """Join the files in the order of the ids, under the final name; return the rows."""
    paths = sorted(folder.glob(f"{PREDICTIONS_NAME}.partial*"))
    rows: dict[str, PredictionRow] = {}
    for path in paths:
        rows |= _read_rows(path)
    ordered = [rows[name] for name in ids]
    # A name of its own: the usual partial name is the first process's file.
    with replacing(folder / PREDICTIONS_NAME, several_writers=True) as partial, partial.open("wb") as file:
        file.write("".join(row.format_line() for row in ordered).encode())
    seal_files(folder, [PREDICTIONS_NAME])
    for path in paths:
        path.unlink()
    return ordered


def has_row_file(folder: Path) -> bool:
    """Whether the first process's file is there, as it is after `keep_whole_batches`."""
    return _row_path(folder, 0).is_file()


def count_rows(folder: Path) -> int:
    """Count the rows that are done, for showing progress."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob(f"{PREDICTIONS_NAME}.partial*"))


def _read_finished(folder: Path) -> dict[str, PredictionRow]:
    """Read id -> row of finished predictions without their description; empty if there are none, or damaged ones."""
    if PREDICTIONS_NAME not in read_digests(folder):
        return {}
    try:
        return {row.id: row for row in read_prediction_rows(folder)}
    except ValueError:
        return {}


def _read_rows(path: Path) -> dict[str, PredictionRow]:
    """Read id -> row. Lines that a kill left half-written, or whose checksum differs, are left out."""
    rows: dict[str, PredictionRow] = {}
    for line in path.read_bytes().split(b"\n"):
        checksum, _, content = line.partition(b" ")
        if checksum != _checksum(content):
            continue
        row = PredictionRow.parse_line(content.decode(), str(path))
        rows[row.id] = row
    return rows


def _ends_with_a_line(path: Path) -> bool:
    """Tell whether a file is empty or ends with a line feed."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) in (b"", b"\n")


def _row_path(folder: Path, process: int) -> Path:
    return folder / (f"{PREDICTIONS_NAME}.partial" + (f"-{process}" if process else ""))


def _format_checked(rows: Iterable[PredictionRow]) -> bytes:
    lines = (row.format_line().removesuffix("\n").encode() for row in rows)
    return b"".join(b"%s %s\n" % (_checksum(line), line) for line in lines)


def _checksum(line: bytes) -> bytes:
    return b"%08x" % crc32(line)
