"""Frames that were written as one object of JSON, as records: what pandas' `to_json` and other tools write.

split      {"columns": ["id", "text"], "index": [0, 1], "data": [[7, "a dog"], [8, "a cat"]]}
table      {"schema": {...}, "data": [{"index": 0, "id": 7, "text": "a dog"}, ...]}
columns    {"id": {"0": 7, "1": 8}, "text": {"0": "a dog", "1": "a cat"}}
index      {"0": {"id": 7, "text": "a dog"}, "1": {"id": 8, "text": "a cat"}}
lists      {"id": [7, 8], "text": ["a dog", "a cat"]}
"""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["read_frame"]


def read_frame(content: Mapping[str, Any], is_name: Callable[[str], bool]) -> list[tuple[str, dict[str, Any]]] | None:
    """Return the rows of a frame: the name of a row, its number if it has none, and its record; None if the object is
    no frame.

    Args:
        is_name: tells whether a key is the name of a column. It decides whether the outer or the inner keys of an
            object of objects are columns, where neither are numbers.
    """
    data = content.get("data")
    names = content.get("columns")
    if isinstance(names, list) and isinstance(data, list) and data:
        return _read_split(names, data, content.get("index"))
    if isinstance(content.get("schema"), dict) and isinstance(data, list) and data:
        rows = [row for row in data if isinstance(row, dict)]
        return [(str(number), row) for number, row in enumerate(rows, 1)] if len(rows) == len(data) else None
    values = list(content.values())
    if values and all(isinstance(value, dict) and value for value in values):
        return _read_nested(content, is_name)
    if len(values) > 1 and all(isinstance(value, list) for value in values) and all(map(is_name, content)):
        if len({len(value) for value in values}) > 1:
            return None
        rows = [dict(zip(content, cells, strict=True)) for cells in zip(*values, strict=True)]
        return [(str(number), row) for number, row in enumerate(rows, 1)]
    return None


def _read_split(names: list[Any], data: list[Any], index: Any) -> list[tuple[str, dict[str, Any]]] | None:
    if not all(isinstance(name, str) for name in names):
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in data):
        return None
    labels = index if isinstance(index, list) and len(index) == len(data) else range(1, len(data) + 1)
    return [(str(label), dict(zip(names, row, strict=True))) for label, row in zip(labels, data, strict=True)]


def _read_nested(content: Mapping[str, Any], is_name: Callable[[str], bool]) -> list[tuple[str, dict[str, Any]]] | None:
    inner = dict.fromkeys(key for value in content.values() for key in value)
    outer_named, inner_named = (any(map(is_name, keys)) for keys in (content, inner))
    outer_numbered, inner_numbered = (all(key.isdecimal() for key in keys) for keys in (content, inner))
    if inner_numbered and not outer_numbered and outer_named:
        return [(row, {name: cells.get(row) for name, cells in content.items()}) for row in inner]
    if inner_named and not (outer_named and not outer_numbered):
        return [(row, dict(cells)) for row, cells in content.items()]
    if outer_named and not inner_named:
        return [(row, {name: cells.get(row) for name, cells in content.items()}) for row in inner]
    return None
