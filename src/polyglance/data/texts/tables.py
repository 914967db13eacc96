"""Tables of texts: CSV, TSV, lines of an id and a text between tabs, Parquet, folders of Hugging Face data sets."""

import gzip
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from polyglance.data.texts.columns import Columns, choose_columns, is_known_name, parse_id, parse_texts
from polyglance.data.texts.text_set import Entry, FormContent, Id, Layout, ReadOptions, TextFile
from polyglance.delimited import find_quoting, read_records

__all__ = ["is_columnar", "is_table", "read_columnar", "read_table"]

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_FLICKR_ID = re.compile(r"^(.+\.\w{2,5})#\d+$")
"""`1000268201.jpg#0`: an image of Flickr8k and the number of its caption."""
_DECIMAL = re.compile(r"^\s*[-+]?\d*\.\d+(?:[eE][-+]?\d+)?\s*$")
_ID_CELL = re.compile(r"^[\w./:#-]*$")


def is_table(file: TextFile, options: ReadOptions) -> bool:
    """Tell whether a text file is a table: by the extension, or because all its lines have as many tabs."""
    if options.as_lines:
        return False
    if file.suffix == ".csv":
        return True
    counts = {line.count("\t") for line in file.lines if line.strip()}
    return len(counts) == 1 and counts != {0}


def read_table(file: TextFile, options: ReadOptions) -> FormContent:
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
    rows: list[tuple[int, list[str]]] = []
    for record in read_records(iter(file.lines), delimiter, quoted=quoted, trusted=throughout or delimiter == ","):
        if record.problem:
            raise ValueError(f"{where}:{record.line}: not a row of a table ({record.problem})")
        if not record.is_blank:
            rows.append((record.line, record.cells))
    if not rows:
        raise ValueError(f"{where}: holds no texts")
    for line, cells in rows:
        if len(cells) != len(rows[0][1]):
            first = f"the first row has {len(rows[0][1])}"
            raise ValueError(
                f"{where}:{line}: {len(cells)} cells, {first}; quote cells that hold the delimiter, or name the file "
                ".txt if each line is a text"
            )
    if _has_header(rows, options):
        return _read_named(where, rows, options)
    return _read_unnamed(where, rows, options)


def _find_delimiter(file: TextFile) -> str:
    first = next((line for line in file.lines if line.strip()), "")
    usual = _DELIMITERS.get(file.suffix, "\t")
    if usual in first:
        return usual
    return next((other for other in ("\t", ";", "|") if other in first), usual)


def _has_header(rows: Sequence[tuple[int, list[str]]], options: ReadOptions) -> bool:
    first = [cell.strip() for cell in rows[0][1]]
    wanted = [*options.text_column, *([options.id_column] if options.id_column else [])]
    if wanted and any(name in first for name in wanted):
        return True
    if wanted and all(name.isdecimal() for name in wanted):
        return False
    if len(set(first)) < len(first) or not all(first[1:]):
        return False
    return any(is_known_name(cell, options.role) for cell in first)


def _read_named(where: str, rows: Sequence[tuple[int, list[str]]], options: ReadOptions) -> FormContent:
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(rows[0][1], 1)]
    if names[0] == "column 1" and "index" not in names:
        names[0] = "index"  # pandas writes the index of rows so; it is the id where no other column is
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{where}: the column {repeated!r} occurs twice")
    columns = choose_columns(names, options, where)
    records = [(f"{where}:{line}", dict(zip(names, cells, strict=True))) for line, cells in rows[1:]]
    return _make_content(where, records, columns, options)


def _read_unnamed(where: str, rows: Sequence[tuple[int, list[str]]], options: ReadOptions) -> FormContent:
    """Read a table without a header; its columns are called 1, 2, ..."""
    width = len(rows[0][1])
    names = [str(number) for number in range(1, width + 1)]
    columns = Columns(
        id=options.id_column if options.id_column in names else None,
        texts=tuple(name for name in options.text_column if name in names),
    )
    if not columns.texts:
        columns = _tell_by_cells(where, names, [cells for _, cells in rows])
    records = [(f"{where}:{line}", dict(zip(names, cells, strict=True))) for line, cells in rows]
    return _make_content(where, records, columns, options)


