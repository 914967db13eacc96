"""The catalogue of published laws, by name: constants from `published.toml`, and the laws of the paper."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from polyglance.languages import did_you_mean
from polyglance.laws.constants.make import MakeConfig, make_intervals, make_law
from polyglance.laws.constants.paper_laws import PAPER_LAWS, make_paper_law
from polyglance.laws.law import Fit, Law, LawWarning

__all__ = ["PUBLISHED_LAWS", "PublishedLaw", "list_published_laws", "load_law"]


@cache
def _read_catalogue() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))


PUBLISHED_LAWS = (*PAPER_LAWS, *_read_catalogue())
"""Names of the published laws. Those of a loss of the paper have the groups UC, ST and SC."""


@dataclass(frozen=True, kw_only=True)
class PublishedLaw:
    """One law of the catalogue."""

    name: str
    equation: str
    groups: tuple[str, ...]
    source: str


def list_published_laws() -> tuple[PublishedLaw, ...]:
    """Return the catalogue."""
    laws = {name: load_law(name) for name in PUBLISHED_LAWS}
    return tuple(
        PublishedLaw(
            name=name,
            equation=law.first.form.formula,
            groups=tuple(law.fits) if len(law.fits) > 1 else (),
            source=str(law.data["source"]),
        )
        for name, law in laws.items()
    )


@cache
def _load_paper_law(name: str) -> Law:
    return make_paper_law(name)


def load_law(source: str | Path) -> Law:
    """Return a published law by its name, or read a law file.

    Raises:
        ValueError: no published law of that name and no such file, or not a law file.
    """
    name = str(source)
    if name in PAPER_LAWS:
        return _load_paper_law(name)
    if name in _read_catalogue():
        return _make_published(_read_catalogue()[name])
    if not name.strip() or not Path(source).exists():
        hint = "" if Path(name).suffix else did_you_mean(name, PUBLISHED_LAWS)
        near = f"; {hint}" if hint.startswith("did you mean") else ""
        raise ValueError(f"{name or repr(name)}: no such file; published laws: {', '.join(PUBLISHED_LAWS)}{near}")
    return Law.load(source)


def _make_published(entry: Mapping[str, Any]) -> Law:
    names = ("form", "set", "columns", "source")
    ranges = {name: (low, high) for name, (low, high) in entry.get("ranges", {}).items()}
    law = make_law(MakeConfig(ranges=ranges, **{name: entry[name] for name in names}))
    errors = entry.get("printed_errors", {})
    intervals = make_intervals(law.first.form, entry["set"], errors)
    note = LawWarning("published", "info", entry["note"])

    def describe(fit: Fit) -> Fit:
        return replace(fit, intervals=intervals, warnings=(note,) if errors else (note, *fit.warnings))

    return replace(law, fits={label: describe(fit) for label, fit in law.fits.items()})
