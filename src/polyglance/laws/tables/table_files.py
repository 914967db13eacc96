"""Files of runs as columns: CSV and TSV as spreadsheets, R and trackers write them, JSON, Parquet.

The delimiter of a CSV, lines above the header and columns of row names are recognised from the cells. Deviations from a
plain header and rows are noted; ambiguous tables are refused.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from polyglance.delimited import Record, may_be_shifted
from polyglance.encodings import DAMAGE, open_utf8
from polyglance.files import parse_json
from polyglance.json_frames import read_frame
from polyglance.laws.tables.numerals import looks_numeric
from polyglance.laws.tables.table_frames import Columns, arrow_columns, columns_of, flatten_record, record_columns
from polyglance.tables import TableFormat, detect_table_format, read_cells, read_table

__all__ = ["read_columns"]

_SAMPLE = 60
"""Number of records from which the layout of a table is recognised."""
_DELIMITERS = (",", ";", "\t", "|")
_RULE = re.compile(r":?-{2,}:?")
"""Cell of the line under the header of a table of Markdown."""
_MOST_TITLES = 10
"""Largest number of lines of text above a header that are skipped."""


def read_columns(path: Path, *, header_rows: int | None, encoding: str) -> tuple[Columns, list[str]]:
    """Return name -> cells, and notes on how the file was read.

    Raises:
        ValueError: no such file, unknown kind of file, or broken content, with the row; an option without effect.
    """
    try:
        form = detect_table_format(path, encoding=encoding)
    except ValueError as error:
        hint = "; save the sheet as CSV" if path.suffix.lower() in (".xlsx", ".xls", ".ods") else ""
        raise ValueError(f"{error}{hint}") from None
    if header_rows is not None and not form.delimiter:
        raise ValueError(f"{path}: header_rows has no effect on {form.describe()}")
    if encoding != "auto" and form.suffix == ".parquet":
        raise ValueError(f"{path}: encoding has no effect on Parquet")
    if form.suffix == ".parquet":
        return _read_parquet(path), []
    if form.suffix == ".json":
        return _read_json(path, form), []
    if not form.delimiter:
        return record_columns([_flatten_row(path, row) for row in read_table(path, form=form)]), []
    return _read_sheet(path, form, header_rows)


def _flatten_row(path: Path, row: Any) -> dict[str, Any]:
    if row.problem:
        raise ValueError(f"{path.with_name(row.where)}: {row.problem}{f' ({row.detail})' if row.detail else ''}")
    try:
        return flatten_record(row.values)
    except ValueError as error:
        raise ValueError(f"{path.with_name(row.where)}: {error}") from None


def _read_parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        while any(pa.types.is_struct(column.type) for column in table.schema):
            table = table.flatten()
        return arrow_columns(table)
    except (pa.ArrowException, OSError) as error:
        what = "not a Parquet file, or a damaged one"
        raise ValueError(f"{path}: {what} ({str(error).partition(chr(10))[0]})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_json(path: Path, form: TableFormat) -> Columns:
    """Read a list of records, alone or under one key; columns of cells; or a frame as pandas writes it."""
    try:
        with open_utf8(path, form.text) as file:
            text = file.read().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {form.text.encoding.upper()} ({error.reason}); name its encoding") from None
    except DAMAGE as error:
        raise ValueError(f"{path}: it is damaged or cut short ({str(error).partition(chr(10))[0]})") from None
    data = parse_json(text, str(path))
    try:
        if isinstance(data, list):
            return record_columns(data)
        if isinstance(data, dict) and (rows := read_frame(data, lambda key: not key.isdecimal())) is not None:
            return record_columns([record for _, record in rows])
        if isinstance(data, dict) and len(data) == 1 and (records := _find_records(data)):
            return record_columns(records)
        if isinstance(data, dict) and data and all(isinstance(column, list) for column in data.values()):
            return columns_of(data)
        if isinstance(data, dict) and data and all(isinstance(column, dict) for column in data.values()):
            labels = dict.fromkeys(label for column in data.values() for label in column)
            return columns_of({name: [column.get(label) for label in labels] for name, column in data.items()})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    raise ValueError(f"{path}: expected a list of records, one object per row, or columns with a list of cells each")


def _find_records(data: dict[str, Any]) -> list[Any]:
    """Return the records of an object that holds a list of them and nothing else: `{"runs": [{...}, ...]}`."""
    (records,) = data.values()
    is_list = isinstance(records, list) and all(isinstance(record, dict) for record in records)
    return records if is_list else []


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How the records of a CSV or TSV are columns."""

    names: tuple[str, ...]
    num_skipped: int
    """Records up to the first row."""
    notes: tuple[str, ...]