def _tell_by_cells(where: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Columns:
    """Tell ids from texts where a table has no header: ids hold no blanks, and a digit each. Columns of decimal numbers
    are scores, which are not read."""
    cells = list(zip(*rows, strict=True))
    if len(names) == 1:
        return Columns(id=None, texts=("1",))
    scores = [name for name, column in zip(names, cells, strict=True) if all(map(_DECIMAL.match, column))]
    ids = [name for name, column in zip(names, cells, strict=True) if name not in scores and _are_ids(column)]
    texts = [name for name in names if name not in ids and name not in scores]
    if len(texts) == 1 and scores and not ids:
        return Columns(id=None, texts=(texts[0],))
    if len(ids) != 1 or len(texts) != 1:
        first = " | ".join(rows[0])[:80]
        raise ValueError(
            f"{where}: a table without a header whose columns are not clear ({first}); name them by their numbers: "
            "--id-column 1 --text-column 2"
        )
    return Columns(id=ids[0], texts=(texts[0],))


def _are_ids(column: Sequence[str]) -> bool:
    cells = [cell.strip() for cell in column]
    return all(_ID_CELL.match(cell) and cell.isascii() for cell in cells) and all(
        any(character.isdigit() for character in cell) for cell in cells
    )


def _make_content(
    where: str, records: Sequence[tuple[str, Mapping[str, Any]]], columns: Columns, options: ReadOptions
) -> FormContent:
    """Take ids and texts from rows. An empty cell is no reference where there are several columns."""
    if not records:
        raise ValueError(f"{where}: holds no texts")
    entries: list[Entry] = []
    for number, (place, values) in enumerate(records, 1):
        name: Id = number
        if columns.id is not None:
            value = values[columns.id]
            name = parse_id(value.strip() if isinstance(value, str) else value, place)
        given = [values[column] for column in columns.texts]
        if len(given) > 1:
            given = [text for text in given if text not in (None, "")] or [""]
        elif given == [None]:
            raise ValueError(f"{place}: no text (null)")
        entries.append((name, tuple(text for one in given for text in parse_texts(one, place))))
    captions = [_FLICKR_ID.match(str(name)) for name, _ in entries]
    notes = [f"{where}: {columns.describe()}"]
    if all(captions):
        entries = [(match[1], texts) for match, (_, texts) in zip(captions, entries, strict=True) if match]
        notes.append(f"{where}: ids without the number of the caption (#0)")
    layout: Layout = "lines" if columns.id is None else "ids"
    return FormContent(entries=entries, layout=layout, notes=tuple(notes), used=columns.used(options))


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
    try:
        tables = [table for path in paths for table in _load(path, options, str(file.path))]
    except (pa.ArrowException, OSError, EOFError) as error:
        raise ValueError(f"{file.path}: cannot be read ({str(error).splitlines()[0]})") from None
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
        folder = splits[_choose_split(path, list(splits), options)]
        return sorted(folder.glob("*.arrow")), frozenset({"split"} if options.split else ())
    if files := sorted(path.glob("*.arrow")):
        return files, frozenset()
    files = sorted(path.rglob("*.parquet"))
    if not files:
        raise ValueError(f"{path}: a folder without Parquet or Arrow files")
    by_split: dict[str, list[Path]] = {}
    for one in files:
        by_split.setdefault(re.split(r"[-.]", one.name)[0], []).append(one)
    if len(by_split) == 1 and not options.split:
        return files, frozenset()
    chosen = _choose_split(path, list(by_split), options)
    return by_split[chosen], frozenset({"split"} if options.split else ())


def _choose_split(path: Path, splits: Sequence[str], options: ReadOptions) -> str:
    if options.split in splits:
        return options.split
    if len(splits) == 1 and not options.split:
        return splits[0]
    raise ValueError(f"{path}: holds the splits {', '.join(splits)}; name one of them with --split")


def _load(path: Path, options: ReadOptions, where: str) -> Iterator[Any]:
    """Load the columns that are needed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if ".parquet" in path.suffixes:
        with _open(path) as stream:
            columns = choose_columns(pq.read_schema(stream).names, options, where)
            yield pq.read_table(stream, columns=[*([columns.id] if columns.id else []), *columns.texts])
        return
    with _open(path) as stream:
        start = stream.read(6)
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if start == b"ARROW1" else pa.ipc.open_stream(stream)
        columns = choose_columns(reader.schema.names, options, where)
        yield reader.read_all().select([*([columns.id] if columns.id else []), *columns.texts])


def _open(path: Path) -> IO[bytes]:
    """Open a file that can be read from any place; one in gzip is unpacked in memory."""
    return io.BytesIO(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path.open("rb")
