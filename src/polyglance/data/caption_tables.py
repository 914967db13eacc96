"""Tables of images and texts: which column is what, decided by its content and not by its name alone.

    captions.jsonl     {"image": "a.png", "texts": {"en": "a dog", "de": ["ein Hund", "der Hund"]}}   one per line
    captions.csv/.tsv  a header with `image` (or `file_name`, ...) and one column per language
    captions.parquet   columns as in JSON lines or as in CSV; an image may be its path, its bytes, or {bytes, path}

A column is a language if its name is a tag of one (`en`, `de-DE`, `zh_CN`) and its content reads as one. Numbers,
addresses, paths and constants never do. What reads as another language is refused, with the setting that decides.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from polyglance.data.cleaning import one_line
from polyglance.data.columns import find_content
from polyglance.delimited import Quoting
from polyglance.language_identity import find_other_language
from polyglance.language_tags import find_code, parse_language_tag
from polyglance.languages import LANGUAGES, did_you_mean
from polyglance.scripts import is_in_another_script
from polyglance.tables import TableFormat, TableRow, detect_table_format, read_table, table_columns

__all__ = ["CaptionTable", "Column", "open_caption_table"]

_FACTS = ("image", "key", "style")
"""Roles of columns that are not languages."""
_IMAGE_NAMES = ("image", "file_name", "filename", "image_path", "image_file", "filepath", "file", "path", "img")
"""Names of the column of images, the best first."""
_SAMPLE_ROWS = 1000
_PARQUET_SAMPLE_ROWS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """Role of a column."""

    name: str
    role: str
    """`image`, `key`, `style`, `texts`, the code of a language, or `` (left out)."""
    reason: str = ""
    """Why it is left out."""
    holds_text: bool = False
    """For a column that is left out: whether its content reads as text."""

    def describe(self) -> str:
        """Return the decision in words."""
        return self.role or f"left out: {self.reason}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTable:
    """A table whose columns are decided."""

    path: Path
    form: TableFormat
    columns: tuple[Column, ...]
    samples: tuple[Mapping[str, str], ...]
    """The first two rows that could be read: column -> beginning of its cell."""

    def read(self) -> Iterator[TableRow]:
        """Yield the rows in order, each as `{"image": ..., "key": ..., "style": ..., "texts": {language: ...}}`."""
        roles = {column.name: column for column in self.columns}
        wanted = [column.name for column in self.columns if column.role or column.holds_text]
        for row in read_table(self.path, columns=wanted, form=self.form):
            yield row if row.problem else replace(row, values=_arrange(row.values, roles))


def _arrange(cells: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, Any]:
    """Arrange the cells of a row by their roles; texts of columns that are no known language keep their names."""
    values: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    for name, cell in cells.items():
        column = columns.get(name)
        if cell is None or cell == "" or (column is not None and not (column.role or column.holds_text)):
            continue
        role = column.role if column is not None else ""
        if role in (*_FACTS, "texts"):
            values[role] = cell
        else:
            code = role or name
            texts[code] = [*_listed(texts[code]), *_listed(cell)] if code in texts else cell
    return values if "texts" in values or not texts else {**values, "texts": texts}


def _listed(cell: Any) -> list[Any]:
    return list(cell) if isinstance(cell, (list, tuple)) else [cell]


def open_caption_table(
    path: str | Path, *, encoding: str = "auto", quoting: Quoting = "auto", columns: Sequence[str] = ()
) -> CaptionTable:
    """Decide what the columns of a table are.

    Args:
        encoding, quoting: as for `detect_table_format`.
        columns: `name=role`, for columns whose role is given and not guessed.

    Raises:
        ValueError: a file that is no table (`polyglance.tables`), no column of images, none of texts, or one that reads
            as another language than its name says.
    """
    path = Path(path)
    form = detect_table_format(path, encoding=encoding, quoting=quoting)
    header = table_columns(path, form)
    given = _parse_roles(columns)
    rows = _sample(path, form, header)
    names = list(dict.fromkeys(name for row in rows for name in row)) if header is None else header
    if header is not None or given:
        for name in given:
            if name not in names:
                raise ValueError(f"{path}: columns names {name!r}; {did_you_mean(name, names)}")
    decided = tuple(_decide(path, name, names, [row.get(name) for row in rows], given) for name in names)
    if header is not None or rows:
        _check_roles(path, names, decided, is_json=header is None)
    samples = tuple({name: _show(row.get(name)) for name in names} for row in rows[:2])
    return CaptionTable(path=path, form=form, columns=decided, samples=samples)


def _parse_roles(columns: Sequence[str]) -> dict[str, str]:
    roles = {}
    for entry in columns:
        name, found, role = entry.rpartition("=")
        if found and role not in (*_FACTS, "ignore", *LANGUAGES):
            with suppress(ValueError):
                role = find_code(role)
        if not found or (role not in (*_FACTS, "ignore") and role not in LANGUAGES):
            hint = did_you_mean(role, [*_FACTS, "ignore", *LANGUAGES])
            raise ValueError(f"columns has {entry!r}; give name=role, where the role is a language or a fact: {hint}")
        roles[name] = "" if role == "ignore" else role
    return roles


def _sample(path: Path, form: TableFormat, header: Sequence[str] | None) -> list[Mapping[str, Any]]:
    """Read the first rows; of Parquet without the bytes of images."""
    if form.suffix == ".parquet":
        import pyarrow.parquet as pq

        schema = pq.read_schema(path)
        is_large = {field.name for field in schema if "binary" in str(field.type)}
        texts = [name for name in header or () if name not in is_large]
        rows = read_table(path, columns=texts, form=form) if texts else iter(())
        return [row.values for row in islice(rows, _PARQUET_SAMPLE_ROWS) if not row.problem]
    return [row.values for row in islice(read_table(path, form=form), _SAMPLE_ROWS) if not row.problem]


def _decide(path: Path, name: str, names: Sequence[str], cells: Sequence[Any], given: Mapping[str, str]) -> Column:
    if name in given:
        return Column(name=name, role=given[name], reason="as was asked for")
    image = next((known for known in _IMAGE_NAMES if known in names), "image")
    if "image" in given.values():
        image = ""
    if name == image:
        return Column(name=name, role="image")
    if name in ("key", "style", "texts"):
        return Column(name=name, role=name)
    texts = [text for cell in cells for text in _listed(cell) if isinstance(text, str) and text.strip()]
    content = find_content(texts)
    tag = parse_language_tag(name)
    if "texts" in names:
        return Column(name=name, role="", reason="the texts are in `texts`")
    if content not in ("text", ""):
        return Column(name=name, role="", reason=content)
    if tag is None or not tag.code:
        if tag is not None and tag.language in LANGUAGES:
            reason = f"written in {tag.script}, {tag.language} is in another script"
        else:
            reason = "not named after a known language"
        return Column(name=name, role="", reason=reason, holds_text=content == "text")
    _check_language(path, name, tag.code, texts)
    return Column(name=name, role=tag.code)


def _check_language(path: Path, name: str, code: str, texts: list[str]) -> None:
    settle = f"if it is {code}: --columns {name}={code}; to leave it out: --columns {name}=ignore"
    num_foreign = sum(is_in_another_script(text, code) for text in texts)
    if num_foreign >= 5 and num_foreign > 0.6 * len(texts):
        raise ValueError(f"{path}: the column {name!r} is in another script than {code} is written in; {settle}")
    other = find_other_language(texts, code)
    if other is not None:
        raise ValueError(f"{path}: the column {name!r} reads as {other}, not as {code}; {settle}")


def _check_roles(path: Path, names: Sequence[str], columns: Sequence[Column], *, is_json: bool) -> None:
    listed = "; ".join(f"{column.name!r} ({column.describe()})" for column in columns)
    roles = Counter(column.role for column in columns)
    if not roles["image"] and not is_json:
        raise ValueError(f"{path}: there is no column 'image'; the columns are: {listed}; set columns to 'name=image'")
    if roles["image"] > 1:
        raise ValueError(f"{path}: several columns of images; the columns are: {listed}")
    if is_json and "texts" in names:
        return
    if not any(role == "texts" or role in LANGUAGES for role in roles) and (not is_json or len(names) > 1):
        text = next((column.name for column in columns if column.holds_text), "name")
        raise ValueError(
            f"{path}: there is no column named after a language, such as 'en'; the columns are: {listed}; "
            f"set columns to '{text}=en', for example"
        )


def _show(cell: Any) -> str:
    """Beginning of a cell for a person; never the bytes of an image."""
    if isinstance(cell, bytes):
        return f"<{len(cell)} bytes>"
    if isinstance(cell, Mapping):
        return "{" + ", ".join(f"{name}: {_show(value)}" for name, value in cell.items()) + "}"
    if isinstance(cell, (list, tuple)):
        return "[" + ", ".join(_show(value) for value in cell[:3]) + "]"
    shown = one_line(str("" if cell is None else cell))
    return shown if len(shown) <= 80 else f"{shown[:79]}…"
