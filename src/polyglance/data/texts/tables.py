"""Tables of texts: CSV, TSV, lines of an id and a text between tabs, Parquet, folders of Hugging Face data sets."""

import gzip
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from polyglance.data.texts.columns import (
    TextColumns,
    choose_columns,
    find_other_ids,
    is_id_name,
    is_known_name,
    parse_id,
    parse_texts,
)
from polyglance.data.texts.languages_of_texts import is_language_key, keep_language, take_language
from polyglance.data.texts.splits_of_texts import check_split_ids, choose_split, is_split, is_split_name, keep_split
from polyglance.data.texts.text_set import Entry, FormContent, Id, ReadOptions, TextFile, TextLayout
from polyglance.delimited import (
    are_ids,
    are_row_names,
    find_delimiter,
    find_quoting,
    is_series_header,
    parse_records,
)
from polyglance.error_text import first_line

__all__ = ["is_columnar", "is_table", "read_columnar", "read_table_texts"]

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_FLICKR_ID = re.compile(r"^(.+\.\w{2,5})#\d+$")
"""`1000268201.jpg#0`: an image of Flickr8k and the number of its caption."""
_DECIMAL = re.compile(r"^\s*[-+]?\d*\.\d+(?:[eE][-+]?\d+)?\s*$")
_SEP = re.compile(r"sep=([,;|\t])[\s,;|]*", re.IGNORECASE)
"""First line of a CSV that names the delimiter for Excel."""
_MOST_LINES_ABOVE = 20
"""Number of lines in which a header has to begin; above it are comments and titles."""
_Row = tuple[int, list[str]]
"""Number of a line, and its cells."""


def is_table(file: TextFile, options: ReadOptions) -> bool:
    """Tell whether a text file is a table: by the extension, or because all its lines have as many tabs."""
    if options.as_lines:
        return False
    if file.suffix == ".csv":
        return True
    counts = {line.count("\t") for line in file.lines if line.strip()}
    return len(counts) == 1 and counts != {0}


def read_table_texts(file: TextFile, options: ReadOptions) -> FormContent:
    """Read a table with a header, or one whose columns are told by their cells.

    Raises:
        ValueError: cells that cannot be read, rows of several widths, or columns that are not clear.
    """
    where = str(file.path)
    delimiter = _find_delimiter(file)
    quoted, throughout = delimiter != "\t", False
    if delimiter == "\t":
        try:
            quoted, throughout = find_quoting(lambda: file.lines)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    rows: list[_Row] = []
    for record in parse_records(iter(file.lines), delimiter, quoted=quoted, trusted=throughout or delimiter == ","):
        if record.problem:
            raise ValueError(f"{where}:{record.line}: not a row of a table ({record.problem})")
        if not record.is_blank:
            rows.append((record.line, record.cells))
    if not rows:
        raise ValueError(f"{where}: holds no texts")
    rows, notes = arrange_rows(rows)
    for line, cells in rows:
        if len(cells) != len(rows[0][1]):
            first = f"the first row has {len(rows[0][1])}"
            raise ValueError(
                f"{where}:{line}: {len(cells)} cells, {first}; quote cells that hold the delimiter, or name the file "
                ".txt if each line is a text"
            )
    has_header = _has_header(rows, options)
    content = _read_named(where, rows, options) if has_header else _read_unnamed(where, rows, options)
    return replace(content, notes=(*content.notes, *(f"{where}: {note}" for note in notes)))


def _find_delimiter(file: TextFile) -> str:
    lines = [line for line in file.lines[:_MOST_LINES_ABOVE] if line.strip()]
    if lines and (named := _SEP.fullmatch(lines[0])):
        return named[1]
    return find_delimiter(lines, _DELIMITERS.get(file.suffix, "\t"))


