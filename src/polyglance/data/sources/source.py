"""Sources of data on disk: read in pieces, with stamps that show when their files change.

A source is a table of a recipe: `[[images]]`, `[[captioned]]` or `[[bitext]]`. Its files have one of several forms. To
add a form, write a subclass of `ImageForm` or `BitextForm` that finds the pieces of its files and reads one of them,
and enter it in the dictionary of forms beside these classes.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.records import Drops

__all__ = [
    "FormSource",
    "Piece",
    "Source",
    "SourceForm",
    "blocks_of_piece",
    "cut_blocks",
    "list_files",
    "read_parquet_batches",
    "row_group_sizes",
    "stamp_files",
]

_Record = TypeVar("_Record", covariant=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """The records of a source that are read together: whole files, or some of the records of one."""

    files: tuple[str, ...]
    """Names below the source's folder."""
    first: int = 0
    """Records (rows, lines, images) before the piece."""
    count: int | None = None
    """Records of the piece; None: all that follow."""
    texts: tuple[str, ...] = ()
    """Names of files of texts in a language that their name says (`a.de.txt`), beside images."""
    offsets: tuple[int, ...] = ()
    """For files of lines: start of the piece in each of them, in bytes of (decompressed) text."""
    stamp: str = ""
    """Stamp of the files that the piece is read from (`stamp_files`)."""


class Source(Protocol[_Record]):
    """Data on disk that is cut into pieces, each of which can be read on its own."""

    def compute_stamp(self) -> str:
        """Return the stamp of all files of the source.

        Raises:
            ValueError: no such file or folder.
        """
        ...

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:
        """Cut the source into pieces, in order.

        Args:
            num_records: records per piece, as near as the form allows.
            drops: gets files that are in no piece.

        Raises:
            ValueError: no such file or folder, or nothing of the expected form in it.
        """
        ...

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[_Record]:
        """Yield the usable records of a piece, in order; all others go to `drops`.

        Raises:
            ValueError: a file that cannot be read.
        """
        ...


class SourceForm(ABC, Generic[_Record]):
    """Files of one form, such as TSV or WebDataset.

    Args:
        path: the source's file or folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path if path.is_dir() else path.parent
        """Folder that the names in pieces start from."""

    def list_files(self) -> list[str]:
        """Return the names of the source's files below `root`.

        Raises:
            ValueError: there are none.
        """
        return list_files(self.path) if self.path.is_dir() else [self.path.name]

    @abstractmethod
    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:
        """Cut the files into pieces (`Source.find_pieces`)."""

    @abstractmethod
    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[_Record]:
        """Yield the records of a piece, not yet checked, in order."""

    def make_piece(
        self,
        files: Sequence[str],
        *,
        beside: Sequence[str] = (),
        texts: Sequence[str] = (),
        first: int = 0,
        count: int | None = None,
        offsets: Sequence[int] = (),
    ) -> Piece:
        """Make a piece with the stamp of its files and of those that are read beside them."""
        stamp = stamp_files(self.root, [*files, *beside, *texts])
        return Piece(
            files=tuple(files), texts=tuple(texts), first=first, count=count, offsets=tuple(offsets), stamp=stamp
        )


class FormSource(ABC):
    """A source whose files have a form: finds its pieces, which subclasses read."""

    @abstractmethod
    def open_form(self) -> SourceForm[Any]:
        """Return the form with the source's files.

        Raises:
            ValueError: no such file or folder.
        """

    def compute_stamp(self) -> str:
        """Compute the stamp of all files (`Source.compute_stamp`)."""
        form = self.open_form()
        return stamp_files(form.root, form.list_files())

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:
        """Cut the source into pieces (`Source.find_pieces`)."""
        return self.open_form().find_pieces(num_records, drops)


def list_files(folder: Path) -> list[str]:
    """List the names of all files in a folder and its subfolders, with `/` between them, in order.

    Links to folders are not followed. (`os.walk` learns from the listing which entries are folders; `Path.rglob` asks
    the file system about each of 10^6 files.)
    """
    names = []
    for place, _, files in os.walk(folder):
        below = os.path.relpath(place, folder)
        names += files if below == "." else [f"{below}/{name}" for name in files]
    return sorted(names, key=lambda name: name.split("/"))


def stamp_files(folder: Path, names: Iterable[str]) -> str:
    """Return 16 hexadecimal digits of the files' names, sizes and times of change.

    They change when a file is written, added or removed. No file is read, so a folder of 10^6 images takes seconds,
    also on a network file system. A sample of the bytes would miss a change between the samples that keeps the size. A
    new time without a new content (a copy without `-p`) only causes the files to be read again: later work is done
    again only if the records that were read differ.
    """
    total = hashlib.sha256()
    for name in names:
        try:
            stat = os.stat(f"{folder}/{name}")  # noqa: PTH116 - a Path for each of 10^6 files takes longer than this
            about = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:  # the reader reports what is wrong with it
            about = "unreadable"
        total.update(f"{about} {name}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:16]


def cut_blocks(sizes: Iterable[int], num_wanted: int) -> list[tuple[int, int | None]]:
    """Join blocks of records into pieces of `num_wanted` records or a few more: first record and count of each piece.

    The last piece goes on to the end, whatever the sizes say.
    """
    starts, first, end = [0], 0, 0
    for size in sizes:
        if end - first >= num_wanted:
            first = end
            starts.append(first)
        end += size
    return [(start, stop - start) for start, stop in pairwise(starts)] + [(starts[-1], None)]


def blocks_of_piece(sizes: Sequence[int], piece: Piece) -> Iterator[int]:
    """Yield the numbers of the blocks that begin in a piece made by `cut_blocks`."""
    end = float("inf") if piece.count is None else piece.first + piece.count
    for number, (start, _) in enumerate(zip(accumulate(sizes, initial=0), sizes, strict=False)):
        if piece.first <= start < end:
            yield number


def row_group_sizes(metadata: pq.FileMetaData) -> list[int]:
    """Return the number of rows of each row group of a Parquet file."""
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def read_parquet_batches(
    path: Path, columns: Sequence[str], piece: Piece, *, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a piece of a Parquet file, cut between row groups.

    Raises:
        pa.ArrowException, OSError: a damaged file.
    """
    with pq.ParquetFile(path) as file:
        groups = list(blocks_of_piece(row_group_sizes(file.metadata), piece))
        yield from file.iter_batches(batch_rows, row_groups=groups, columns=list(columns), use_threads=False)
