"""How numbers, runs and columns are put into words, the same way in figures, tables and sentences."""

import math

from polyglance.languages import LANGUAGES
from polyglance.report.folder import Run

__all__ = [
    "COLUMN_NAMES",
    "MISSING",
    "count",
    "family_name",
    "fixed",
    "language_name",
    "loss",
    "magnitude",
    "run_name",
    "sentence",
    "series_name",
    "share",
    "signed",
    "significant",
]

MISSING = "–"

COLUMN_NAMES = {
    "UC_prefix": "unseen captioning after the prefix",
    "UC": "unseen captioning, no prefix",
    "ST": "seen translation",
    "SC": "seen captioning",
    "P": "parameters P",
    "S": "seen samples S",
    "T": "loss T of the untrained start",
    "C": "compute C",
}

_FAMILIES = {"scratch": "from scratch", "frozen": "frozen decoder"}
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def family_name(family: str) -> str:
    return _FAMILIES.get(family, family)


def series_name(family: str, start: str) -> str:
    """A family with its starting point; `random` goes without saying."""
    return family_name(family) if start in ("", "random") else f"{family_name(family)}, start “{start}”"


def sentence(text: str) -> str:
    """With a capital, for the start of a sentence or a heading."""
    return text[:1].upper() + text[1:]


def run_name(run: Run, *, family: bool = True) -> str:
    """`frozen decoder, start “six”, d96, 40,000 samples, seed 0`, or the same without the family."""
    start = series_name(run.family, run.start)
    if not family:
        start = start.removeprefix(family_name(run.family)).removeprefix(", ")
    parts = [start, run.size]
    if math.isfinite(run["S"]):
        parts.append(f"{count(run['S'])} samples")
    if run.seed:
        parts.append(f"seed {run.seed}")
    return ", ".join(part for part in parts if part) or run.id


def language_name(code: str) -> str:
    """The language's English name with a capital: `Simplified Chinese`."""
    return sentence(LANGUAGES[code].name if code in LANGUAGES else code)


def loss(value: float) -> str:
    """A loss: two decimals, three where it is small."""
    if not math.isfinite(value):
        return MISSING
    return f"{value:.3f}" if abs(value) < 0.0995 else f"{value:.2f}"


def fixed(value: float) -> str:
    """Three decimals: bits per byte, R²."""
    return f"{value:.3f}".replace("-", "−") if math.isfinite(value) else MISSING


def signed(value: float) -> str:
    """A difference of losses with its sign: `+1.88`, `−0.03`, `±0.00`."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:+.2f}"
    return f"±{text[1:]}" if float(text) == 0 else text.replace("-", "−")


def share(value: float) -> str:
    """A share between 0 and 1 as a percentage; 100 % only where it is exactly so."""
    if not math.isfinite(value):
        return MISSING
    percent = f"{100 * value:.1f}"
    if percent == "100.0" and value < 1:
        percent = "99.9"
    return f"{percent.removesuffix('.0')} %"


def count(value: float) -> str:
    """A count in full, with separators: `40,000`."""
    return f"{round(value):,}" if math.isfinite(value) else MISSING


def magnitude(value: float) -> str:
    """A count in short: `167k`, `0.63M`, `11.2B`; three digits at most."""
    if not math.isfinite(value):
        return MISSING
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def significant(value: float, digits: int = 3) -> str:
    """A number of any size with this many digits: `−0.152`, `2.34 × 10⁴`."""
    if not math.isfinite(value):
        return MISSING if math.isnan(value) else ("∞" if value > 0 else "−∞")
    text = f"{value:.{digits}g}"
    if 1e3 <= abs(float(text)) < 1e6:
        text = f"{float(text):,.0f}"
    elif "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}".removeprefix("1 × ")
    return text.replace("-", "−")
