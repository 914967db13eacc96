"""Encoded images with the texts beside them, before anything is decoded or checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.files import parse_json
from polyglance.records import Drops

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "TEXT_DROPPED",
    "RawImage",
    "collect_texts",
    "decode_text",
    "parse_json_object",
    "resolve_inside",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
MAX_FILE_BYTES = 2**28
"""A larger image file is dropped unread."""

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


def collect_texts(values: Mapping[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    """Collect the distinct texts under these keys: strings or lists of strings; other values are ignored."""
    texts: list[str] = []
    for name in fields:
        value = values.get(name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.strip() and text.strip() not in texts:
                texts.append(text.strip())
    return tuple(texts)


def decode_text(data: bytes, where: str, drops: Drops) -> str | None:
    """Decode a text file; None, and a drop, if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
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
    """Path of a file below the resolved folder `root`; links are followed, but not out of the folder. None: outside.

    Raises:
        OSError, RuntimeError, ValueError: a name that is too long, a loop of links, a zero byte in the name.
    """
    path = (root / name).resolve()
    return None if Path(name).is_absolute() or not path.is_relative_to(root) else path
