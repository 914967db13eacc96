"""Numbers as people write them: 6.9B, 13M, 1e9 tokens, 5 %, 1,234,567, 3,14."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyglance.laws.arrays import Floats

__all__ = ["UNITS", "looks_numeric", "parse_numbers"]

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "%": 1e-2}
"""Suffix of a number, in lower case -> factor: 6.9B parameters, 13M samples, 5 %."""
_COUNTED = "tokens?|params?|parameters?|samples?|examples?|images?|captions?"
"""Words that may follow a count: 1e9 tokens, 6.9B params."""
_NUMBER = re.compile(
    rf"(?P<number>[+-]?[0-9][0-9.,\u00a0\u202f' ]*(?:e[+-]?[0-9]+)?) *(?P<unit>[kmbgt%]?)(?: *(?:{_COUNTED}))?", re.I
)
_PLAIN = frozenset("0123456789.eE+-")
_BLANKS = "'\u00a0\u202f "
_COMMA_GROUPS = re.compile(rf"[+-]?[0-9]{{1,3}}(?:[,{_BLANKS}][0-9]{{3}})+(?:\.[0-9]+)?")
_DOT_GROUPS = re.compile(rf"[+-]?[0-9]{{1,3}}(?:[.{_BLANKS}][0-9]{{3}})+(?:,[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


def parse_numbers(column: Sequence[Any] | NDArray[Any]) -> tuple[Floats, dict[int, str]]:
    """Return the numbers of a column (n,), and row -> problem for the cells without a number."""
    if (plain := _parse_plain(column)) is not None:
        return plain, {}
    values = np.full(len(column), np.nan)
    problems: dict[int, str] = {}
    commas = _find_meaning_of_commas(column)
    for index, cell in enumerate(column):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            problems[index] = "is empty"
        elif isinstance(cell, bool | np.bool_):
            problems[index] = f"is {cell}, not a number"
        else:
            try:
                values[index] = _parse_number(cell, commas) if isinstance(cell, str) else float(cell)
            except _AmbiguousError:
                problems[index] = f"is {_shorten(cell)}, which can be read as two numbers: write it without separators"
            except (TypeError, ValueError, OverflowError):
                problems[index] = f"is {_shorten(cell)}, not a number"
    return values, problems


def _parse_plain(column: Sequence[Any] | NDArray[Any]) -> Floats | None:
    """Return the numbers of a column of texts in the format of programs (1e9, 3.14); None for any other column."""
    try:
        if not _PLAIN.issuperset("".join(column)):
            return None
        return np.fromiter(map(float, column), dtype=float, count=len(column))
    except (TypeError, ValueError):
        return None


def looks_numeric(text: str) -> bool:
    """Tell whether a cell is written as a number, even if an ambiguous one."""
    return _match_number(text) is not None or text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity")


class _AmbiguousError(ValueError):
    """A separator can separate thousands or decimals, and no cell of the column decides."""


Commas = Literal["groups", "decimals", "unknown"]
"""Meaning of the commas in the numbers of a column."""


def _find_meaning_of_commas(column: Sequence[Any] | NDArray[Any]) -> Commas:
    """Decide from the cells that can be read in one way only: `3,14` and `1.234,5` have a decimal comma, `1,234,567`
    and `1,234.5` have groups. If there are cells of both kinds, or of neither, nothing is decided: `3,704` is 3704 or
    3.704."""
    numbers = [match["number"].strip() for cell in column if isinstance(cell, str) and (match := _match_number(cell))]
    found: set[Commas] = set()
    for number in numbers:
        if "," not in number:
            continue
        has_groups, has_decimals = _COMMA_GROUPS.fullmatch(number), _is_decimal(number)
        if bool(has_groups) != has_decimals:
            found.add("groups" if has_groups else "decimals")
    return found.pop() if len(found) == 1 else "unknown"


def _is_decimal(number: str) -> bool:
    return bool(_DECIMAL_COMMA.fullmatch(number) or ("," in number and _DOT_GROUPS.fullmatch(number)))


def _match_number(text: str) -> re.Match[str] | None:
    return _NUMBER.fullmatch(text.strip())


def _parse_number(text: str, commas: Commas) -> float:
    """Read a number that people write: with a suffix (6.9B, 13M, 5 %), groups of thousands, or a decimal comma.

    Args:
        commas: meaning of commas in the column.

    Raises:
        ValueError: no number, or one that can be read in two ways.
    """
    match = _match_number(text)
    if match is None:
        return float("x" if "_" in text else text)  # nan, inf, or no number
    number = match["number"].strip()
    if commas == "decimals" and re.fullmatch(r"[+-]?[0-9]{1,3}\.[0-9]{3}", number):
        raise _AmbiguousError(number)
    if "," in number:
        if commas == "unknown" and (_COMMA_GROUPS.fullmatch(number) or _is_decimal(number)):
            raise _AmbiguousError(number)
        number = _drop_groups(number, commas)
    elif _COMMA_GROUPS.fullmatch(number):
        number = re.sub(f"[{_BLANKS}]", "", number)
    return float(number) * UNITS[match["unit"].lower()]


def _drop_groups(number: str, commas: Commas) -> str:
    if commas == "decimals" and _is_decimal(number):
        return re.sub(f"[.{_BLANKS}]", "", number).replace(",", ".")
    return re.sub(f"[,{_BLANKS}]", "", number) if _COMMA_GROUPS.fullmatch(number) else number


def _shorten(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 30 else text[:27] + "..."
