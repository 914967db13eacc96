"""Which form holds out of sample? Forms against each other and against baselines, by held-out error in one table.

    expanding window     fit the smaller runs, predict the larger ones, for growing windows
    largest P (S, ...)   fit without a predictor's highest levels, predict them
    leave one model out  fit without a model, predict it
    leave one language   fit without a language, predict it

Baselines: "last value" (the nearest training run's y) and the law without offset. AICc is of log least squares, which
is a likelihood; the held-out errors are of the objective asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from polyglance.laws.data import Rows, labels_in_order, read_rows, resolve_form
from polyglance.laws.describe import frontier_of
from polyglance.laws.fit import FitConfig
from polyglance.laws.forms import Form, PowerSum, additive, bounded_exp, make_form, product
from polyglance.laws.setup import Layout, lay_out
from polyglance.laws.solve import POLISH, SCAN, minimise
from polyglance.laws.table import Table

__all__ = ["CompareConfig", "Comparison", "Score", "compare"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

WINDOWS = (0.4, 0.55, 0.7, 0.85)
"""Expanding window: shares of the distinct scales that are trained on."""
LARGEST = 0.2
"""Leave-largest-out: share of a predictor's levels, from the top, that is predicted (at least one level)."""
LAST_VALUE = "last value"
DISTANCES = (0.0, 0.5, 1.0, np.inf)
"""Bounds, in decades of scale beyond the training runs, of the distances that errors are reported at."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What to compare, on which table."""

    fit: FitConfig = field(default_factory=FitConfig)
    """The full law and its columns; its bootstrap is not used. `size` names the model of a row."""
    language: str | None = None
    """Column to leave out one value of at a time, such as the language."""
    scale: str | None = None
    """Column that says which runs are larger, such as the compute; by default the product of P and S (N and D)."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One candidate under one way of holding out."""

    candidate: str
    protocol: str
    num_splits: int
    """Splits that could be fitted and scored."""
    num_skipped: int
    """Splits whose training rows cannot determine the candidate."""
    num_rows: int
    """Held-out rows over all splits."""
    mean_relative_error: float | None
    """Mean of |predicted / measured - 1|; None if nothing could be scored."""
    bias: float | None
    """Mean of predicted / measured - 1; negative is too hopeful."""
    largest_error: float | None
    by_distance: Mapping[str, float]
    """Mean relative error by decades of scale beyond the training runs."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One form in the table."""

    name: str
    num_parameters: int
    r2_log: float
    r2_raw: float
    aicc: float | None
    """Corrected Akaike criterion of the log least squares fit to all rows; None where rows are too few."""
    delta_aicc: float | None
    """Distance to the best candidate's; below 2 is a tie, above 10 is decided."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of `compare` for one group of rows."""

    candidates: tuple[Candidate, ...]
    scores: tuple[Score, ...]
    notes: tuple[str, ...]
    """What could not be compared, and why."""

    def best(self, protocol: str) -> Score | None:
        """The candidate with the smallest held-out error among those that could be fitted in every split."""
        scores = [s for s in self.scores if s.protocol == protocol and s.mean_relative_error is not None]
        most = max((s.num_splits for s in scores), default=0)
        complete = [s for s in scores if s.num_splits == most]
        return min(complete, key=lambda s: s.mean_relative_error or 0.0) if complete else None


def compare(config: CompareConfig, table: Table) -> dict[str, Comparison]:
    """Score all candidates on every way of holding out that the table allows, per group.

    Raises:
        ValueError: as `fit` does, or nothing could be compared.
    """
    form, columns = resolve_form(config.fit)
    rows, _ = read_rows(config.fit, form, columns, table)
    if config.fit.frontier:
        parts = [np.flatnonzero(rows.groups == label) for label in labels_in_order(rows.groups)]
        rows = rows.take(np.sort(np.concatenate([part[frontier_of(config.fit, rows.take(part))] for part in parts])))
    scale = _scale(config, form, rows, table)
    languages = np.array(table.labels(config.language))[rows.indices] if config.language else None
    results = {}
    for label in labels_in_order(rows.groups):
        chosen = rows.groups == label
        results[label] = _compare_rows(
            config.fit, form, rows.take(chosen), scale[chosen], None if languages is None else languages[chosen]
        )
    return results


def _scale(config: CompareConfig, form: Form, rows: Rows, table: Table) -> Floats:
    if config.scale:
        values, problems = table.numbers(config.scale)
        bad = [index for index in problems if index in set(rows.indices.tolist())]
        if bad or (values[rows.indices] <= 0).any():
            raise ValueError(f"{table.source}: scale column {config.scale!r} must hold positive numbers")
        return values[rows.indices]
    names = [name for name in form.predictors if name in ("P", "S")] or list(form.predictors[:2])
    return np.asarray(np.prod(rows.x[:, [form.predictors.index(name) for name in names]], axis=1))


