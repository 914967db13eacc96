"""Columns of images and texts. The role of each column is decided from its name and its content.

    captions.jsonl     {"image": "a.png", "texts": {"en": "a dog", "de": ["ein Hund", "der Hund"]}}   one per line
    captions.csv/.tsv  a header with `image` (or `file_name`, ...) and one column per language
    captions.parquet   columns as in JSON lines or as in CSV; an image may be its path, its bytes, or {bytes, path}

Other forms have such columns too (`polyglance.data.row_sources`). A column is a language if its name is a language tag
(`en`, `de-DE`, `zh_CN`) and its content is text, not numbers, addresses, paths or constants. A column whose texts are
in another language than its name is refused; the message names the setting that decides. If a column names the language
of each row's text (`lang`), it is read together with the column of the texts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polyglance.data.cleaning import join_lines
from polyglance.data.columns import find_content
from polyglance.data.row_sources import RowSource, open_rows
from polyglance.data.row_sources.row_source import find_image_name
from polyglance.data.texts.columns import find_column_tag, list_texts, parse_texts_by_language
from polyglance.data.texts.languages_of_texts import LANGUAGE_KEYS
from polyglance.delimited import Quoting
from polyglance.language_identity import find_other_language
from polyglance.language_tags import find_code, parse_language_tag
from polyglance.languages import LANGUAGES, did_you_mean
from polyglance.scripts import is_in_another_script
from polyglance.tables import TableRow

__all__ = ["CaptionTable", "Column", "open_caption_table"]

_FACTS = ("image", "key", "style", "texts", "language", "text")
"""Roles of columns that are not languages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """Role of a column."""

    name: str
    role: str
    """`image`, `key`, `style`, `texts`, `language` (of the row's text), `text`, the code of a language, or `` (left
    out)."""
    reason: str = ""
    """Why it is left out; for a used column, any evidence against its role."""
    holds_text: bool = False
    """For a column that is left out: whether its content reads as text."""

    def describe(self) -> str:
        """Return the decision in words."""
        if not self.role:
            return f"left out: {self.reason}"
        return f"{self.role} ({self.reason})" if self.reason else self.role


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTable:
    """Rows whose columns have roles."""

    source: RowSource
    columns: tuple[Column, ...]
    samples: tuple[Mapping[str, str], ...]
    """The first two rows that could be read: column -> beginning of its cell."""

    @property
    def path(self) -> Path:
        """File or folder that the rows are read from."""
        return self.source.path

    def read(self) -> Iterator[TableRow]:
        """Yield the rows in order, each as `{"image": ..., "key": ..., "style": ..., "texts": {language: ...}}`."""
        by_name = {column.name: column for column in self.columns}
        wanted = [column.name for column in self.columns if column.role or column.holds_text]
        for row in self.source.read(wanted):
            yield row if row.problem else replace(row, values=_arrange(row.values, by_name))


def _arrange(cells: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, Any]:
    """Arrange the cells of a row by their roles; texts of columns without a known language keep the column's name."""
    values: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    language_of_row, text_of_row = None, None
    for name, cell in cells.items():
        column = columns.get(name)
        if cell is None or cell == "" or (column is not None and not (column.role or column.holds_text)):
            continue
        role = column.role if column is not None else _find_late_role(name, cell)
        if role == "language":
            language_of_row = cell
        elif role == "text":
            text_of_row = cell
        elif role in _FACTS:
            values[role] = cell
        else:
            _add_texts(texts, role or f"the column {name}", cell)
    if text_of_row is not None:
        _add_texts(texts, str(language_of_row or "no language"), text_of_row)
    return values if "texts" in values or not texts else {**values, "texts": texts}


def _find_late_role(name: str, cell: Any) -> str:
    """Return the role of a column that first occurs in a later row: a language if its name and this cell are of one."""
    tag = find_column_tag(name)
    is_text = find_content([text for text in map(_as_text, list_texts(cell)) if text.strip()]) in ("text", "")
    return tag.code if tag is not None and is_text else ""


def _add_texts(texts: dict[str, Any], code: str, cell: Any) -> None:
    found = list_texts(cell)
    if code in texts:
        texts[code] = [*list_texts(texts[code]), *found]
    else:
        texts[code] = found[0] if len(found) == 1 else found


