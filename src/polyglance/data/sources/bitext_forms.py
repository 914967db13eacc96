"""Forms of bitext: how each is cut into pieces, and how a piece is read to `RawPair`; `bitext.py` cleans the pairs.

A line ends at \\n and nowhere else (at \\r in files of old Macs). Other readers also split at U+2028, U+0085, form feed
and so on, which the other side does not have in the same place; from there on the sides would not fit. Compression and
encoding are found from `polyglance.encodings`, the quotes of a TSV by `polyglance.delimited`, as for all tables.
"""

import codecs
import glob
import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import IO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from polyglance.data.columns import find_content
from polyglance.data.sources.source import Piece, SourceForm, cut_blocks, read_parquet_batches, row_group_sizes
from polyglance.data.sources.tmx import read_tmx
from polyglance.delimited import Quoting, find_quoting, split_line
from polyglance.encodings import (
    COMPRESSED_SUFFIXES,
    DAMAGE,
    detect_encoding,
    detect_text_format,
    open_unpacked,
    open_utf8,
    transcode,
)
from polyglance.language_identity import are_surely_english, find_other_language
from polyglance.language_tags import choose_tag, parse_language_tag
from polyglance.languages import SOURCE_LANGUAGE, did_you_mean
from polyglance.records import Drops
from polyglance.scripts import is_in_another_script
from polyglance.tables import find_failed_download

__all__ = ["BITEXT_FORMS", "BitextForm", "RawPair", "detect_bitext_form"]

_MAX_LINE_BYTES = 2**20
"""A longer line is skipped without being held in memory."""
_BUFFER_BYTES = 2**20
_HEAD_BYTES = 2**16
_BATCH_ROWS = 4096
_MAX_PACKED_PIECES = 16
"""Pieces of a compressed file. Every piece decompresses the file from its beginning, which takes about a twentieth of
the time of reading its pairs."""
_SUFFIXES = {".tsv": "tsv", ".tab": "tsv", ".txt": "tsv", ".tmx": "tmx", ".zip": "opus", ".parquet": "parquet"}
_TO_TMX = "convert it to TMX, for example with xliff2tmx or po2tmx of the translate toolkit"
_TO_TSV = "write its two columns to a .tsv, or to Parquet"
_OTHER_KINDS = {
    **dict.fromkeys((".xliff", ".xlf", ".sdlxliff", ".po", ".pot", ".tbx"), _TO_TMX),
    **dict.fromkeys((".csv", ".json", ".jsonl", ".ndjson", ".xlsx", ".xls", ".ods"), _TO_TSV),
    **dict.fromkeys((".tar", ".tgz", ".7z", ".rar"), "unpack it"),
}
"""Extension of files that people have -> what makes bitext of them."""
_QUOTED_LINES = 20_000
"""Lines of a TSV by which its quotes are told."""
_SAMPLE_LINES = 1000
"""Lines of a TSV by which its columns are told."""
_HEADER_NAMES = (
    "source target src tgt trg english foreign sentence sentence1 sentence2 text text1 text2 translation score margin "
    "laser_score laser url url1 url2 src_url tgt_url id lang src_lang tgt_lang original reference"
)
"""Names in the first line of a TSV that say nothing of languages."""
_DAMAGE = (*DAMAGE, zipfile.BadZipFile, NotImplementedError)
"""Errors of decompressors and pyarrow on files that are cut short or damaged; the last is a compression that `zipfile`
does not know."""


class RawPair(NamedTuple):
    """A pair as it is in the file, not yet checked."""

    where: str
    english: bytes | str
    other: bytes | str
    problem: str = ""
    """Reason why the pair could not be read; then both sides are empty."""


