"""Numbers as people write them: 6.9B, 13 million, 1e9 tokens, 5 %, 1,234,567, 1.234.567, 3,14, 2.5×10^9, **3.1**,
3.10 ± 0.02."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyglance.laws.arrays import Floats

__all__ = [
    "UNITS",
    "Commas",
    "find_commas",
    "find_unit",
    "has_spread",
    "looks_numeric",
    "needs_other_columns",
    "number_of_label",
    "parse_number",
    "parse_numbers",
]

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "%": 1e-2}
"""Suffix of a number, in lower case -> factor: 6.9B parameters, 13M samples, 5 %."""
_UNIT_WORDS = {
    **{"thousand": 1e3, "million": 1e6, "millions": 1e6, "mn": 1e6, "mio": 1e6, "mio.": 1e6},
    **{"billion": 1e9, "billions": 1e9, "bn": 1e9, "mrd": 1e9, "mrd.": 1e9},
    **{"trillion": 1e12, "trillions": 1e12, "tn": 1e12},
}
_COUNTED = "tokens?|params?|parameters?|samples?|examples?|images?|captions?"
"""Words that may follow a count: 1e9 tokens, 6.9B params."""
_LABEL = re.compile(
    r"(?P<number>[+-]?(?:0|[1-9][0-9]{0,25})(?:\.[0-9]{1,25})?(?:e[+-]?[0-9]{1,3})?) ?(?P<unit>[kmbgt%]?)", re.I
)
"""Label that is a number."""
_BLANKS = "'\u2019_\u00a0\u2009\u202f "
"""Characters between groups of three digits, beside the comma and the dot."""
_UNIT = "|".join(sorted(map(re.escape, _UNIT_WORDS), key=len, reverse=True))
_NUMBER = re.compile(
    rf"(?P<number>[+-]?[0-9][0-9.,{_BLANKS}]*(?:e[+-]?[0-9]+)?) *(?P<unit>{_UNIT}|[kmbgt%]?)(?: *(?:{_COUNTED}))?", re.I
)
_PLAIN = frozenset("0123456789.eE+-")
_COMMA_GROUPS = re.compile(rf"[+-]?[0-9]{{1,3}}(?:[,{_BLANKS}][0-9]{{3}})+(?:\.[0-9]+)?")
_DOT_GROUPS = re.compile(rf"[+-]?[0-9]{{1,3}}(?:[.{_BLANKS}][0-9]{{3}})+(?:,[0-9]+)?")
_SEVERAL_DOT_GROUPS = re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3}){2,}")
_DOT_GROUP = re.compile(r"[+-]?[0-9]{1,3}\.[0-9]{3}")
_TWO_DOTS = re.compile(r"\.[0-9]{3}\.[0-9]{3}")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+(?:e[+-]?[0-9]+)?", re.I)

_EMPHASIS = re.compile(r"\*\*(.+)\*\*|__(.+)__|\$(.+)\$|\\(?:textbf|mathbf|underline|emph)\{(.+)\}|<b>(.+)</b>")
"""Marks around the best number of a table of Markdown, LaTeX or HTML."""
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺\u2212", "0123456789-+-")
_POWER = re.compile(
    r"(?:(?P<factor>[0-9.,]+)\s*(?:[×·x*]|\\times|\\cdot)\s*)?10\s*"
    r"(?:(?:\^|\*\*)\s*\{?\s*(?P<exponent>[+-]?[0-9]+)\s*\}?|(?P<raised>[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+))",
    re.I,
)
"""2.5×10^9, 2.5 \\cdot 10^{9}, 10⁹."""
_SPREAD = re.compile(r"(?P<mean>.+?)\s*(?:(?:±|\+/-|\+-|\\pm)\s*(?P<spread>[0-9][^()]*)|\((?P<digits>[0-9.,]+)\))")
"""A mean with its standard deviation: 3.10 ± 0.02, 3.10 (0.02), 3.104(12)."""

Commas = Literal["groups", "decimals", "unknown"]
"""Meaning of the commas in the numbers of a column: of thousands, of decimals."""


class _AmbiguousError(ValueError):
    """A separator can separate thousands or decimals, and no cell decides."""


def parse_numbers(column: Sequence[Any] | NDArray[Any], commas: Commas = "unknown") -> tuple[Floats, dict[int, str]]:
    """Return the numbers of a column (n,), and row -> problem for the cells without a number.

    Args:
        commas: meaning of commas in the other columns of the table, for a column that does not show it.
    """
    if commas != "decimals" and (plain := _parse_plain(column)) is not None:
        return plain, {}
    values = np.full(len(column), np.nan)
    problems: dict[int, str] = {}
    found = _find_meanings(column)
    commas = found.pop() if len(found) == 1 else commas if not found else "unknown"
    has_dot_groups = _has_dot_groups(column)
    for index, cell in enumerate(column):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            problems[index] = "is empty"
        elif isinstance(cell, bool | np.bool_ | complex):
            problems[index] = f"is {cell}, not a number"
        else:
            try:
                is_text = isinstance(cell, str)
                values[index] = _parse_number(cell, commas, has_dot_groups=has_dot_groups) if is_text else float(cell)
            except _AmbiguousError:
                problems[index] = f"is {_shorten(cell)}, which can be read as two numbers: write it without separators"
            except (TypeError, ValueError, OverflowError):
                problems[index] = f"is {_shorten(cell)}, not a number"
    problems |= _find_without_unit(column, values)
    for index in problems:
        values[index] = np.nan
    return values, problems


def _find_without_unit(column: Sequence[Any] | NDArray[Any], values: Floats) -> dict[int, str]:
    """Return row -> problem for numbers that lack the unit of the others: `410` among `70M`, `38` among `41 %`.

    They are below a thousand, and below a thousandth of all numbers with a unit; or, among percents, above one and
    ten times as large as all of them.
    """
    units = [find_unit(cell) for cell in column]
    with_unit = {
        kind: [abs(values[i]) for i, unit in enumerate(units) if unit == kind] for kind in ("count", "percent")
    }
    least = min(with_unit["count"], default=0.0)
    most = max(with_unit["percent"], default=np.inf)
    problems = {}
    for index, unit in enumerate(units):
        size = abs(values[index])
        if unit == "none" and (0 < size < min(1e3, 1e-3 * least) or size > max(1.0, 10 * most)):
            other = column[units.index("count" if size < least else "percent")]
            problems[index] = f"is {_shorten(column[index])}, without the unit that others have ({_shorten(other)})"
    return problems


def find_unit(cell: Any) -> str:
    """Return `count` for a number with a unit (M), `percent`, `none` for a bare number, empty for any other cell."""
    match = _match_number(cell) if isinstance(cell, str) else None
    if match is None:
        return ""
    return {"": "none", "%": "percent"}.get(match["unit"], "count")


def parse_number(text: str) -> float:
    """Read one number that stands alone: 7B, 1.4T, 6.9e9.

    Raises:
        ValueError: no number, or one that can be read in two ways.
    """
    return _parse_number(text, "unknown", has_dot_groups=False)


def number_of_label(text: str) -> Decimal | None:
    """Return the number that a label is, such as 1, 1.0, 1e0 or 1B, with all its digits; None for another label. One
    with a leading zero (007) is a name."""
    match = _LABEL.fullmatch(text)
    return None if match is None else Decimal(match["number"]) * Decimal(str(UNITS[match["unit"].lower()]))


def find_commas(columns: Iterable[Sequence[Any] | NDArray[Any]]) -> Commas:
    """Decide the meaning of commas from the columns of numbers of a table that show it: `3,14` and `1.234.567` are
    written where a comma is decimal, `1,234,567` where it divides groups. Unknown, if they show both or nothing."""
    found: set[Commas] = set()
    for column in columns:
        if isinstance(column, np.ndarray) or not all(isinstance(cell, str) for cell in column):
            continue
        joined = "\n".join(column)
        if "," not in joined and not _TWO_DOTS.search(joined):
            continue
        if all(_match_number(cell) is not None for cell in column if cell.strip()):
            found |= _find_meanings(column)
            found |= {"decimals"} if _has_dot_groups(column) else set()
    return found.pop() if len(found) == 1 else "unknown"


def needs_other_columns(column: Sequence[Any] | NDArray[Any]) -> bool:
    """Tell whether numbers of a column can be read in two ways, and other columns have to decide.

    Such a column holds `3,704`, or `125.000` and nothing else with a dot.
    """
    if isinstance(column, np.ndarray):
        return False
    dots = False
    for cell in column:
        if isinstance(cell, str) and "," in cell and _match_number(cell) is not None:
            return not _find_meanings(column)
        if isinstance(cell, str) and "." in cell:
            if _DOT_GROUP.fullmatch(cell.strip()) is None:
                return False
            dots = True
    return dots


def has_spread(cell: Any) -> bool:
    """Tell whether a cell is a mean with its standard deviation, of which the mean is read."""
    if not isinstance(cell, str) or cell.isalnum() or _NUMBER.fullmatch(cell.strip()):
        return False
    return _SPREAD.fullmatch(_drop_marks(cell)) is not None and _match_number(cell) is not None


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


def _list_numbers(column: Sequence[Any] | NDArray[Any]) -> list[str]:
    return [match["number"].strip() for cell in column if isinstance(cell, str) and (match := _match_number(cell))]


def _find_meanings(column: Sequence[Any] | NDArray[Any]) -> set[Commas]:
    """Return what the cells show that can be read in one way only: `3,14` and `1.234,5` have a decimal comma,
    `1,234,567` and `1,234.5` have groups. `3,704` shows nothing: it is 3704 or 3.704."""
    found: set[Commas] = set()
    for number in _list_numbers(column):
        if "," not in number:
            continue
        has_groups, has_decimals = _COMMA_GROUPS.fullmatch(number), _is_decimal(number)
        if bool(has_groups) != has_decimals:
            found.add("groups" if has_groups else "decimals")
    return found


def _has_dot_groups(column: Sequence[Any] | NDArray[Any]) -> bool:
    """Tell whether dots divide groups of digits: in one cell there are several (`1.234.567`), and in no cell a decimal
    one."""
    dotted = [number for number in _list_numbers(column) if "." in number and "," not in number]
    return any(map(_SEVERAL_DOT_GROUPS.fullmatch, dotted)) and all(
        _SEVERAL_DOT_GROUPS.fullmatch(number) or _DOT_GROUP.fullmatch(number) for number in dotted
    )


def _is_decimal(number: str) -> bool:
    return bool(_DECIMAL_COMMA.fullmatch(number) or ("," in number and _DOT_GROUPS.fullmatch(number)))


def _drop_marks(text: str) -> str:
    """Return the text of a cell without emphasis, with a plain minus sign."""
    text = text.strip().replace("\u2212", "-")
    while match := _EMPHASIS.fullmatch(text):
        text = next(group for group in match.groups() if group is not None).strip()
    return text


def _match_number(text: str) -> re.Match[str] | None:
    if (match := _NUMBER.fullmatch(text.strip())) is not None:
        return match
    text = _drop_marks(text)
    if spread := _SPREAD.fullmatch(text):
        if spread["spread"] is not None and _NUMBER.fullmatch(spread["spread"].strip()) is None:
            return None
        text = spread["mean"]
    if power := _POWER.fullmatch(text):
        exponent = power["exponent"] or power["raised"].translate(_RAISED)
        text = f"{power['factor'] or 1}e{exponent}"
    return _NUMBER.fullmatch(text)


def _parse_number(text: str, commas: Commas, *, has_dot_groups: bool) -> float:
    """Read a number that people write: with a suffix (6.9B, 13M, 5 %), groups of thousands, or a decimal comma.

    Args:
        commas: meaning of commas in the column.
        has_dot_groups: whether dots divide groups of thousands in the column.

    Raises:
        ValueError: no number, or one that can be read in two ways.
    """
    match = _match_number(text)
    if match is None:
        return float("x" if "_" in text else text)  # nan, inf, or no number
    number = match["number"].strip()
    if has_dot_groups and "," not in number:
        number = number.replace(".", "")
    if commas == "decimals" and _DOT_GROUP.fullmatch(number):
        raise _AmbiguousError(number)
    if "," in number:
        if commas == "unknown" and (_COMMA_GROUPS.fullmatch(number) or _is_decimal(number)):
            raise _AmbiguousError(number)
        number = _drop_groups(number, commas)
    elif _COMMA_GROUPS.fullmatch(number):
        number = re.sub(f"[{_BLANKS}]", "", number)
    unit = match["unit"].lower()
    return float("x" if "_" in number else number) * (_UNIT_WORDS[unit] if unit in _UNIT_WORDS else UNITS[unit])


def _drop_groups(number: str, commas: Commas) -> str:
    if commas == "decimals" and _is_decimal(number):
        return re.sub(f"[.{_BLANKS}]", "", number).replace(",", ".")
    return re.sub(f"[,{_BLANKS}]", "", number) if _COMMA_GROUPS.fullmatch(number) else number


def _shorten(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 30 else text[:27] + "..."
