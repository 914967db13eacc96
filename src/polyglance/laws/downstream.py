"""From loss to score: a monotone law of a downstream score (CIDEr, BLEU, accuracy) against loss (paper Fig. 5).

    score = top / (1 + exp(slope (loss - middle)))

The score falls with loss and never rises again; it is fitted with the same solver, intervals and warnings as the
others.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyglance.laws.forms import Form, bounded_exp

__all__ = ["Downstream"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Downstream(Form):
    """A falling sigmoid of the loss. Parameters: log top (reported as top), slope (at least 0), middle."""

    predictors: tuple[str, ...] = ("loss",)

    name = "downstream"
    parameters = ("top", "slope", "middle")
    logarithmic = False

    def log_mean(self, theta: Floats, design: Any) -> Floats:
        log_top, slope, middle = (theta[:, j, None] for j in range(3))
        return log_top - np.logaddexp(0.0, slope * (design[:, 0] - middle))

    def jacobian(self, theta: Floats, design: Any) -> Floats:
        slope, middle = theta[:, 1, None], theta[:, 2, None]
        distance = design[:, 0] - middle
        share = 1 / (1 + np.exp(-np.clip(slope * distance, -700, 700)))
        return np.stack([np.ones_like(share), -share * distance, share * slope], axis=-1)

    def loss_for(self, theta: Floats, score: float) -> Floats:
        """The loss (R,) at which the score is reached, the inverse of the law; nan above the top or without a slope."""
        slope, middle = theta[:, 1], theta[:, 2]
        ratio = np.expm1(theta[:, 0] - np.log(score))
        reached = (ratio > 0) & (slope > 0)
        return np.where(reached, middle + np.log(np.where(reached, ratio, 1)) / np.where(reached, slope, 1), np.nan)

    def starts(self, z: Floats, log_y: Floats) -> Floats:
        """Tops at and above the best score; slope and middle by regression of the logit on the loss."""
        starts = []
        for factor in (1.02, 1.3, 2.0, 5.0, 20.0):
            log_top = log_y.max() + np.log(factor)
            logit = np.log(np.expm1(log_top - log_y))
            slope = max(float(np.polyfit(z[:, 0], logit, 1)[0]), 1e-3)
            starts.append([log_top, slope, float(np.mean(z[:, 0] - logit / slope))])
        return np.array(starts)

    def bounds(self, log_y: Floats) -> tuple[Floats, Floats]:
        return np.array([log_y.min() - 1.0, 0.0, -1e3]), np.array([log_y.max() + 10.0, 1e3, 1e3])

    def to_internal(self, values: Any) -> Floats:
        with np.errstate(divide="ignore"):
            return np.array([np.log(values["top"]), values["slope"], values["middle"]])

    def to_reported(self, theta: Floats) -> Floats:
        reported = np.array(theta, dtype=float)
        reported[..., 0] = bounded_exp(reported[..., 0])
        return reported
