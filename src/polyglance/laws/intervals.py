"""Intervals from an estimate and its bootstrap draws. Shapes: R draws, n quantities."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "widened_interval"]

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]
"""Low and high end; None where an end is open."""


def widened_interval(
    estimate: Floats, draws: Floats, spread: float, confidence: float, noise: Floats | None = None
) -> tuple[Floats, Floats]:
    """Percentile interval of draws (R, n), first spread about the estimate (n,) by the small-sample factor.

    A bootstrap of n rows and p parameters is too narrow by about sqrt(n / (n - p)) and knows no t quantiles
    (Hesterberg 2015, section 5.3, "expanded percentile"); `spread` holds both.

    Args:
        noise: (R, 1) or (R, n), added to the draws for the interval of a new observation.
    """
    wide = estimate + spread * (draws - estimate)
    if noise is not None:
        wide = wide + noise
    tail = 50 * (1 - confidence)
    low, high = np.percentile(wide, [tail, 100 - tail], axis=0)
    return low, high
