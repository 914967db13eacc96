"""Accuracy of a law: R^2 on the rows it was fitted to, and errors on rows that were held out.

    expanding window      fit the smaller runs, predict the larger ones, for growing windows
    largest P (S, ...)    fit without the highest levels of a predictor, predict them; of a loss, the smallest
    leave one model out   fit without a model, predict it
    leave one language    fit without a language, predict it

Shapes: n rows, K splits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from polyglance.laws.arrays import Floats, Labels, Mask, bounded_exp
from polyglance.laws.equations.form import Form
from polyglance.laws.fitting.layout import Layout, minimise_from_starts
from polyglance.laws.fitting.rows import Rows, list_labels

__all__ = [
    "FormScore",
    "HeldOutSplit",
    "make_splits",
    "measure_accuracy",
    "predict_held_out",
    "predict_nearest",
    "r_squared",
]

_WINDOWS = (0.4, 0.55, 0.7, 0.85)
"""Expanding window: shares of the distinct scales that are trained on."""
_LARGEST = 0.2
"""Largest levels: share of a predictor's levels, from the top, that is predicted (at least one level)."""
_DISTANCES = (0.0, 0.5, 1.0, np.inf)
"""Bounds of the ranges that errors are reported for, in decades of scale beyond the training runs."""
_NUM_POLISHED = 3
"""Starts per split that are followed to the end."""


def r_squared(observed: Floats, predicted: Floats, weights: Floats | None = None) -> float:
    """Return the explained share of the (weighted) variance, on the scale of the arguments; 0 if nothing varies."""
    weights = np.ones_like(observed) if weights is None else weights
    total = float((weights * (observed - np.average(observed, weights=weights)) ** 2).sum())
    return 1 - float((weights * (observed - predicted) ** 2).sum()) / total if total > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class HeldOutSplit:
    """One way to divide the rows."""

    protocol: str
    """Name of the way of holding out, such as `expanding window`."""
    train: Mask
    """(n,) rows to fit."""
    test: Mask
    """(n,) rows to predict."""


@dataclass(frozen=True, kw_only=True)
class FormScore:
    """Error of one candidate under one way of holding out."""

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
    """Mean of predicted / measured - 1; negative where predictions are too low."""
    largest_error: float | None
    by_distance: Mapping[str, float]
    """Mean relative error by decades of scale beyond the training runs; empty where runs are ordered by a loss."""
    split_errors: tuple[float | None, ...]
    """Mean relative error of each split; None where it was skipped."""
    split_rows: tuple[int, ...]
    """Held-out rows of each split, also of those that were skipped."""

    def average_over(self, splits: Sequence[int]) -> float:
        """Return the mean relative error over the held-out rows of these splits, none of which was skipped."""
        errors = [(self.split_rows[i], error) for i in splits if (error := self.split_errors[i]) is not None]
        return sum(num * error for num, error in errors) / sum(num for num, _ in errors)


def make_splits(
    form: Form, rows: Rows, scale: Floats, languages: Labels | None, size: str | None
) -> Iterator[HeldOutSplit]:
    """Return all ways of holding out that the rows allow.

    Args:
        scale: (n,) size of each run.
        languages: (n,) language of each row; None: no language is left out.
        size: the predictor that is the size of the model.
    """
    falls = form.name == "downstream"  # larger runs have the smaller losses
    levels = np.unique(scale)
    for share in _WINDOWS:
        count = round(share * len(levels))
        if 3 <= count < len(levels):
            train = scale <= levels[count - 1]
            yield HeldOutSplit(protocol="expanding window", train=train, test=~train)
    for i, predictor in enumerate(form.predictors):
        column = -rows.x[:, i] if falls else rows.x[:, i]
        values = np.unique(column)
        if len(values) >= 3:
            train = column < values[-max(1, round(_LARGEST * len(values)))]
            yield HeldOutSplit(protocol=f"{'smallest' if falls else 'largest'} {predictor}", train=train, test=~train)
    for protocol, labels in (
        ("leave one model out", _label_models(form, rows, size)),
        ("leave one language out", languages),
    ):
        if labels is not None:
            for label in list_labels(labels):
                yield HeldOutSplit(protocol=protocol, train=labels != label, test=labels == label)


