"""Comparison of forms with each other and with baselines, by the error on held-out rows.

Baselines are "last value" (the y of the nearest training run) and the law without its offset. AICc is computed from
log least squares, which is a likelihood; the held-out errors are those of the objective asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polyglance.laws.arrays import Floats, Labels
from polyglance.laws.config import CompareConfig, FitConfig
from polyglance.laws.equations.form import Form
from polyglance.laws.equations.forms import make_form
from polyglance.laws.fitting.accuracy import (
    FormScore,
    make_splits,
    measure_accuracy,
    predict_held_out,
    predict_nearest,
    r_squared,
)
from polyglance.laws.fitting.layout import Layout, lay_out
from polyglance.laws.fitting.rows import ALL, Rows, choose_rows, resolve_form, select_rows
from polyglance.laws.tables.prepare import prepare_table
from polyglance.laws.tables.table import Table

__all__ = ["CandidateForm", "LawComparison", "compare_laws"]

LAST_VALUE = "last value"
_ALIKE = 1.1
"""Errors up to this multiple of the smallest are taken for equally good."""


@dataclass(frozen=True, kw_only=True)
class CandidateForm:
    """One form of the comparison, fitted to all rows."""

    name: str
    num_parameters: int
    r2_log: float
    """R^2 of log y; 1 if there are only as many rows as parameters."""
    r2_raw: float
    """R^2 of y."""
    aicc: float | None
    """Corrected Akaike criterion of the log least squares fit to all rows; None where there are too few rows."""
    delta_aicc: float | None
    """Difference to the best candidate's AICc; below 2 is a tie, above 10 is decisive."""


@dataclass(frozen=True, kw_only=True)
class LawComparison:
    """Result of `compare_laws` for one group of rows."""

    candidates: tuple[CandidateForm, ...]
    scores: tuple[FormScore, ...]
    notes: tuple[str, ...]
    """Candidates that could not be compared, with the reason."""

    def best(self, protocol: str) -> FormScore | None:
        """Return the score of the form with the fewest parameters whose error is within a tenth of the smallest, among
        the candidates that could be fitted in every split. A form that has another as a special case would otherwise
        win by noise."""
        known = [(s, s.mean_relative_error) for s in self.scores if s.protocol == protocol]
        measured = [(s, error) for s, error in known if error is not None]
        most = max((s.num_splits for s, _ in measured), default=0)
        complete = [(s, error) for s, error in measured if s.num_splits == most]
        if not complete:
            return None
        num_parameters = {candidate.name: candidate.num_parameters for candidate in self.candidates}
        smallest = min(error for _, error in complete)
        near = [(num_parameters.get(s.candidate, 0), error, s) for s, error in complete if error <= _ALIKE * smallest]
        return min(near, key=lambda one: one[:2])[2]


def compare_laws(config: CompareConfig, table: Any, *, form: Form | None = None) -> dict[str, LawComparison]:
    """Score a law, simpler laws and other forms on every way of holding out that the table allows, per group.

    Args:
        table: as for `fit_law`.
        form: a form that is not built in, in place of the config's.

    Raises:
        ValueError: as `fit_law`, or nothing could be compared.
    """
    fit = config.make_fit()
    form, columns, _ = resolve_form(fit, form)
    others = [name for name in (config.language, config.scale) if name]
    table = prepare_table(config, Table.from_data(table), (*config.list_columns(columns), *others))
    rows, _ = select_rows(fit, form, columns, table)
    languages = np.array(table.labels(config.language)) if config.language else None
    return {
        label: _compare_rows(
            fit,
            form,
            group,
            _read_scale(config, form, group, table),
            None if languages is None else languages[group.indices],
        )
        for label, group in choose_rows(fit, form, rows).items()
    }


def _read_scale(config: CompareConfig, form: Form, rows: Rows, table: Table) -> Floats:
    """Return the size of each run (n,): the scale column, or the product of P and S."""
    if config.scale:
        values, _ = table.numbers(config.scale)
        scale = values[rows.indices]
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise ValueError(f"{table.source}: scale column {config.scale!r} must hold positive numbers")
        return scale
    names = [name for name in form.predictors if name in ("P", "S")] or list(form.predictors[:2])
    return np.asarray(np.prod(rows.x[:, [form.predictors.index(name) for name in names]], axis=1))


