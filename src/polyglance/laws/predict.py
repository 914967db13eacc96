"""Predictions of all groups of a law, and of a group that the law has not seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

from polyglance.laws.arrays import Floats
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Law, Prediction
from polyglance.laws.tables.prepare import prepare_again
from polyglance.laws.tables.table import Table

__all__ = ["predict_new_group", "predict_with_law"]


def predict_with_law(law: Law, at: Any, *, group: str | None = None) -> dict[str, Prediction]:
    """Predict y with intervals for the mean and for a new run.

    Args:
        at: values of the predictors by name (numbers, or arrays that broadcast), or a table with a column for each:
            a `Table`, or a frame, records or an Arrow table as for `fit_law`.
        group: group of the law; None: all groups.

    Returns:
        Group -> prediction.

    Raises:
        ValueError: no such group, or a predictor without a usable value.
    """
    fits = law.fits if group is None else {group: law[group]}
    if not isinstance(at, Mapping):
        table = prepare_again(
            law.config, Table.from_data(at), [law.columns.get(name, name) for name in law.first.form.predictors]
        )
        at = {name: _read_predictor(table, law.columns.get(name, name), name) for name in law.first.form.predictors}
    return {label: fit.predict(at) for label, fit in fits.items()}


def predict_new_group(law: Law, at: Mapping[str, float]) -> Estimate:
    """Predict y of a group (a language) that the law has not seen, from the differences between the known groups.

    The interval is a t interval over the groups' log predictions, at the law's confidence level: wide if few groups are
    known or if they differ much.

    Raises:
        ValueError: fewer than three groups.
    """
    num = len(law.fits)
    if num < 3:
        raise ValueError(f"the prediction of a new group needs at least three known groups, the law has {num}")
    logs = np.array([float(fit.log_mean(at)[0, 0]) for fit in law.fits.values()])
    quantile = float(special.stdtrit(num - 1, 0.5 + law.first.confidence / 2))
    reach = quantile * float(logs.std(ddof=1)) * np.sqrt(1 + 1 / num)
    middle = float(logs.mean())
    return law.first.transform.invert_estimate(Estimate(value=middle, low=middle - reach, high=middle + reach))


def _read_predictor(table: Table, column: str, name: str) -> Floats:
    values, problems = table.numbers(column)
    for index, problem in problems.items():
        raise ValueError(f"{table.source}: row {index + 1}: {name} {problem}")
    return values
