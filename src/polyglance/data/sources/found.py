"""An image as a reader finds it, before anyone has looked inside, and the texts beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polyglance.records import Drops

__all__ = ["IMAGE_SUFFIXES", "MAX_FILE_BYTES", "FoundImage", "json_object", "text_or_none", "texts_of"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MAX_FILE_BYTES = 2**28
"""A larger file is dropped unread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundImage:
    """The bytes of a file that calls itself an image."""

    data: bytes
    where: str
    texts: tuple[str, ...] = ()


def texts_of(values: Mapping[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    """The distinct texts under these keys, each a string or a list of strings; all else is passed over."""
    found: list[str] = []
    for name in fields:
        value = values.get(name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.strip() and text.strip() not in found:
                found.append(text.strip())
    return tuple(found)


def text_or_none(data: bytes, where: str, drops: Drops) -> str | None:
    """A text file's content; None, and a drop, where it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        drops.add("text: not UTF-8", where)
        return None


def json_object(data: bytes, where: str, drops: Drops) -> dict[str, Any]:
    """The object that a JSON file holds; empty, and a drop, where there is none."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        drops.add("text: not a JSON object", where)
        return {}
    return values
