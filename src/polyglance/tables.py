"""Rows of tables: CSV, TSV, JSON lines, JSON records and Parquet, found from the file's extension.

    for row in read_table(Path("captions.csv")):
        row.values        # {"image": "a.png", "en": "a dog"}

A row that cannot be read is returned as a row with a problem. It never raises and is never skipped, so that rows can be
counted: every line of a file belongs to a row, the header or a blank line, which is asserted at the end. An error that
concerns the whole file is a `ValueError` before the first row. Tables of text may be compressed and in any encoding
(`polyglance.encodings`).
"""

import os
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from polyglance.delimited import (
    DELIMITERS,
    Quoting,
    Record,
    are_row_names,
    find_delimiter,
    find_quoting,
    is_series_header,
    parse_records,
)
from polyglance.encodings import COMPRESSED_SUFFIXES, DAMAGE, TextFormat, detect_text_format, open_utf8
from polyglance.files import check_digest, parse_json

__all__ = [
    "TABLE_SUFFIXES",
    "TableFormat",
    "TableRow",
    "detect_table_format",
    "find_failed_download",
    "make_table_row",
    "parse_batch",
    "read_cells",
    "read_table",
    "table_columns",
]

_JSON_LINES = (".jsonl", ".ndjson")
_JSON_RECORDS = ".json"
TABLE_SUFFIXES = (*_JSON_LINES, _JSON_RECORDS, *DELIMITERS, ".parquet")
"""Extensions of the files that are read; for tables of text also followed by one of `COMPRESSED_SUFFIXES`."""
_DELIMITER_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_SEP = re.compile(r"sep=(.)\s*", re.IGNORECASE)
"""First line of a CSV that names the delimiter for Excel."""
_FAILED_DOWNLOADS = {
    "<!doctype html": "a page of HTML (of an error, or of a sign-in)",
    "<html": "a page of HTML (of an error, or of a sign-in)",
    "version https://git-lfs": "a pointer of Git LFS (`git lfs pull` fetches the file)",
}
"""Beginning of a failed download -> description of the file."""
_BATCH_ROWS = 1024
_MOST_TITLES = 20
"""Number of records above the header that may be titles."""
_MOST_ROW_NAMES = 1000
"""Number of rows that are looked at to tell the names that R gives to rows from a text with an unquoted comma."""
_COMMENT_LINES = 100
"""Number of lines in which the header has to begin; lines above it that begin with `#` are comments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """One row as it was found."""

    where: str
    """File and line, or file and row number."""
    values: Mapping[str, Any]
    """Column -> cell, unchecked. CSV and TSV: texts; an empty cell is an empty text. JSON lines: any JSON value.
    Parquet: Python values, None where the cell is null."""
    problem: str = ""
    """Why the row could not be read, in a few words by which rows are counted; it then has no values."""
    detail: str = ""
    """The exact finding, for a person to read."""
    num_rows: int = 1
    """Number of lost rows: more than 1 for a damaged row group of Parquet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFormat:
    """How a table is written."""

    suffix: str
    """One of `TABLE_SUFFIXES`."""
    text: TextFormat = field(default_factory=TextFormat)
    """Encoding and compression, of a table of text."""
    delimiter: str = ""
    """Delimiter of cells; empty for JSON lines and Parquet."""
    quoted: bool = False
    """Whether cells may be quoted as in a CSV."""
    quoted_throughout: bool = False
    """Whether all texts are quoted."""

    def describe(self) -> str:
        """Return the format in words: `TSV without quotes, utf-8`."""
        if self.suffix == ".parquet":
            return "Parquet"
        if not self.delimiter:
            name = "JSON records" if self.suffix == _JSON_RECORDS else "JSON lines"
            return f"{name}, {self.text.describe()}"
        quotes = "quoted as a CSV" if self.quoted else "without quotes"
        return f"cells between {_DELIMITER_NAMES[self.delimiter]}, {quotes}, {self.text.describe()}"


