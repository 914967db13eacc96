"""Rows while they are being made: files that grow batch by batch and survive a kill.

Each process of a run has a file `NAME.partial*` of its own and a lock on it; in the end they are joined into the file
`NAME`. A batch counts when all of its rows are there. Rows of an incomplete batch are dropped and made again, so that a
row is always computed in the same batch. Each row has a checksum in front of it; a row whose checksum differs counts as
missing. A row is JSON with an `id`.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from polyglance.checksums import crc32
from polyglance.files import lock, parse_json, read_digests, read_text, replacing, seal_files, write_atomically

__all__ = [
    "Row",
    "RowFile",
    "count_rows",
    "find_done_batches",
    "has_joined_rows",
    "has_row_file",
    "join_row_files",
    "keep_whole_batches",
    "read_joined_lines",
]


@runtime_checkable
class Row(Protocol):
    """Row that a `RowFile` can hold."""

    def format_line(self) -> str:
        """Return the row as a line of JSON, an object with an `id`."""
        ...


class RowFile:
    """The file that one process appends to, locked for as long as it is open."""

    def __init__(self, folder: Path, process: int, name: str) -> None:
        path = _row_path(folder, process, name)
        self._file = path.open("ab")
        lock(self._file)
        if not _ends_with_a_line(path):  # a killed process has left a half, which the next row is not to join
            self._file.write(b"\n")

    def append(self, rows: Sequence[Row]) -> None:
        """Write a batch; when this returns, it is on the disk."""
        self._file.write(_format_checked(row.format_line() for row in rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def keep_whole_batches(folder: Path, batches: Sequence[Sequence[str]], name: str) -> set[int]:
    """Put the rows of whole batches into one file; drop the other rows and files.

    Waits for processes of a killed run that have not ended yet.

    Args:
        batches: the ids of each batch.
        name: name of the file that the rows are joined into.

    Returns:
        Numbers of the batches that are done.
    """
    paths = sorted(folder.glob(f"{name}*"))
    lines = _read_finished(folder, name)
    for path in paths:
        with path.open("rb") as file:
            lock(file)
            lines |= _read_lines(path)
    done = {number for number, ids in enumerate(batches) if all(one in lines for one in ids)}
    kept = [lines[one] for number in sorted(done) for one in batches[number]]
    write_atomically(_row_path(folder, 0, name), _format_checked(kept))
    for path in paths:
        if path != _row_path(folder, 0, name):
            path.unlink(missing_ok=True)
    return done


def find_done_batches(folder: Path, batches: Sequence[Sequence[str]], name: str) -> set[int]:
    """Return the numbers of the batches whose rows are all there, while others may add rows. Nothing is changed."""
    lines = _read_finished(folder, name)
    for path in folder.glob(f"{name}.partial*"):
        lines |= _read_lines(path)
    return {number for number, ids in enumerate(batches) if all(one in lines for one in ids)}


def join_row_files(folder: Path, ids: Sequence[str], name: str) -> None:
    """Join the files in the order of the ids, under the final name."""
    paths = sorted(folder.glob(f"{name}.partial*"))
    lines: dict[str, str] = {}
    for path in paths:
        lines |= _read_lines(path)
    # A name of its own: the usual partial name is the first process's file.
    with replacing(folder / name, several_writers=True) as partial, partial.open("wb") as file:
        file.write("".join(lines[one] for one in ids).encode())
    seal_files(folder, [name])
    for path in paths:
        path.unlink()


def has_joined_rows(folder: Path, name: str) -> bool:
    """Tell whether the rows are joined and undamaged."""
    return bool(_read_finished(folder, name))


def read_joined_lines(folder: Path, name: str) -> list[str]:
    """Read the lines of joined rows, without their line feeds.

    Raises:
        ValueError: missing or damaged.
    """
    return read_text(folder / name).removesuffix("\n").split("\n")


def has_row_file(folder: Path, name: str) -> bool:
    """Tell whether the first process's file is there, as it is after `keep_whole_batches`."""
    return _row_path(folder, 0, name).is_file()


def count_rows(folder: Path, name: str) -> int:
    """Count the rows that are done, for showing progress."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob(f"{name}.partial*"))


def _read_finished(folder: Path, name: str) -> dict[str, str]:
    """Read id -> line of rows that are joined; empty if there are none, or damaged ones."""
    if name not in read_digests(folder):
        return {}
    try:
        return {_read_id(line, name): f"{line}\n" for line in read_joined_lines(folder, name)}
    except ValueError:
        return {}


def _read_lines(path: Path) -> dict[str, str]:
    """Read id -> line. Lines that a kill left half-written, or whose checksum differs, are left out."""
    lines: dict[str, str] = {}
    for line in path.read_bytes().split(b"\n"):
        checksum, _, content = line.partition(b" ")
        if checksum == _checksum(content):
            text = content.decode()
            lines[_read_id(text, str(path))] = f"{text}\n"
    return lines


def _read_id(line: str, where: str) -> str:
    values = parse_json(line, where)
    if not isinstance(values, dict) or not isinstance(values.get("id"), str):
        raise ValueError(f"{where}: expected an object with an id")
    return values["id"]


def _ends_with_a_line(path: Path) -> bool:
    """Tell whether a file is empty or ends with a line feed."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) in (b"", b"\n")


def _row_path(folder: Path, process: int, name: str) -> Path:
    return folder / (f"{name}.partial" + (f"-{process}" if process else ""))


def _format_checked(lines: Iterable[str]) -> bytes:
    contents = (line.removesuffix("\n").encode() for line in lines)
    return b"".join(b"%s %s\n" % (_checksum(content), content) for content in contents)


def _checksum(line: bytes) -> bytes:
    return b"%08x" % crc32(line)
