"""Comparison of forms with each other and with baselines, by the error on held-out rows.

Baselines are "last value" (the y of the nearest training run) and the law without its offset. AICc is computed from
log least squares, which is a likelihood; the held-out errors are those of the objective asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polyglance.laws.arrays import Floats, Labels
from polyglance.laws.config import CompareConfig, FitConfig
from polyglance.laws.equations.form import Form
from polyglance.laws.equations.forms import make_form
from polyglance.laws.equations.roles import Role, find_by_role
from polyglance.laws.fitting.accuracy import (
    FormScore,
    make_splits,
    measure_accuracy,
    predict_held_out,
    predict_nearest,
    r_squared,
)
from polyglance.laws.fitting.columns import notice_columns, notice_copies
from polyglance.laws.fitting.layout import Layout, lay_out
from polyglance.laws.fitting.rows import ALL, Rows, choose_rows, find_order_roles, find_scale, resolve_form, select_rows
from polyglance.laws.fitting.scores import notice_scores
from polyglance.laws.law import LawWarning
from polyglance.laws.tables.prepare import prepare_table
from polyglance.laws.tables.table import Table

__all__ = ["CandidateForm", "LawComparison", "compare_laws"]

_LAST_VALUE = "last value"
_ALIKE = 1.1
"""Errors up to this multiple of the smallest are taken for equally good."""
_EXACT = 1e-6
"""Distance in log y below which a law passes through a run: smaller ones are the solver's, and decide nothing."""


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
    warnings: tuple[LawWarning, ...] = ()
    """Warnings about the table and the group's rows, as those of a fit."""

    def best(self, protocol: str) -> FormScore | None:
        """Return the score of the form with the fewest parameters whose error is within a tenth of the smallest. A form
        that has another as a special case would otherwise win by noise.

        Errors are those of `find_shared`: a form that could not be fitted to few rows is judged on the other splits,
        and so are those that it competes with. None where no form could be fitted.
        """
        scores, shared = self._share_splits(protocol)
        num_parameters = {candidate.name: candidate.num_parameters for candidate in self.candidates}
        if not any(score.candidate in num_parameters for score in scores):
            return None
        errors = [score.average_over(shared) for score in scores]
        known = [(num_parameters.get(s.candidate, 0), error, s) for s, error in zip(scores, errors, strict=True)]
        alike = max(_ALIKE * min(errors), _EXACT)
        return min((one for one in known if one[1] <= alike), key=lambda one: one[:2])[2]

    def find_shared(self, protocol: str) -> tuple[int, ...]:
        """Return the indices of the splits that `best` judges by: those that all forms with a score could be fitted in.

        Where there are none, the forms with the fewest splits are left aside.
        """
        return self._share_splits(protocol)[1]

    def find_left_aside(self, protocol: str) -> tuple[str, ...]:
        """Return the forms that `best` does not judge, because no split of theirs is one of the shared splits."""
        judged = {score.candidate for score in self._share_splits(protocol)[0]}
        return tuple(s.candidate for s in self.scores if s.protocol == protocol and s.candidate not in judged)

    def _share_splits(self, protocol: str) -> tuple[list[FormScore], tuple[int, ...]]:
        """Return the scores to judge, and the splits that they share."""
        measured = [score for score in self.scores if score.protocol == protocol and score.num_splits]
        shared: set[int] | None = None
        scores = []
        for score in sorted(measured, key=lambda score: score.num_skipped):
            fitted = {i for i, error in enumerate(score.split_errors) if error is not None}
            if shared is None or shared & fitted:
                shared = fitted if shared is None else shared & fitted
                scores.append(score)
        return scores, tuple(sorted(shared or ()))


