"""From a table and the names in a config to the numbers that are fitted, with an account of every row left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from polyglance.laws.forms import Form, PowerSum, make_form
from polyglance.laws.law import Warning
from polyglance.laws.table import Table, listed

if TYPE_CHECKING:
    from polyglance.laws.fit import FitConfig

__all__ = ["ALL", "Rows", "read_rows", "resolve_form"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

ALL = "all"
"""Name of the one group of a table that is not divided."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The usable rows of a table, n of them."""

    x: Floats
    """(n, k) predictors in the form's order."""
    y: Floats
    """(n,)"""
    weights: Floats
    """(n,)"""
    clusters: Indices
    """(n,) which rows belong together, numbered from 0 without gaps."""
    groups: NDArray[np.str_]
    """(n,) label of the law that a row belongs to."""
    sizes: NDArray[np.str_] | None
    """(n,) label of the model that a row was measured on, where the table says."""
    indices: Indices
    """(n,) where the rows are in the table."""
    dropped: Mapping[int, str]
    """Index into the table -> why the row was left out."""

    def __len__(self) -> int:
        return len(self.y)

    def take(self, chosen: NDArray[np.bool_] | Indices) -> "Rows":
        """A subset, with clusters renumbered."""
        return replace(
            self,
            x=self.x[chosen],
            y=self.y[chosen],
            weights=self.weights[chosen],
            clusters=np.unique(self.clusters[chosen], return_inverse=True)[1],
            groups=self.groups[chosen],
            sizes=None if self.sizes is None else self.sizes[chosen],
            indices=self.indices[chosen],
        )

    def inputs(self, form: Form) -> Floats:
        """What the form works on, (n, k): log x, or x."""
        return np.log(self.x) if form.logarithmic else self.x


def resolve_form(config: "FitConfig") -> tuple[Form, dict[str, str]]:
    """The form, and the column for each of its predictors and for y.

    `columns` maps names of the law to names of the table (P=params); names that are left out are their own columns.
    For the product law the names given, in their order, are its predictors.
    """
    columns = dict(config.columns)
    target = columns.pop("y", "y")
    if isinstance(config.form, Form):
        form = config.form
        unknown = [name for name in columns if name not in form.predictors]
        if unknown:
            raise ValueError(f"form {form.name!r} has no predictor {unknown[0]!r}; it has {', '.join(form.predictors)}")
    else:
        form = make_form(config.form, tuple(columns), offset=config.offset)
        if isinstance(form, PowerSum) and form.offset and config.fix.get(form.offset) == 0:
            form = make_form(config.form, tuple(columns), offset=False)
    return form, {**{name: columns.get(name, name) for name in form.predictors}, "y": target}


def read_rows(config: "FitConfig", form: Form, columns: Mapping[str, str], table: Table) -> tuple[Rows, list[Warning]]:
    """The usable rows, and warnings about the others.

    Raises:
        ValueError: a column is missing, a row cannot be used (unless the config says to drop such rows), or too few
            rows are left.
    """
    if len(table) == 0:
        raise ValueError(f"{table.source}: no rows")
    bad: dict[int, str] = {}
    x = np.column_stack(
        [_checked(table, columns[name], name, bad, positive=form.logarithmic) for name in form.predictors]
    )
    y = _checked(table, columns["y"], "y", bad, positive=True)
    weights = _checked(table, config.weight, "weight", bad, positive=True) if config.weight else np.ones(len(table))
    kept = np.array([index for index in range(len(table)) if index not in bad], dtype=np.int64)
    warnings = _account(table, config, bad, len(kept))
    clusters = table.labels(config.cluster) if config.cluster else range(len(table))
    rows = Rows(
        x=x,
        y=y,
        weights=weights,
        clusters=np.unique(np.array(clusters), return_inverse=True)[1],
        groups=np.array(table.labels(config.group) if config.group else [ALL] * len(table)),
        sizes=np.array(table.labels(config.size)) if config.size else None,
        indices=np.arange(len(table)),
        dropped=dict(sorted(bad.items())),
    )
    return rows.take(kept), warnings


def _checked(table: Table, column: str, name: str, bad: dict[int, str], *, positive: bool) -> Floats:
    values, problems = table.numbers(column)
    label = name if name == column else f"{name} (column {column!r})"
    for index, problem in problems.items():
        bad.setdefault(index, f"{label} {problem}")
    if positive:
        for index in np.flatnonzero(np.isfinite(values) & (values <= 0)).tolist():
            bad.setdefault(index, f"{label} is {values[index]:g}, must be positive")
    extreme = np.isfinite(values) & (values != 0) & ((np.abs(values) > 1e150) | (np.abs(values) < 1e-150))
    for index in np.flatnonzero(extreme).tolist():
        bad.setdefault(index, f"{label} is {values[index]:g}, beyond 1e-150 to 1e150")
    return values


def _account(table: Table, config: "FitConfig", bad: Mapping[int, str], num_kept: int) -> list[Warning]:
    if not bad:
        return []
    order = sorted(bad)
    examples = "; ".join(f"row {index + 1}: {bad[index]}" for index in order[:5])
    more = f"; and {len(order) - 5} more" if len(order) > 5 else ""
    count = f"{len(order)} of {len(table)} rows cannot be used"
    if config.bad_rows == "error":
        raise ValueError(
            f"{table.source}: {count}: {examples}{more} "
            "(repair them, or leave them out: bad_rows='drop', --drop-bad-rows)"
        )
    if num_kept == 0:
        raise ValueError(f"{table.source}: none of the {len(table)} rows can be used: {examples}{more}")
    return [Warning("rows-dropped", "warning", f"{count} and were left out ({listed(order)}): {examples}{more}.")]


def labels_in_order(labels: Sequence[str] | NDArray[np.str_]) -> list[str]:
    """Distinct labels in order of appearance."""
    return list(dict.fromkeys(map(str, labels)))
