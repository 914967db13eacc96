"""Rows of images and texts to import, from `polyglance.data.caption_tables` or from published shards, checked.

Every form is brought to the same row, `{"image": ..., "texts": {language: ...}, "key": ..., "style": ...}`, of which
`key` and `style` are optional.
"""

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from polyglance.data.cleaning import (
    find_flaw,
    has_control_inside,
    has_tags,
    is_blank,
    is_turned_around,
    join_lines,
    resolve_entities,
    without_invisible,
)
from polyglance.data.columns import find_artefact, find_placeholder
from polyglance.data.sources.published import PublishedSample
from polyglance.data.sources.raw_images import IMAGE_SUFFIXES, resolve_inside
from polyglance.data.texts.columns import list_texts, parse_texts_by_language
from polyglance.encodings import decode_or_keep
from polyglance.language_tags import find_code
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE
from polyglance.records import STYLES, Annotation, Drops, Style, annotations_from_texts
from polyglance.tables import TableRow

__all__ = [
    "ImportRow",
    "RowDrops",
    "check_samples",
    "check_table_rows",
    "clean_caption",
    "count_images",
    "join_rows",
]

_BASE64_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk0", "SUkq", "TU0A")
"""Beginnings of images (PNG, JPEG, GIF, WebP, BMP, TIFF) that are written as base64."""
_TEXT = "text: "
"""Beginning of the reasons that cost a text and not a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportRow:
    """A row with checked values; its image has not been read."""

    where: str
    key: str
    image: Path | bytes
    annotations: tuple[Annotation, ...]
    num_rows: int = 1
    """Rows of the table that were joined to this one, and this one."""
    source_hash: int = 0
    """Hash of the row's image and key as they are written (`count_images`)."""


class RowDrops(Drops):
    """Drops whose places fit into a JSON file: one line, not too long, whatever bytes a file's name holds."""

    def drop(self, reason: str, where: str, detail: str = "", count: int = 1) -> None:
        place = f"{where}: {detail}" if detail else where
        self.add(reason, join_lines(place.encode("utf-8", "backslashreplace").decode())[:300], count)

    def drop_texts(self, reason: str, where: str, detail: str = "", count: int = 1) -> None:
        """Count texts that are left out."""
        if count:
            self.drop(_TEXT + reason, where, detail, count)

    def summary(self) -> str:
        """Return every reason with its count and first place, on one line."""
        return "; ".join(f"{reason}: {count}, first {self.examples[reason][0]}" for reason, count in self) or "no rows"


def check_table_rows(
    rows: Iterable[TableRow], images: Path, languages: Sequence[str], drops: RowDrops
) -> Iterator[ImportRow]:
    """Yield the rows whose values are in order.

    Args:
        images: resolved folder that image paths start from and may not lead out of.
        languages: languages to keep; empty: all.
    """
    for raw in rows:
        row = _check_table_row(raw, images, languages, drops)
        if row is not None:
            yield row


def _check_table_row(raw: TableRow, images: Path, languages: Sequence[str], drops: RowDrops) -> ImportRow | None:
    """Check a row; None after its drop is counted."""
    if raw.problem:
        drops.drop(raw.problem, raw.where, raw.detail, raw.num_rows)
        return None
    image, style = raw.values.get("image"), raw.values.get("style")
    if style is None or style == "":
        style = "short"
    image, data = _take_bytes(image)
    if not data and (not isinstance(image, str) or not image):
        drops.drop("no image path", raw.where, _describe(image))
        return None
    if style not in STYLES:
        drops.drop("unknown style", raw.where, f"{style!r}; known: {', '.join(STYLES)}")
        return None
    name = image if isinstance(image, str) and image else raw.where
    key = _parse_key(raw.values.get("key"), name)
    if key is None:
        drops.drop("a key that is not text", raw.where, _describe(raw.values.get("key")))
        return None
    source: Path | bytes | None = data
    if not data:
        source, problem, detail = _find_image(name, images)
        if source is None:
            drops.drop(problem, raw.where, detail)
            return None
    assert source is not None
    annotations = _annotate(_clean_texts(raw, languages, drops), style)
    if not annotations:
        drops.drop("no text", raw.where)
        return None
    return ImportRow(where=raw.where, key=key, image=source, annotations=annotations, source_hash=_hash(raw))


def _take_bytes(image: Any) -> tuple[Any, bytes]:
    """Take a cell of an image apart: its path, and its bytes (Hugging Face's struct of both, or the bytes alone)."""
    if isinstance(image, Mapping):
        data = image.get("bytes")
        return image.get("path"), data if isinstance(data, bytes) else b""
    return (None, image) if isinstance(image, bytes) else (image, b"")


