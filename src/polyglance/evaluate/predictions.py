"""Files of predictions and references, as people have them: COCO JSON, JSON lines, or one text per line.

A file is cut into lines at line feeds only: U+2028, CR, FF and VT stay inside the text they are in, where other tools
let them shift every later text to the wrong image.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Id", "TextSet", "read_ids", "read_texts", "text_set"]

Id = int | str
"""A segment's id as its file spells it. Ids are compared as strings, so 42 and "42" are the same."""

Layout = Literal["coco captions", "records", "texts by id", "lines"]


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """Texts with ids, in the order of their files and with repetitions, so that checks can see what is wrong."""

    source: str
    """File names, or what stands for them, for messages."""
    layout: Layout
    entries: tuple[tuple[Id, tuple[str, ...]], ...]
    """One for each record of the file: an id and its texts."""

    def by_id(self) -> dict[str, list[str]]:
        """All texts of each id, in order."""
        texts: dict[str, list[str]] = {}
        for name, more in self.entries:
            texts.setdefault(str(name), []).extend(more)
        return texts


def text_set(texts: Mapping[Any, str] | Mapping[Any, Sequence[str]], source: str) -> TextSet:
    """Texts in memory, as if they had been read from a file."""
    entries = tuple(
        (name if isinstance(name, int) else str(name), (value,) if isinstance(value, str) else tuple(value))
        for name, value in texts.items()
    )
    return TextSet(source=source, layout="texts by id", entries=entries)


def read_texts(*paths: Path) -> TextSet:
    """Read predictions, or references (several files: each holds one reference for every id or line).

    Formats, told by name and content, each also with `.gz`:
    - `.json`: COCO captions (`annotations` of `image_id` and `caption`), COCO results (a list of them), or an object
      of id -> text or list of texts;
    - `.jsonl`: one object per line, `id` (or `image_id`) and `text`, `texts` or `caption`;
    - anything else: one text per line; ids are line numbers from 1.

    Raises:
        ValueError: unreadable, damaged, not UTF-8, not JSON, a key missing or of the wrong type, or several files that
            do not fit each other: one line with file and place.
    """
    sets = [_read(path) for path in paths]
    if not sets:
        raise ValueError("no file of texts was given")
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
    """Ids of a subset: one per line, or a JSON list.

    Raises:
        ValueError: unreadable, or there is none.
    """
    text = _text(path)
    if _suffix(path) == ".json":
        values = _parsed(text, str(path))
        if not isinstance(values, list):
            raise ValueError(f"{path}: expected a list of ids, got {_kind(values)}")
        ids = [str(_id(value, f"{path}: item {number}")) for number, value in enumerate(values, 1)]
    else:
        ids = [line.strip() for line in text.split("\n") if line.strip()]
    if not ids:
        raise ValueError(f"{path}: holds no ids")
    return ids


def _read(path: Path) -> TextSet:
    suffix = _suffix(path)
    text = _text(path)
    if suffix in (".jsonl", ".ndjson") or (suffix == ".json" and _is_json_lines(text)):
        layout: Layout = "records"
        entries = list(_json_lines(text, path))
    elif suffix == ".json":
        layout, entries = _json(_parsed(text, str(path)), path)
    else:
        layout = "lines"
        entries = [(number, (line,)) for number, line in enumerate(_lines(text), 1)]
    if not entries:
        raise ValueError(f"{path}: holds no texts")
    return TextSet(source=str(path), layout=layout, entries=tuple(entries))


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz" or content.startswith(b"\x1f\x8b"):  # how gzip begins, and no text
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged or truncated gzip file ({error})") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 (byte 0x{content[error.start]:02x})") from None


def _lines(text: str) -> list[str]:
    """Lines without their ends: LF, or CR LF where every line ends so. The last LF ends the last line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    if lines and all(line.endswith("\r") for line in lines[:-1]):
        lines = [line.removesuffix("\r") for line in lines]
    return lines


def _is_json_lines(text: str) -> bool:
    """Whether a `.json` file holds an object on each line: its first line is a whole object and not the last."""
    first, _, rest = text.strip().partition("\n")
    if not rest or not first.startswith("{"):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _json_lines(text: str, path: Path) -> Iterator[tuple[Id, tuple[str, ...]]]:
    for number, line in enumerate(_lines(text), 1):
        if line.strip():
            where = f"{path}:{number}"
            yield _record(_parsed(line, where), where)


def _json(values: Any, path: Path) -> tuple[Layout, list[tuple[Id, tuple[str, ...]]]]:
    if isinstance(values, dict) and "annotations" in values:
        records = values["annotations"]
        if not isinstance(records, list):
            raise ValueError(f"{path}: `annotations` is {_kind(records)}, not a list")
        captions = [_record(entry, f"{path}: annotation {i}") for i, entry in enumerate(records, 1)]
        return "coco captions", _in_order_of_images(captions, values.get("images"))
    if isinstance(values, list):
        return "records", [_record(entry, f"{path}: item {i}") for i, entry in enumerate(values, 1)]
    if isinstance(values, dict):
        return "texts by id", [(key, _texts(value, f"{path}: {key!r}")) for key, value in values.items()]
    raise ValueError(f"{path}: expected COCO captions, COCO results or an object of id -> texts, got {_kind(values)}")


def _in_order_of_images(captions: list[tuple[Id, tuple[str, ...]]], images: Any) -> list[tuple[Id, tuple[str, ...]]]:
    """Captions as coco-caption goes through them: its tokeniser looks into the next caption in a few places."""
    rows = images if isinstance(images, list) else []
    place = {
        row["id"]: i for i, row in enumerate(rows) if isinstance(row, dict) and isinstance(row.get("id"), int | str)
    }
    return sorted(captions, key=lambda caption: place.get(caption[0], len(place)))


def _record(record: Any, where: str) -> tuple[Id, tuple[str, ...]]:
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected an object with an id and a text, got {_kind(record)}")
    # `id` of a COCO annotation is the annotation's own, so the image's goes first.
    name = next((key for key in ("image_id", "id") if key in record), None)
    content = next((key for key in ("texts", "text", "caption") if key in record), None)
    if name is None or content is None:
        missing = "`id` or `image_id`" if name is None else "`text`, `texts` or `caption`"
        raise ValueError(f"{where}: the key {missing} is missing; found: {', '.join(record) or 'nothing'}")
    return _id(record[name], where), _texts(record[content], f"{where}: {content!r}")


def _id(value: Any, where: str) -> Id:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise ValueError(f"{where}: an id is a whole number or a text, not {value!r}")
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if not texts or wrong is not None or None in texts:
        found = "an empty list" if not texts else _kind(wrong)
        raise ValueError(f"{where}: expected a text or a list of texts, got {found}")
    return tuple(texts)


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, where))
    except json.JSONDecodeError as error:
        place = where if "\n" not in text else f"{where}:{error.lineno}"
        raise ValueError(f"{place}: not valid JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError(f"{where}: not valid JSON (nested too deeply)") from None


def _object(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    """An object whose keys are all different: of two texts with the same id one would be lost without a word."""
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"{where}: the key {repeated!r} stands more than once in an object")
    return values


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
