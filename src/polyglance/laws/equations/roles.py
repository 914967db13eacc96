"""Roles of predictors: what a column counts. Costs, limits and time follow from roles, never from the letters of names.

    parameters      size of the model
    samples         samples seen in training, every pass counted
    tokens          tokens seen in training, every pass counted
    epochs          passes over the data
    compute         compute of training
    starting-loss   loss before training
    none            anything else

A role is guessed from the name of the column or, if that gives none, from the name of the predictor. A name with a
scale (millions, log10) or a rate (per) gives no role, because costs would be wrong by that factor.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from polyglance.languages import did_you_mean

__all__ = [
    "DATA_ROLES",
    "ROLES",
    "Role",
    "check_roles",
    "find_by_role",
    "guess_compute_unit",
    "has_scale",
    "resolve_roles",
]

Role = Literal["parameters", "samples", "tokens", "epochs", "compute", "starting-loss", "none"]
ROLES: tuple[Role, ...] = get_args(Role)
DATA_ROLES: tuple[Role, ...] = ("samples", "tokens", "epochs", "compute")
"""Roles that measure the length of training; costs are proportional to one of them."""

_NAMES: Mapping[str, Role] = {  # whole names
    **dict.fromkeys(("p", "n", "modelsize", "nparams", "numparams"), "parameters"),
    **dict.fromkeys(("s",), "samples"),
    **dict.fromkeys(("d", "ntokens", "numtokens"), "tokens"),
    **dict.fromkeys(("c",), "compute"),
    **dict.fromkeys(("t", "t0", "l0"), "starting-loss"),
}
_WORDS: Mapping[str, Role] = {  # words within names
    **dict.fromkeys(("params", "param", "parameters", "parameter"), "parameters"),
    **dict.fromkeys(("samples", "sample", "examples"), "samples"),
    **dict.fromkeys(("tokens", "token"), "tokens"),
    **dict.fromkeys(("epochs", "epoch"), "epochs"),
    "compute": "compute",
}
_SCALES = frozenset(
    ("per", "log", "log2", "log10", "ln", "k", "m", "b", "g", "t", "bn", "mn", "tn", "mio", "mrd", "10", "hundred")
) | {
    *("thousand", "thousands", "million", "millions", "billion", "billions", "trillion", "trillions"),
    *("unique", "ratio", "fraction"),
}
_POWER_OF_TEN = re.compile(r"1?e[0-9]+")
"""A scale in a name: `tokens_1e9`, `FLOPs (e18)`; `D (10^9)` has the word 10."""
_SCALE_OF_COUNT = re.compile(
    r"[(\[/]\s*((?:in\s+)?(?:[KkMBbGT]|bn|mn|tn|mio|mrd|1?e[0-9]+|[x×*]?\s*10\s*\^?\{?[0-9⁰¹²³⁴-⁹]+\}?))\s*[)\]]?\s*$"
    r"|((?:hundred|thousand|million|billion|trillion)s?)",
    re.IGNORECASE,
)
"""A scale at the end of the name of a count: `Params (M)`, `tokens [1e9]`, `tokens in billions`."""
_COUNTS: tuple[Role, ...] = ("parameters", "samples", "tokens", "epochs")
_LONG_PREFIXES = ("kilo", "mega", "giga", "tera", "peta", "exa", "zetta", "yotta")
_COMPUTE_WORD = re.compile(rf"({'|'.join(_LONG_PREFIXES)}|[kmgtpezy]?)(flop|mac)s?")
_PREFIXES: Mapping[str, float] = {
    "": 1.0,
    **{name[0]: 1e3 ** (1 + i) for i, name in enumerate(_LONG_PREFIXES)},
    **{name: 1e3 ** (1 + i) for i, name in enumerate(_LONG_PREFIXES)},
}
_TIMES = frozenset(("s", "sec", "second", "seconds", "h", "hour", "hours", "day", "days", "year", "years"))
"""Words that make of a unit of compute a speed or a product with time: FLOP/s, PFLOP/s-days."""
_DATA_SLOT: tuple[Role, ...] = ("samples", "tokens", "epochs", "none")


def resolve_roles(columns: Mapping[str, str], given: Mapping[str, str] | None = None) -> dict[str, Role]:
    """Return predictor -> role: the given one, or the one that the names say.

    Args:
        columns: predictor -> column of the table; `y` is skipped.
        given: predictor -> role, by the user.

    Raises:
        ValueError: an unknown role or predictor, or two predictors with the same role where only one may have it.
    """
    given = given or {}
    predictors = [name for name in columns if name != "y"]
    known: dict[str, Role] = {}
    for name, text in given.items():
        if name not in predictors:
            raise ValueError(f"roles: {name!r} is not a predictor; {did_you_mean(name, predictors)}")
        if text not in ROLES:
            raise ValueError(f"roles: {text!r} is not a role; {did_you_mean(text, ROLES)}")
        known[name] = next(role for role in ROLES if role == text)
        if known[name] in _COUNTS and (scale := _SCALE_OF_COUNT.search(columns[name])):
            raise ValueError(
                f"roles: {name} (column {columns[name]!r}) counts {text} in {scale[1] or scale[2]}, and costs would be "
                f"wrong by that factor; compute the column: --derive '{name}=\"{columns[name]}\"*1e6', for example"
            )
    guessed = {name: _guess_role(columns[name]) or _guess_role(name) or "none" for name in predictors}
    roles: dict[str, Role] = guessed | known
    for name, role in list(roles.items()):
        alike = [other for other in predictors if (guessed | known)[other] == role]
        if role in ("none", "starting-loss") or len(alike) == 1:
            continue
        if sum(other in known for other in alike) > 1:
            raise ValueError(f"roles: {' and '.join(alike)} are both {role}; give one of them another role, or none")
        if name not in known:
            roles[name] = "none"  # two candidates: the user has to decide
    return roles


def _guess_role(name: str) -> Role | None:
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    whole = _NAMES.get("".join(words))
    if whole is not None:
        return whole
    if _is_scaled(words):
        return "none"
    found = {_WORDS[word] for word in words if word in _WORDS}
    if any(_COMPUTE_WORD.fullmatch(word) for word in words):
        found.add("compute")
    return found.pop() if len(found) == 1 else "none" if found else None


def _is_scaled(words: Sequence[str]) -> bool:
    if not _TIMES.isdisjoint(words) and any(_COMPUTE_WORD.fullmatch(word) for word in words):
        return True
    return len(words) > 1 and any(word in _SCALES or _POWER_OF_TEN.fullmatch(word) for word in words)


def has_scale(column: str) -> bool:
    """Tell whether the name of a column says that it is scaled, or compute times or divided by a time."""
    return _is_scaled(re.findall(r"[a-z0-9]+", column.lower()))


def check_roles(form: str, columns: Mapping[str, str], roles: Mapping[str, Role]) -> None:
    """Refuse a predictor whose role does not fit its place in the form.

    Args:
        columns: predictor -> column, in the form's order.

    Raises:
        ValueError: compute, or the wrong one of size and data, in the additive or saturating form.
    """
    if form not in ("additive", "saturating"):
        return
    size, data = [name for name in columns if name != "y"][:2]
    for name, fitting, place in (
        (size, ("parameters", "none"), "first predictor is the size of the model (role parameters)"),
        (data, _DATA_SLOT, "second predictor is the amount of data (role samples, tokens or epochs)"),
    ):
        if roles[name] not in fitting:
            raise ValueError(
                f"form {form!r}: its {place}, but {name} (column {columns[name]!r}) has the role {roles[name]}; name "
                f"another column in columns, or say what it is (`roles` {name}=none)"
            )


def find_by_role(roles: Mapping[str, Role], wanted: Sequence[Role]) -> list[str]:
    """Return the predictors with one of the wanted roles, in the order of these roles."""
    return [name for one in wanted for name, role in roles.items() if role == one]


def guess_compute_unit(column: str) -> float | None:
    """Return the GMAC in one unit of a column of compute, from its name (1 MAC = 2 FLOP); None if it has no unit, or
    one with a scale (`FLOPs (1e18)`)."""
    if has_scale(column):
        return None
    for word in re.findall(r"[a-z]+", column.lower()):
        if match := _COMPUTE_WORD.fullmatch(word):
            return _PREFIXES[match[1]] / 1e9 * (0.5 if match[2] == "flop" else 1.0)
    return None
