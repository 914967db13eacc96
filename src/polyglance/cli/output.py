"""Printing of results: as JSON for machines, as tables or text for people."""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

__all__ = ["abbreviate_count", "make_plain", "show"]


def show(result: Any, as_json: bool, readable: Callable[[Any], Any]) -> None:
    """Print the result as JSON, or what `readable` makes of it: a text, a rich table, or a list of them."""
    if as_json:
        print(json.dumps(make_plain(result), indent=2, ensure_ascii=False, allow_nan=False))
        return
    shown = readable(result)
    console = Console(width=None if sys.stdout.isatty() else 200)
    for part in shown if isinstance(shown, list) else [shown]:
        if isinstance(part, str):
            print(part)  # not by rich, which would break long lines
        else:
            console.print(part)


def abbreviate_count(number: float) -> str:
    """Return a count with four digits: `428.8M`, `10.24M`, `4,992`."""
    if number < 1e4:
        return f"{number:,.0f}"
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit * 0.99995:
            return f"{number / limit:.4g}{unit}"
    return f"{number:.4g}"


def make_plain(value: Any) -> Any:
    """Return a result as values that JSON has; a number that is not finite becomes None, another object its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: make_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): make_plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [make_plain(item) for item in value]
    if hasattr(value, "tolist"):  # an array or a number of numpy
        return make_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