def _describe(value: Any) -> str:
    """Describe a wrong value for a person: never its bytes, and only the beginning of a long one."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_describe(cell)}" for name, cell in list(value.items())[:5]) + "}"
    shown = repr(value)
    return shown if len(shown) <= 100 else f"{shown[:99]}…"


def count_images(rows: Iterable[TableRow]) -> Counter[int]:
    """Return the number of rows of each image file and key, under their hash, for `join_rows`."""
    return Counter(_hash(row) for row in rows if not row.problem)


def _hash(row: TableRow) -> int:
    image, key = row.values.get("image"), row.values.get("key")
    try:
        name = posixpath.normpath(image) if isinstance(image, str) else None
        return hash((name, None if key == "" else key))
    except TypeError:  # a key that cannot be one
        return 0


def join_rows(rows: Iterable[ImportRow], counts: Mapping[int, int], drops: RowDrops) -> Iterator[ImportRow]:
    """Join rows with the same key and image to one: several rows of an image are several texts. A text that an image
    has twice is counted.

    Rows whose image is a file may be anywhere in the table; those with the bytes of an image have to follow each other.
    """
    waiting: dict[tuple[str, Path], list[ImportRow]] = {}
    last: ImportRow | None = None
    for row in rows:
        if isinstance(row.image, bytes):
            if last is not None and (last.key, last.image) == (row.key, row.image):
                last = _join([last, row], drops)
                continue
            if last is not None:
                yield last
            last = row
        elif counts[row.source_hash] < 2:
            yield row
        else:
            group = waiting.setdefault((row.key, row.image), [])
            group.append(row)
            if len(group) == counts[row.source_hash]:
                yield _join(waiting.pop((row.key, row.image)), drops)
    if last is not None:
        yield last
    for group in waiting.values():  # some rows of these could not be used, or name the file in several ways
        yield _join(group, drops)


def _join(rows: Sequence[ImportRow], drops: RowDrops) -> ImportRow:
    annotations = dict.fromkeys(rows[0].annotations)
    for row in rows[1:]:
        num_repeated = sum(text in annotations and text.task == "caption" for text in row.annotations)
        drops.drop_texts("twice for the same image", row.where, row.key, num_repeated)
        annotations |= dict.fromkeys(row.annotations)
    return replace(rows[0], annotations=tuple(annotations), num_rows=sum(row.num_rows for row in rows))


def check_samples(samples: Iterable[PublishedSample], languages: Sequence[str], drops: RowDrops) -> Iterator[ImportRow]:
    """Yield the images of published shards that have an annotation with clean texts.

    Args:
        languages: languages to keep; empty: all.
    """
    for sample in samples:
        cleaned = (_clean_annotation(annotation, sample.where, languages, drops) for annotation in sample.annotations)
        annotations = tuple(annotation for annotation in cleaned if annotation is not None)
        if annotations:
            yield ImportRow(where=sample.where, key=sample.key, image=sample.image, annotations=annotations)
        else:
            drops.drop("no text", sample.where)


def _clean_annotation(
    annotation: Annotation, where: str, languages: Sequence[str], drops: RowDrops
) -> Annotation | None:
    code = annotation.language
    if languages and code not in languages:
        drops.drop_texts("language not asked for", where, repr(code))
        return None
    text = _clean_text(annotation.text, where, code, drops)
    source = annotation.source and _clean_text(annotation.source, where, SOURCE_LANGUAGE, drops)
    if not text or (annotation.source is not None and not source):
        return None
    return replace(annotation, text=text, source=source)


def _parse_key(key: Any, image: str) -> str | None:
    """Return the key, or the image's path if there is none; None if it cannot be a key."""
    if key is None or key == "":
        key = posixpath.normpath(image)
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    return _normalize(key) or None if isinstance(key, str) else None


def _find_image(image: str, images: Path) -> tuple[Path | None, str, str]:
    """Find the image's file below the folder; or return None, the problem, and what would be right where that shows."""
    if image.startswith("data:") or (len(image) > 100 and image.startswith(_BASE64_STARTS)):
        return None, "an image written as base64: write it to a file, or as bytes into Parquet", image[:60]
    if "://" in image:
        return None, "an address, not a file: download the images first", image
    names = [image, image.replace("\\", "/")] if "\\" in image else [image]  # the second: as Windows writes it
    names += [name.strip() for name in names if name.strip() != name]
    for name in names:
        try:
            path = resolve_inside(images, name)
            if path is None:
                return None, "a path that leads out of the folder", image
            if path.is_file():
                return path, "", ""
        except (OSError, ValueError, RuntimeError):  # a name that is too long or has a zero byte in it, a loop of links
            continue
    beside = _find_similar(names[-1], images)
    return None, "no such image", f"{image[:200]}{f' (there is {beside})' if beside else ''}"