def open_caption_table(
    path: str | Path, *, encoding: str = "auto", quoting: Quoting = "auto", columns: Sequence[str] = ()
) -> CaptionTable:
    """Decide what the columns of a table, or of another form of images and texts, are.

    Args:
        encoding, quoting: as for `polyglance.tables.detect_table_format`.
        columns: `name=role`, for columns whose role is given and not guessed.

    Raises:
        ValueError: no known form (`polyglance.data.row_sources`), no column of images, none of texts, or one that reads
            as another language than its name says.
    """
    path = Path(path)
    source = open_rows(path, encoding=encoding, quoting=quoting)
    header, given = source.names(), _parse_roles(columns)
    rows = source.sample()
    names = list(dict.fromkeys(name for row in rows for name in row)) if header is None else header
    for name in given:
        if name not in names:
            raise ValueError(f"{path}: columns names {name!r}; {did_you_mean(name, names)}")
    decided = _Decision(path, source.image_columns, names, rows, given).decide()
    if header is not None or rows:
        _check_roles(path, names, decided, is_json=header is None)
        _check_languages_of_rows(path, rows, decided)
    samples = tuple({name: _show(row.get(name)) for name in names} for row in rows[:2])
    return CaptionTable(source=source, columns=decided, samples=samples)


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
        if name in roles:
            raise ValueError(f"columns names {name!r} twice")
        roles[name] = "" if role == "ignore" else role
    return roles


