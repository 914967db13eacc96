"""Objectives of a fit: sums over rows of a function of the log prediction, with first and second derivative.

    log-huber    sum w Huber_delta(log yhat - log y)         Hoffmann et al. 2022, arXiv 2203.15556, equation 3; summed
    huber        sum w Huber_delta(yhat - y)                 of values, as some published fits have it
    log-lsq      sum w (log yhat - log y)^2
    raw-lsq      sum w (yhat - y)^2
    asymmetric   sum w |yhat - y|, overestimates counted `overestimate` times: a lower envelope

Huber_delta(r) = r^2 / 2 within delta, delta (|r| - delta / 2) beyond. Objectives are sums, not means: with a mean,
small gradients fall below the tolerance and the solver stops too early. This was the error of the first published fit
of this kind (arXiv 2404.10102). Shapes: R parameter sets, n rows.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from polyglance.laws.arrays import Floats

__all__ = ["OBJECTIVES", "FitObjective", "ObjectiveName"]

ObjectiveName = Literal["log-huber", "huber", "log-lsq", "raw-lsq", "asymmetric"]
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)


@dataclass(frozen=True, kw_only=True)
class FitObjective:
    """One of the objectives above. While the solver approaches the minimum, a `smoothing` takes the place of delta."""

    name: ObjectiveName = "log-huber"
    delta: float = 1e-3
    """Residual at which the Huber loss turns from square to linear: in log y, or in y for `huber`."""
    overestimate: float = 10.0
    """Weight of an overestimate relative to an underestimate; asymmetric objective only."""

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ValueError(f"objective {self.name!r} is unknown; known: {', '.join(OBJECTIVES)}")
        if not (0 < self.delta < np.inf):
            raise ValueError(f"delta is {self.delta}; expected a positive, finite number")
        if not (0 < self.overestimate < np.inf):
            raise ValueError(f"overestimate is {self.overestimate}; expected a positive, finite number")

    @property
    def smooth(self) -> bool:
        """Whether the objective is smooth at the scale of the residuals, so that no continuation is needed."""
        return self.name in ("log-lsq", "raw-lsq")

    @property
    def logarithmic(self) -> bool:
        """Whether residuals are differences of logs."""
        return self.name.startswith("log-")

    def residuals(self, log_mean: Floats, y: Floats) -> Floats:
        """Return prediction minus observation, (R, n): of logs, or of values, as the objective needs them."""
        with np.errstate(over="ignore"):
            return log_mean - np.log(y) if self.logarithmic else np.exp(log_mean) - y

    def final_smoothing(self, y: Floats) -> float:
        """Return the smoothing at which the minimum is that of the objective itself (to rounding)."""
        return self.delta if self.name in ("log-huber", "huber") else 1e-10 * float(np.median(y))

    def evaluate(
        self, log_mean: Floats, y: Floats, smoothing: float | None = None, reach: float = 1.0
    ) -> tuple[Floats, Floats, Floats]:
        """Return per row the value and its first and second derivative by the log prediction, all (R, n).

        Args:
            smoothing: half width of the kink; None: the objective's own.
            reach: rows up to this many half widths away get the second derivative of a wider kink (the majorising
                weight of reweighted least squares), so that a step allows for the kinks ahead; 1 is exact.
        """
        residual = self.residuals(log_mean, y)
        if self.name == "log-huber":
            delta = smoothing or self.delta
            slope = np.clip(residual, -delta, delta)
            return slope * (residual - slope / 2), slope, _bend(residual, slope, delta, 1.0, reach)
        if self.name == "log-lsq":
            return residual**2, 2 * residual, np.full_like(residual, 2.0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = residual + y
            if self.name == "raw-lsq":
                slope = 2 * residual * mean
                return residual**2, slope, 2 * mean**2 + slope
            if self.name == "huber":
                delta = smoothing or self.delta
                slope = np.clip(residual, -delta, delta)
                value, bend = slope * (residual - slope / 2), _bend(residual, slope, delta, 1.0, reach)
            else:
                value, slope, bend = self._asymmetric(residual, smoothing, reach)
            return value, slope * mean, bend * mean**2 + slope * mean

    def _asymmetric(self, residual: Floats, smoothing: float | None, reach: float) -> tuple[Floats, Floats, Floats]:
        steep = self.overestimate
        if smoothing is None:
            slope = np.where(residual > 0, steep, -1.0)
            return residual * slope, slope, np.zeros_like(residual)
        slope = np.clip(residual / smoothing, -1.0, steep)
        value = slope * (residual - slope * smoothing / 2)
        kink = smoothing * np.where(residual > 0, steep, 1.0)
        return value, slope, _bend(residual, slope, kink, 1 / smoothing, reach)


def _bend(residual: Floats, slope: Floats, kink: Floats | float, inside: float, reach: float) -> Floats:
    """Return the second derivative: `inside` within the kink, slope / residual up to `reach` kinks, 0 beyond."""
    size = np.abs(residual)
    beyond = np.abs(slope) / np.maximum(size, 1e-300) if reach > 1 else 0.0
    return np.where(size <= kink, inside, np.where(size <= reach * kink, beyond, 0.0))