def _find_similar(image: str, images: Path) -> str:
    """Return the name of a file that may be meant: with other capitals, with an extension, or without the escapes of a
    URL."""
    try:
        place = resolve_inside(images, image)
        unquoted = resolve_inside(images, unquote(image)) if "%" in image else None
        if unquoted is not None and unquoted.is_file():
            return unquote(image)
        names = _names_by_lower(place.parent) if place is not None else {}
    except (OSError, ValueError, RuntimeError):
        return ""
    if place is None:
        return ""
    lower = place.name.lower()
    candidates = (lower, *(lower + suffix for suffix in IMAGE_SUFFIXES))
    return next((names[candidate] for candidate in candidates if candidate in names), "")


@lru_cache(maxsize=16)
def _names_by_lower(folder: Path) -> dict[str, str]:
    """Map the names of a folder's files in lower case to the names; empty if there is no such folder."""
    return {path.name.lower(): path.name for path in folder.iterdir()} if folder.is_dir() else {}


def _clean_texts(raw: TableRow, languages: Sequence[str], drops: RowDrops) -> dict[str, list[str | None]]:
    """Clean the texts of each language. A dropped text leaves a None, so that the others keep their partners."""
    texts = parse_texts_by_language(raw.values.get("texts"))
    if texts is None:
        return {}
    if not isinstance(texts, Mapping):
        drops.drop_texts("not a table of language and text", raw.where, _describe(texts))
        return {}
    cleaned: dict[str, list[str | None]] = {}
    for name, value in texts.items():
        code = _find_language(str(name))
        values = list_texts(value)
        if code not in LANGUAGES:
            drops.drop_texts("unknown language", raw.where, repr(name), _count_given(values))
        elif languages and code not in languages:
            drops.drop_texts("language not asked for", raw.where, repr(code), _count_given(values))
        else:
            texts_of_code = [_clean_text(text, raw.where, code, drops) for text in values]
            cleaned[code] = cleaned.get(code, []) + texts_of_code
    return cleaned


def _count_given(texts: Sequence[Any]) -> int:
    return sum(text is not None for text in texts)


@cache
def _find_language(name: str) -> str:
    """Return the key in `LANGUAGES` of a language's name in data (`zh-CN`); empty if there is none, or if the name says
    another script."""
    try:
        return find_code(name)
    except ValueError:
        return ""


def _clean_text(text: Any, where: str, code: str, drops: RowDrops) -> str | None:
    if text is None:
        return None
    if isinstance(text, bytes):
        text = decode_or_keep(text)
    if not isinstance(text, str):
        reason = "not UTF-8" if isinstance(text, bytes) else "not a string"
        drops.drop_texts(reason, where, f"{code}: {_describe(text)}")
        return None
    clean, problem = clean_caption(text, code)
    if problem:
        drops.drop_texts(problem, where, f"{code}: {_describe(text)}" if text.strip() else code)
    return clean


def clean_caption(text: str, code: str) -> tuple[str | None, str]:
    """Clean a text; or None, and the problem."""
    if text.isprintable() and "&" not in text:
        clean = text.strip() if text.isascii() else unicodedata.normalize("NFC", text.strip())
        problem = "" if clean else "empty"
    else:
        clean, problem = _clean_oddities(text, code)
    problem = problem or find_placeholder(clean, code)
    if not problem and has_tags(clean):
        problem = "tags (HTML, or a model's)"
    problem = problem or find_artefact(clean) or find_flaw(clean, code)
    return (None, problem) if problem else (clean, "")


def _clean_oddities(text: str, code: str) -> tuple[str, str]:
    """Clean a text with entities or with characters that are not visible; or return the problem, too."""
    text = resolve_entities(text)
    if has_control_inside(text):
        return "", "a control character inside a word"
    if is_turned_around(text):
        return "", "characters that turn the order of others around"
    clean = _normalize(without_invisible(text, code))
    if clean is None:
        return "", "not UTF-8"
    return clean, "empty" if is_blank(clean) else ""


def _normalize(text: str) -> str | None:
    """Return the text in NFC on one line; None if it holds half a surrogate pair, which no UTF-8 file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return unicodedata.normalize("NFC", join_lines(text))


def _annotate(texts: Mapping[str, Sequence[str | None]], style: Style) -> tuple[Annotation, ...]:
    """Make the annotations of all texts; the i-th English text is the source of the i-th of every other language."""
    annotations: list[Annotation] = []
    for index in range(max((len(values) for values in texts.values()), default=0)):
        at_index = {code: values[index] for code, values in texts.items() if index < len(values)}
        parallel = {code: text for code, text in at_index.items() if text is not None}
        annotations += annotations_from_texts(parallel, style=style)
    return tuple(annotations)