def compare_laws(config: CompareConfig, table: Any, *, form: Form | None = None) -> dict[str, LawComparison]:
    """Score a law, simpler laws and other forms on every way of holding out that the table allows, per group.

    Args:
        table: as for `fit_law`.
        form: a form that is not built in, in place of the config's.

    Raises:
        ValueError: as `fit_law`, or nothing could be compared.
    """
    fit = config.make_fit()
    form, columns, roles = resolve_form(fit, form)
    roles = find_order_roles(form, roles, config.roles)
    used = (*config.list_columns(columns), *(name for name in (config.language, config.scale) if name))
    table = prepare_table(config, Table.from_data(table), used)
    rows, warnings = select_rows(fit, form, columns, table, language=config.language, scale=config.scale)
    chosen = choose_rows(fit, form, rows)
    warnings += (*notice_scores(form, chosen), *notice_columns(columns, used, table, rows))
    languages = np.array(table.labels(config.language)) if config.language else None
    compared = {}
    for label, group in chosen.items():
        scale = table.numbers(config.scale)[0][group.indices] if config.scale else _order_runs(form, roles, group)
        setting = _Setting(
            roles=roles,
            scale=scale,
            has_distance=config.scale is not None or form.logarithmic,
            languages=None if languages is None else languages[group.indices],
        )
        try:
            comparison = _compare_rows(fit, form, group, setting)
        except ValueError as error:
            raise ValueError(f"{'' if label == ALL else f'group {label!r}: '}{error}") from None
        compared[label] = replace(comparison, warnings=(*warnings, *notice_copies(group)))
    return compared


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """Meaning of one group's columns, and the order of its n rows."""

    roles: Mapping[str, Role]
    """By which runs are ordered."""
    scale: Floats
    """(n,) size of each run."""
    has_distance: bool
    """Whether ratios of `scale` mean something."""
    languages: Labels | None
    """(n,)"""

    def find_size_and_data(self, predictors: Sequence[str]) -> tuple[str, ...]:
        """Return the predictors that count size and data (samples, else tokens, else epochs), or else the first two."""
        size = [name for name in find_by_role(self.roles, ("parameters",)) if name in predictors]
        data = [name for name in find_by_role(self.roles, ("samples", "tokens", "epochs")) if name in predictors]
        return (size[0], data[0]) if size and data else tuple(predictors[:2])


def _order_runs(form: Form, roles: Mapping[str, Role], rows: Rows) -> Floats:
    """Return the size of each run (n,): compute, or size times data; by a loss, the ranks from the largest loss on."""
    if form.name == "downstream":
        return np.asarray(np.unique(-rows.x[:, 0], return_inverse=True)[1].ravel() + 1.0)
    return np.asarray(np.prod(rows.x[:, [form.predictors.index(name) for name in find_scale(form, roles)]], axis=1))


def _compare_rows(config: FitConfig, form: Form, rows: Rows, setting: _Setting) -> LawComparison:
    size = next(iter(find_by_role(setting.roles, ("parameters",))), None)
    splits = list(make_splits(form, rows, setting.scale, setting.languages, size))
    trains = [split.train for split in splits]
    distance_scale = setting.scale if setting.has_distance else None
    by_log_lsq = replace(config, objective="log-lsq", delta=FitConfig.delta, overestimate=FitConfig.overestimate)
    scores: list[FormScore] = []
    candidates, notes = [], []
    for candidate in _list_candidates(form, setting.find_size_and_data(form.predictors)):
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
        scores += measure_accuracy(candidate.label, splits, predicted, rows.transform.invert(rows.y), distance_scale)
    if not candidates:
        raise ValueError(f"nothing to compare: {'; '.join(notes)}")
    if splits:
        nearest = rows.transform.invert(np.stack([predict_nearest(form, rows, train) for train in trains]))
        scores += measure_accuracy(_LAST_VALUE, splits, nearest, rows.transform.invert(rows.y), distance_scale)
    return LawComparison(candidates=_with_deltas(candidates), scores=tuple(scores), notes=tuple(notes))


def _list_candidates(form: Form, size_and_data: tuple[str, ...]) -> list[Form]:
    """Return the law; the law with or without offset; without each predictor beyond two; product against saturating and
    additive, which have size and data as their first predictors."""
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
            others = tuple(name for name in predictors if name not in size_and_data)
            candidates.append(make_form("saturating", (*size_and_data, *others), offset=has_offset))
            candidates.append(make_form("additive", size_and_data))
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
        squares = float((rows.weights * (np.log(by_log_lsq) - np.log(rows.y)) ** 2).sum())
        smallest = _EXACT**2 * float(rows.weights.sum())
        aicc = num * float(np.log(max(squares, smallest) / num)) + 2 * k + 2 * k * (k + 1) / (num - k - 1)
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
