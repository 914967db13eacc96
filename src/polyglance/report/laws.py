"""Laws on the page: formulae, symbols, intervals, warnings."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from polyglance.laws import Fit, Law
from polyglance.report.wording import COLUMN_NAMES, MISSING, format_fixed, format_significant, name_family

__all__ = [
    "LawWarnings",
    "collect_warnings",
    "format_held_out",
    "format_interval",
    "format_parameter",
    "format_r2",
    "group_laws",
    "list_parameters",
    "name_group",
    "name_objectives",
    "write_formula",
    "write_symbol",
]

_SEVERITIES = ("error", "warning", "info")
_GREEK = {"eps": "ε", "alpha": "α", "beta": "β"}


def group_laws(laws: Mapping[str, Law]) -> list[tuple[str, dict[str, Law]]]:
    """Return form -> column of runs.csv -> law, in the order of reading: compute first, unseen captioning first."""
    groups: dict[str, dict[str, Law]] = {}
    for form in sorted({law.form for law in laws.values()}):
        columns = {name.removeprefix(f"{form}-"): law for name, law in laws.items() if law.form == form}
        order = list(COLUMN_NAMES)
        by_rank = sorted(columns, key=lambda name: (order.index(name) if name in order else len(order), name))
        groups[form] = {name: columns[name] for name in by_rank}
    return list(groups.items())


def write_symbol(name: str) -> Markup:
    """Set a parameter as in a formula: `a1` becomes a with a subscript 1."""
    if name in _GREEK:
        return Markup(f"<i>{_GREEK[name]}</i>")
    stem, subscript = name.split("_", 1) if "_" in name else (name[:1], name[1:])
    below = f"<sub>{escape(subscript)}</sub>" if subscript else ""
    return Markup(f"<i>{escape(stem)}</i>{below}")


def write_formula(law: Law) -> Markup:
    """Set the law's equation, with the variables that its fits have exponents for."""
    names = list_parameters([law])
    if law.form == "compute":
        powers = [("C", "a1")]
    else:
        powers = [(name.removeprefix("b_"), name) for name in names if name.startswith("b_")]
    first = write_symbol(names[0]) if names else Markup("")
    product = Markup(" ").join(
        Markup(f"<i>{escape(x)}</i><sup>{write_symbol(exponent)}</sup>") for x, exponent in powers
    )
    offset = Markup(" + ") + write_symbol("eps") if "eps" in names else Markup("")
    return Markup("<i>y</i> = ") + first + " " + product + offset


@dataclass(frozen=True, kw_only=True)
class LawWarnings:
    """Warnings of several laws, each message once with the fits that it is about, the most severe first."""

    headline: tuple[tuple[str, str], ...]
    """(fits in words, message) of the warnings about the headline loss."""
    others: tuple[tuple[str, str], ...]
    """The same for warnings about other losses, and for remarks (severity info)."""


def collect_warnings(laws: Mapping[str, Law], headline: str) -> LawWarnings:
    """Collect the warnings of column -> law and of their fits.

    Args:
        headline: column of the headline loss.
    """
    messages: dict[tuple[int, str], dict[str, list[str]]] = {}  # (severity, message) -> group -> columns
    for column, law in laws.items():
        groups = {"": law.warnings, **{group: fit.warnings for group, fit in law.fits.items()}}
        for group, warnings in groups.items():
            for warning in warnings:
                key = _SEVERITIES.index(warning.severity), warning.message
                messages.setdefault(key, {}).setdefault(group, []).append(column)
    chief: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for (rank, message), fits in sorted(messages.items(), key=lambda item: item[0][0]):
        is_chief = _SEVERITIES[rank] != "info" and any(headline in columns for columns in fits.values())
        (chief if is_chief else others).append((_name_fits(fits), message))
    return LawWarnings(headline=tuple(chief), others=tuple(others))


def _name_fits(fits: Mapping[str, Sequence[str]]) -> str:
    """Name fits given as group -> columns: `UC after the prefix, ST (from scratch)`. The group "" is a whole law."""
    parts = []
    for group, columns in fits.items():
        losses = ", ".join("UC after the prefix" if column == "UC_prefix" else column for column in columns)
        parts.append(f"{losses} ({name_group(group)})" if group else losses)
    return "; ".join(parts)


def name_group(group: str) -> str:
    """Return the name of a group of runs that a law is fitted to."""
    return "all runs" if group == "all" else name_family(group)


def name_objectives(laws: Iterable[Law]) -> str:
    """Return the quantity that the fits minimised, such as `log-huber`."""
    return " or ".join(dict.fromkeys(str(law.config.get("objective", "not stated")) for law in laws))


def list_parameters(laws: Iterable[Law]) -> list[str]:
    """List every parameter of any fit of the laws, in order."""
    return list(dict.fromkeys(name for law in laws for fit in law.fits.values() for name in fit.parameters))


def format_parameter(fit: Fit, name: str) -> str:
    """Return a parameter's value, or a text that the data do not determine it."""
    if name in fit.unidentified:
        return "not determined"
    return format_significant(fit.parameters.get(name, math.nan))


def format_r2(fit: Fit, value: float) -> str:
    """Return R²; a dash if there are only as many runs as parameters, so that the law passes through all of them."""
    return MISSING if fit.num_rows <= len(fit.form.parameters) else format_fixed(value)


def format_interval(fit: Fit, name: str) -> str:
    """Return `(−0.20 to −0.11)`; empty where the fit has no interval."""
    ends = fit.intervals.get(name)
    if ends is None or name in fit.unidentified:
        return ""
    low, high = ("open" if end is None else format_significant(end) for end in ends)
    return f"({low} to {high})"


def format_held_out(fit: Fit) -> str:
    """Return the median error on the largest runs of the law fitted to the smaller ones: `1.7 % of 4, 75 % inside`."""
    if fit.held_out is None:
        return "not known"
    inside = "" if fit.held_out.coverage is None else f", {100 * fit.held_out.coverage:.0f} % inside"
    percent = 100 * fit.held_out.median_error
    shown = f"{percent:,.0f}" if percent >= 10 else f"{percent:.2g}"
    return f"{shown} % of {fit.held_out.num_rows}{inside}"
