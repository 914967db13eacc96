"""Rows of a user's own table or folder, read but not yet checked: what `polyglance.data.importer` starts from.

Every form is brought to the same raw row, `{"image": ..., "texts": {language: ...}, "key": ..., "style": ...}`:

    captions.jsonl     {"image": "a.png", "texts": {"en": "a dog", "de": ["ein Hund", "der Hund"]}}   one a line
    captions.csv/.tsv  a header with `image` and one column per language code
    captions.parquet   columns as in JSON lines or as in CSV
    a folder           a.png, a.en.txt, a.de.txt (one text per line)

`key` and `style` may stand beside `image`. A row that cannot be read comes out as a row with a problem, never as an
exception and never not at all, so that whoever counts rows counts all of them.
"""

import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["RawRow", "read_folder", "read_table"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_FACTS = ("image", "key", "style", "group")
"""Columns that are not languages. `group` is known, so as not to be taken for a language, but has no use yet."""
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True, slots=True)
class RawRow:
    """One row as it was found."""

    where: str
    """File and line."""
    values: Mapping[str, Any]
    """Unchecked values of `image`, `texts`, `key` and `style`, as far as they are there."""
    problem: str = ""
    """Why the row could not be read; then it has no values."""
    detail: str = ""
    """What exactly was found, for a person to read."""
    num_rows: int = 1
    """Input lines that are lost with an unreadable row (an unclosed quote swallows those after it)."""


def read_table(path: str | Path) -> Iterator[RawRow]:
    """The rows of a table, in order; the form is told by the file's extension.

    Raises:
        ValueError: no such file, an empty one, another extension, no `image` column, no column of texts, or not a
            Parquet file. All of it before the first row.
    """
    path = Path(path)
    known = (*_JSON_LINES, *_DELIMITERS, ".parquet")
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ValueError(f"{path}: unknown kind of table {suffix!r}; known: {', '.join(known)}")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError(f"{path}: no such file, or it may not be read")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    if suffix in _JSON_LINES:
        return _read_json_lines(path)
    if suffix in _DELIMITERS:
        return _read_delimited(path, _header(path, _DELIMITERS[suffix]), _DELIMITERS[suffix])
    return _read_parquet(path, _parquet_columns(path))


def read_folder(directory: str | Path) -> Iterator[RawRow]:
    """One row per image of a folder and its subfolders, with the texts of `<name>.<language>.txt` beside it.

    Text files may be symbolic links only to files inside the folder.

    Raises:
        ValueError: no such folder, or an empty one.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such folder")
    files = sorted(path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    if not files:
        raise ValueError(f"{directory}: the folder is empty")
    return _read_files(directory.resolve(), files)


def _read_json_lines(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(_BOM) if number == 1 else line
            if line.strip():
                yield _parse_json(f"{path.name}:{number}", line)


def _parse_json(where: str, line: bytes) -> RawRow:
    try:
        values = json.loads(line.decode("utf-8"), object_pairs_hook=_unique_keys)
    except UnicodeDecodeError as error:
        return RawRow(where=where, values={}, problem="not UTF-8", detail=str(error.reason))
    except (ValueError, RecursionError) as error:
        return RawRow(where=where, values={}, problem="broken JSON", detail=str(error))
    if not isinstance(values, dict):
        return RawRow(where=where, values={}, problem="not a JSON object", detail=type(values).__name__)
    return RawRow(where=where, values=values)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):  # the standard library would keep the last and lose the others silently
        raise ValueError("a key stands twice in one object")
    return values


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


def _open_text(path: Path) -> Any:
    """Bytes that are not UTF-8 come through as lone surrogates, so that only their own row is lost."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _is_utf8(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _header(path: Path, delimiter: str) -> list[str]:
    with _open_text(path) as file:
        first = next(_csv_rows(file, delimiter), None)
    if first is None:
        raise ValueError(f"{path}: the file is empty")
    if isinstance(first[2], csv.Error):
        raise ValueError(f"{path}:{first[0]}: the header cannot be read ({first[2]})")
    header = [name.strip() for name in first[2]]
    _check_columns(path, header, texts_column=False)
    return header


def _check_columns(path: Path, columns: Sequence[str], *, texts_column: bool) -> None:
    if repeated := sorted({name for name in columns if columns.count(name) > 1}):
        raise ValueError(f"{path}: the column {repeated[0]!r} is there twice")
    found = f"the columns are: {', '.join(map(repr, columns))}"
    if "image" not in columns:
        raise ValueError(f"{path}: there is no column 'image'; {found}")
    if not texts_column and all(name in _FACTS for name in columns):
        raise ValueError(f"{path}: there is no column named after a language, such as 'en'; {found}")


