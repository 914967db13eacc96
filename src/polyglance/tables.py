"""Rows of tables: CSV, TSV, JSON lines and Parquet, told by the file's extension.

    for row in read_table(Path("captions.csv")):
        row.values        # {"image": "a.png", "en": "a dog"}

A row that cannot be read comes out as a row with a problem, never as an exception and never not at all, so that whoever
counts rows counts all of them. What is wrong with the whole file is a `ValueError` before the first row.
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.files import parse_json

__all__ = ["TABLE_SUFFIXES", "TableRow", "read_table", "table_columns"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (*_JSON_LINES, *_DELIMITERS, ".parquet")
"""Extensions of the files that are read."""
_BOM = b"\xef\xbb\xbf"
_BATCH_ROWS = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """One row as it was found."""

    where: str
    """File and line, or file and row number."""
    values: Mapping[str, Any]
    """Column -> cell, unchecked. CSV and TSV: texts; an empty cell is an empty text. JSON lines: any JSON value.
    Parquet: Python values, None where the cell is null."""
    problem: str = ""
    """Why the row could not be read, in words to count by; then it has no values."""
    detail: str = ""
    """What exactly was found, for a person to read."""
    num_rows: int = 1
    """Input lines that are lost with an unreadable row (an unclosed quote swallows those after it)."""


def table_columns(path: str | Path) -> list[str] | None:
    """Names of the columns; None for JSON lines, where every row brings its own.

    Raises:
        ValueError: no such file, an empty one, another extension, a column that is there twice, or not a Parquet file.
    """
    path = _checked(path)
    suffix = path.suffix.lower()
    if suffix in _JSON_LINES:
        return None
    columns = _header(path, _DELIMITERS[suffix]) if suffix in _DELIMITERS else _parquet_columns(path)
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise ValueError(f"{path}: the column {repeated[0]!r} is there twice")
    return columns


def read_table(path: str | Path, *, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
    """The rows of a table, in order. Blank lines are no rows.

    Args:
        columns: of a Parquet file, the columns that are read; None: all.

    Raises:
        ValueError: as `table_columns`, before the first row.
    """
    path = _checked(path)
    header = table_columns(path)
    if header is None:
        return _read_json_lines(path)
    if path.suffix.lower() in _DELIMITERS:
        return _read_delimited(path, header, _DELIMITERS[path.suffix.lower()])
    return _read_parquet(path, header if columns is None else columns)


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(f"{path}: unknown kind of table {path.suffix!r}; known: {', '.join(TABLE_SUFFIXES)}")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError(f"{path}: no such file, or it may not be read")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    return path


def _read_json_lines(path: Path) -> Iterator[TableRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(_BOM) if number == 1 else line
            if line.strip():
                yield _parse_json_line(f"{path.name}:{number}", line)


def _parse_json_line(where: str, line: bytes) -> TableRow:
    try:
        values = parse_json(line.decode("utf-8").strip(), where)
    except UnicodeDecodeError as error:
        return TableRow(where=where, values={}, problem="not UTF-8", detail=str(error.reason))
    except ValueError as error:
        return TableRow(where=where, values={}, problem="broken JSON", detail=str(error).removeprefix(f"{where}: "))
    if not isinstance(values, dict):
        return TableRow(where=where, values={}, problem="not a JSON object", detail=type(values).__name__)
    return TableRow(where=where, values=values)


def _open_text(path: Path) -> Any:
    """Bytes that are not UTF-8 come through as lone surrogates, so that only their own row is lost."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _csv_rows(file: Any, delimiter: str) -> Iterator[tuple[int, int, list[str] | csv.Error]]:
    """First line, number of lines and cells of each row that is not blank, or the error in its place."""
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        before = reader.line_num
        try:
            cells: list[str] | csv.Error = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = error
        if isinstance(cells, csv.Error) or any(cell.strip() for cell in cells):
            yield before + 1, reader.line_num - before, cells


def _header(path: Path, delimiter: str) -> list[str]:
    with _open_text(path) as file:
        first = next(_csv_rows(file, delimiter), None)
    if first is None:
        raise ValueError(f"{path}: the file is empty")
    line, _, cells = first
    if isinstance(cells, csv.Error):
        raise ValueError(f"{path}:{line}: the header cannot be read ({cells})")
    return [name.strip() for name in cells]


def _read_delimited(path: Path, header: Sequence[str], delimiter: str) -> Iterator[TableRow]:
    with _open_text(path) as file:
        rows = _csv_rows(file, delimiter)
        next(rows)
        for line, num_lines, cells in rows:
            where = f"{path.name}:{line}"
            if isinstance(cells, csv.Error):
                yield TableRow(where=where, values={}, problem="broken CSV", detail=str(cells), num_rows=num_lines)
            elif len(cells) != len(header):
                detail = f"{len(cells)} cells, the header has {len(header)}"
                yield TableRow(where=where, values={}, problem="wrong number of cells", detail=detail)
            elif not _is_utf8(cells):
                yield TableRow(where=where, values={}, problem="not UTF-8")
            else:
                yield TableRow(where=where, values=dict(zip(header, cells, strict=True)))


def _is_utf8(cells: Sequence[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


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
                    for row in _parse_batch(batch):
                        where = f"{path.name}: row {number}"
                        if isinstance(row, str):
                            yield TableRow(where=where, values={}, problem="not UTF-8", detail=row)
                        else:
                            yield TableRow(where=where, values=row)
                        number += 1
            except (pa.ArrowException, OSError) as error:
                where, detail = f"{path.name}: row {number}", str(error).partition("\n")[0]
                yield TableRow(where=where, values={}, problem="damaged", detail=detail, num_rows=end - number)
            first = end


def _parse_batch(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a record batch as Python values; for a row that has none (text that is not UTF-8, a date out of
    Python's range) the reason."""
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
