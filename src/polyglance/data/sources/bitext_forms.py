"""The forms of bitext, each cut into pieces, which are read to raw pairs: `polyglance.data.sources.bitext` cleans them.

A line ends at \\n and nowhere else: other readers also split at U+2028, U+0085, form feed and the like, which the
other side does not have in the same place, and from there on nothing fits.
"""

import bz2
import gzip
import io
import lzma
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from polyglance.data.sources.pieces import Piece, blocks_between, cut, folder_of, stamp
from polyglance.data.sources.tmx import read_tmx
from polyglance.languages import did_you_mean

__all__ = ["RawPair", "find_files", "find_pieces", "form_of", "read_piece"]

_MAX_LINE_BYTES = 2**20
"""A longer line is skipped without being held in memory."""
_BUFFER_BYTES = 2**20
_BATCH_ROWS = 4096
_MAX_PACKED_PIECES = 16
"""Of a compressed file, which has to be unpacked from its beginning for every piece; that takes about a twentieth of
the time of reading its pairs."""
_BOM = b"\xef\xbb\xbf"
_COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
_SUFFIXES = {".tsv": "tsv", ".tab": "tsv", ".txt": "tsv", ".tmx": "tmx", ".zip": "opus", ".parquet": "parquet"}
_DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException)
"""What the decompressors raise on files that are cut short or damaged."""

Columns = tuple[str, str]


class RawPair(NamedTuple):
    """A pair as it was found; `problem` says why there is none."""

    where: str
    english: bytes | str
    other: bytes | str
    problem: str = ""


def form_of(path: Path) -> str:
    """The form that a file's name speaks of; `moses` where it does not."""
    if path.is_dir():
        return "parquet"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1], "moses") if suffixes else "moses"


def _open(path: Path) -> IO[bytes]:
    """A file for reading, decompressed where its name ends in .gz, .bz2, .xz or .zst."""
    match path.suffix.lower():
        case ".gz":
            return cast(IO[bytes], gzip.open(path, "rb"))
        case ".bz2":
            return cast(IO[bytes], bz2.open(path, "rb"))
        case ".xz":
            return cast(IO[bytes], lzma.open(path, "rb"))
        case ".zst":
            return cast(IO[bytes], io.BufferedReader(pa.input_stream(path, compression="zstd"), _BUFFER_BYTES))
        case _:
            return path.open("rb", buffering=_BUFFER_BYTES)