def detect_table_format(path: str | Path, *, encoding: str = "auto", quoting: Quoting = "auto") -> TableFormat:
    """Detect how a table is written. Whether a TSV has quotes is decided from all its lines.

    Args:
        encoding: codec of Python; `auto`: found from the first bytes.
        quoting: `auto`: found from the lines.

    Raises:
        ValueError: no such file, an empty file, an unknown extension, or contradictory quotes.
    """
    path = _checked(path)
    suffix = _table_suffix(path)
    if suffix == ".parquet":
        return TableFormat(suffix=suffix)
    text = detect_text_format(path, encoding)
    is_json = suffix in (*_JSON_LINES, _JSON_RECORDS)
    lines = [line for line in islice(_read_text(path, text), 1 if is_json else _COMMENT_LINES) if line.strip()]
    if not lines and not is_json:
        raise ValueError(f"{path}: the file is empty")
    if lines and (download := find_failed_download(lines[0])):
        raise ValueError(f"{path}: {download}, not a table")
    if is_json:
        if suffix in _JSON_LINES and lines and lines[0].strip() in ("[", "[{"):
            raise ValueError(f"{path}: a single list of records, not an object in each line; rename it to .json")
        return TableFormat(suffix=suffix, text=text)
    named = _SEP.fullmatch(lines[0])
    rows = (line for line in lines if not line.startswith("#") and not _SEP.fullmatch(line))
    first_row = next(rows, lines[0])
    delimiter = DELIMITERS[suffix]
    if named is not None and named[1] in _DELIMITER_NAMES:
        delimiter = named[1]
    elif suffix == ".csv":
        delimiter = find_delimiter([line for line in lines if not _SEP.fullmatch(line)], delimiter)
    try:
        quoted, throughout = _find_quotes(path, text, first_row, delimiter, quoting)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return TableFormat(suffix=suffix, text=text, delimiter=delimiter, quoted=quoted, quoted_throughout=throughout)


def _find_quotes(path: Path, text: TextFormat, first_row: str, delimiter: str, quoting: Quoting) -> tuple[bool, bool]:
    if quoting != "auto":
        return quoting == "csv", quoting == "csv"
    if delimiter == "\t":
        return find_quoting(lambda: _read_text(path, text))
    return True, all(cell.startswith('"') and cell.endswith('"') for cell in first_row.strip().split(delimiter))


def find_failed_download(first_line: str) -> str:
    """Describe a failed download, recognised by its first line; empty for any other file."""
    beginning = first_line.lstrip().lower()
    return next((name for mark, name in _FAILED_DOWNLOADS.items() if beginning.startswith(mark)), "")


def table_columns(path: str | Path, form: TableFormat | None = None) -> list[str] | None:
    """Return the names of the columns; None for JSON, where every row has its own.

    Raises:
        ValueError: as `detect_table_format`; a repeated column, or not a Parquet file.
    """
    form = form or detect_table_format(path)
    path = Path(path)
    if form.suffix in (*_JSON_LINES, _JSON_RECORDS):
        return None
    columns = _find_shape(path, form)[0] if form.delimiter else _parquet_columns(path)
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise ValueError(f"{path}: the column {repeated[0]!r} occurs twice")
    return columns


def read_table(
    path: str | Path, *, columns: Sequence[str] | None = None, form: TableFormat | None = None
) -> Iterator[TableRow]:
    """Yield the rows of a table, in order. Blank lines are skipped.

    Args:
        columns: of a Parquet file, the columns that are read; None: all.
        form: how the table is written; None: `detect_table_format` tells.

    Raises:
        ValueError: as `table_columns`, before the first row; or the file differs from its digest (`check_digest`).
    """
    form = form or detect_table_format(path)
    path = Path(path)
    check_digest(path)
    header = table_columns(path, form)
    if form.suffix == _JSON_RECORDS:
        return _read_json_records(path, form)
    if header is None:
        return _read_json_lines(path, form)
    if form.delimiter:
        return _read_delimited(path, form)
    return _read_parquet(path, header if columns is None else columns)


def read_cells(path: str | Path, form: TableFormat) -> Iterator[Record]:
    """Yield the records of a CSV or TSV with their cells, including the header; blank lines and comments above the
    header are left out. A record that cannot be read has a problem and no cells.

    Raises:
        ValueError: a compressed file that is damaged.
    """
    for record in _records(Path(path), form, Counter()):
        undecoded = _find_undecoded("".join(record.cells), form.text)
        problem = f"not {form.text.encoding.upper()} ({undecoded})" if undecoded else record.problem
        yield replace(record, cells=[], problem=problem) if problem else record


def _table_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED_SUFFIXES else suffix


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected a file with a table")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: a pipe or a device, which can be read only once; write it to a file")
    if _table_suffix(path) not in TABLE_SUFFIXES:
        known = ", ".join(TABLE_SUFFIXES)
        raise ValueError(f"{path}: unknown kind of table {path.suffix!r}; known: {known}")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError(f"{path}: no such file, or no permission to read it")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    return path