def _label_models(form: Form, rows: Rows, size: str | None) -> Labels | None:
    """Return the model of each row (n,): the size column, or else the level of the size where there are few levels."""
    if rows.sizes is not None:
        return rows.sizes if len(np.unique(rows.sizes)) > 1 else None
    if size is None:
        return None
    labels = rows.x[:, form.predictors.index(size)].astype(str)
    return labels if 3 <= len(np.unique(labels)) <= len(rows) // 2 else None


def predict_held_out(layout: Layout, trains: Sequence[Mask]) -> Floats:
    """Return predictions (K, n) of the law fitted to each set of training rows; nan where they do not determine it."""
    result = np.full((len(trains), len(layout.y)), np.nan)
    usable = [i for i, train in enumerate(trains) if _is_determined(layout, train)]
    if not usable:
        return result
    weights = layout.weights * np.stack([trains[i] for i in usable])
    polished = minimise_from_starts(layout, weights, _NUM_POLISHED)
    values = polished.value.reshape(len(usable), -1)
    winner = values.argmin(axis=1) + np.arange(len(usable)) * values.shape[1]
    result[usable] = bounded_exp(layout.problem.log_mean(polished.free[winner], len(layout.y)))
    return result


def _is_determined(layout: Layout, train: Mask) -> bool:
    """Tell whether there are more rows than parameters, and every predictor that varies in the table varies in them."""
    (rows,) = layout.groups.values()
    varies = np.ptp(rows.x, axis=0) > 0
    return bool(train.sum() > len(layout.free) and (np.ptp(rows.x[train], axis=0) > 0)[varies].all())


def predict_nearest(form: Form, rows: Rows, train: Mask) -> Floats:
    """Return for every row (n,) the y of the nearest training run, in standardised inputs."""
    z = rows.inputs(form)
    z = z / np.maximum(z.std(axis=0), 1e-300)
    distance = ((z[:, None, :] - z[None, train, :]) ** 2).sum(axis=-1)
    return rows.y[train][distance.argmin(axis=1)]


def measure_accuracy(
    candidate: str, splits: Sequence[HeldOutSplit], predicted: Floats, y: Floats, scale: Floats | None
) -> list[FormScore]:
    """Return the errors of predictions (K, n) on the held-out rows, per way of holding out.

    Args:
        scale: (n,) size of each run; None: errors have no distance.
    """
    scores = []
    for protocol in dict.fromkeys(split.protocol for split in splits):
        chosen = [(split, row) for split, row in zip(splits, predicted, strict=True) if split.protocol == protocol]
        scored = [(split, row) for split, row in chosen if np.isfinite(row[split.test]).all()]
        error = np.concatenate([np.empty(0), *(row[split.test] / y[split.test] - 1 for split, row in scored)])
        beyond = [] if scale is None else [np.log10(scale[one.test] / scale[one.train].max()) for one, _ in scored]
        by_split = [np.abs(row[split.test] / y[split.test] - 1).mean() for split, row in chosen]
        scores.append(
            FormScore(
                candidate=candidate,
                protocol=protocol,
                num_splits=len(scored),
                num_skipped=len(chosen) - len(scored),
                num_rows=len(error),
                mean_relative_error=float(np.abs(error).mean()) if len(error) else None,
                bias=float(error.mean()) if len(error) else None,
                largest_error=float(np.abs(error).max()) if len(error) else None,
                by_distance=_average_by_distance(error, np.concatenate(beyond)) if beyond else {},
                split_errors=tuple(float(one) if np.isfinite(one) else None for one in by_split),
                split_rows=tuple(int(split.test.sum()) for split, _ in chosen),
            )
        )
    return scores


def _average_by_distance(error: Floats, distance: Floats) -> dict[str, float]:
    result = {}
    for low, high in pairwise(_DISTANCES):
        inside = (distance > low) & (distance <= high)
        if inside.any():
            label = f"{low:g} to {high:g} decades" if np.isfinite(high) else f"beyond {low:g} decade"
            result[label] = float(np.abs(error[inside]).mean())
    return result
