"""Choice of the form that predicts the largest runs, by rehearsal: smaller corners of the grid are predicted first.

    chosen = choose_form([FitConfig(columns=..., form="product"), FitConfig(..., form="additive")], table)
    chosen.config, chosen.errors["additive(P, S)"]

A corner is the set of runs of one size and one budget. It is predicted from the runs that have no larger size and
budget, as the largest runs will be predicted from all others. A grid without two such corners is too small to rehearse;
each size, budget and start is then left out in turn. The runs that are finally predicted take part in neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from polyglance.laws.arrays import Floats, Mask
from polyglance.laws.config import FitConfig
from polyglance.laws.fitting.accuracy import predict_held_out
from polyglance.laws.fitting.layout import lay_out
from polyglance.laws.fitting.rows import ALL, resolve_form, select_rows
from polyglance.laws.tables.table import Table

__all__ = ["FormChoice", "RehearsalProtocol", "choose_form"]

RehearsalProtocol = Literal["smaller corners", "leave one out", "none"]
_LEAST_CORNERS = 2
_TINY = 1e-300


@dataclass(frozen=True, kw_only=True)
class FormChoice:
    """A form, chosen among several by how well each has predicted runs that it was not fitted to."""

    config: FitConfig
    """Settings of the form with the smallest error; the first of these if several are equal."""
    label: str
    """Name of the form with its predictors, such as `additive(P, S)`."""
    errors: Mapping[str, float]
    """Label of each form that could predict all of these runs -> mean of |ln(predicted / measured)|."""
    protocol: RehearsalProtocol
    """Runs that were predicted: corners of the grid, or each cell; `none` if the first form could predict nothing, so
    that it is used without a rehearsal."""
    num_rows: int
    """Runs that were predicted."""


def choose_form(configs: Sequence[FitConfig], table: Table) -> FormChoice:
    """Choose the form of a law that is to predict runs with more parameters P and samples S than those in a table.

    Args:
        configs: settings of the forms, the usual one first; each has the same rows and no groups.
        table: runs, with the columns P, S and T, which tells starting points apart.

    Raises:
        ValueError: as `fit_law` for the first form.
    """
    p, s, t = (table.numbers(name)[0] for name in ("P", "S", "T"))
    corners = [
        ((p <= size) & (s <= budget) & ~((p == size) & (s == budget)), (p == size) & (s == budget))
        for size in np.unique(p)[1:]
        for budget in np.unique(s)[1:]
        if ((p == size) & (s == budget)).any()
    ]
    cells = np.unique(np.column_stack([p, s, t]), axis=0)
    left_out = [(~_is_cell(p, s, t, cell), _is_cell(p, s, t, cell)) for cell in cells]
    plans: list[tuple[RehearsalProtocol, list[tuple[Mask, Mask]]]] = [
        ("smaller corners", corners),
        ("leave one out", left_out),
    ]
    labels = [resolve_form(config)[0].label for config in configs]
    for protocol, splits in plans:
        errors = [_predict(config, table, splits) for config in configs]
        usable = [i for i in range(len(splits)) if np.isfinite(errors[0][i]).all()]
        if len(usable) < _LEAST_CORNERS:
            continue
        means = {
            label: float(np.concatenate([found[i] for i in usable]).mean())
            for label, found in zip(labels, errors, strict=True)
            if all(np.isfinite(found[i]).all() for i in usable)
        }
        best = min(means, key=lambda label: means[label])
        return FormChoice(
            config=configs[labels.index(best)],
            label=best,
            errors=means,
            protocol=protocol,
            num_rows=sum(len(errors[0][i]) for i in usable),
        )
    return FormChoice(config=configs[0], label=labels[0], errors={}, protocol="none", num_rows=0)


def _is_cell(p: Floats, s: Floats, t: Floats, cell: Floats) -> Mask:
    return np.asarray((p == cell[0]) & (s == cell[1]) & (t == cell[2]))


def _predict(config: FitConfig, table: Table, splits: Sequence[tuple[Mask, Mask]]) -> list[Floats]:
    """Return |ln(predicted / measured)| of each split's test rows; nan where the training rows do not determine it."""
    form, columns, _ = resolve_form(config)
    rows, _ = select_rows(config, form, columns, table)
    try:
        layout = lay_out(config, form, {ALL: rows})
    except ValueError:
        return [np.full(int(test.sum()), np.nan) for _, test in splits]
    predicted = predict_held_out(layout, [train for train, _ in splits])
    return [
        np.abs(np.log(np.maximum(row[test], _TINY) / rows.y[test]))
        for row, (_, test) in zip(predicted, splits, strict=True)
    ]