def _read_sheet(path: Path, form: TableFormat, header_rows: int | None) -> tuple[Columns, list[str]]:
    form, notes = _choose_delimiter(path, form)
    sample = list(islice(read_cells(path, form), _SAMPLE))
    layout = _find_layout(path, sample, header_rows)
    names = layout.names
    if repeated := [name for name, count in Counter(names).items() if count > 1 and name]:
        raise ValueError(f"{path}: the column {repeated[0]!r} occurs twice")
    if may_be_shifted(names, [record.cells for record in sample[layout.num_skipped :] if not record.problem]):
        raise ValueError(
            f"{path}: its rows begin with 1, 2, 3, ... and end with a delimiter: either these are the numbers that R "
            f"gives to rows, or those of {names[0]!r}; write a name above them, or take the delimiters away"
        )
    columns: list[list[str]] = [[] for _ in names]
    plain = _read_plain_rows(path, form, sample, len(names))
    records = read_cells(path, form) if plain is None else iter(sample)
    for record in islice(records, layout.num_skipped, None):
        for column, cell in zip(columns, _take_cells(path, record, len(names)), strict=True):
            column.append(cell)
    for column, cells in zip(columns, plain or (), strict=plain is not None):
        column.extend(cells)
    if form.delimiter == "|":  # blanks stand around cells between bars
        columns = [[cell.strip() for cell in column] for column in columns]
    kept, unnamed = {}, []
    for i, (name, column) in enumerate(zip(names, columns, strict=True)):
        if name or any(map(str.strip, column)):
            kept[name or f"column {i + 1}"] = column
            unnamed += [] if name else [f"column {i + 1}"]
    if len(kept) < len(names):
        notes.append(f"{len(names) - len(kept)} columns without a name and without cells were left out.")
    if unnamed:
        notes.append(f"Columns without a name are called {', '.join(unnamed)}.")
    return dict(kept), [*notes, *layout.notes]


def _read_plain_rows(
    path: Path, form: TableFormat, sample: Sequence[Record], width: int
) -> list[tuple[str, ...]] | None:
    """Return the columns of the rows after the sample in one fast pass, if each row is a line with all cells.

    None where they are not (quotes, blank lines, undecoded bytes, rows of another width), and if there are none; the
    slower reader then handles them and reports errors.
    """
    if len(sample) < _SAMPLE:
        return None
    try:
        with open_utf8(path, form.text) as file:
            text = file.read().decode()
    except (UnicodeDecodeError, *DAMAGE):
        return None
    if "\ufffd" in text or (form.quoted and '"' in text):
        return None
    lines = text.split("\n")[sample[-1].line + sample[-1].num_lines - 1 :]
    if lines and not lines[-1]:
        lines.pop()
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    rows = [line.split(form.delimiter) for line in lines]
    if not rows or any(len(row) != width or (not row[0].strip() and not any(map(str.strip, row))) for row in rows):
        return None
    return list(zip(*rows, strict=True))


def _take_cells(path: Path, record: Record, width: int) -> Sequence[str]:
    """Return the cells of a row; delimiters after the last column are ignored."""
    where = f"{path}:{record.line}"
    if record.problem:
        raise ValueError(f"{where}: {_describe_problem(record)}")
    cells = record.cells
    if len(cells) > width and not any(map(str.strip, cells[width:])):
        return cells[:width]
    if len(cells) != width:
        raise ValueError(f"{where}: wrong number of cells ({len(cells)} cells, the header has {width})")
    return cells


def _describe_problem(record: Record) -> str:
    if record.problem.startswith("not "):
        return f"{record.problem}; name the encoding (encoding=, --encoding), for example cp1252"
    return f"broken CSV ({record.problem})"


def _choose_delimiter(path: Path, form: TableFormat) -> tuple[TableFormat, list[str]]:
    """Return the format with the delimiter that divides the first records most evenly."""
    best = form
    best_score = _score_delimiter(read_cells(path, form))
    is_sure = form.delimiter == "\t" and best_score > (0.0, 0.0)  # no other delimiter is as plain as a tab
    for delimiter in () if is_sure else _DELIMITERS:
        other = replace(form, delimiter=delimiter, quoted=True, quoted_throughout=False)
        score = _score_delimiter(read_cells(path, other))
        if score > best_score:
            best, best_score = other, score
    if best.delimiter == "\t" or (best.delimiter == "," and form.suffix == ".csv"):
        return best, []
    return best, [f"Cells stand between {best.delimiter!r}."]