class BitextForm(SourceForm[RawPair], ABC):
    """Sentence pairs in one form.

    Args:
        path: the file, folder or common name of two files.
        columns: names of the English and the other side in the file.
        must_name: a TSV must have a header with these names, unless they are numbers.
        encoding: codec of files of text; `auto`: found from their first bytes.
        quoting: quotes of a TSV; `auto`: found from its lines.
    """

    def __init__(
        self,
        path: Path,
        columns: tuple[str, str],
        *,
        must_name: bool,
        encoding: str = "auto",
        quoting: Quoting = "auto",
    ) -> None:
        super().__init__(path)
        self.columns, self.must_name = columns, must_name
        self.encoding, self.quoting = encoding, quoting

    def list_files(self) -> list[str]:
        return [_check_file(self.path).name]


@dataclass(frozen=True)
class _LineFile:
    """A file of lines, perhaps inside an archive."""

    name: str
    """Full name, for error messages."""
    place: str
    """Short name, for places of pairs."""
    open: Callable[[], IO[bytes]]
    is_seekable: bool = False
    """Whether a line is reached by its offset, without reading the lines before it."""

    def read_lines(self, offset: int = 0) -> Iterator[bytes | None]:
        """Yield the lines without their end, from the one that begins at `offset`; None for one that is too long."""
        try:
            with self.open() as file:
                _skip_bytes(file, offset)
                while line := file.readline(_MAX_LINE_BYTES):
                    if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
                        while (rest := file.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                            pass
                        yield None
                    else:
                        yield line.removesuffix(b"\n")
        except _DAMAGE as error:
            raise _damaged(self.name, error) from None

    def has_quotes(self) -> bool:
        """Tell whether there is a quotation mark in the first lines, `_QUOTED_LINES` of them or a few more."""
        num_lines = 0
        try:
            with self.open() as file:
                while num_lines < _QUOTED_LINES and (chunk := file.read(_BUFFER_BYTES)):
                    if b'"' in chunk:
                        return True
                    num_lines += chunk.count(b"\n")
        except _DAMAGE as error:
            raise _damaged(self.name, error) from None
        return False

    def find_line_starts(self, every: int) -> tuple[int, list[int]]:
        """Count the lines, and find the byte at which each `every`-th line begins."""
        num_lines, num_bytes, starts, last = 0, 0, [0], b"\n"
        try:
            with self.open() as file:
                while chunk := file.read(_BUFFER_BYTES):
                    num_ends = chunk.count(b"\n")
                    if (num_lines + num_ends) // every > num_lines // every:
                        ends = np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n"))
                        starts += (num_bytes + 1 + ends[every - num_lines % every - 1 :: every]).tolist()
                    num_lines, num_bytes, last = num_lines + num_ends, num_bytes + len(chunk), chunk[-1:]
        except _DAMAGE as error:
            raise _damaged(self.name, error) from None
        num_lines += last != b"\n"
        return num_lines, starts[: max(1, -(-num_lines // every))]


class _LinesForm(BitextForm, ABC):
    """Files of lines that belong together line by line."""

    @abstractmethod
    def line_files(self) -> list[_LineFile]:
        """Find the files of lines."""

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:  # noqa: ARG002 - every line is in a piece
        """Read the files once to find the beginnings of the pieces.

        Unequal counts of lines mean that a line is missing somewhere, mostly in the middle: all pairs after it are
        wrong, and no later check would notice. So this is an error, and the tail is not just dropped.
        """
        files = self.line_files()
        is_packed = not all(file.is_seekable for file in files)
        counts, starts = zip(*(file.find_line_starts(num_records) for file in files), strict=True)
        if len(set(counts)) > 1:
            raise ValueError(
                f"{files[0].name} has {counts[0]} lines and {files[1].name} has {counts[1]}; expected equal numbers: "
                "a missing line makes all pairs after it wrong"
            )
        every = -(-len(starts[0]) // _MAX_PACKED_PIECES) if is_packed else 1
        names, size = self.list_files(), num_records * every
        return [
            self.make_piece(names, first=number * size, count=size, offsets=offsets)
            for number, offsets in enumerate(list(zip(*starts, strict=True))[::every])
        ]

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[RawPair]:  # noqa: ARG002
        files = self.line_files()
        place = files[0].place
        sides = (file.read_lines(offset) for file, offset in zip(files, piece.offsets, strict=True))
        for number, (english, other) in enumerate(islice(zip(*sides, strict=True), piece.count), piece.first + 1):
            if english is None or other is None:
                yield RawPair(f"{place}:{number}", b"", b"", "a side that is too long")
            else:
                yield RawPair(f"{place}:{number}", english, other)


class _TsvForm(_LinesForm):
    """One line per pair, columns separated by tabs."""

    def line_files(self) -> list[_LineFile]:
        return [_line_file(self.path, self.encoding)]

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:
        self._find_layout()
        return super().find_pieces(num_records, drops)

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[RawPair]:  # noqa: ARG002
        (file,) = self.line_files()
        is_quoted, english, other, has_header = self._find_layout()
        lines = islice(file.read_lines(*piece.offsets), piece.count)
        first = enumerate(file.read_lines(), 1) if has_header else ()
        header_number, header = next(((n, line) for n, line in first if line and line.strip()), (0, None))
        name = self.path.name
        for number, line in enumerate(lines, piece.first + 1):
            where = f"{name}:{number}"
            if number == header_number:
                continue
            if line is None:
                yield RawPair(where, b"", b"", "a side that is too long")
                continue
            if line.removeprefix(codecs.BOM_UTF8) == header:  # of files that were joined
                yield RawPair(where, b"", b"", "the header, repeated")
                continue
            if is_quoted and b'"' in line:
                cells = _split_quoted(line)
                if not cells:
                    yield RawPair(where, b"", b"", "a quoted cell that is not closed in its line")
                    continue
            else:
                cells = line.split(b"\t")
            try:
                yield RawPair(where, cells[english], cells[other])
            except IndexError:
                yield RawPair(where, b"", b"", "too few columns" if line.strip() else "an empty line")

    def _find_layout(self) -> tuple[bool, int, int, bool]:
        """Find quotes and columns: whether quoted, index of English and of the other, whether there is a header."""
        stat = self.path.stat()
        settings = (self.must_name, self.encoding, self.quoting)
        return _find_layout_once(self.path, self.columns, *settings, (stat.st_size, stat.st_mtime_ns))

    def look_into(self) -> tuple[bool, int, int, bool]:
        """Find the layout as `_find_layout` does, but always from the file itself."""
        (file,) = self.line_files()
        is_quoted = self._find_quotes(file)
        return is_quoted, *self._find_columns(file, is_quoted)

    def _find_quotes(self, file: _LineFile) -> bool:
        """Tell whether the cells of the file are quoted as in a CSV."""
        if self.quoting != "auto":
            return self.quoting == "csv"
        if not file.has_quotes():
            return False
        try:
            return find_quoting(
                lambda: ((line or b"").decode("utf-8", "replace") for line in islice(file.read_lines(), _QUOTED_LINES))
            )[0]
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def _find_columns(self, file: _LineFile, is_quoted: bool) -> tuple[int, int, bool]:
        """Find the indices of the English and the other column, and whether the first line is a header."""
        lines = (line for line in islice(file.read_lines(), _SAMPLE_LINES) if line and line.strip())
        rows = [_split_sample(line, is_quoted) for line in lines]
        if rows and rows[0] and (found := find_failed_download(rows[0][0])):
            raise ValueError(f"{self.path}: {found}, not bitext")
        header = [cell.strip() for cell in rows[0]] if rows else []
        if all(column.isdecimal() and int(column) > 0 for column in self.columns):
            return int(self.columns[0]) - 1, int(self.columns[1]) - 1, False
        chosen = [choose_tag(column, header) for column in self.columns]
        names = [name for name in chosen if name is not None]
        places = [header.index(name) for name in names]
        if len(names) == len(chosen) and (self.must_name or not any(_is_repeated(rows, place) for place in places)):
            return places[0], places[1], True
        others = [tag for tag in map(parse_language_tag, header) if tag is not None and tag.code]
        if self.must_name or (len(set(names)) == 1 and len(others) == len(header) > 1 and not _is_repeated(rows, 0)):
            missing = next(column for column, name in zip(self.columns, chosen, strict=True) if name is None)
            hint = did_you_mean(missing, header)
            raise ValueError(f"{self.path}: there is no column {missing!r} in its first line; {hint}")
        has_header = (
            len(rows) > 1 and bool(header) and all(name.lower() in _HEADER_NAMES.split() for name in header if name)
        )
        return (*self._find_texts(rows[1:] if has_header else rows), has_header)

    def _find_texts(self, rows: Sequence[Sequence[str]]) -> tuple[int, int]:
        """Find the two columns of texts of a TSV without names of columns.

        Raises:
            ValueError: there are not two, or English is not the first of them.
        """
        width = max((len(row) for row in rows), default=0)
        contents = [find_content([row[column] for row in rows if column < len(row)]) for column in range(width)]
        texts = [column for column in range(width) if contents[column] == "text"]
        if width <= 2 and not (len(rows) >= 3 and {"numbers", "addresses", "paths"} & set(contents)):
            texts = [0, 1]  # nothing to choose from, and a few words are too little evidence against it
        if len(texts) != 2:
            shown = "; ".join(f"{column + 1}: {content or 'empty'}" for column, content in enumerate(contents))
            raise ValueError(
                f"{self.path}: {len(texts)} of its columns hold texts ({shown}); set columns to the numbers of the "
                'English and the other one, such as ["1", "2"]'
            )
        sides = [[row[column] for row in rows if column < len(row)] for column in texts]
        codes = [tag.code for tag in map(parse_language_tag, self.columns) if tag is not None and tag.code]
        if codes[:1] == [SOURCE_LANGUAGE] and are_surely_english(sides[0]) and not are_surely_english(sides[1]):
            return texts[0], texts[1]
        if len(codes) == 2 and all(
            find_other_language(side, code) == other or _is_foreign(side, code)
            for side, code, other in zip(sides, codes, reversed(codes), strict=True)
        ):
            raise ValueError(
                f"{self.path}: column {texts[0] + 1} is not in {codes[0]} and column {texts[1] + 1} not in {codes[1]}; "
                f'if English comes second, set columns to ["{texts[1] + 1}", "{texts[0] + 1}"]'
            )
        return texts[0], texts[1]


@lru_cache(maxsize=256)
def _find_layout_once(
    path: Path,
    columns: tuple[str, str],
    must_name: bool,
    encoding: str,
    quoting: Quoting,
    stamp: tuple[int, int],  # noqa: ARG001 - a changed file is looked into again
) -> tuple[bool, int, int, bool]:
    """Look into a TSV once for all of its pieces: that takes a quarter of the time of a piece."""
    return _TsvForm(path, columns, must_name=must_name, encoding=encoding, quoting=quoting).look_into()


def _is_repeated(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Tell whether a column has the same cell in every row. Then it names the language of the text beside it, as in
    Tatoeba's `7 eng A dog. 9 jpn ...`, and the first row is not a header."""
    cells = [row[column].strip() for row in rows if column < len(row)]
    return len(cells) > 1 and len(set(cells)) == 1


def _is_foreign(texts: Sequence[str], code: str) -> bool:
    """Tell whether most texts are in another script; False for fewer than five texts."""
    return len(texts) >= 5 and sum(is_in_another_script(text, code) for text in texts) > 0.6 * len(texts)


def _split_sample(line: bytes, is_quoted: bool) -> list[str]:
    return split_line(line.removesuffix(b"\r").decode("utf-8", "replace"), "\t", quoted=is_quoted)


class _MosesForm(_LinesForm):
    """Two plain files; line n of one belongs to line n of the other."""

    def list_files(self) -> list[str]:
        return [self._find_side(column).name for column in self.columns]

    def line_files(self) -> list[_LineFile]:
        return [_line_file(self.root / name, self.encoding) for name in self.list_files()]

    def _find_side(self, ending: str) -> Path:
        """Find the file that ends in the language's code, or in the best of its other tags (`fr-FR`, `zh_Hans`)."""
        found: dict[str, Path] = {}
        for path in sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.*")):
            tag = path.name.removeprefix(f"{self.path.name}.")
            for compression in COMPRESSED_SUFFIXES:
                tag = tag.removesuffix(compression)
            if path.is_file():
                found.setdefault(tag, path)
        chosen = choose_tag(ending, found)
        if chosen is None:
            beside = f"; beside it: {', '.join(found)}" if found else ""
            raise ValueError(
                f"{self.path}.{ending}: no such file, nor with {', '.join(COMPRESSED_SUFFIXES)}; "
                f"give the name both sides share{beside}"
            )
        return found[chosen]


class _OpusForm(_LinesForm):
    """A zip of OPUS with two files in Moses form."""

    def line_files(self) -> list[_LineFile]:
        try:
            archive = zipfile.ZipFile(_check_file(self.path))
        except (zipfile.BadZipFile, OSError) as error:
            raise _damaged(self.path, error) from None
        members = [self._find_member(archive, column) for column in self.columns]
        return [
            _LineFile(
                f"{self.path}: {member}",
                f"{self.path.name}:{member}",
                partial(_open_member, archive, member, self.encoding),
            )
            for member in members
        ]

    def _find_member(self, archive: zipfile.ZipFile, ending: str) -> str:
        """Find the only member with this ending. Names are only looked up, never used as paths."""
        endings = [info.filename.rpartition(".")[2] for info in archive.infolist()]
        chosen = choose_tag(ending, endings)
        members = [info for info, found in zip(archive.infolist(), endings, strict=True) if found == chosen]
        if len(members) != 1:
            raise ValueError(
                f"{self.path}: {len(members)} files inside end in '.{ending}', there should be one; "
                f"the endings are: {', '.join(dict.fromkeys(endings[:20]))}"
            )
        if members[0].flag_bits & 1:
            raise ValueError(f"{self.path}: {members[0].filename} is encrypted")
        return members[0].filename


class _TmxForm(BitextForm):
    """Translation Memory eXchange; one piece."""

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:  # noqa: ARG002
        return [self.make_piece(self.list_files())]

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[RawPair]:  # noqa: ARG002
        with open_unpacked(self.path) as file:
            try:
                for unit in read_tmx(file, self.path, self.columns):
                    has = f" (it has {', '.join(unit.found) or 'none'})" if unit.problem else ""
                    yield RawPair(f"{self.path.name}:{unit.line}{has}", unit.english, unit.other, unit.problem)
            except _DAMAGE as error:
                raise _damaged(self.path, error) from None


class _ParquetForm(BitextForm):
    """Two columns of strings, or one of structs with both sides; pieces are cut between row groups."""

    def list_files(self) -> list[str]:
        if not self.path.is_dir():
            return super().list_files()
        names = sorted(path.name for path in self.path.glob("*.parquet"))
        if not names:
            raise ValueError(f"{self.path}: the folder has no .parquet file")
        return names

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:  # noqa: ARG002
        pieces = []
        for name in self.list_files():
            self._find_struct(self.root / name)
            sizes = row_group_sizes(pq.read_metadata(self.root / name))
            pieces += [
                self.make_piece([name], first=first, count=count) for first, count in cut_blocks(sizes, num_records)
            ]
        return pieces

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[RawPair]:  # noqa: ARG002
        path, number = self.root / piece.files[0], piece.first + 1
        struct, names = self._find_struct(path)
        columns = names if struct is None else [f"{struct}.{column}" for column in names]
        try:
            for batch in read_parquet_batches(path, columns, piece, batch_rows=_BATCH_ROWS):
                for english, other in zip(*self._read_sides(batch, struct, names), strict=True):
                    yield RawPair(f"{path.name}: row {number}", english or b"", other or b"")
                    number += 1
        except _DAMAGE as error:
            raise _damaged(path, error) from None

    def _find_struct(self, path: Path) -> tuple[str | None, list[str]]:
        """Find the column of structs that holds both sides (None if they are columns of their own), and their names."""
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from None
        places: list[tuple[str | None, Iterable[pa.Field]]] = [(None, schema)]
        places += [(field.name, field.type) for field in schema if pa.types.is_struct(field.type)]
        for name, fields in places:
            types = {field.name: field.type for field in fields}
            chosen = [choose_tag(column, types) for column in self.columns]
            columns = [column for column in chosen if column is not None]
            if len(columns) == len(chosen):
                for column in columns:
                    if not (pa.types.is_string(types[column]) or pa.types.is_large_string(types[column])):
                        raise ValueError(f"{path}: {column!r} holds {types[column]}, not strings")
                return name, columns
        raise ValueError(
            f"{path}: no columns {self.columns[0]!r} and {self.columns[1]!r}, nor a column of structs with both; "
            f"the columns are: {', '.join(map(repr, schema.names))}"
        )

    def _read_sides(
        self, batch: pa.RecordBatch, struct: str | None, columns: Sequence[str]
    ) -> list[list[bytes | None]]:
        """Read both sides as bytes, since a column of strings may hold bytes that are not UTF-8."""
        arrays: Sequence[pa.Array] = [
            batch.column(column) if struct is None else pc.struct_field(batch.column(struct), column)
            for column in columns
        ]
        return [array.cast(pa.large_binary()).to_pylist() for array in arrays]


BITEXT_FORMS: Mapping[str, type[BitextForm]] = MappingProxyType(
    {"tsv": _TsvForm, "moses": _MosesForm, "tmx": _TmxForm, "opus": _OpusForm, "parquet": _ParquetForm}
)
"""Name in a recipe -> form."""


def detect_bitext_form(path: Path) -> str:
    """Return the name of the form that a file's name indicates; `moses` if it indicates none.

    Raises:
        ValueError: a file of a kind that is not read, with what would be right.
    """
    if path.is_dir():
        return "parquet"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    if suffixes and suffixes[-1] in _OTHER_KINDS and path.is_file():
        raise ValueError(f"{path}: not a form of bitext that can be read; {_OTHER_KINDS[suffixes[-1]]}")
    return _SUFFIXES.get(suffixes[-1], "moses") if suffixes else "moses"


def _open_member(archive: zipfile.ZipFile, member: str, encoding: str) -> IO[bytes]:
    # `readline` of a zip member is slow, that of a buffer over it is fast.
    with archive.open(member) as start:
        form = detect_encoding(start.read(_HEAD_BYTES), encoding)
    file = cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, archive.open(member)), _BUFFER_BYTES))
    return transcode(file, form) if form.must_transcode else file


def _line_file(path: Path, encoding: str) -> _LineFile:
    try:
        form = detect_text_format(_check_file(path), encoding)
    except OSError as error:
        raise _damaged(path, error) from None
    return _LineFile(str(path), path.name, partial(open_utf8, path, form), is_seekable=form.is_plain)


def _split_quoted(line: bytes) -> list[bytes]:
    """Split a line with quoted cells; bytes that are not UTF-8 stay as they are."""
    text = line.removesuffix(b"\r").decode("utf-8", "surrogateescape")
    return [cell.encode("utf-8", "surrogateescape") for cell in split_line(text, "\t", quoted=True)]


def _check_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return path


def _damaged(name: object, error: Exception) -> ValueError:
    detail = str(error).partition("\n")[0] or type(error).__name__
    return ValueError(f"{name}: cannot be read to its end, it is damaged or cut short ({detail})")


def _skip_bytes(file: IO[bytes], num_bytes: int) -> None:
    if file.seekable():
        file.seek(num_bytes)
        return
    while num_bytes > 0 and (chunk := file.read(min(num_bytes, _BUFFER_BYTES))):
        num_bytes -= len(chunk)