def _read_text(path: Path, text: TextFormat) -> Iterator[str]:
    """Yield the lines without `\\n`. Bytes that are not UTF-8 become lone surrogates, so that only their row is lost.

    Raises:
        ValueError: a compressed file that is damaged.
    """
    try:
        with open_utf8(path, text) as file:
            for line in file:
                # A byte order mark in front of a later line comes from a file that was appended.
                yield line.removesuffix(b"\n").removeprefix(BOM_UTF8).decode("utf-8", "surrogateescape")
    except DAMAGE as error:
        detail = str(error).partition("\n")[0]
        raise ValueError(f"{path}: cannot be read to its end; it is damaged or truncated ({detail})") from None


def _find_undecoded(text: str, form: TextFormat) -> str:
    """Name the bytes of a text that are not in the file's encoding; empty if all are."""
    if text.isascii():
        return ""
    if form.encoding != "utf-8":
        return "bytes that stand for no character" if "\ufffd" in text else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            text.encode("utf-8", "surrogateescape").decode()
        except UnicodeDecodeError as error:
            return error.reason
    return ""


def _not_decoded(where: str, detail: str, form: TableFormat) -> TableRow:
    return TableRow(where=where, values={}, problem=f"not {form.text.encoding.upper()}", detail=detail)


def _counted(lines: Iterable[str], count: Counter[str]) -> Iterator[str]:
    """Yield lines, and count them under `read`."""
    for line in lines:
        count["read"] += 1
        yield line


def _read_json_lines(path: Path, form: TableFormat) -> Iterator[TableRow]:
    for number, line in enumerate(_read_text(path, form.text), 1):
        if line.strip():
            yield _parse_json_line(f"{path.name}:{number}", line, form)


def _read_json_records(path: Path, form: TableFormat) -> Iterator[TableRow]:
    """Return the rows of a file that is one list of objects.

    Raises:
        ValueError: not valid JSON, or not a list.
    """
    records = parse_json("\n".join(_read_text(path, form.text)), str(path))
    if not isinstance(records, list):
        raise ValueError(f"{path}: expected a list of records, one object per row; JSON lines are .jsonl files")
    return (_make_json_row(f"{path.name}: record {number}", record) for number, record in enumerate(records, 1))


def _make_json_row(where: str, values: Any) -> TableRow:
    if not isinstance(values, dict):
        return TableRow(where=where, values={}, problem="not a JSON object", detail=type(values).__name__)
    return TableRow(where=where, values=values)


def _parse_json_line(where: str, line: str, form: TableFormat) -> TableRow:
    if undecoded := _find_undecoded(line, form.text):
        return _not_decoded(where, undecoded, form)
    try:
        values = parse_json(line.strip(), where)
    except ValueError as error:
        return TableRow(where=where, values={}, problem="broken JSON", detail=str(error).removeprefix(f"{where}: "))
    return _make_json_row(where, values)


def _records(path: Path, form: TableFormat, count: Counter[str]) -> Iterator[Record]:
    """Yield the non-blank records, the header first; all lines of the file are counted."""
    lines = _counted(_read_text(path, form.text), count)
    yield from _below_comments(lines, form, count)
    assert count["in records"] == count["read"], "every line belongs to one record"


def _below_titles(records: Iterator[Record]) -> Iterator[Record]:
    """Leave out titles above a header: records with words in one cell only, where the next one has several cells."""
    titles: list[Record] = []
    record = next(records, None)
    while record is not None:
        below = next(records, None)
        filled = [cell for cell in record.cells if cell.strip()]
        is_title = len(filled) == 1 and " " in filled[0].strip() and not any(mark in filled[0] for mark in ";|\t")
        is_series = below is not None and is_series_header(record.cells, below.cells)
        if not is_title or is_series or record.problem or len(titles) == _MOST_TITLES:
            yield from titles if len(filled) < 2 and not is_series else ()
            yield record
            yield from () if below is None else (below,)
            yield from records
            return
        titles.append(record)
        record = below
    yield from titles


def _below_comments(lines: Iterator[str], form: TableFormat, count: Counter[str]) -> Iterator[Record]:
    comments: list[Record] | None = []
    for record in parse_records(lines, form.delimiter, quoted=form.quoted, trusted=form.quoted_throughout):
        count["in records"] += record.num_lines
        if record.is_blank:
            continue
        if comments is not None:
            if not comments and not record.problem and _SEP.fullmatch(form.delimiter.join(record.cells)):
                continue  # Excel's line that names the delimiter
            if not record.problem and record.cells[0].startswith("#"):
                comments.append(record)
                continue
            # A line above the rows that begins with # and has as many cells as they have is the header, `#id,text`.
            yield from [comment for comment in comments[-1:] if len(comment.cells) == len(record.cells)]
            comments = None
        yield record
    yield from comments or ()