def _read_delimited(path: Path, header: list[str], delimiter: str) -> Iterator[RawRow]:
    with _open_text(path) as file:
        rows = _csv_rows(file, delimiter)
        next(rows)
        for line, num_lines, cells in rows:
            where = f"{path.name}:{line}"
            if isinstance(cells, csv.Error):
                yield RawRow(where=where, values={}, problem="broken CSV", detail=str(cells), num_rows=num_lines)
            elif len(cells) != len(header):
                detail = f"{len(cells)} cells, the header has {len(header)}"
                yield RawRow(where=where, values={}, problem="wrong number of cells", detail=detail)
            elif not _is_utf8(cells):
                yield RawRow(where=where, values={}, problem="not UTF-8")
            else:
                filled = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
                yield RawRow(where=where, values=_by_column(filled))


def _by_column(cells: Mapping[str, Any]) -> dict[str, Any]:
    """A row with one column per language as a row with `texts`."""
    facts = {name: cells[name] for name in _FACTS if name in cells}
    return facts | {"texts": {name: cell for name, cell in cells.items() if name not in _FACTS}}


def _parquet_columns(path: Path) -> list[str]:
    try:
        columns = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file ({str(error).partition(chr(10))[0]})") from None
    _check_columns(path, columns, texts_column="texts" in columns)
    return columns


def _read_parquet(path: Path, columns: list[str]) -> Iterator[RawRow]:
    wanted = [*_FACTS, "texts"] if "texts" in columns else columns
    wanted = [name for name in columns if name in wanted]
    first = 1
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            number, end = first, first + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(1024, row_groups=[group], columns=wanted, use_threads=False):
                    for row in range(batch.num_rows):
                        yield _parse_parquet(f"{path.name}: row {number}", batch.slice(row, 1))
                        number += 1
            except (pa.ArrowException, OSError) as error:
                where, detail = f"{path.name}: row {number}", str(error).partition("\n")[0]
                yield RawRow(where=where, values={}, problem="damaged", detail=detail, num_rows=end - number)
            first = end


def _parse_parquet(where: str, row: pa.RecordBatch) -> RawRow:
    try:
        (cells,) = row.to_pylist()
    except (ValueError, pa.ArrowException) as error:  # strings that are not UTF-8, dates out of Python's range
        return RawRow(where=where, values={}, problem="not UTF-8", detail=str(error))
    filled = {name: cell for name, cell in cells.items() if cell is not None}
    if "texts" not in row.schema.names:
        return RawRow(where=where, values=_by_column(filled))
    if isinstance(row.schema.field("texts").type, pa.MapType) and "texts" in filled:
        filled["texts"] = dict(filled["texts"])
    return RawRow(where=where, values=filled)


def _read_files(root: Path, files: Sequence[Path]) -> Iterator[RawRow]:
    """Rows of a folder's files (relative to `root`): each is an image, the texts of one, or a row with a problem."""
    images: list[Path] = []
    texts: defaultdict[Path, dict[str, list[str | bytes]]] = defaultdict(dict)
    for path in files:
        where = path.as_posix()
        stem, _, code = path.stem.rpartition(".")
        if path.suffix.lower() in _IMAGE_SUFFIXES:
            images.append(path)
        elif path.suffix.lower() != ".txt" or not stem:
            yield RawRow(where=where, values={}, problem="neither an image nor <name>.<language>.txt")
        elif not (root / path).resolve().is_relative_to(root):
            yield RawRow(where=where, values={}, problem="a path that leads out of the folder")
        else:
            texts[path.with_name(stem)][code] = _read_lines(root / path)
    for path in images:
        where = path.as_posix()
        yield RawRow(where=where, values={"image": where, "texts": texts.pop(path.with_suffix(""), {})})
    for path, lines in texts.items():
        detail = f"no image beside the texts in {', '.join(lines)}"
        yield RawRow(where=path.as_posix(), values={}, problem="texts without an image", detail=detail)


def _read_lines(path: Path) -> list[str | bytes]:
    """The lines that are not blank; as bytes where they are not UTF-8, for the importer to refuse one by one."""
    lines: list[str | bytes] = []
    for line in path.read_bytes().removeprefix(_BOM).split(b"\n"):
        if line.strip():
            try:
                lines.append(line.decode("utf-8"))
            except UnicodeDecodeError:
                lines.append(line)
    return lines