def arrange_rows(rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """Leave out what spreadsheets, R and people write around a table: Excel's `sep=;`, comments and titles above the
    header, delimiters at the ends of all rows, and give the unnamed first column of R a name.

    Returns:
        The rows, and notes on what was left out.
    """
    rows, notes = list(rows), []
    if _SEP.fullmatch(",".join(rows[0][1])) or rows[0][1][0].lower().startswith("sep="):
        rows = rows[1:] or rows
    start = _find_header_row(rows)
    if titles := [" ".join(cell for cell in cells if cell.strip()).strip() for _, cells in rows[:start]]:
        notes.append(f"lines above the header were left out: {'; '.join(titles)}"[:200])
    rows = rows[start:]
    names, cells = rows[0][1], [cells for _, cells in rows[1:]]
    place = next((place for place, name in enumerate(names) if is_id_name(name)), None)
    is_text_last = is_known_name(names[-1]) and not is_id_name(names[-1])
    if place is not None and are_row_names(names, cells, place) and (cells[0][-1].strip() or not is_text_last):
        rows[0] = (rows[0][0], ["", *names])
    width = max(len(cells) for _, cells in rows)
    while width > 1 and all(len(cells) < width or not cells[width - 1].strip() for _, cells in rows):
        width -= 1
    return [(line, cells[:width]) for line, cells in rows], notes


def _find_header_row(rows: Sequence[_Row]) -> int:
    """Return the place of the header below comments (`# ...`) and titles, which are one cell each; 0 where the first
    row has several cells, or no row below has names of columns."""
    for place, (_, cells) in enumerate(rows[:_MOST_LINES_ABOVE]):
        filled = [cell.strip() for cell in cells if cell.strip()]
        if len(filled) > 1 and not cells[0].lstrip().startswith("#"):
            return place if any(map(_is_name, filled)) else 0
        below = rows[place + 1][1] if place + 1 < len(rows) else []
        if is_series_header(cells, below) and _is_name(filled[0]):
            return place
        if len(filled) > 1 and len(cells) == len(below) and _is_name(cells[0].lstrip("# ")):
            return place  # `#id,text`: a comment's mark before the names
    return 0


def _is_name(cell: str) -> bool:
    return is_known_name(cell) or is_known_name(cell, "references")


def _has_header(rows: Sequence[tuple[int, list[str]]], options: ReadOptions) -> bool:
    first = [cell.strip() for cell in rows[0][1]]
    wanted = [*options.text_column, *([options.id_column] if options.id_column else [])]
    if wanted and any(name in first for name in wanted):
        return True
    if wanted and all(name.isdecimal() for name in wanted):
        return False
    named = [cell for cell in first if cell]
    if len(set(named)) < len(named):
        return False
    if not all(first[1:]):  # columns without a name beside ids and texts
        return any(map(is_id_name, named)) and any(is_known_name(c, options.role) and not is_id_name(c) for c in named)
    return any(is_known_name(cell, options.role) for cell in first)


def _read_named(where: str, rows: Sequence[tuple[int, list[str]]], options: ReadOptions) -> FormContent:
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(rows[0][1], 1)]
    if names[0] == "column 1" and "index" not in names:
        names[0] = "index"  # pandas writes the index of rows so; it is the id where no other column is
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{where}: the column {repeated!r} occurs twice")
    names[0] = names[0].lstrip("# ") if len(names) > 1 else names[0]
    columns = choose_columns(names, options, where)
    below, notes = _drop_repeated_headers(where, rows)
    records = [(f"{where}:{line}", dict(zip(names, cells, strict=True))) for line, cells in below]
    content = _make_content(where, records, columns, options)
    return replace(content, notes=(*content.notes, *notes))