def _find_shape(path: Path, form: TableFormat) -> tuple[list[str], int]:
    """Return the names of the columns, and the number of cells that rows may have with delimiters at their ends.

    The names that R gives to rows have an empty name, as the first column of pandas. Other columns without a name are
    called by their number (`column 3`). The last ones are none if they hold nothing, or only cells that begin with a
    blank, which are ends of texts with unquoted commas.
    """
    records = _below_titles(_records(path, form, Counter()))
    first = next(records, None)
    if first is None:
        raise ValueError(f"{path}: the file is empty")
    if first.problem:
        raise ValueError(f"{path}:{first.line}: the header cannot be read ({first.problem})")
    names, width = [name.strip() for name in first.cells], len(first.cells)
    below = [record.cells for record in islice(records, _MOST_ROW_NAMES) if not record.problem]
    while len(names) > 1 and not names[-1]:
        cells = [row[len(names) - 1] for row in below if len(row) == width]
        if any(cell.strip() and not cell[0].isspace() for cell in cells):
            break
        names.pop()
    names = [names[0], *(name or f"column {number}" for number, name in enumerate(names[1:], 2))]
    if are_row_names(first.cells, below):
        return ["", *names], width + 1
    widths = {len(row) for row in below}
    if len(widths) == 1 and not any(cell.strip() for row in below for cell in row[width:]):
        width = max(width, *widths)
    return names, width


def _read_delimited(path: Path, form: TableFormat) -> Iterator[TableRow]:
    header, width = _find_shape(path, form)
    without_name = [place for place, name in enumerate(header) if place and name == f"column {place + 1}"]
    records = _below_titles(_records(path, form, Counter()))
    next(records, None)
    for record in records:
        cells, surplus = record.cells, record.cells[len(header) :]
        if len(cells) == width and not any(cell.strip() for cell in surplus):
            cells = cells[: len(header)]
        where = f"{path.name}:{record.line}"
        if record.problem:
            yield TableRow(where=where, values={}, problem="broken CSV", detail=record.problem)
        elif len(cells) == width > len(header):
            detail = next(cell.strip() for cell in surplus if cell.strip())
            yield TableRow(where=where, values={}, problem="a cell without a name above it", detail=detail)
        elif len(cells) != len(header):
            detail = f"{len(cells)} cells, the header has {len(header)}"
            yield TableRow(where=where, values={}, problem="wrong number of cells", detail=detail)
        elif ends := [cells[place] for place in without_name if cells[place].strip() and cells[place][0].isspace()]:
            # The end of a text that has a comma and is not quoted.
            yield TableRow(where=where, values={}, problem="a cell without a name above it", detail=ends[0].strip())
        elif undecoded := _find_undecoded("".join(cells), form.text):
            yield _not_decoded(where, undecoded, form)
        else:
            yield TableRow(where=where, values=dict(zip(header, cells, strict=True)))


def _parquet_columns(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file ({str(error).partition(chr(10))[0]})") from None


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[TableRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = 1
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            number, end = first, first + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(
                    _BATCH_ROWS, row_groups=[group], columns=list(columns), use_threads=False
                ):
                    for row in parse_batch(batch):
                        yield make_table_row(f"{path.name}: row {number}", row)
                        number += 1
            except (pa.ArrowException, OSError) as error:
                where, detail = f"{path.name}: row {number}", str(error).partition("\n")[0]
                yield TableRow(where=where, values={}, problem="damaged", detail=detail, num_rows=end - number)
            else:
                assert number == end, "every row of the group was read"
            first = end


def make_table_row(where: str, values: dict[str, Any] | str) -> TableRow:
    """Make a row from what `parse_batch` yields: values, or the reason why there are none."""
    if isinstance(values, str):
        return TableRow(where=where, values={}, problem="not UTF-8", detail=values)
    return TableRow(where=where, values=values)


def parse_batch(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Yield the rows of a record batch as Python values; for a row that cannot be converted (text that is not UTF-8, a
    date out of Python's range) the reason."""
    import pyarrow as pa

    maps = [field.name for field in batch.schema if isinstance(field.type, pa.MapType)]
    try:
        rows: list[dict[str, Any] | str] = batch.to_pylist()
    except (ValueError, pa.ArrowException):
        rows = [_parse_row(batch.slice(row, 1)) for row in range(batch.num_rows)]
    for row in rows:
        if isinstance(row, dict):
            for name in maps:
                row[name] = None if row[name] is None else dict(row[name])
        yield row


def _parse_row(row: Any) -> dict[str, Any] | str:
    import pyarrow as pa

    try:
        (values,) = row.to_pylist()
    except (ValueError, pa.ArrowException) as error:
        return str(error)
    return dict(values)
