"""Error on the largest runs of a table of the law that is fitted to the smaller ones, and coverage of its interval.

This is the question that a plan asks of the law, with an answer that is known. Shapes: n rows.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from polyglance.laws.accuracy import predict_nearest
from polyglance.laws.arrays import Floats
from polyglance.laws.config import FitConfig
from polyglance.laws.form import Form
from polyglance.laws.intervals import widen_interval
from polyglance.laws.law import HeldOut
from polyglance.laws.layout import lay_out, minimise_from_starts
from polyglance.laws.roles import DATA_ROLES, Role, find_by_role
from polyglance.laws.rows import ALL, Rows
from polyglance.laws.uncertainty import compute_spread, draw_replicates

__all__ = ["measure_held_out"]

LARGEST = 0.2
"""Share of the distinct scales, from the top, that is held out (at least one)."""
NUM_DRAWS = 100
NUM_POLISHED = 3
ROUNDING = 1e-9
"""Distance in log y at which a run still counts as inside an interval."""
MANY_ROWS = 1_000
"""Number of rows above which only every k-th one is used."""


def measure_held_out(config: FitConfig, form: Form, roles: Mapping[str, Role], rows: Rows) -> HeldOut | None:
    """Return the errors on the largest runs of the law fitted to the others; None where these do not determine it.

    The scale of a run is its compute, or the product of its size and data.
    """
    if not form.logarithmic:
        return None
    rows = rows.take(np.arange(0, len(rows), -(-len(rows) // MANY_ROWS)))
    scale = _find_log_scale(form, roles, rows)
    levels = np.unique(scale)
    train = scale < levels[-max(1, round(LARGEST * len(levels)))]
    smaller, largest = rows.take(train), rows.take(~train)
    if not len(smaller) or not _varies_alike(rows.inputs(form), smaller.inputs(form)):
        return None
    fitted = replace(config, bootstrap=min(config.bootstrap, NUM_DRAWS))
    layout = lay_out(fitted, form, {ALL: smaller})
    if len(smaller) <= len(layout.free):
        return None
    optimum = minimise_from_starts(layout, layout.weights[None], NUM_POLISHED).best.free
    (block,) = layout.problem.blocks
    design = form.design(largest.inputs(form) - layout.reference)
    log_mean = form.log_mean(block.theta(optimum), design)[0]
    has_draws = fitted.bootstrap > 0 and layout.has_noise
    ratio = np.exp(np.clip(log_mean - np.log(largest.y), -50, 50)) - 1
    nearest = predict_nearest(form, rows, train)[~train] / largest.y - 1
    coverage = None
    if has_draws:
        free = draw_replicates(fitted, layout, optimum[0]).free
        draws = form.log_mean(block.theta(free[np.isfinite(free).all(axis=1)]), design)
    if has_draws and len(draws):
        residuals = layout.problem.log_mean(optimum, len(layout.y))[0] - np.log(layout.y)
        noise = _draw_noise(residuals, len(layout.free), draws.shape)
        low, high = widen_interval(log_mean, draws, compute_spread(fitted, layout), config.confidence, noise)
        outside = np.maximum(low - np.log(largest.y), np.log(largest.y) - high)
        coverage = float((outside <= ROUNDING).mean())
    return HeldOut(
        num_train=len(smaller),
        num_rows=len(largest),
        decades=float(scale.max() - scale[train].max()) / float(np.log(10.0)),
        median_error=float(np.median(np.abs(ratio))),
        mean_error=float(np.abs(ratio).mean()),
        bias=float(ratio.mean()),
        last_value_error=float(np.median(np.abs(nearest))),
        coverage=coverage,
        confidence=config.confidence,
    )


def _find_log_scale(form: Form, roles: Mapping[str, Role], rows: Rows) -> Floats:
    """Return the log scale (n,) of each run: of compute, of size times data, or else of the first two predictors."""
    names = find_by_role(roles, ("compute",)) or find_by_role(roles, ("parameters", *DATA_ROLES))
    names = names or list(form.predictors[:2])
    return np.asarray(rows.inputs(form)[:, [form.predictors.index(name) for name in names]].sum(axis=1))


def _varies_alike(inputs: Floats, smaller: Floats) -> bool:
    """Whether each input that varies over all rows also varies over the smaller runs."""
    return bool((np.ptp(smaller, axis=0) > 1e-9)[np.ptp(inputs, axis=0) > 1e-9].all())


def _draw_noise(residuals: Floats, num_free: int, shape: tuple[int, ...]) -> Floats:
    """Return residuals, widened for the parameters spent: the noise of new runs in log y."""
    spent = max(len(residuals) - num_free, 1)
    picked = np.random.default_rng([0, 5]).choice(residuals, size=shape)
    return np.asarray(-picked * np.sqrt(len(residuals) / spent))