def _compare_rows(
    config: FitConfig, form: Form, rows: Rows, scale: Floats, languages: NDArray[np.str_] | None
) -> Comparison:
    splits = list(_splits(form, rows, scale, languages))
    scores: list[Score] = []
    candidates, notes = [], []
    for name, candidate in candidate_forms(form).items():
        columns = [form.predictors.index(predictor) for predictor in candidate.predictors]
        own = replace(rows, x=rows.x[:, columns])
        settings = replace(config, form=candidate, fix={}, bounds={}, share=(), bootstrap=0)
        try:
            layout = lay_out(settings, candidate, {"all": own})
        except ValueError as error:
            notes.append(f"{name}: {error}")
            continue
        if len(layout.free) > len(own):
            notes.append(f"{name}: {len(own)} rows cannot determine {len(layout.free)} parameters")
            continue
        candidates.append(_candidate(name, settings, candidate, own, layout))
        predicted = _held_out(layout, [train for _, train, _ in splits])
        scores += _score(name, splits, predicted, own.y, scale)
    if not candidates:
        raise ValueError(f"nothing to compare: {'; '.join(notes)}")
    nearest = np.stack([_nearest(form, rows, train) for _, train, _ in splits]) if splits else np.empty((0, len(rows)))
    scores += _score(LAST_VALUE, splits, nearest, rows.y, scale)
    return Comparison(candidates=_with_deltas(candidates), scores=tuple(scores), notes=tuple(notes))


def candidate_forms(form: Form) -> dict[str, Form]:
    """The law asked for; with and without offset; without each predictor beyond two; product against additive."""
    candidates: dict[str, Form] = {_name(form): form}
    if not isinstance(form, PowerSum) or form.name not in ("compute", "product", "additive"):
        return candidates
    variants: list[PowerSum] = [make_form(form.name, form.predictors, offset=form.offset is None)]
    if form.name == "product" and len(form.predictors) > 2:
        for left_out in form.predictors:
            kept = tuple(name for name in form.predictors if name != left_out)
            variants.append(product(kept, offset=form.offset is not None))
    if form.name == "product" and len(form.predictors) >= 2:
        pair = ("P", "S") if {"P", "S"} <= set(form.predictors) else form.predictors[:2]
        variants.append(additive(pair))
    if form.name == "additive":
        variants.append(product(form.predictors))
    for variant in variants:
        candidates.setdefault(_name(variant), variant)
    return candidates


def _name(form: Form) -> str:
    offset = "" if isinstance(form, PowerSum) and form.offset else " without offset"
    return f"{form.name}({', '.join(form.predictors)}){offset if isinstance(form, PowerSum) else ''}"


Split = tuple[str, Mask, Mask]
"""Protocol, rows to train on, rows to predict."""


def _splits(form: Form, rows: Rows, scale: Floats, languages: NDArray[np.str_] | None) -> Iterator[Split]:
    levels = np.unique(scale)
    for share in WINDOWS:
        count = round(share * len(levels))
        if 3 <= count < len(levels):
            train = scale <= levels[count - 1]
            yield "expanding window", train, ~train
    for i, predictor in enumerate(form.predictors):
        values = np.unique(rows.x[:, i])
        if len(values) >= 3:
            train = rows.x[:, i] < values[-max(1, round(LARGEST * len(values)))]
            yield f"largest {predictor}", train, ~train
    for protocol, labels in (("leave one model out", _models(form, rows)), ("leave one language out", languages)):
        if labels is not None:
            for label in labels_in_order(labels):
                yield protocol, labels != label, labels == label


def _models(form: Form, rows: Rows) -> NDArray[np.str_] | None:
    """Which model a row is of: the size column, or else the level of P or N where there are few."""
    if rows.sizes is not None:
        return rows.sizes if len(np.unique(rows.sizes)) > 1 else None
    name = next((name for name in ("P", "N") if name in form.predictors), None)
    if name is None:
        return None
    labels = rows.x[:, form.predictors.index(name)].astype(str)
    return labels if 3 <= len(np.unique(labels)) <= len(rows) // 2 else None


