"""Encoded images with the texts beside them, before anything is decoded or checked."""

import io
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.encodings import detect_encoding, transcode
from polyglance.files import parse_json
from polyglance.language_tags import parse_language_tag
from polyglance.records import Drops

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "TEXT_DROPPED",
    "TEXT_SUFFIXES",
    "RawImage",
    "collect_texts",
    "decode_text",
    "distinct_lines",
    "find_column",
    "find_language",
    "parse_json_object",
    "resolve_inside",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
TEXT_SUFFIXES = (".txt", ".text", ".caption", ".captions", ".cap", ".alt", ".cls", ".json")
MAX_FILE_BYTES = 2**28
"""A larger image file is dropped unread."""

_HEAD_BYTES = 2**16
"""Bytes by which the encoding of a text is told."""
TEXT_DROPPED = "text: "
"""Beginning of the reasons that cost a text and not its image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawImage:
    """The bytes of a file that claims to be an image."""

    data: bytes
    where: str
    texts: tuple[str, ...] = ()
    texts_by_language: tuple[tuple[str, str], ...] = ()
    """Language and text of those whose file names their language."""


def find_column(rest: str) -> str:
    """Return the column of a text from the part of its name beyond the image's name: `en` of `a.en.txt` and of `a.en`,
    `txt` of `a.txt`."""
    bare, suffix = posixpath.splitext(rest)
    return bare if suffix.lower() in TEXT_SUFFIXES and suffix.lower() != ".json" else rest


def find_language(rest: str) -> str:
    """Return the code of the language of a file of text, from what its name has beyond that of its image; empty if that
    is no known language."""
    tag = parse_language_tag(find_column(rest))
    return tag.code if tag is not None else ""


def collect_texts(values: Mapping[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    """Collect the distinct texts under these keys: strings or lists of strings; other values are ignored."""
    texts: list[str] = []
    for name in fields:
        value = values.get(name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.strip() and text.strip() not in texts:
                texts.append(text.strip())
    return tuple(texts)


def distinct_lines(content: str) -> tuple[str, ...]:
    """Return the distinct texts of a file of text, one per line."""
    return collect_texts({"txt": content.split("\n")}, ["txt"])


def decode_text(data: bytes, where: str, drops: Drops) -> str | None:
    """Decode a text file in UTF-8, or in UTF-16 or UTF-32 as its first bytes tell; None, and a drop, for another."""
    form = detect_encoding(data[:_HEAD_BYTES])
    try:
        with transcode(io.BytesIO(data), form) as file:
            return file.read().decode()
    except UnicodeDecodeError:
        drops.add(f"{TEXT_DROPPED}not UTF-8", where)
        return None


def parse_json_object(data: bytes, where: str, drops: Drops) -> dict[str, Any]:
    """Parse a JSON file that holds one object; empty, and a drop, if it does not."""
    try:
        values = parse_json(data.decode("utf-8-sig"), where)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        drops.add(f"{TEXT_DROPPED}not a JSON object", where)
        return {}
    return values


def resolve_inside(root: Path, name: str) -> Path | None:
    """Return the path of a file below the resolved folder `root`; None if it, or what a link points to, is outside.

    Raises:
        OSError, RuntimeError, ValueError: a name that is too long, a loop of links, a zero byte in the name.
    """
    path = (root / name).resolve()
    return None if Path(name).is_absolute() or not path.is_relative_to(root) else path
