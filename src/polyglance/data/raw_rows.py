"""Rows of images and texts as users bring them, not yet checked: what `polyglance.data.importer` starts from.

Every form is brought to the same row, `{"image": ..., "texts": {language: ...}, "key": ..., "style": ...}`:

    captions.jsonl     {"image": "a.png", "texts": {"en": "a dog", "de": ["ein Hund", "der Hund"]}}   one a line
    captions.csv/.tsv  a header with `image` and one column per language code
    captions.parquet   columns as in JSON lines or as in CSV
    a folder           a.png, a.en.txt, a.de.txt (one text per line)

`key` and `style` may stand beside `image`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyglance.tables import TableRow, read_table, table_columns

__all__ = ["read_caption_table", "read_folder"]

_FACTS = ("image", "key", "style", "group")
"""Columns that are not languages. `group` is known, so as not to be taken for a language, but has no use yet."""
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_BOM = b"\xef\xbb\xbf"


def read_caption_table(path: str | Path) -> Iterator[TableRow]:
    """The rows of a table of images and texts, in order.

    Raises:
        ValueError: a file that is no table (`polyglance.tables`), no `image` column, or no column of texts; before the
            first row.
    """
    columns = table_columns(path)
    if columns is None:
        return read_table(path)
    is_parquet = Path(path).suffix.lower() == ".parquet"
    has_texts = is_parquet and "texts" in columns
    found = f"the columns are: {', '.join(map(repr, columns))}"
    if "image" not in columns:
        raise ValueError(f"{path}: there is no column 'image'; {found}")
    if not has_texts and all(name in _FACTS for name in columns):
        raise ValueError(f"{path}: there is no column named after a language, such as 'en'; {found}")
    return _caption_rows(path, columns, empty=None if is_parquet else "", has_texts=has_texts)


def _caption_rows(path: str | Path, columns: list[str], *, empty: str | None, has_texts: bool) -> Iterator[TableRow]:
    wanted = [name for name in columns if name in (*_FACTS, "texts")] if has_texts else columns
    for row in read_table(path, columns=wanted):
        filled = {name: cell for name, cell in row.values.items() if cell != empty}
        yield replace(row, values=filled if has_texts else _by_language(filled))


def _by_language(cells: Mapping[str, Any]) -> dict[str, Any]:
    """A row with one column per language as a row with `texts`."""
    if not cells:
        return {}
    facts = {name: cells[name] for name in _FACTS if name in cells}
    return facts | {"texts": {name: cell for name, cell in cells.items() if name not in _FACTS}}


def read_folder(directory: str | Path) -> Iterator[TableRow]:
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


def _read_files(root: Path, files: Sequence[Path]) -> Iterator[TableRow]:
    """Rows of a folder's files (relative to `root`): each is an image, the texts of one, or a row with a problem."""
    images: list[Path] = []
    texts: defaultdict[Path, dict[str, list[str | bytes]]] = defaultdict(dict)
    for path in files:
        where = path.as_posix()
        stem, _, code = path.stem.rpartition(".")
        if path.suffix.lower() in _IMAGE_SUFFIXES:
            images.append(path)
        elif path.suffix.lower() != ".txt" or not stem:
            yield TableRow(where=where, values={}, problem="neither an image nor <name>.<language>.txt")
        elif not (root / path).resolve().is_relative_to(root):
            yield TableRow(where=where, values={}, problem="a path that leads out of the folder")
        else:
            texts[path.with_name(stem)][code] = _read_lines(root / path)
    for path in images:
        where = path.as_posix()
        yield TableRow(where=where, values={"image": where, "texts": texts.pop(path.with_suffix(""), {})})
    for path, lines in texts.items():
        detail = f"no image beside the texts in {', '.join(lines)}"
        yield TableRow(where=path.as_posix(), values={}, problem="texts without an image", detail=detail)


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
