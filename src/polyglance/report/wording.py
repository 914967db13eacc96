"""Numbers, runs and columns in words, the same way in figures, tables and sentences."""

import math
from collections.abc import Callable, Sequence
from functools import wraps

from polyglance.languages import LANGUAGES
from polyglance.run_records import RunRow

__all__ = [
    "COLUMN_NAMES",
    "MISSING",
    "capitalise",
    "count_noun",
    "format_count",
    "format_fixed",
    "format_loss",
    "format_losses",
    "format_magnitude",
    "format_score",
    "format_share",
    "format_signed",
    "format_signed_share",
    "format_significant",
    "join_names",
    "name_family",
    "name_language",
    "name_run",
    "name_series",
]

MISSING = "–"
"""Text in place of a number that was not measured or is not finite."""

COLUMN_NAMES = {
    "UC_prefix": "unseen captioning after the prefix",
    "UC": "unseen captioning, no prefix",
    "ST": "seen translation",
    "SC": "seen captioning",
    "P": "parameters P",
    "S": "seen samples S",
    "T": "loss T of the untrained start",
    "C": "compute C",
    "cider": "CIDEr, no prefix",
    "cider_prefix": "CIDEr after the prefix",
    "bleu": "BLEU of translations",
    "disambiguation": "ambiguous sentences settled rightly",
}
"""Column of runs.csv -> its name on the page."""

_NEARLY = 0.005
"""Largest relative difference to a number of one digit at which that number is written instead."""
_FAMILIES = {"scratch": "from scratch", "frozen": "frozen decoder"}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def name_family(family: str) -> str:
    """Return the name of a family on the page; a name that the user chose stays."""
    return _FAMILIES.get(family, family)


def name_series(family: str, start: str) -> str:
    """Name a family with its starting point; `random` is left out."""
    return name_family(family) if start in ("", "random") else f"{name_family(family)}, start “{start}”"


def name_run(run: RunRow, *, family: bool = True) -> str:
    """Return `frozen decoder, start “six”, d96, 40,000 samples, seed 0`, or the same without the family."""
    start = name_series(run.family, run.start)
    if not family:
        start = start.removeprefix(name_family(run.family)).removeprefix(", ")
    samples = f"{format_count(run['S'])} samples" if math.isfinite(run["S"]) else ""
    seed = "" if run.seed is None else f"seed {run.seed}"
    return ", ".join(part for part in (start, run.size, samples, seed) if part) or run.id


def name_language(code: str) -> str:
    """Return a language's English name with a capital: `Simplified Chinese`."""
    return capitalise(LANGUAGES[code].name if code in LANGUAGES else code)


def join_names(codes: Sequence[str]) -> str:
    """Return `French, Spanish and Russian`: the names of languages in a sentence."""
    names = [name_language(code) for code in codes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def capitalise(text: str) -> str:
    """Return a text with a capital first letter, for the start of a sentence or a heading."""
    return text[:1].upper() + text[1:]


def count_noun(number: int, noun: str) -> str:
    """Return `1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _or_missing(format_number: Callable[[float], str]) -> Callable[[float | None], str]:
    """Show a number that is missing or not finite as `MISSING`."""

    @wraps(format_number)
    def format_any(value: float | None) -> str:
        return MISSING if value is None or not math.isfinite(value) else format_number(value)

    return format_any


@_or_missing
def format_loss(value: float) -> str:
    """Format a loss with two decimals, three where it is small."""
    return f"{value:.3f}" if abs(value) < 0.0995 else f"{value:.2f}"


def format_losses(values: Sequence[float]) -> list[str]:
    """Format losses that are compared, all with the decimals that the smallest needs."""
    known = [abs(value) for value in values if math.isfinite(value)]
    decimals = 3 if known and min(known) < 0.0995 else 2
    return [f"{value:.{decimals}f}" if math.isfinite(value) else MISSING for value in values]


@_or_missing
def format_fixed(value: float) -> str:
    """Format bits per byte, R² or a score with three decimals."""
    return f"{value:.3f}".replace("-", "−")


@_or_missing
def format_score(value: float) -> str:
    """Format a score of 0 to 100 with one decimal."""
    return f"{value:.1f}"


@_or_missing
def format_signed(value: float) -> str:
    """Format a difference of losses with its sign: `+1.88`, `−0.03`, `±0.00`."""
    text = f"{value:+.2f}"
    return f"±{text[1:]}" if float(text) == 0 else text.replace("-", "−")


@_or_missing
def format_signed_share(value: float) -> str:
    """Format a relative difference with its sign and one decimal: `+4.1 %`, `−12.0 %`, `±0.0 %`."""
    text = f"{100 * value:+.1f}"
    return f"±{text[1:]} %" if float(text) == 0 else f"{text} %".replace("-", "−")


@_or_missing
def format_share(value: float) -> str:
    """Format a share between 0 and 1 as a percentage; `100 %` only where it is exactly so."""
    percent = f"{100 * value:.1f}"
    if percent == "100.0" and value < 1:
        percent = "99.9"
    return f"{percent.removesuffix('.0')} %"


@_or_missing
def format_count(value: float) -> str:
    """Format a count in full, with separators: `40,000`."""
    return f"{round(value):,}"


@_or_missing
def format_magnitude(value: float) -> str:
    """Format a count with three digits at most: `167k`, `0.63M`, `11.2B`; with one where that is nearly the same number
    (4,992 samples, the whole batches of 5,000, are `5k`)."""
    rounded = float(f"{value:.0e}")
    if value >= 1e3 and abs(value - rounded) <= _NEARLY * value:
        value = rounded
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def format_significant(value: float | None) -> str:
    """Format a number of any size with three digits: `−0.152`, `2.34 × 10⁴`."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.3g}"
    if 1e3 <= abs(float(text)) < 1e6:
        text = f"{float(text):,.0f}"
    elif "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}".removeprefix("1 × ")
    return text.replace("-", "−")
