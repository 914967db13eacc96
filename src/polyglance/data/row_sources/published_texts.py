"""Rows of published layouts of captions: COCO, Karpathy's splits, Crossmodal-3600, Flickr30k's tokens. Only
Crossmodal-3600 states the language of its captions; for the others give it with `columns` (`caption=en`).
"""

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from polyglance.data.row_sources.row_source import IMAGE_NAMES, RowSource
from polyglance.data.sources.raw_images import IMAGE_SUFFIXES
from polyglance.data.texts.columns import is_known_name
from polyglance.data.texts.json_forms import get_karpathy_sentences
from polyglance.data.texts.languages_of_texts import LANGUAGE_KEYS
from polyglance.encodings import DAMAGE, detect_text_format, open_utf8
from polyglance.files import parse_json
from polyglance.json_frames import read_frame
from polyglance.language_tags import parse_language_tag
from polyglance.tables import TableRow, detect_table_format, read_table

__all__ = ["Crossmodal3600", "PublishedJson", "TokenFile", "is_crossmodal_3600", "read_json_object"]


class PublishedJson(RowSource):
    """An object of JSON: COCO's `{"images": [...], "annotations": [...]}`, Karpathy's `{"images": [{"sentences"...`,
    `{"a.png": texts, ...}`, or a frame as pandas writes it.

    Args:
        content: the object that the file holds.

    Raises:
        ValueError: another layout, or ids that do not tell the images apart.
    """

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path, self.table_files = path, (path,)
        images, annotations = content.get("images"), content.get("annotations")
        if isinstance(images, list) and any(isinstance(row, dict) and "sentences" in row for row in images):
            self._form, self._rows = "Karpathy's splits, JSON", list(_read_karpathy(path.name, images))
        elif isinstance(images, list) and isinstance(annotations, list):
            self._form, self._rows = "COCO captions, JSON", list(_read_coco(path, images, annotations))
        elif content and all(name.lower().endswith(IMAGE_SUFFIXES) for name in content):
            self._form, self._rows = "JSON, image -> texts", list(_read_by_image(path.name, content))
        elif (rows := read_frame(content, _is_column)) is not None:
            self._form = "JSON of a frame"
            self._rows = [TableRow(where=f"{path.name}: row {label}", values=values) for label, values in rows]
        else:
            keys = ", ".join(repr(key) for key in list(content)[:8])
            raise ValueError(
                f"{path}: expected a list of records, COCO captions (images, annotations), Karpathy's splits (images "
                f"with sentences), a frame or an object of image -> texts; the object's keys are: {keys or 'none'}"
            )

    def describe(self) -> str:
        return self._form

    def names(self) -> list[str] | None:
        return list(dict.fromkeys(name for row in self._rows for name in row.values))

    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:  # noqa: ARG002 - it is in memory
        return iter(self._rows)


def _is_column(key: str) -> bool:
    """Tell whether a key names a column of images, of texts or of a language."""
    tag = parse_language_tag(key)
    known = (*IMAGE_NAMES, *LANGUAGE_KEYS, "key", "style", "texts")
    return key.lower() in known or is_known_name(key) or (tag is not None and bool(tag.code))


def read_json_object(path: Path, encoding: str) -> dict[str, Any] | None:
    """Read a `.json` file that holds one object; None if it is a list, whose records are rows of a table.

    Raises:
        ValueError: not JSON, or damaged.
    """
    form = detect_table_format(path, encoding=encoding)
    try:
        with open_utf8(path, form.text) as file:
            text = file.read().decode()
    except DAMAGE as error:
        raise ValueError(f"{path}: cannot be read to its end, it is damaged or cut short ({error})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {form.text.encoding.upper()} ({error.reason})") from None
    if text.lstrip().startswith("["):
        return None
    try:
        content = parse_json(text, str(path))
    except ValueError as error:
        raise ValueError(f"{error}{_suggest_lines(text)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a list of records, one object per row; JSON lines are .jsonl files")
    return content


def _suggest_lines(text: str) -> str:
    """Return a hint if the file has JSON lines and the wrong extension."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    with suppress(ValueError):
        return "; rename it to .jsonl if each line is an object" if isinstance(parse_json(first, ""), dict) else ""
    return ""


def _read_karpathy(name: str, images: Sequence[Any]) -> Iterator[TableRow]:
    """Yield an image with its sentences per row. COCO's images are in a folder, `filepath`, those of Flickr are not."""
    for number, image in enumerate(images, 1):
        where = f"{name}: image {number}"
        try:
            sentences = get_karpathy_sentences(image, where)
        except ValueError as error:
            yield TableRow(where=where, values={}, problem="no sentences", detail=str(error).removeprefix(f"{where}: "))
            continue
        file = image.get("filename")
        if isinstance(file, str) and isinstance(image.get("filepath"), str):
            file = posixpath.join(image["filepath"], file)
        yield TableRow(where=where, values={"image": file, "caption": sentences, "split": image.get("split")})


