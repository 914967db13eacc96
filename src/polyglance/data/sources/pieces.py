"""A source cut into pieces, each the work of one task, and the stamps that tell when its files have changed."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

__all__ = ["Piece", "blocks_between", "cut", "folder_of", "stamp", "walk"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What one task reads of a source: whole files, or some of the records of one."""

    files: tuple[str, ...]
    """Names below the source's folder."""
    first: int = 0
    """Records (rows, lines, images) that lie before it."""
    count: int | None = None
    """Its records; None for all that follow."""
    offsets: tuple[int, ...] = ()
    """For files of lines: where it begins in each of them, in bytes of text."""
    stamp: str = ""
    """Of the files that it is read from."""


def folder_of(path: Path) -> Path:
    """The folder that the names in a source's pieces start from."""
    return path if path.is_dir() else path.parent


def walk(folder: Path) -> list[str]:
    """Names of all files in a folder and its subfolders, `/` between them, in order. Links to folders are passed over.

    (`os.walk` knows from the listing what is a folder; `Path.rglob` asks the file system about each of 10^6 files.)
    """
    names = []
    for place, _, files in os.walk(folder):
        below = os.path.relpath(place, folder)
        names += files if below == "." else [f"{below}/{name}" for name in files]
    return sorted(names, key=lambda name: name.split("/"))


def stamp(folder: Path, names: Iterable[str]) -> str:
    """16 hexadecimal digits that change when a file is written, added or removed: of names, sizes and times of change.

    Nothing is read, so that a folder of 10^6 images takes seconds, on a network's file system too. A sample of the
    bytes would let through a change between the samples that leaves the size as it was. The time of change tells of
    changes that are none (after copying without `-p`): those cost only that the files are read again, as whatever is
    made of them is made again only where what was read differs.
    """
    total = hashlib.sha256()
    for name in names:
        try:
            found = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a Path for each of 10^6 files takes longer than this
            about = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:  # whoever reads it says what is wrong with it
            about = "unreadable"
        total.update(f"{about} {name}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:16]


def cut(sizes: Iterable[int], num_wanted: int) -> list[tuple[int, int | None]]:
    """Blocks of records joined into pieces of `num_wanted` or little more: number of the first record, and how many.

    The last goes on to the end, whatever the sizes say.
    """
    starts, first, end = [0], 0, 0
    for size in sizes:
        if end - first >= num_wanted:
            first = end
            starts.append(first)
        end += size
    return [(start, stop - start) for start, stop in pairwise(starts)] + [(starts[-1], None)]


def blocks_between(sizes: Sequence[int], first: int, count: int | None) -> Iterator[int]:
    """Numbers of the blocks that begin in a piece by `cut`."""
    end = float("inf") if count is None else first + count
    for number, (start, _) in enumerate(zip(accumulate(sizes, initial=0), sizes, strict=False)):
        if first <= start < end:
            yield number
