"""Intervals from an estimate and its bootstrap draws. Shapes: R draws, n quantities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "Interval", "estimate_of", "widened_interval"]

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]
"""Low and high end; None where an end is open."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval. None is beyond all bounds: a target out of reach, an open end."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def map(self, function: Callable[[float], float]) -> "Estimate":
        """The estimate on another, increasing scale."""
        ends = [None if end is None else function(end) for end in (self.value, self.low, self.high)]
        return Estimate(value=ends[0], low=ends[1], high=ends[2])

    def text(self) -> str:
        """For people: `3.2 [2.9, 3.8]`, with a dash for what is out of reach."""
        shown = ["-" if end is None else f"{end:.4g}" for end in (self.value, self.low, self.high)]
        return shown[0] if self.low is None and self.high is None else f"{shown[0]} [{shown[1]}, {shown[2]}]"


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


def estimate_of(estimate: float, draws: Floats, spread: float, confidence: float) -> Estimate:
    """A single quantity with its widened interval; infinite draws (out of reach) give open ends."""
    value = estimate if np.isfinite(estimate) else None
    if draws.size == 0:
        return Estimate(value=value)
    wide = draws if value is None else np.where(np.isfinite(draws), value + spread * (draws - value), draws)
    tail = (1 - confidence) / 2
    ends = np.quantile(wide, [tail, 1 - tail], method="inverted_cdf").tolist()
    low, high = (end if np.isfinite(end) else None for end in ends)
    return Estimate(value=value, low=low, high=high)
