"""Intervals from an estimate and its bootstrap draws. Shapes: R draws, n quantities."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from polyglance.laws.arrays import Floats

__all__ = ["Estimate", "Interval", "make_estimate", "widen_interval"]

Interval = tuple[float | None, float | None]
"""Low and high end; None where an end is open."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval. None means an unreachable target or an open end."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def map(self, function: Callable[[float], float], *, falls: bool = False) -> "Estimate":
        """Return the estimate on another scale; the function only rises, or only falls."""
        ends = (self.high, self.low) if falls else (self.low, self.high)
        value, low, high = (None if end is None else function(end) for end in (self.value, *ends))
        return Estimate(value=value, low=low, high=high)

    def __str__(self) -> str:
        """Return `3.2 [2.9, 3.8]`, with a dash for None."""
        value, low, high = ("-" if end is None else f"{end:.4g}" for end in (self.value, self.low, self.high))
        return value if self.low is None and self.high is None else f"{value} [{low}, {high}]"


def widen_interval(
    estimate: Floats, draws: Floats, spread: float, confidence: float, noise: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return the percentile interval (n,), (n,) of draws (R, n), widened about the estimate (n,) by a factor.

    A bootstrap of n rows and p parameters is too narrow by about sqrt(n / (n - p)), and its quantiles are normal, not
    Student's (Hesterberg 2015, section 5.3, "expanded percentile"); `spread` corrects both. The estimate lies inside.

    Args:
        noise: (R, 1) or (R, n), added to the draws for the interval of a new observation.
    """
    wide = estimate + spread * (draws - estimate)
    if noise is not None:
        wide = wide + noise
    tail = 50 * (1 - confidence)
    low, high = np.percentile(wide, [tail, 100 - tail], axis=0)
    return np.minimum(low, estimate), np.maximum(high, estimate)


def make_estimate(value: float, draws: Floats, spread: float, confidence: float) -> Estimate:
    """Return a single quantity with its widened interval; infinite draws (out of reach) give open ends."""
    known = value if np.isfinite(value) else None
    if draws.size == 0:
        return Estimate(value=known)
    wide = draws if known is None else np.where(np.isfinite(draws), known + spread * (draws - known), draws)
    tail = (1 - confidence) / 2
    ends = np.quantile(wide, [tail, 1 - tail], method="inverted_cdf").tolist()
    if known is not None:
        ends = [min(ends[0], known), max(ends[1], known)]
    low, high = (end if np.isfinite(end) else None for end in ends)
    return Estimate(value=known, low=low, high=high)