def _score_delimiter(records: Iterator[Record]) -> tuple[float, float]:
    """Return the share of records of the commonest width, and the share of their cells that are numbers; 0 where the
    delimiter divides nothing."""
    sample = [record.cells for record in islice(records, _SAMPLE) if not record.problem]
    if not sample:
        return 0.0, 0.0
    width, count = Counter(map(len, sample)).most_common(1)[0]
    if width == 1:
        return 0.0, 0.0
    cells = [cell for record in sample for cell in record]
    return round(count / len(sample), 3), round(sum(map(looks_numeric, cells)) / len(cells), 3)


def _find_layout(path: Path, sample: Sequence[Record], header_rows: int | None) -> _Layout:
    records = [[cell.strip() for cell in record.cells] for record in sample]
    if sample and sample[0].problem:
        raise ValueError(f"{path}:{sample[0].line}: the header cannot be read: {_describe_problem(sample[0])}")
    notes = []
    first = _count_titles(records)
    titles = [text for cells in records[:first] if not (text := " ".join(cells).strip()).startswith("sep=")]
    if titles:
        notes.append(f"Lines above the header were left out: {'; '.join(titles)}.")
    if header_rows is not None and not 1 <= header_rows < max(len(records) - first, 2):
        raise ValueError(f"{path}: header_rows is {header_rows}; expected 1 or more, and rows below")
    num = header_rows or 1
    header, rows = records[first : first + num], records[first + num :]
    names = list(_join_header(header))
    if rows and all(_RULE.fullmatch(cell) for cell in rows[0] if cell) and any(rows[0]):
        rows, num = rows[1:], num + 1
    if header_rows is None:
        _check_header(path, sample[first], names, rows)
    names = _match_width(names, rows, notes)
    return _Layout(names=tuple(names), num_skipped=first + num, notes=tuple(notes))


def _count_titles(records: Sequence[Sequence[str]]) -> int:
    """Return the number of records with one cell of text above the header, which has several names."""
    for number, cells in enumerate(records[: _MOST_TITLES + 1]):
        filled = [cell for cell in cells if cell]
        if len(filled) > 1:
            is_header = number == 0 or not any(map(looks_numeric, filled))
            return number if is_header else 0
        if any(map(looks_numeric, filled)):
            return 0
    return 0


def _join_header(header: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a name for each column: the joined cells of the header rows; a merged cell spans the empty ones after
    it."""
    width = max(map(len, header), default=0)
    filled = []
    for level, cells in enumerate(header):
        padded = [*cells, *[""] * (width - len(cells))]
        if level < len(header) - 1:
            for i in range(1, width):
                padded[i] = padded[i] or padded[i - 1]
        filled.append(padded)
    for parts in zip(*filled, strict=True):
        yield " ".join(dict.fromkeys(part for part in parts if part))


def _check_header(path: Path, record: Record, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Refuse a header of numbers, and a first row that looks like another line of the header."""
    named = [name for name in names if name]
    if len(named) > 1 and all(map(looks_numeric, named)):
        raise ValueError(
            f"{path}:{record.line}: the first line holds numbers only ({', '.join(named[:3])}, ...); write the names "
            "of the columns above it"
        )
    if len(rows) < 3 or any(map(looks_numeric, rows[0])):
        return
    odd = [
        (cell, i)
        for i, cell in enumerate(rows[0])
        if cell
        and all(i < len(row) and (not row[i] or looks_numeric(row[i])) for row in rows[1:])
        and any(i < len(row) and row[i] for row in rows[1:])
    ]
    if odd:
        cells = ", ".join(repr(cell) for cell, _ in odd[:3])
        raise ValueError(
            f"{path}: the first row under the header holds {cells}, where all rows below hold numbers; say how "
            "many lines the header has: header_rows=2 (--header-rows 2) joins them to one name, 1 takes it as a run"
        )


def _match_width(names: list[str], rows: Sequence[Sequence[str]], notes: list[str]) -> list[str]:
    """Return the names for rows that have one cell more, or fewer, than the header."""
    widths = {len(row) for row in rows if row}
    if names and not names[-1] and widths and max(widths) < len(names):
        while names and not names[-1] and max(widths) < len(names):
            names = names[:-1]
        return names
    if widths != {len(names) + 1} or not any(row[-1] for row in rows if row):
        return names  # delimiters at the ends of rows are handled row by row
    first = [row[0] for row in rows if row]
    counts = [str(number) for number in range(1, len(first) + 1)]
    if first != counts and (any(map(looks_numeric, first)) or len(set(first)) < len(first)):
        return names
    notes.append("Rows have one cell more than the header; the first is the name of the row (column 1).")
    return ["", *names]