class _Decision:
    """Decides what each column is, by the names, types and first cells of all.

    Args:
        image_columns: those whose type says that they hold images.
        rows: the first rows.
        given: column -> role, by the user.
    """

    def __init__(
        self,
        path: Path,
        image_columns: Sequence[str],
        names: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        given: Mapping[str, str],
    ) -> None:
        self.path, self.names, self.given = path, names, given
        self.cells = {name: [row.get(name) for row in rows] for name in names}
        self.image = self._find_image(image_columns)
        self.texts = self._find_texts()
        self.language = self._find_language()

    def decide(self) -> tuple[Column, ...]:
        """Decide all columns.

        Raises:
            ValueError: a role is ambiguous; the message names the setting that decides.
        """
        columns = [self._decide(name) for name in self.names]
        self._check_language_of_rows(columns)
        if not self.language or "text" in self.given.values():
            return tuple(columns)
        texts = [column.name for column in columns if column.holds_text and not column.role]
        if len(texts) != 1:
            found = ", ".join(map(repr, texts)) or "none"
            raise ValueError(
                f"{self.path}: {self.language!r} says the language of each row, and the columns of text are: {found}; "
                f"set columns to '{texts[0] if texts else 'name'}=text', or to '{self.language}=ignore'"
            )
        return tuple(Column(name=column.name, role="text") if column.name == texts[0] else column for column in columns)

    def _find_image(self, image_columns: Sequence[str]) -> str:
        if "image" in self.given.values():
            return ""
        free = [name for name in self.names if name not in self.given]
        by_name = find_image_name(free)
        typed = [name for name in image_columns if name in free]
        return typed[0] if len(typed) == 1 and by_name not in typed else by_name

    def _find_texts(self) -> str:
        """Find the column whose cells are objects of language -> text."""
        free = [name for name in self.names if name not in self.given]
        if "texts" in free or "texts" in self.given.values():
            return "texts" if "texts" in free else ""
        found = [name for name in free if _are_texts_by_language(self.cells[name])]
        if len(found) > 1:
            raise ValueError(
                f"{self.path}: several columns hold texts by language: {', '.join(map(repr, found))}; set columns to "
                f"'{found[0]}=ignore', for example"
            )
        return found[0] if found else ""

    def _find_language(self) -> str:
        """Find the column that says the language of each row's text, where no column is named after a language."""
        free = [name for name in self.names if name not in self.given]
        if self.texts or "language" in self.given.values():
            return next((name for name, role in self.given.items() if role == "language"), "")
        if any((tag := find_column_tag(name)) is not None and tag.code for name in free):
            return ""
        found = [name for name in free if name.lower() in LANGUAGE_KEYS and _are_tags(self.cells[name])]
        return found[0] if found and not any(role in LANGUAGES for role in self.given.values()) else ""

    def _check_language_of_rows(self, columns: Sequence[Column]) -> None:
        """Refuse a column of one language if another column says that its rows are in several languages."""
        asked = {role for role in self.given.values() if role in LANGUAGES}
        for column in columns:
            if column.role or column.name in self.given or column.name.lower() not in LANGUAGE_KEYS or not asked:
                continue
            tags = [parse_language_tag(cell) for cell in self.cells[column.name] if isinstance(cell, str)]
            other = next((tag for tag in tags if tag is not None and tag.code and tag.code not in asked), None)
            if other is not None:
                text = next(name for name, role in self.given.items() if role in LANGUAGES)
                raise ValueError(
                    f"{self.path}: the column {column.name!r} says that texts are in {other.tag}; set columns to "
                    f"'{column.name}=language' and '{text}=text', or to '{column.name}=ignore'"
                )

    def _decide(self, name: str) -> Column:
        if name in self.given:
            return Column(name=name, role=self.given[name], reason=self._describe_given(name))
        if name and name in (self.image, self.texts, self.language):
            role = "image" if name == self.image else "texts" if name == self.texts else "language"
            return Column(name=name, role=role)
        if name in ("key", "style"):
            return Column(name=name, role=name)
        cells = [one for cell in self.cells[name] for one in list_texts(cell) if one is not None]
        texts = [text for text in map(_as_text, cells) if text.strip()]
        content = "records" if cells and all(isinstance(cell, Mapping) for cell in cells) else find_content(texts)
        if self.texts:
            return self._decide_beside_texts(name, content)
        if content not in ("text", ""):
            return Column(name=name, role="", reason=content)
        tag = find_column_tag(name)
        if tag is None or not tag.code:
            if tag is not None and tag.language in LANGUAGES:
                reason = f"written in {tag.script}, {tag.language} is in another script"
            else:
                reason = "not named after a known language"
            return Column(name=name, role="", reason=reason, holds_text=content == "text")
        _check_language(self.path, name, tag.code, texts)
        return Column(name=name, role=tag.code)

    def _describe_given(self, name: str) -> str:
        """Return a remark on a column whose role the user gave: left out as requested, or of another language than
        given."""
        role = self.given[name]
        if role not in LANGUAGES:
            return "" if role else "as was asked for"
        texts = [_as_text(one) for cell in self.cells[name] for one in list_texts(cell) if one is not None]
        other = find_other_language([text for text in texts if text.strip()], role)
        return f"as was asked for, but it reads as {other}" if other is not None else ""

    def _decide_beside_texts(self, name: str, content: str) -> Column:
        """Leave a column out beside one of texts by language, unless it is a language itself."""
        tag = find_column_tag(name)
        if self.texts != "texts" and content == "text" and tag is not None and tag.code:
            raise ValueError(
                f"{self.path}: texts are in the column {self.texts!r} and in {name!r}; "
                f"set columns to '{name}=ignore' or '{self.texts}=ignore'"
            )
        return Column(name=name, role="", reason=f"the texts are in `{self.texts}`")


