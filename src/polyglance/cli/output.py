"""How results are printed: as JSON for machines, as tables for people."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Console

__all__ = ["show"]


def show(result: Any, as_json: bool, readable: Callable[[Any], Any]) -> None:
    """Print the result as JSON, or as `readable` makes it."""
    if as_json:
        values = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
        print(json.dumps(values, indent=2, ensure_ascii=False, default=str))
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(readable(result))
