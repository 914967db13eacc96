"""Rows of predictions while they are being made: files that grow batch by batch and survive a kill.

Each process of a run has a file `predictions.jsonl.partial*` of its own and a lock on it. A batch counts when all of
its rows are there; the rest of what a killed run left is dropped and made again, so that a row is always made in the
company of the same other rows.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyglance.files import lock, replacing, write_atomically

__all__ = ["PREDICTIONS", "Part", "keep_whole_batches", "merge", "num_lines", "read_rows"]

PREDICTIONS = "predictions.jsonl"
Row = Mapping[str, Any]


class Part:
    """The file that one process appends to, locked for as long as it is open."""

    def __init__(self, folder: Path, process: int) -> None:
        self._file = _path(folder, process).open("ab")
        lock(self._file)

    def append(self, rows: Sequence[Row]) -> None:
        """Write a batch; when this returns, it is on the disk."""
        self._file.write(_lines(rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def keep_whole_batches(folder: Path, batches: Sequence[Sequence[str]]) -> set[int]:
    """Put the rows of whole batches into one part file; drop the other rows and files.

    Waits for processes that a killed run left behind: they end after the batch they are at.

    Args:
        batches: the ids of each batch.

    Returns:
        Numbers of the batches that are done.
    """
    paths = sorted(folder.glob(f"{PREDICTIONS}*"))
    rows: dict[str, Row] = {}
    for path in paths:
        with path.open("rb") as file:
            lock(file)
            rows |= read_rows(path)
    done = {number for number, ids in enumerate(batches) if all(name in rows for name in ids)}
    write_atomically(_path(folder, 0), _lines([rows[name] for number in sorted(done) for name in batches[number]]))
    for path in paths:
        if path != _path(folder, 0):
            path.unlink(missing_ok=True)
    return done


def merge(folder: Path, ids: Sequence[str]) -> list[Row]:
    """Join the parts in the order of the ids, under the final name; returns the rows."""
    parts = sorted(folder.glob(f"{PREDICTIONS}.partial*"))
    rows: dict[str, Row] = {}
    for part in parts:
        rows |= read_rows(part)
    ordered = [rows[name] for name in ids]
    # A name of its own: the usual one is the first process's part.
    with replacing(folder / PREDICTIONS, several_writers=True) as partial, partial.open("wb") as file:
        file.write(_lines(ordered))
        file.flush()
        os.fsync(file.fileno())
    for part in parts:
        part.unlink()
    return ordered


def read_rows(path: Path) -> dict[str, Row]:
    """Id -> row. Half-written lines are left out."""
    rows: dict[str, Row] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            rows[row["id"]] = row
        except (ValueError, TypeError, KeyError):
            continue
    return rows


def num_lines(folder: Path) -> int:
    """Rows in the part files, for showing how far it is."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob(f"{PREDICTIONS}.partial*"))


def _path(folder: Path, process: int) -> Path:
    return folder / (f"{PREDICTIONS}.partial" + (f"-{process}" if process else ""))


def _lines(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
