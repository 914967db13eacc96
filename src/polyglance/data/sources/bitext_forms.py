"""The forms of bitext, each brought to raw pairs: `polyglance.data.sources.bitext` cleans them.

A line ends at \\n and nowhere else: other readers also split at U+2028, U+0085, form feed and the like, which the
other side does not have in the same place, and from there on nothing fits.
"""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from polyglance.data.sources.tmx import read_tmx
from polyglance.languages import did_you_mean

__all__ = ["RawPair", "form_of", "read_pairs"]

_MAX_LINE_BYTES = 2**20
"""A longer line is skipped without being held in memory."""
_BUFFER_BYTES = 2**20
_BATCH_ROWS = 4096
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


def _lines(file: IO[bytes], name: str) -> Iterator[bytes | None]:
    """Lines without their end; None for one that is too long."""
    first = True
    try:
        while line := file.readline(_MAX_LINE_BYTES):
            if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                yield None
            else:
                yield (line.removeprefix(_BOM) if first else line).removesuffix(b"\n")
            first = False
    except _DAMAGE as error:
        raise _damaged(name, error) from None


def _read_tsv(path: Path, columns: Columns, *, must_name: bool) -> Iterator[RawPair]:
    with _open(_checked(path)) as file:
        first = next(_lines(file, str(path)), None)
    header = [cell.strip().decode("utf-8", "replace") for cell in (first or b"").split(b"\t")]
    numbered = all(column.isdecimal() and int(column) > 0 for column in columns)
    lowered = [cell.lower() for cell in header]
    has_header = not numbered and all(column.lower() in lowered for column in columns)
    if must_name and not numbered and not has_header:
        missing = next(column for column in columns if column.lower() not in lowered)
        raise ValueError(f"{path}: there is no column {missing!r} in its first line; {did_you_mean(missing, header)}")
    if has_header:
        indices = [lowered.index(column.lower()) for column in columns]
    else:
        indices = [int(column) - 1 for column in columns] if numbered else [0, 1]
    return _tsv_rows(path, indices, has_header=has_header)


def _tsv_rows(path: Path, indices: list[int], *, has_header: bool) -> Iterator[RawPair]:
    english, other = indices
    with _open(path) as file:
        for number, line in enumerate(_lines(file, str(path)), 1):
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


def _read_moses(path: Path, columns: Columns) -> Iterator[RawPair]:
    sides = [_moses_side(path, column) for column in columns]
    return _read_parallel([(str(side), side.name, partial(_open, side)) for side in sides])


def _moses_side(path: Path, ending: str) -> Path:
    names = [Path(f"{path}.{ending}{compression}") for compression in ("", *_COMPRESSIONS)]
    if (found := next((name for name in names if name.is_file()), None)) is None:
        raise ValueError(
            f"{names[0]}: no such file, nor with {', '.join(_COMPRESSIONS)}; give the name both sides share"
        )
    return found


def _read_opus(path: Path, columns: Columns) -> Iterator[RawPair]:
    try:
        archive = zipfile.ZipFile(_checked(path))
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, error) from None
    members = [_opus_member(path, archive, column) for column in columns]
    return _read_parallel(
        [(f"{path}: {member}", f"{path.name}:{member}", partial(_open_member, archive, member)) for member in members]
    )


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


Side = tuple[str, str, Callable[[], IO[bytes]]]
"""Full name, name for places, and what opens it."""


def _read_parallel(sides: list[Side]) -> Iterator[RawPair]:
    """Pairs of two line files, counted before the first is handed out.

    Unequal counts mean that a line is missing somewhere, mostly in the middle: all pairs after it are wrong, and no
    check of ours would notice. So this is an error and not a drop of the tail.
    """
    counts = [_num_lines(full, opener) for full, _, opener in sides]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{sides[0][0]} has {counts[0]} lines and {sides[1][0]} has {counts[1]}: they must be equal, "
            "from a missing line on all pairs are wrong"
        )
    return _parallel_rows(sides)


def _num_lines(name: str, opener: Callable[[], IO[bytes]]) -> int:
    count, last = 0, b"\n"
    try:
        with opener() as file:
            while chunk := file.read(_BUFFER_BYTES):
                count += chunk.count(b"\n")
                last = chunk[-1:]
    except (*_DAMAGE, NotImplementedError) as error:  # the latter: a compression that zipfile does not know
        raise _damaged(name, error) from None
    return count + (last != b"\n")


def _parallel_rows(sides: list[Side]) -> Iterator[RawPair]:
    with ExitStack() as stack:
        english, other = (_lines(stack.enter_context(opener()), full) for full, _, opener in sides)
        name = sides[0][1]
        for number, (first, second) in enumerate(zip(english, other, strict=True), 1):
            if first is None or second is None:
                yield RawPair(f"{name}:{number}", b"", b"", "a side that is too long")
            else:
                yield RawPair(f"{name}:{number}", first, second)


def _read_tmx(path: Path, columns: Columns) -> Iterator[RawPair]:
    return _tmx_rows(_checked(path), columns)


def _tmx_rows(path: Path, columns: Columns) -> Iterator[RawPair]:
    with _open(path) as file:
        try:
            for unit in read_tmx(file, path, columns):
                yield RawPair(f"{path.name}:{unit.line}", unit.english, unit.other, unit.problem)
        except _DAMAGE as error:
            raise _damaged(path, error) from None


def _read_parquet(path: Path, columns: Columns) -> Iterator[RawPair]:
    paths = sorted(path.glob("*.parquet")) if path.is_dir() else [_checked(path)]
    if not paths:
        raise ValueError(f"{path}: the folder has no .parquet file")
    return _parquet_rows({part: _parquet_struct(part, columns) for part in paths}, columns)


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


def _parquet_rows(structs: Mapping[Path, str | None], columns: Columns) -> Iterator[RawPair]:
    for path, struct in structs.items():
        number = 1
        try:
            with pq.ParquetFile(path) as file:
                wanted = columns if struct is None else [f"{struct}.{column}" for column in columns]
                for batch in file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
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


_READERS: Mapping[str, Callable[[Path, Columns], Iterator[RawPair]]] = {
    "moses": _read_moses,
    "tmx": _read_tmx,
    "opus": _read_opus,
    "parquet": _read_parquet,
}


def read_pairs(form: str, path: Path, columns: Columns | None, default_columns: Columns) -> Iterator[RawPair]:
    """The pairs of a file, good and bad, in order.

    Args:
        columns: what the English and the other side are called, where the user said so.
        default_columns: what they are called otherwise; a TSV may then be without a header.
    """
    if form == "tsv":
        return _read_tsv(path, columns or default_columns, must_name=columns is not None)
    return _READERS[form](path, columns or default_columns)
