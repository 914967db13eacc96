"""Files of predictions and references as people have them: COCO JSON, JSON lines, or one text per line.

    read_texts(Path("captions.json")).by_id()      # {"42": ["a dog", "a brown dog"]}

`FORMS` lists the forms of files. A form is added by one `TextForm`: how a file of it is recognised, and how its entries
are read.

A file is cut into lines at line feeds only. U+2028, CR, FF and VT stay inside the text they are in; tools that cut
there shift every later text to the wrong image.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from polyglance.files import parse_json, read_text

__all__ = ["FORMS", "Id", "TextFile", "TextForm", "TextSet", "make_text_set", "read_ids", "read_texts"]

Id = int | str
"""Id of a segment as its file spells it. Ids are compared as strings, so 42 and "42" are the same."""
Entry = tuple[Id, tuple[str, ...]]
"""One record of a file: an id and its texts."""
Layout = Literal["coco captions", "records", "texts by id", "lines"]


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """Texts with ids, in the order of their files and with repetitions, so that checks see what is wrong."""

    source: str
    """File names, or another name for messages."""
    layout: Layout
    entries: tuple[Entry, ...]

    def by_id(self) -> dict[str, list[str]]:
        """Return all texts of each id, in order."""
        texts: dict[str, list[str]] = {}
        for name, more in self.entries:
            texts.setdefault(str(name), []).extend(more)
        return texts


@dataclass(frozen=True)
class TextFile:
    """A file whose form is not known yet. What is read of it is kept, and errors name file and line."""

    path: Path

    @property
    def suffix(self) -> str:
        """Extension in small letters, without `.gz`."""
        return Path(self.path.name.removesuffix(".gz")).suffix.lower()

    @cached_property
    def text(self) -> str:
        """Content as text, unpacked."""
        return read_text(self.path)

    @cached_property
    def lines(self) -> list[str]:
        """Lines without their ends: LF, or CR LF where every line ends so. The last LF ends the last line."""
        lines = self.text.split("\n")
        if lines[-1] == "":
            lines.pop()
        if lines and all(line.endswith("\r") for line in lines[:-1]):
            lines = [line.removesuffix("\r") for line in lines]
        return lines

    @cached_property
    def json(self) -> Any:
        """Content as JSON."""
        return parse_json(self.text, str(self.path))


@dataclass(frozen=True, kw_only=True)
class TextForm:
    """A form that files of texts have."""

    layout: Layout
    """Layout of the texts, for checks that compare predictions with references."""
    matches: Callable[[TextFile], bool]
    """Tell whether a file has this form, given that it has none of the forms before."""
    read: Callable[[TextFile], Iterable[Entry]]
    """Read the entries; a `ValueError` with file and place where they are wrong."""


def make_text_set(texts: Mapping[Any, str] | Mapping[Any, Sequence[str]], source: str) -> TextSet:
    """Take texts in memory as if they had been read from a file."""
    entries = tuple(
        (name if isinstance(name, int) else str(name), (value,) if isinstance(value, str) else tuple(value))
        for name, value in texts.items()
    )
    return TextSet(source=source, layout="texts by id", entries=entries)


def read_texts(*paths: Path) -> TextSet:
    """Read predictions, or references (several files: each holds one reference for every id or line).

    Forms, recognised by name and content, each also with `.gz`:
    - `.json`: COCO captions (`annotations` of `image_id` and `caption`), COCO results (a list of them), or an object
      of id -> text or list of texts;
    - `.jsonl`: one object per line, `id` (or `image_id`) and `text`, `texts` or `caption`;
    - anything else: one text per line; ids are line numbers from 1.

    Raises:
        ValueError: unreadable, damaged, not UTF-8, not JSON, a key missing or of the wrong type, or several files that
            do not fit each other: one line with file and place.
    """
    if not paths:
        raise ValueError("no file of texts was given")
    sets = [_read_file(TextFile(path)) for path in paths]
    for other in sets[1:]:
        if other.layout == "lines" and len(other.entries) != len(sets[0].entries):
            raise ValueError(
                f"{other.source}: {len(other.entries):,} lines, but {sets[0].source} has {len(sets[0].entries):,}; "
                "reference files belong together line by line"
            )
    return TextSet(
        source=", ".join(one.source for one in sets),
        layout=sets[0].layout,
        entries=tuple(entry for one in sets for entry in one.entries),
    )


def read_ids(path: Path) -> list[str]:
    """Read the ids of a subset: one per line, or a JSON list.

    Raises:
        ValueError: unreadable, or without any id.
    """
    file = TextFile(path)
    if file.suffix == ".json":
        if not isinstance(file.json, list):
            raise ValueError(f"{path}: expected a list of ids, got {_name_type(file.json)}")
        ids = [str(_parse_id(value, f"{path}: item {number}")) for number, value in enumerate(file.json, 1)]
    else:
        ids = [line.strip() for line in file.lines if line.strip()]
    if not ids:
        raise ValueError(f"{path}: holds no ids")
    return ids


def _read_file(file: TextFile) -> TextSet:
    form = next((form for form in FORMS if form.matches(file)), None)
    if form is None:
        raise ValueError(
            f"{file.path}: expected COCO captions, COCO results or an object of id -> texts, got "
            f"{_name_type(file.json)}"
        )
    entries = tuple(form.read(file))
    if not entries:
        raise ValueError(f"{file.path}: holds no texts")
    return TextSet(source=str(file.path), layout=form.layout, entries=entries)


def _is_json_lines(file: TextFile) -> bool:
    """Tell whether each line is an object: by the extension, or in a `.json` file by the first line, which is a whole
    object and not the last line."""
    if file.suffix != ".json":
        return file.suffix in (".jsonl", ".ndjson")
    first, _, rest = file.text.strip().partition("\n")
    if not rest or not first.startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _read_json_lines(file: TextFile) -> Iterator[Entry]:
    for number, line in enumerate(file.lines, 1):
        if line.strip():
            where = f"{file.path}:{number}"
            yield _parse_record(parse_json(line, where), where)


def _is_coco_captions(file: TextFile) -> bool:
    return file.suffix == ".json" and isinstance(file.json, dict) and "annotations" in file.json


def _read_coco_captions(file: TextFile) -> list[Entry]:
    """Read captions in the order of `images`, in which coco-caption goes through them: its tokeniser looks into the
    next caption in a few places."""
    records, images = file.json["annotations"], file.json.get("images")
    if not isinstance(records, list):
        raise ValueError(f"{file.path}: `annotations` is {_name_type(records)}, not a list")
    captions = [_parse_record(entry, f"{file.path}: annotation {i}") for i, entry in enumerate(records, 1)]
    rows = images if isinstance(images, list) else []
    place = {
        row["id"]: i for i, row in enumerate(rows) if isinstance(row, dict) and isinstance(row.get("id"), int | str)
    }
    return sorted(captions, key=lambda caption: place.get(caption[0], len(place)))


def _is_list(file: TextFile) -> bool:
    return file.suffix == ".json" and isinstance(file.json, list)


def _read_list(file: TextFile) -> Iterator[Entry]:
    return (_parse_record(entry, f"{file.path}: item {i}") for i, entry in enumerate(file.json, 1))


def _is_object(file: TextFile) -> bool:
    return file.suffix == ".json" and isinstance(file.json, dict)


def _read_object(file: TextFile) -> Iterator[Entry]:
    return ((key, _parse_texts(value, f"{file.path}: {key!r}")) for key, value in file.json.items())


def _is_lines(file: TextFile) -> bool:
    return file.suffix != ".json"


def _read_lines(file: TextFile) -> Iterator[Entry]:
    return ((number, (line,)) for number, line in enumerate(file.lines, 1))


FORMS: tuple[TextForm, ...] = (
    TextForm(layout="records", matches=_is_json_lines, read=_read_json_lines),
    TextForm(layout="coco captions", matches=_is_coco_captions, read=_read_coco_captions),
    TextForm(layout="records", matches=_is_list, read=_read_list),
    TextForm(layout="texts by id", matches=_is_object, read=_read_object),
    TextForm(layout="lines", matches=_is_lines, read=_read_lines),
)
"""Forms of files, in the order in which they are tried."""


def _parse_record(record: Any, where: str) -> Entry:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected an object with an id and a text, got {_name_type(record)}")
    # `id` of a COCO annotation is the annotation's own, so the image's goes first.
    name = next((key for key in ("image_id", "id") if key in record), None)
    content = next((key for key in ("texts", "text", "caption") if key in record), None)
    if name is None or content is None:
        missing = "`id` or `image_id`" if name is None else "`text`, `texts` or `caption`"
        raise ValueError(f"{where}: the key {missing} is missing; found: {', '.join(record) or 'nothing'}")
    return _parse_id(record[name], where), _parse_texts(record[content], f"{where}: {content!r}")


def _parse_id(value: Any, where: str) -> Id:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise ValueError(f"{where}: an id is a whole number or a text, not {value!r}")
    return value


def _parse_texts(value: Any, where: str) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong or not texts:
        problem = _name_type(wrong[0]) if wrong else "an empty list"
        raise ValueError(f"{where}: expected a text or a list of texts, got {problem}")
    return tuple(texts)


def _name_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
