"""Held-out error, and coverage of the interval: a law is fitted to the smaller runs and predicts the largest.

A plan asks the law the same question, but without a known answer. Shapes: n rows.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special

from polyglance.laws.arrays import Floats
from polyglance.laws.config import FitConfig
from polyglance.laws.equations.form import Form
from polyglance.laws.equations.roles import Role
from polyglance.laws.fitting.accuracy import predict_nearest
from polyglance.laws.fitting.layout import Layout, lay_out, minimise_from_starts
from polyglance.laws.fitting.levels import find_alike_levels
from polyglance.laws.fitting.rows import ALL, Rows, find_order_roles, find_scale
from polyglance.laws.fitting.uncertainty import compute_spread, draw_replicates
from polyglance.laws.intervals import widen_interval
from polyglance.laws.law import HeldOut

__all__ = ["find_widening", "measure_held_out"]

_LARGEST = 0.2
"""Share of the distinct scales, from the top, that is held out (at least one)."""
_NUM_DRAWS = 100
_NUM_POLISHED = 3
_ROUNDING = 1e-9
"""Distance in log y at which a run still counts as inside an interval."""
_CHANCE = 0.01
"""Intervals are widened if the probability of the coverage is below this. Held-out runs share the error of the law, so
that a low coverage arises by chance more often than for independent runs."""
_MANY_ROWS = 1_000
"""Number of rows above which only every k-th row is used."""


def measure_held_out(config: FitConfig, form: Form, roles: Mapping[str, Role], rows: Rows) -> HeldOut | None:
    """Return the errors on the largest runs of the law fitted to the others; None where these do not determine it.

    The scale of a run is its compute, or the product of its size and data.
    """
    if not form.logarithmic:
        return None
    rows = rows.take(np.arange(0, len(rows), -(-len(rows) // _MANY_ROWS)))
    names = find_scale(form, find_order_roles(form, roles, config.roles))
    scale = np.asarray(rows.inputs(form)[:, [form.predictors.index(name) for name in names]].sum(axis=1))
    levels = np.unique(scale)
    train = scale < levels[-max(1, round(_LARGEST * len(levels)))]
    smaller, largest = rows.take(train), rows.take(~train)
    if not len(smaller) or not _varies_alike(rows.inputs(form), smaller.inputs(form)):
        return None
    fitted = replace(config, bootstrap=min(config.bootstrap, _NUM_DRAWS))
    layout = lay_out(fitted, form, {ALL: smaller})
    if len(smaller) <= len(layout.free):
        return None
    optimum = minimise_from_starts(layout, layout.weights[None], _NUM_POLISHED).best.free
    (block,) = layout.problem.blocks
    design = form.design(largest.inputs(form) - layout.reference)
    log_mean = form.log_mean(block.theta(optimum), design)[0]
    measured, log_y = rows.transform.invert(largest.y), np.log(largest.y)
    ratio = rows.transform.invert_log(log_y + np.clip(log_mean - log_y, -50, 50)) / measured - 1
    nearest = rows.transform.invert(predict_nearest(form, rows, train)[~train]) / measured - 1
    distances = None
    if fitted.bootstrap > 0 and layout.has_noise:
        distances = _measure_distances(fitted, layout, optimum[0], design, log_mean, log_y)
    return HeldOut(
        num_train=len(smaller),
        num_rows=len(largest),
        decades=float(scale.max() - scale[train].max()) / float(np.log(10.0)),
        median_error=float(np.median(np.abs(ratio))),
        mean_error=float(np.abs(ratio).mean()),
        bias=float(ratio.mean()),
        last_value_error=float(np.median(np.abs(nearest))),
        coverage=None if distances is None else float((distances <= 1).mean()),
        confidence=config.confidence,
        widening=1.0 if distances is None else find_widening(distances, config.confidence),
    )


def _measure_distances(
    config: FitConfig, layout: Layout, optimum: Floats, design: Any, log_mean: Floats, log_y: Floats
) -> Floats | None:
    """Return the distances (n,) of held-out runs from their predictions, in half widths of their intervals.

    None where no replicate could be fitted.

    Args:
        layout: the smaller runs; optimum (q,): the law fitted to them.
        design: of the held-out runs; log_mean, log_y: (n,) their predictions and measurements.
    """
    levels = find_alike_levels(config, layout, optimum)
    free = draw_replicates(config, layout, optimum, levels).free
    draws = layout.form.log_mean(layout.problem.blocks[0].theta(free[np.isfinite(free).all(axis=1)]), design)
    if not len(draws):
        return None
    residuals = layout.problem.log_mean(optimum[None], len(layout.y))[0] - np.log(layout.y)
    noise = _draw_noise(residuals, len(layout.free), draws.shape)
    spread = compute_spread(config, layout, levels)
    low, high = widen_interval(log_mean, draws, spread, config.confidence, noise)
    half = np.where(log_y > log_mean, high - log_mean, log_mean - low)
    return np.asarray(np.maximum(np.abs(log_y - log_mean) - _ROUNDING, 0.0) / np.maximum(half, _ROUNDING))


def find_widening(distances: Floats, confidence: float) -> float:
    """Return the factor by which intervals are widened to hold the share of held-out runs that they should.

    It is 1 unless a binomial test finds the coverage too low. The factor is the quantile of a split-conformal interval
    (Papadopoulos et al. 2002).

    Args:
        distances: (n,) distances of the runs from their predictions, in half widths of their intervals.
    """
    num = len(distances)
    if special.bdtr(int((distances <= 1).sum()), num, confidence) > _CHANCE:
        return 1.0
    quantile = min(confidence * (1 + 1 / num), 1.0)
    return max(float(np.quantile(distances, quantile, method="higher")), 1.0)


def _varies_alike(inputs: Floats, smaller: Floats) -> bool:
    """Tell whether each input that varies over all rows also varies over the smaller runs."""
    return bool((np.ptp(smaller, axis=0) > 1e-9)[np.ptp(inputs, axis=0) > 1e-9].all())


def _draw_noise(residuals: Floats, num_free: int, shape: tuple[int, ...]) -> Floats:
    """Return residuals, scaled up for the fitted parameters: the noise of new runs in log y."""
    spent = max(len(residuals) - num_free, 1)
    picked = np.random.default_rng([0, 5]).choice(residuals, size=shape)
    return np.asarray(-picked * np.sqrt(len(residuals) / spent))
