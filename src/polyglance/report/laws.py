"""How laws are shown: formulae, symbols, intervals, titles."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from polyglance.laws import Fit, Law
from polyglance.report import wording

__all__ = [
    "Caution",
    "cautions",
    "formula",
    "group_name",
    "interval",
    "laws_by_form",
    "objective_names",
    "parameter_names",
    "parameter_value",
    "symbol",
]

_SEVERITIES = ("error", "warning", "info")
_GREEK = {"eps": "ε", "alpha": "α", "beta": "β"}


def laws_by_form(laws: Mapping[str, Law]) -> list[tuple[str, dict[str, Law]]]:
    """Form -> column of runs.csv -> law, in the order a reader wants: compute first, unseen captioning first."""
    found: dict[str, dict[str, Law]] = {}
    for form in sorted({law.form for law in laws.values()}):
        columns = {name.removeprefix(f"{form}-"): law for name, law in laws.items() if law.form == form}
        order = list(wording.COLUMN_NAMES)
        by_rank = sorted(columns, key=lambda name: (order.index(name) if name in order else len(order), name))
        found[form] = {name: columns[name] for name in by_rank}
    return list(found.items())


def symbol(name: str) -> Markup:
    """A parameter as it is set in a formula: a1 -> a with a subscript 1."""
    stem, subscript = (name.split("_", 1) if "_" in name else (name[:1], name[1:])) if name not in _GREEK else ("", "")
    if not stem:
        return Markup(f"<i>{_GREEK[name]}</i>")
    below = f"<sub>{escape(subscript)}</sub>" if subscript else ""
    return Markup(f"<i>{escape(stem)}</i>{below}")


def formula(law: Law) -> Markup:
    """The law's equation, with the variables that its fits have exponents for."""
    names = parameter_names([law])
    if law.form == "compute":
        powers = [("C", "a1")]
    else:
        powers = [(name.removeprefix("b_"), name) for name in names if name.startswith("b_")]
    first = symbol(names[0]) if names else Markup("")
    product = Markup(" ").join(Markup(f"<i>{escape(x)}</i><sup>{symbol(exponent)}</sup>") for x, exponent in powers)
    offset = Markup(" + ") + symbol("eps") if "eps" in names else Markup("")
    return Markup("<i>y</i> = ") + first + " " + product + offset


@dataclass(frozen=True, kw_only=True)
class Caution:
    """One warning of the laws, with the fits it is about."""

    about: str
    """In words: `UC after the prefix, ST (from scratch)`."""
    message: str


def cautions(laws: Mapping[str, Law], headline: str) -> tuple[list[Caution], list[Caution]]:
    """The warnings of column -> law and of their fits, gravest first; what several fits warn of is said once.

    Returns:
        Those that concern the fits of the headline loss, and the others, remarks (severity info) among them.
    """
    found: dict[tuple[int, str], dict[str, list[str]]] = {}  # (severity, message) -> group -> columns
    for column, law in laws.items():
        groups = {"": law.warnings, **{group: fit.warnings for group, fit in law.fits.items()}}
        for group, warnings in groups.items():
            for warning in warnings:
                key = _SEVERITIES.index(warning.severity), warning.message
                found.setdefault(key, {}).setdefault(group, []).append(column)
    chief: list[Caution] = []
    rest: list[Caution] = []
    for (rank, message), fits in sorted(found.items(), key=lambda item: item[0][0]):
        is_chief = _SEVERITIES[rank] != "info" and any(headline in columns for columns in fits.values())
        (chief if is_chief else rest).append(Caution(about=_about(fits), message=message))
    return chief, rest


def _about(fits: Mapping[str, Sequence[str]]) -> str:
    """Group -> columns in words; the group "" is the law as a whole."""
    parts = []
    for group, columns in fits.items():
        losses = ", ".join("UC after the prefix" if column == "UC_prefix" else column for column in columns)
        parts.append(f"{losses} ({group_name(group)})" if group else losses)
    return "; ".join(parts)


def group_name(group: str) -> str:
    return "all runs" if group == "all" else wording.family_name(group)


def objective_names(laws: Iterable[Law]) -> str:
    """What the fits minimised, such as `log-huber`."""
    return " or ".join(dict.fromkeys(str(law.config.get("objective", "not stated")) for law in laws))


def parameter_value(fit: Fit, name: str) -> str:
    """A parameter's value, or that the data do not determine it."""
    if name in fit.unidentified:
        return "not determined"
    return wording.significant(fit.parameters.get(name, math.nan))


def parameter_names(laws: Iterable[Law]) -> list[str]:
    """Every parameter of any fit of the laws, in order."""
    return list(dict.fromkeys(name for law in laws for fit in law.fits.values() for name in fit.parameters))


def interval(fit: Fit, name: str) -> str:
    """`(−0.20 to −0.11)`, or nothing where the fit has no interval."""
    ends = fit.intervals.get(name)
    if ends is None or name in fit.unidentified:
        return ""
    low, high = ("open" if end is None else wording.significant(end) for end in ends)
    return f"({low} to {high})"
