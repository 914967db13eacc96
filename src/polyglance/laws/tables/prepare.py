"""Preparation of a table for the fit of a law: wide columns are melted, columns are computed.

Rows that a condition leaves out stay in the table, so that rows keep their numbers; `rows.select_rows` leaves them out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyglance.languages import did_you_mean
from polyglance.laws.config import PrepareConfig
from polyglance.laws.tables.expressions import parse_expression
from polyglance.laws.tables.numerals import looks_numeric
from polyglance.laws.tables.table import Table
from polyglance.laws.tables.table_frames import Columns
from polyglance.settings import UnusedSettingError

__all__ = ["prepare_again", "prepare_table"]

_SLOT = re.compile(r"\{(\w+)\}")


def prepare_table(config: PrepareConfig, table: Table, used: Iterable[str] | None = None) -> Table:
    """Return the table with its wide columns melted, and with the computed columns.

    Args:
        used: columns that the law uses. A computed column that neither the law nor another expression uses is refused.
            None: all are used.

    Raises:
        ValueError: a template that fits no column, a column that occurs twice, or an expression that cannot be
            computed; one line.
    """
    if config.melt:
        table = _melt(table, config.melt)
    expressions = {name: _parse(f"derive: {name}", text) for name, text in config.derive.items()}
    if used is not None:
        needed = {*used, *(_parse("where", config.where).columns if config.where else ())}
        for name, expression in reversed(expressions.items()):
            if name not in needed:
                raise UnusedSettingError(
                    f"`derive` {name} has no effect: no column of the law, no condition and no later expression uses it"
                )
            needed |= set(expression.columns)
    for name, expression in expressions.items():
        try:
            cells, problems = expression.compute_column(table)
        except ValueError as error:
            raise ValueError(f"derive: {name}: {error}") from None
        described = {row: f"({expression.text}) {problem}" for row, problem in problems.items()}
        columns, kept = {**table.columns, name: cells}, {**table.problems, name: described}
        table = Table(columns, table.source, table.notes, kept)
    return table


def _parse(option: str, text: str) -> Any:
    try:
        return parse_expression(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _melt(table: Table, templates: Mapping[str, str]) -> Table:
    """Return a table with a row for each row and each value of the templates' slots, row by row."""
    found = {name: _match_columns(table, name, template) for name, template in templates.items()}
    slots = {name: tuple(_SLOT.findall(template)) for name, template in templates.items()}
    names = next(iter(slots.values()))
    if any(set(others) != set(names) for others in slots.values()):
        raise ValueError(f"melt: all templates need the same slots: {', '.join(templates.values())}")
    keys = list(dict.fromkeys(key for columns in found.values() for key in columns))
    melted = {column for columns in found.values() for column in columns.values()}
    kept = {name: column for name, column in table.columns.items() if name not in melted}
    if twice := sorted({*names, *templates} & kept.keys() | set(names) & templates.keys()):
        raise ValueError(f"melt: the table has a column {twice[0]!r} already; give another name")
    columns: Columns = {name: _repeat(column, len(keys)) for name, column in kept.items()}
    for name in names:
        columns[name] = [dict(key)[name] for key in keys] * len(table)
    for name in templates:
        parts = [table.columns[found[name][key]] if key in found[name] else [None] * len(table) for key in keys]
        columns[name] = [cell for row in zip(*parts, strict=True) for cell in row]
    shape = f"{len(melted)} columns were melted: each of {len(table)} rows became {len(keys)}; messages number these."
    return replace(Table(columns, table.source), notes=(*table.notes, shape))


def _repeat(column: Sequence[Any] | NDArray[Any], count: int) -> Sequence[Any] | NDArray[Any]:
    if isinstance(column, np.ndarray):
        return np.repeat(column, count)
    return [cell for cell in column for _ in range(count)]


def _match_columns(table: Table, name: str, template: str) -> dict[tuple[tuple[str, str], ...], str]:
    """Return the values of the slots -> column, for the columns that fit a template."""
    pieces = _SLOT.split(template)
    slots = pieces[1::2]
    if not slots or len(set(slots)) < len(slots):
        raise ValueError(
            f"melt: {name}={template!r}: expected a name with slots, as in loss_{{language}}: the column loss_de then "
            "gives a row with language de"
        )
    pattern = re.compile("".join(f"(?P<{p}>.+?)" if i % 2 else re.escape(p) for i, p in enumerate(pieces)))
    found = {}
    for column in table.columns:
        match = pattern.fullmatch(column)
        if match is not None and (template != f"{{{slots[0]}}}" or looks_numeric(column)):
            found[tuple(sorted(match.groupdict().items()))] = column
    if not found:
        plain = _SLOT.sub("", template)
        raise ValueError(f"melt: {name}={template!r} fits no column; {did_you_mean(plain, table.columns)}")
    return found


def prepare_again(options: Mapping[str, Any], table: Table, columns: Iterable[str]) -> Table:
    """Return another table prepared like the table of a law: for the law's plot, or with rows to predict.

    A computed column is computed again where the table has the columns that it needs, and otherwise read.

    Args:
        options: the law's, from its file.
        columns: columns that are needed.
    """
    melt, derive, missing = options.get("melt", {}), options.get("derive", {}), set(columns)
    if melt and not missing <= {*table.columns, *derive}:
        table = prepare_table(PrepareConfig(melt=melt), table)
    chosen: dict[str, str] = {}
    known = set(table.columns)
    for name, text in derive.items():
        if known.issuperset(parse_expression(text).columns):
            chosen[name] = text
            known.add(name)
    return prepare_table(PrepareConfig(derive=chosen), table) if chosen else table