def _held_out(layout: Layout, trains: Sequence[Mask]) -> Floats:
    """Predictions (splits, n) of the law fitted to each split's training rows; nan where they cannot determine it."""
    result = np.full((len(trains), len(layout.y)), np.nan)
    usable = [i for i, train in enumerate(trains) if _determined(layout, train)]
    if not usable:
        return result
    weights = layout.weights * np.stack([trains[i] for i in usable])
    starts = layout.starts()
    y = layout.y[None]
    scanned = minimise(
        layout.problem, np.tile(starts, (len(usable), 1)), y, np.repeat(weights, len(starts), axis=0), SCAN
    )
    values = np.where(np.isfinite(scanned.value), scanned.value, np.inf).reshape(len(usable), -1)
    kept = np.argsort(values, axis=1, kind="stable")[:, :3]
    best = scanned.free.reshape(len(usable), len(starts), -1)[np.arange(len(usable))[:, None], kept]
    num_kept = kept.shape[1]
    polished = minimise(
        layout.problem, best.reshape(-1, best.shape[-1]), y, np.repeat(weights, num_kept, axis=0), POLISH
    )
    winner = polished.value.reshape(len(usable), num_kept).argmin(axis=1)
    free = polished.free.reshape(len(usable), num_kept, -1)[np.arange(len(usable)), winner]
    result[usable] = bounded_exp(layout.problem.log_mean(free, len(layout.y)))
    return result


def _determined(layout: Layout, train: Mask) -> bool:
    """Whether rows suffice: as many as parameters and one more, and no predictor constant that was not before."""
    rows = layout.groups["all"]
    if train.sum() <= len(layout.free):
        return False
    varies = np.ptp(rows.x, axis=0) > 0
    return bool((np.ptp(rows.x[train], axis=0) > 0)[varies].all())


def _nearest(form: Form, rows: Rows, train: Mask) -> Floats:
    """For every row the y of the nearest training run, in standardised inputs."""
    z = rows.inputs(form)
    z = z / np.maximum(z.std(axis=0), 1e-300)
    distance = ((z[:, None, :] - z[None, train, :]) ** 2).sum(axis=-1)
    return rows.y[train][distance.argmin(axis=1)]


def _score(name: str, splits: Sequence[Split], predicted: Floats, y: Floats, scale: Floats) -> list[Score]:
    scores = []
    for protocol in dict.fromkeys(protocol for protocol, _, _ in splits):
        errors, distances, skipped, done = [], [], 0, 0
        for (own, train, test), prediction in zip(splits, predicted, strict=True):
            if own != protocol:
                continue
            if not np.isfinite(prediction[test]).all():
                skipped += 1
                continue
            done += 1
            errors.append(prediction[test] / y[test] - 1)
            distances.append(np.log10(scale[test] / scale[train].max()))
        error = np.concatenate(errors) if errors else np.empty(0)
        distance = np.concatenate(distances) if errors else np.empty(0)
        scores.append(
            Score(
                candidate=name,
                protocol=protocol,
                num_splits=done,
                num_skipped=skipped,
                num_rows=len(error),
                mean_relative_error=float(np.abs(error).mean()) if len(error) else None,
                bias=float(error.mean()) if len(error) else None,
                largest_error=float(np.abs(error).max()) if len(error) else None,
                by_distance=_by_distance(error, distance),
            )
        )
    return scores


def _by_distance(error: Floats, distance: Floats) -> dict[str, float]:
    result = {}
    for low, high in pairwise(DISTANCES):
        inside = (distance > low) & (distance <= high)
        if inside.any():
            label = f"{low:g} to {high:g} decades" if np.isfinite(high) else f"beyond {low:g} decade"
            result[label] = float(np.abs(error[inside]).mean())
    return result


def _candidate(name: str, settings: FitConfig, form: Form, rows: Rows, layout: Layout) -> Candidate:
    everything = np.ones(len(rows), dtype=bool)
    predicted = _held_out(layout, [everything])[0] if len(rows) > len(layout.free) else np.full(len(rows), np.nan)
    log_least_squares = lay_out(replace(settings, objective="log-lsq"), form, {"all": rows})
    likely = _held_out(log_least_squares, [everything])[0]
    num, k = len(rows), len(layout.free) + 1  # the noise is a parameter too
    aicc = None
    if num - k - 1 > 0 and np.isfinite(likely).all():
        sse = float(((np.log(likely) - np.log(rows.y)) ** 2).sum())
        aicc = num * float(np.log(max(sse, 1e-300) / num)) + 2 * k + 2 * k * (k + 1) / (num - k - 1)
    fitted = predicted if np.isfinite(predicted).all() else rows.y
    return Candidate(
        name=name,
        num_parameters=len(layout.free),
        r2_log=_r2(np.log(rows.y), np.log(fitted)),
        r2_raw=_r2(rows.y, fitted),
        aicc=aicc,
        delta_aicc=None,
    )


def _r2(observed: Floats, predicted: Floats) -> float:
    total = float(((observed - observed.mean()) ** 2).sum())
    return 1 - float(((observed - predicted) ** 2).sum()) / total if total > 0 else 0.0


def _with_deltas(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    known = [candidate.aicc for candidate in candidates if candidate.aicc is not None]
    if not known:
        return tuple(candidates)
    best = min(known)
    return tuple(
        replace(candidate, delta_aicc=None if candidate.aicc is None else candidate.aicc - best)
        for candidate in candidates
    )