def _as_text(cell: Any) -> str:
    """Return the text of a cell: of numbers as they are written, of bytes as UTF-8; empty for anything else."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    return str(cell) if isinstance(cell, (str, int, float)) else ""


def _are_texts_by_language(cells: Sequence[Any]) -> bool:
    """Tell whether cells are objects whose keys are languages, at least one of them known."""
    found = [cell for cell in map(parse_texts_by_language, cells) if isinstance(cell, Mapping) and cell]
    keys = {str(key) for cell in found for key in cell}
    tags = [parse_language_tag(key) for key in keys]
    return bool(found) and None not in tags and any(tag is not None and tag.code for tag in tags)


def _are_tags(cells: Sequence[Any]) -> bool:
    """Tell whether all cells are tags of languages, at least one of them known."""
    if not all(cell is None or isinstance(cell, str) for cell in cells):  # JSON has lists and numbers in cells
        return False
    found = {cell for cell in cells if cell}
    tags = [parse_language_tag(cell) for cell in found]
    return bool(found) and None not in tags and any(tag is not None and tag.code for tag in tags)


def _check_language(path: Path, name: str, code: str, texts: list[str]) -> None:
    advice = f"if it is {code}: --columns {name}={code}; to leave it out: --columns {name}=ignore"
    num_foreign = sum(is_in_another_script(text, code) for text in texts)
    if num_foreign >= 5 and num_foreign > 0.6 * len(texts):
        raise ValueError(f"{path}: the column {name!r} is in another script than {code} is written in; {advice}")
    other = find_other_language(texts, code)
    if other is not None:
        raise ValueError(f"{path}: the column {name!r} reads as {other}, not as {code}; {advice}")


def _check_languages_of_rows(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    """Refuse texts in another language than their row or object states."""
    column = next((column for column in columns if column.role in ("texts", "text")), None)
    if column is None:
        return
    by_column = {column.name: column for column in columns}
    by_name: dict[str, list[str]] = {}
    for row in rows:
        texts = parse_texts_by_language(_arrange(row, by_column).get("texts"))
        for name, cell in texts.items() if isinstance(texts, Mapping) else ():
            by_name.setdefault(str(name), []).extend(_as_text(one) for one in list_texts(cell) if one is not None)
    by_code: dict[str, list[str]] = {}
    for name, found in by_name.items():
        tag = parse_language_tag(name)
        if tag is not None and tag.code:
            by_code.setdefault(tag.code, []).extend(found)
    for code, texts in by_code.items():
        other = find_other_language([text for text in texts if text.strip()], code)
        if other is not None:
            raise ValueError(
                f"{path}: the texts of {column.name!r} that are said to be in {code} read as {other}; correct the "
                f"table, or leave them out with --languages"
            )


def _check_roles(path: Path, names: Sequence[str], columns: Sequence[Column], *, is_json: bool) -> None:
    listed = "; ".join(f"{column.name!r} ({column.describe()})" for column in columns)
    roles = Counter(column.role for column in columns)
    if not roles["image"] and (not is_json or len(names) > 1):
        address = any(column.reason == "addresses" for column in columns)
        hint = "download the images first, for example with img2dataset, or " if address else ""
        raise ValueError(
            f"{path}: there is no column 'image'; the columns are: {listed}; {hint}set columns to 'name=image'"
        )
    for role in ("image", "key", "texts", "language", "text"):
        if roles[role] > 1:
            raise ValueError(f"{path}: several columns of {role}s; the columns are: {listed}")
    if roles["language"] != roles["text"]:
        missing = "text" if roles["language"] else "language"
        raise ValueError(
            f"{path}: no column has the role {missing}; the columns are: {listed}; set columns to 'name={missing}'"
        )
    if is_json and "texts" in names:
        return
    if not any(role in ("texts", "text") or role in LANGUAGES for role in roles) and (not is_json or len(names) > 1):
        raise ValueError(
            f"{path}: there is no column named after a language, such as 'en'; the columns are: {listed}; "
            f"{_suggest_text(columns)}"
        )


def _suggest_text(columns: Sequence[Column]) -> str:
    """Suggest a setting: for a column named after a language, for columns of languages and texts, or for any column of
    text. Where no column holds text, suggest to write one."""
    for column in columns:
        if (
            column.reason not in ("", "records", "numbers", "addresses")
            and (tag := find_column_tag(column.name)) is not None
            and tag.code
        ):
            return f"set columns to '{column.name}={tag.code}', for example"
    texts = [column.name for column in columns if column.holds_text and column.name.lower() not in LANGUAGE_KEYS]
    language = next((column.name for column in columns if column.name.lower() in LANGUAGE_KEYS), "")
    if not texts:
        return "none holds texts: write them to a column named after their language"
    setting = f"'{language}=language' and '{texts[0]}=text'" if language else f"'{texts[0]}=en'"
    return f"set columns to {setting}, for example"


def _show(cell: Any) -> str:
    """Return the beginning of a cell for display; never the bytes of an image."""
    if isinstance(cell, bytes):
        return f"<{len(cell)} bytes>"
    if isinstance(cell, Mapping):
        return "{" + ", ".join(f"{name}: {_show(value)}" for name, value in cell.items()) + "}"
    if isinstance(cell, (list, tuple)):
        return "[" + ", ".join(_show(value) for value in cell[:3]) + "]"
    shown = join_lines(str("" if cell is None else cell))
    return shown if len(shown) <= 80 else f"{shown[:79]}…"