def _compare_rows(config: FitConfig, form: Form, rows: Rows, scale: Floats, languages: Labels | None) -> LawComparison:
    splits = list(make_splits(form, rows, scale, languages))
    trains = [split.train for split in splits]
    by_log_lsq = replace(config, objective="log-lsq", delta=FitConfig.delta, overestimate=FitConfig.overestimate)
    scores: list[FormScore] = []
    candidates, notes = [], []
    for candidate in _list_candidates(form):
        columns = [form.predictors.index(predictor) for predictor in candidate.predictors]
        candidate_rows = {ALL: replace(rows, x=rows.x[:, columns])}
        try:
            layout = lay_out(config, candidate, candidate_rows)
        except ValueError as error:
            notes.append(f"{candidate.label}: {error}")
            continue
        if len(layout.free) > len(rows):
            notes.append(f"{candidate.label}: {len(rows)} rows cannot determine {len(layout.free)} parameters")
            continue
        log_lsq = lay_out(by_log_lsq, candidate, candidate_rows)
        candidates.append(_describe_candidate(layout, log_lsq))
        predicted = rows.transform.invert(predict_held_out(layout, trains))
        scores += measure_accuracy(candidate.label, splits, predicted, rows.transform.invert(rows.y), scale)
    if not candidates:
        raise ValueError(f"nothing to compare: {'; '.join(notes)}")
    if splits:
        nearest = rows.transform.invert(np.stack([predict_nearest(form, rows, train) for train in trains]))
        scores += measure_accuracy(LAST_VALUE, splits, nearest, rows.transform.invert(rows.y), scale)
    return LawComparison(candidates=_with_deltas(candidates), scores=tuple(scores), notes=tuple(notes))


def _list_candidates(form: Form) -> list[Form]:
    """Return the law; the law with or without offset; without each predictor beyond two; product against saturating and
    additive."""
    candidates = [form]
    has_offset, predictors = form.offset is not None, form.predictors
    if form.name in ("compute", "product", "saturating", "additive"):
        candidates.append(make_form(form.name, predictors, offset=not has_offset))
    if form.name == "product":
        if len(predictors) > 2:
            for dropped in predictors:
                kept = [name for name in predictors if name != dropped]
                candidates.append(make_form("product", kept, offset=has_offset))
        if len(predictors) >= 2:
            two = ("P", "S") if {"P", "S"} <= set(predictors) else predictors[:2]
            others = tuple(name for name in predictors if name not in two)
            candidates.append(make_form("saturating", (*two, *others), offset=has_offset))
            candidates.append(make_form("additive", two))
    if form.name in ("saturating", "additive"):
        candidates.append(make_form("product", predictors))
    return candidates


def _describe_candidate(layout: Layout, log_lsq: Layout) -> CandidateForm:
    """Return scores of the fit to all rows; the second layout is the same law by log least squares."""
    (rows,) = layout.groups.values()
    all_rows = [np.ones(len(rows), dtype=bool)]
    (predicted,), (by_log_lsq,) = predict_held_out(layout, all_rows), predict_held_out(log_lsq, all_rows)
    num, k = len(rows), len(layout.free) + 1  # the variance of the noise is a parameter too
    aicc = None
    if num - k - 1 > 0 and np.isfinite(by_log_lsq).all():
        squares = float(((np.log(by_log_lsq) - np.log(rows.y)) ** 2).sum())
        aicc = num * float(np.log(max(squares, 1e-300) / num)) + 2 * k + 2 * k * (k + 1) / (num - k - 1)
    fitted = predicted if np.isfinite(predicted).all() else rows.y
    return CandidateForm(
        name=layout.form.label,
        num_parameters=len(layout.free),
        r2_log=r_squared(np.log(rows.y), np.log(fitted), rows.weights),
        r2_raw=r_squared(rows.transform.invert(rows.y), rows.transform.invert(fitted), rows.weights),
        aicc=aicc,
        delta_aicc=None,
    )


def _with_deltas(candidates: Sequence[CandidateForm]) -> tuple[CandidateForm, ...]:
    best = min((candidate.aicc for candidate in candidates if candidate.aicc is not None), default=None)
    return tuple(
        replace(one, delta_aicc=None if one.aicc is None or best is None else one.aicc - best) for one in candidates
    )