def _drop_repeated_headers(where: str, rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """Leave out rows that repeat the header, as tables do that were written one behind the other.

    Raises:
        ValueError: the first row below the header holds names of columns, too.
    """
    header = [cell.strip() for cell in rows[0][1]]
    repeated = [line for line, cells in rows[1:] if [cell.strip() for cell in cells] == header]
    if len(header) < 2 or not rows[1:]:  # a single word may be a text
        return list(rows[1:]), []
    line, first = rows[1]
    filled = [cell.strip() for cell in first if cell.strip()]
    if line not in repeated and len(filled) > 1 and any(map(is_id_name, filled)) and all(map(_is_name, filled)):
        raise ValueError(
            f"{where}:{line}: looks like a second line of the header ({', '.join(filled)[:60]}); leave one of the two"
        )
    notes = [f"the header is repeated, and left out, in line {', '.join(map(str, repeated[:3]))}"] if repeated else []
    return [row for row in rows[1:] if row[0] not in repeated], [f"{where}: {note}" for note in notes]


def _read_unnamed(where: str, rows: Sequence[tuple[int, list[str]]], options: ReadOptions) -> FormContent:
    """Read a table without a header; its columns are called 1, 2, ..."""
    width = len(rows[0][1])
    names = [str(number) for number in range(1, width + 1)]
    columns = TextColumns(
        id=options.id_column if options.id_column in names else None,
        texts=tuple(name for name in options.text_column if name in names),
    )
    if not columns.texts:
        columns = _tell_by_cells(where, names, [cells for _, cells in rows])
    records = [(f"{where}:{line}", dict(zip(names, cells, strict=True))) for line, cells in rows]
    return _make_content(where, records, columns, options)


def _tell_by_cells(where: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> TextColumns:
    """Tell ids from texts where a table has no header: ids hold no blanks, and a digit each. Columns of decimal numbers
    are scores, which are not read."""
    cells = list(zip(*rows, strict=True))
    if len(names) == 1:
        return TextColumns(id=None, texts=("1",))
    scores = [name for name, column in zip(names, cells, strict=True) if all(map(_DECIMAL.match, column))]
    ids = [name for name, column in zip(names, cells, strict=True) if name not in scores and are_ids(column)]
    texts = [name for name in names if name not in ids and name not in scores]
    if len(texts) == 1 and scores and not ids:
        return TextColumns(id=None, texts=(texts[0],))
    if len(ids) != 1 or len(texts) != 1:
        first = " | ".join(rows[0])[:80]
        raise ValueError(
            f"{where}: a table without a header whose columns are not clear ({first}); name them by their numbers: "
            "--id-column 1 --text-column 2, or, if the first line is a header, by the names there"
        )
    return TextColumns(id=ids[0], texts=(texts[0],))


def _make_content(
    where: str, records: Sequence[tuple[str, Mapping[str, Any]]], columns: TextColumns, options: ReadOptions
) -> FormContent:
    """Take ids and texts from rows. An empty cell is no reference where there are several columns."""
    if not records:
        raise ValueError(f"{where}: holds no texts")
    records, split_notes, used = keep_split(records, options, where)
    records, language_notes = keep_language(records, options.language, where)
    entries: list[Entry] = []
    for number, (place, values) in enumerate(records, 1):
        name: Id = number
        if columns.id is not None:
            value = values[columns.id]
            name = parse_id(value.strip() if isinstance(value, str) else value, place)
        given = [take_language(values[column], options.language, place) for column in columns.texts]
        if len(given) > 1:
            given = [text for text in given if text not in (None, "")] or [""]
        elif given == [None]:
            raise ValueError(f"{place}: no text (null)")
        entries.append((name, tuple(text for one in given for text in parse_texts(one, place))))
    captions = [_FLICKR_ID.match(str(name)) for name, _ in entries]
    notes = [f"{where}: {columns.describe()}", *split_notes, *language_notes]
    if all(captions):
        entries = [(match[1], texts) for match, (_, texts) in zip(captions, entries, strict=True) if match]
        notes.append(f"{where}: ids without the number of the caption (#0)")
    if columns.id is not None:
        check_split_ids(records, [name for name, _ in entries], options, where)
    layout: TextLayout = "lines" if columns.id is None else "ids"
    others = find_other_ids(columns, [values for _, values in records]) if columns.id is not None else {}
    used |= columns.used(options)
    return FormContent(entries=entries, layout=layout, notes=tuple(notes), other_ids=others, used=used)


def is_columnar(file: TextFile, options: ReadOptions) -> bool:  # noqa: ARG001
    """Tell whether a path is a Parquet or Arrow file, or a folder of such files."""
    return file.path.is_dir() or file.suffix in (".parquet", ".arrow")


def read_columnar(file: TextFile, options: ReadOptions) -> FormContent:
    """Read the columns of ids and texts of Parquet and Arrow files; others, such as images, are not loaded.

    Raises:
        ValueError: damaged files, a folder that holds none or several splits, or columns that are not clear.
    """
    import pyarrow as pa

    paths, used = _find_files(file.path, options)
    options = replace(options, split_is_chosen="split" in used)
    try:
        tables = [table for path in paths for table in _load(path, options, str(file.path))]
    except (pa.ArrowException, OSError, EOFError) as error:
        raise ValueError(f"{file.path}: cannot be read ({first_line(error)})") from None
    names = tables[0].column_names
    columns = choose_columns(names, options, str(file.path))
    rows = [row for table in tables for row in table.to_pylist()]
    records = [(f"{file.path}: row {number}", row) for number, row in enumerate(rows, 1)]
    content = _make_content(str(file.path), records, columns, options)
    return FormContent(entries=content.entries, layout=content.layout, notes=content.notes, used=content.used | used)


def _find_files(path: Path, options: ReadOptions) -> tuple[list[Path], frozenset[str]]:
    """Find the files of a path, of one split."""
    if not path.is_dir():
        return [path], frozenset()
    if (path / "dataset_dict.json").is_file():
        splits = {child.name: child for child in sorted(path.iterdir()) if (child / "state.json").is_file()}
        folder = splits[choose_split(list(splits), options.split, f"{path}: the split")]
        return sorted(folder.glob("*.arrow")), frozenset({"split"} if options.split else ())
    if files := sorted(path.glob("*.arrow")):
        return files, frozenset()
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise ValueError(f"{path}: a folder without Parquet or Arrow files")
    by_split: dict[str, list[Path]] = {}
    for one in files:
        by_split.setdefault(re.split(r"[-.]", one.name)[0], []).append(one)
    if len(by_split) == 1 and not (options.split and is_split(*by_split)):
        return files, frozenset()
    chosen = choose_split(list(by_split), options.split, f"{path}: the split")
    return by_split[chosen], frozenset({"split"} if options.split else ())


def _load(path: Path, options: ReadOptions, where: str) -> Iterator[Any]:
    """Load the columns that are needed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if ".parquet" in path.suffixes:
        with _open(path) as stream:
            names = pq.read_schema(stream).names
            yield pq.read_table(stream, columns=_list_needed(names, choose_columns(names, options, where)))
        return
    with _open(path) as stream:
        start = stream.read(6)
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if start == b"ARROW1" else pa.ipc.open_stream(stream)
        columns = choose_columns(reader.schema.names, options, where)
        yield reader.read_all().select(_list_needed(reader.schema.names, columns))


def _list_needed(names: Sequence[str], columns: TextColumns) -> list[str]:
    """List the columns that are read: ids, texts, and the languages and splits of texts."""
    wanted = {columns.id, *columns.texts}
    return [name for name in names if name in wanted or is_language_key(name) or is_split_name(name)]


def _open(path: Path) -> IO[bytes]:
    """Open a file that can be read from any place; one in gzip is unpacked in memory."""
    return io.BytesIO(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path.open("rb")