def _read_coco(path: Path, images: Sequence[Any], annotations: Sequence[Any]) -> Iterator[TableRow]:
    """Yield a caption per row, and an image without one as a row with a problem."""
    rows = [row for row in annotations if isinstance(row, dict)]
    if annotations and not any("caption" in row for row in rows):
        keys = ", ".join(repr(key) for row in rows[:1] for key in row)
        raise ValueError(f"{path}: its annotations have no `caption` (captions_*.json of COCO have), but: {keys}")
    ids, used = [row.get("id") for row in images if isinstance(row, dict)], [row.get("image_id") for row in rows]
    read_key = _choose_keys(ids, used)
    pairs = {(read_key(row.get("id")), str(row.get("file_name"))): row for row in images if isinstance(row, dict)}
    names = {key: row.get("file_name") for (key, _), row in pairs.items()}
    if repeated := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
        raise ValueError(f"{path}: {len(repeated)} ids are used by several images, the first is {repeated[0]}")
    if ids and used and set(map(read_key, used)).isdisjoint(names):
        raise ValueError(
            f"{path}: no image_id of its annotations is the id of an image; the first ones are {_key(used[0])} and "
            f"{_key(ids[0])}"
        )
    without = dict.fromkeys(names)
    for number, row in enumerate(annotations, 1):
        where = f"{path.name}: annotation {number}"
        if not isinstance(row, dict) or "caption" not in row:
            yield TableRow(where=where, values={}, problem="an annotation without a caption")
        elif (key := read_key(row.get("image_id"))) not in names:
            yield TableRow(where=where, values={}, problem="a caption of no image in the file", detail=key)
        else:
            without.pop(key, None)
            about = {name: row[name] for name in LANGUAGE_KEYS if name in row}
            yield TableRow(where=where, values={"image": names[key], "caption": row["caption"], **about})
    for key in without:
        yield TableRow(where=f"{path.name}: image {key}", values={}, problem="an image without a caption")


def _read_by_image(name: str, content: Mapping[str, Any]) -> Iterator[TableRow]:
    """Yield an image per row, with one text or several, or texts by language."""
    for image, value in content.items():
        where = f"{name}: {image}"
        if isinstance(value, (str, list)):
            yield TableRow(where=where, values={"image": image, "caption": value})
        elif isinstance(value, dict):
            yield TableRow(where=where, values={"image": image, "texts": value})
        else:
            yield TableRow(where=where, values={}, problem="neither a text nor texts by language")


def _choose_keys(ids: Sequence[Any], used: Sequence[Any]) -> Callable[[Any], str]:
    """Choose how ids of images are compared with those in annotations: as they are written or, if one side has only
    texts and the other only numbers, by their digits."""
    kinds = [{type(value) for value in several} for several in (ids, used)]
    return str if kinds in ([{str}, {int}], [{int}, {str}]) else _key


def _key(value: Any) -> str:
    """Return the key of an id: 7 and "7" are different ids; 7.0 is not an id."""
    return repr(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else f"no id ({value!r:.40})"


def is_crossmodal_3600(path: Path, encoding: str) -> bool:
    """Tell whether the first row of JSON lines is one of Crossmodal-3600."""
    form = detect_table_format(path, encoding=encoding)
    first = next((row.values for row in read_table(path, form=form) if not row.problem), {})
    return "image/key" in first


class Crossmodal3600(RowSource):
    """`captions.jsonl` of Crossmodal-3600: the raw captions of each language; images are `<key>.jpg`."""

    def __init__(self, path: Path, *, encoding: str = "auto") -> None:
        self.path, self.table_files = path, (path,)
        self._table = detect_table_format(path, encoding=encoding)

    def describe(self) -> str:
        return f"Crossmodal-3600, {self._table.describe()}"

    def names(self) -> list[str] | None:
        return ["image", "key", "texts"]

    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:  # noqa: ARG002 - they are small
        for row in read_table(self.path, form=self._table):
            yield row if row.problem else _arrange_crossmodal(row)


def _arrange_crossmodal(row: TableRow) -> TableRow:
    key = row.values.get("image/key")
    if not isinstance(key, str) or not key:
        return TableRow(where=row.where, values={}, problem="no image/key")
    texts = {
        name: value.get("caption")
        for name, value in row.values.items()
        if isinstance(value, dict) and name != "image" and "caption" in value
    }
    return TableRow(where=row.where, values={"image": f"{key}.jpg", "key": key, "texts": texts})


class TokenFile(RowSource):
    """Lines `<image>#<number><TAB><caption>`, as Flickr8k and Flickr30k have them (`.token`)."""

    def __init__(self, path: Path, *, encoding: str = "auto") -> None:
        self.path, self.table_files = path, (path,)
        try:
            self._text = detect_text_format(path, encoding)
        except OSError as error:
            raise ValueError(f"{path}: no such file, or it may not be read ({error.strerror})") from None

    def describe(self) -> str:
        return f"lines of image#number and caption, {self._text.describe()}"

    def names(self) -> list[str] | None:
        return ["image", "caption"]

    def read(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:  # noqa: ARG002 - two columns
        for line, cells in _number(self._read_lines()):
            where = f"{self.path.name}:{line}"
            image, mark, number = cells[0].rpartition("#")
            if len(cells) != 2 or not mark or not number.isdecimal():
                yield TableRow(where=where, values={}, problem="not <image>#<number><TAB><caption>")
            elif any("\udc80" <= letter <= "\udcff" or letter == "\ufffd" for letter in cells[1]):
                yield TableRow(where=where, values={}, problem=f"not {self._text.encoding.upper()}")
            else:
                yield TableRow(where=where, values={"image": image, "caption": cells[1]})

    def _read_lines(self) -> Iterator[str]:
        try:
            with open_utf8(self.path, self._text) as file:
                for line in file:
                    yield line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        except DAMAGE as error:
            raise ValueError(f"{self.path}: cannot be read to its end, it is damaged or cut short ({error})") from None


def _number(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line.split("\t")