def _checked(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return path


def _damaged(name: object, error: Exception) -> ValueError:
    detail = str(error).partition("\n")[0] or type(error).__name__
    return ValueError(f"{name}: cannot be read to its end, it is damaged or cut short ({detail})")


Side = tuple[str, str, Callable[[], IO[bytes]]]
"""A file of lines: full name, name for places, and what opens it."""


def _side(path: Path) -> Side:
    return str(path), path.name, partial(_open, _checked(path))


def _lines(side: Side, offset: int = 0) -> Iterator[bytes | None]:
    """Lines without their end, from the one that begins at `offset`; None for one that is too long."""
    name, _, opener = side
    at_start = offset == 0
    try:
        with opener() as file:
            _skip(file, offset)
            while line := file.readline(_MAX_LINE_BYTES):
                if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                    while (rest := file.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                        pass
                    yield None
                else:
                    yield (line.removeprefix(_BOM) if at_start else line).removesuffix(b"\n")
                at_start = False
    except _DAMAGE as error:
        raise _damaged(name, error) from None


def _skip(file: IO[bytes], num_bytes: int) -> None:
    if file.seekable():
        file.seek(num_bytes)
        return
    while num_bytes > 0 and (chunk := file.read(min(num_bytes, _BUFFER_BYTES))):
        num_bytes -= len(chunk)


def _line_starts(side: Side, every: int) -> tuple[int, list[int]]:
    """How many lines there are, and where each `every`-th begins, in bytes."""
    name, _, opener = side
    num_lines, num_bytes, starts, last = 0, 0, [0], b"\n"
    try:
        with opener() as file:
            while chunk := file.read(_BUFFER_BYTES):
                found = chunk.count(b"\n")
                if (num_lines + found) // every > num_lines // every:
                    ends = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n"))
                    starts += (num_bytes + 1 + ends[every - num_lines % every - 1 :: every]).tolist()
                num_lines, num_bytes, last = num_lines + found, num_bytes + len(chunk), chunk[-1:]
    except (*_DAMAGE, NotImplementedError) as error:  # the latter: a compression that zipfile does not know
        raise _damaged(name, error) from None
    num_lines += last != b"\n"
    return num_lines, starts[: max(1, -(-num_lines // every))]


def _line_pieces(sides: list[Side], files: tuple[str, ...], num_lines: int, *, is_packed: bool) -> list[Piece]:
    """Pieces of files that belong together line by line, which are read once to find where the pieces begin.

    Unequal counts of lines mean that a line is missing somewhere, mostly in the middle: all pairs after it are wrong,
    and no check of ours would notice. So this is an error and not a drop of the tail.
    """
    counts, starts = zip(*(_line_starts(side, num_lines) for side in sides), strict=True)
    if len(set(counts)) > 1:
        raise ValueError(
            f"{sides[0][0]} has {counts[0]} lines and {sides[1][0]} has {counts[1]}: they must be equal, "
            "from a missing line on all pairs are wrong"
        )
    every = -(-len(starts[0]) // _MAX_PACKED_PIECES) if is_packed else 1
    offsets = list(zip(*starts, strict=True))[::every]
    size = num_lines * every
    return [
        Piece(files=files, first=number * size, count=size, offsets=offset) for number, offset in enumerate(offsets)
    ]


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() in _COMPRESSIONS


def _tsv_pieces(path: Path, columns: Columns, num_pairs: int | None, *, must_name: bool) -> list[Piece]:
    _tsv_columns(path, columns, must_name=must_name)
    if num_pairs is None:
        return [Piece(files=(path.name,))]
    return _line_pieces([_side(path)], (path.name,), num_pairs, is_packed=_is_packed(path))


def _tsv_columns(path: Path, columns: Columns, *, must_name: bool) -> tuple[list[int], bool]:
    """Indices of both columns, and whether the first line is a header."""
    first = next(_lines(_side(path)), None)
    header = [cell.strip().decode("utf-8", "replace") for cell in (first or b"").split(b"\t")]
    numbered = all(column.isdecimal() and int(column) > 0 for column in columns)
    lowered = [cell.lower() for cell in header]
    has_header = not numbered and all(column.lower() in lowered for column in columns)
    if must_name and not numbered and not has_header:
        missing = next(column for column in columns if column.lower() not in lowered)
        raise ValueError(f"{path}: there is no column {missing!r} in its first line; {did_you_mean(missing, header)}")
    if has_header:
        return [lowered.index(column.lower()) for column in columns], True
    return [int(column) - 1 for column in columns] if numbered else [0, 1], False


def _tsv_rows(path: Path, piece: Piece, columns: Columns) -> Iterator[RawPair]:
    (english, other), has_header = _tsv_columns(path, columns, must_name=False)
    lines = islice(_lines(_side(path), *piece.offsets), piece.count)
    for number, line in enumerate(lines, piece.first + 1):
        where = f"{path.name}:{number}"
        if number == 1 and has_header:
            continue
        if line is None:
            yield RawPair(where, b"", b"", "a side that is too long")
            continue
        cells = line.split(b"\t")
        try:
            yield RawPair(where, cells[english], cells[other])
        except IndexError:
            yield RawPair(where, b"", b"", "too few columns" if line.strip() else "an empty line")


def _moses_sides(path: Path, columns: Columns) -> list[Path]:
    return [_moses_side(path, column) for column in columns]


def _moses_side(path: Path, ending: str) -> Path:
    names = [Path(f"{path}.{ending}{compression}") for compression in ("", *_COMPRESSIONS)]
    if (found := next((name for name in names if name.is_file()), None)) is None:
        raise ValueError(
            f"{names[0]}: no such file, nor with {', '.join(_COMPRESSIONS)}; give the name both sides share"
        )
    return found


def _opus_sides(path: Path, columns: Columns) -> list[Side]:
    try:
        archive = zipfile.ZipFile(_checked(path))
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, error) from None
    members = [_opus_member(path, archive, column) for column in columns]
    return [
        (f"{path}: {member}", f"{path.name}:{member}", partial(_open_member, archive, member)) for member in members
    ]


def _opus_member(path: Path, archive: zipfile.ZipFile, ending: str) -> str:
    """The one member whose name ends so. Names are only looked up, never used as paths."""
    found = [info for info in archive.infolist() if info.filename.lower().endswith(f".{ending.lower()}")]
    if len(found) != 1:
        raise ValueError(f"{path}: {len(found)} files inside end in '.{ending}', there should be one")
    if found[0].flag_bits & 1:
        raise ValueError(f"{path}: {found[0].filename} is encrypted")
    return found[0].filename


def _open_member(archive: zipfile.ZipFile, member: str) -> IO[bytes]:
    # A zip member reads a line slowly itself, a buffer over it fast.
    return cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, archive.open(member)), _BUFFER_BYTES))


def _parallel_rows(sides: list[Side], piece: Piece) -> Iterator[RawPair]:
    name = sides[0][1]
    pairs = zip(*(_lines(side, offset) for side, offset in zip(sides, piece.offsets, strict=True)), strict=True)
    for number, (first, second) in enumerate(islice(pairs, piece.count), piece.first + 1):
        if first is None or second is None:
            yield RawPair(f"{name}:{number}", b"", b"", "a side that is too long")
        else:
            yield RawPair(f"{name}:{number}", first, second)


def _tmx_rows(path: Path, columns: Columns) -> Iterator[RawPair]:
    with _open(path) as file:
        try:
            for unit in read_tmx(file, path, columns):
                yield RawPair(f"{path.name}:{unit.line}", unit.english, unit.other, unit.problem)
        except _DAMAGE as error:
            raise _damaged(path, error) from None


def _parquet_files(path: Path) -> list[Path]:
    paths = sorted(path.glob("*.parquet")) if path.is_dir() else [_checked(path)]
    if not paths:
        raise ValueError(f"{path}: the folder has no .parquet file")
    return paths


def _parquet_pieces(path: Path, columns: Columns, num_pairs: int | None) -> list[Piece]:
    _parquet_struct(path, columns)
    cuts = [(0, None)] if num_pairs is None else cut(_group_sizes(pq.read_metadata(path)), num_pairs)
    return [Piece(files=(path.name,), first=first, count=count) for first, count in cuts]


def _group_sizes(about: pq.FileMetaData) -> list[int]:
    return [about.row_group(number).num_rows for number in range(about.num_row_groups)]


def _parquet_struct(path: Path, columns: Columns) -> str | None:
    """The column of structs that holds both sides, or None where they are columns of their own."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    places: list[tuple[str | None, Iterable[pa.Field]]] = [(None, schema)]
    places += [(field.name, field.type) for field in schema if pa.types.is_struct(field.type)]
    for name, fields in places:
        types = {field.name: field.type for field in fields}
        if all(column in types for column in columns):
            for column in columns:
                if not (pa.types.is_string(types[column]) or pa.types.is_large_string(types[column])):
                    raise ValueError(f"{path}: {column!r} holds {types[column]}, not strings")
            return name
    raise ValueError(
        f"{path}: no columns {columns[0]!r} and {columns[1]!r}, nor a column of structs with both; "
        f"the columns are: {', '.join(map(repr, schema.names))}"
    )


def _parquet_rows(path: Path, piece: Piece, columns: Columns) -> Iterator[RawPair]:
    struct, number = _parquet_struct(path, columns), piece.first + 1
    try:
        with pq.ParquetFile(path) as file:
            wanted = columns if struct is None else [f"{struct}.{column}" for column in columns]
            groups = list(blocks_between(_group_sizes(file.metadata), piece.first, piece.count))
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=wanted, use_threads=False):
                for english, other in zip(*_parquet_sides(batch, struct, columns), strict=True):
                    yield RawPair(f"{path.name}: row {number}", english or b"", other or b"")
                    number += 1
    except _DAMAGE as error:
        raise _damaged(path, error) from None


def _parquet_sides(batch: pa.RecordBatch, struct: str | None, columns: Columns) -> list[list[bytes | None]]:
    """Both sides as bytes, since what calls itself a string here need not be UTF-8."""
    arrays = [
        batch.column(column) if struct is None else pc.struct_field(batch.column(struct), column) for column in columns
    ]
    return [array.cast(pa.large_binary()).to_pylist() for array in arrays]


def find_files(form: str, path: Path, columns: Columns) -> list[str]:
    """Names of the files that a bitext is in, below the folder that its pieces' names start from.

    Raises:
        ValueError: there are none.
    """
    match form:
        case "moses":
            return [side.name for side in _moses_sides(path, columns)]
        case "parquet":
            return [file.name for file in _parquet_files(path)]
        case _:
            return [_checked(path).name]


def find_pieces(form: str, path: Path, columns: Columns, *, must_name: bool, num_pairs: int | None) -> list[Piece]:
    """The pieces of a bitext, in order, each with the stamp of its files.

    Args:
        columns: what the English and the other side are called.
        must_name: a TSV has to have a header with these names, unless they are numbers.
        num_pairs: pairs of a piece, as near as the form allows (a TMX is one piece); each file whole if None.

    Raises:
        ValueError: no such file, a form that does not fit, missing columns, unequal numbers of lines, or damage.
    """
    folder = folder_of(path)
    files = find_files(form, path, columns)
    match form:
        case "tsv":
            pieces = _tsv_pieces(path, columns, num_pairs, must_name=must_name)
        case "moses":
            sides = [folder / name for name in files]
            is_packed = any(_is_packed(side) for side in sides)
            pieces = _line_pieces(list(map(_side, sides)), tuple(files), num_pairs or sys.maxsize, is_packed=is_packed)
        case "opus":
            sizes = num_pairs or sys.maxsize
            pieces = _line_pieces(_opus_sides(path, columns), tuple(files), sizes, is_packed=True)
        case "parquet":
            pieces = [piece for name in files for piece in _parquet_pieces(folder / name, columns, num_pairs)]
        case _:
            assert form == "tmx", form
            pieces = [Piece(files=tuple(files))]
    return [replace(piece, stamp=stamp(folder, piece.files)) for piece in pieces]


def read_piece(form: str, path: Path, columns: Columns, piece: Piece) -> Iterator[RawPair]:
    """The pairs of a piece, good and bad, in order."""
    files = [folder_of(path) / name for name in piece.files]
    match form:
        case "tsv":
            return _tsv_rows(files[0], piece, columns)
        case "moses":
            return _parallel_rows(list(map(_side, files)), piece)
        case "opus":
            return _parallel_rows(_opus_sides(path, columns), piece)
        case "parquet":
            return _parquet_rows(files[0], piece, columns)
        case _:
            assert form == "tmx", form
            return _tmx_rows(files[0], columns)
