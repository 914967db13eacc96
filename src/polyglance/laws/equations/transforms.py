"""Scores with a ceiling: transform of a score to a positive, falling quantity that a law is fitted to, and its inverse.

    error      u = ceiling - y          the distance to the ceiling, such as 1 - accuracy
    log-odds   u = (ceiling - y) / y    the odds of an error; log u is minus the log-odds of the score

Every form is a law of u, which falls with scale as a loss does. Its offset (eps, E) is the distance of the law's limit
from the ceiling. All results of the package are in the unit of y. Shapes: any.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from polyglance.laws.arrays import Floats, bounded_exp
from polyglance.laws.intervals import Estimate

__all__ = ["NO_TRANSFORM", "Transform", "TransformName", "check_ceiling", "choose_transform"]

TransformName = Literal["none", "error", "log-odds"]
_LOWEST_PERCENT = 10.0
"""If the highest score is above this and at most 100, scores are taken as percent."""


@dataclass(frozen=True)
class Transform:
    """Quantity that a law is fitted to: y itself, or its distance to a ceiling."""

    name: TransformName = "none"
    ceiling: float = 1.0
    """Highest possible y; unused without a transform."""

    @property
    def is_score(self) -> bool:
        """Whether y is a score, which rises where the fitted quantity falls."""
        return self.name != "none"

    @property
    def noun(self) -> str:
        """Word for y."""
        return "score" if self.is_score else "loss"

    def apply(self, y: Floats) -> Floats:
        """Return the fitted quantity of y."""
        if self.name == "none":
            return y
        distance = self.ceiling - y
        return np.asarray(distance if self.name == "error" else distance / y)

    def invert(self, fitted: Floats) -> Floats:
        """Return y of the fitted quantity. An error beyond the ceiling gives a score below 0, as the law has it."""
        if self.name == "none":
            return fitted
        return np.asarray(self.ceiling - fitted if self.name == "error" else self.ceiling / (1 + fitted))

    def invert_log(self, log_fitted: Floats) -> Floats:
        """Return y of the log of the fitted quantity, which is what a form computes."""
        return self.invert(bounded_exp(log_fitted))

    def invert_estimate(self, log_fitted: Estimate) -> Estimate:
        """Return the estimate of y of an estimate of the log of the fitted quantity."""
        return log_fitted.map(lambda log: float(self.invert(np.exp(min(log, 690.0)))), falls=self.is_score)

    def trend(self, rises: bool) -> str:
        """Return in words whether y rises or falls, given the direction of the fitted quantity."""
        return "rises" if rises != self.is_score else "falls"

    def explain_unusable(self, y: float) -> str | None:
        """Return why a value of y cannot be transformed; None if it can."""
        if self.name != "error" and not y > 0:
            return f"is {y:g}, must be positive"
        if self.is_score and not y < self.ceiling:
            return f"is {y:g}, must be below the ceiling {self.ceiling:g}"
        return None

    def describe(self, y: str) -> str:
        """Return the fitted quantity in words, as in `1 - acc`."""
        if not self.is_score:
            return y
        distance = f"{self.ceiling:g} - {y}"
        return distance if self.name == "error" else f"({distance}) / {y}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for the law file."""
        return {"name": self.name, "ceiling": self.ceiling if self.is_score else None}

    @classmethod
    def from_dict(cls, values: Any) -> "Transform":
        """Return the transform that `to_dict` wrote; no transform for a law file without one.

        Raises:
            ValueError: an unknown name, or a ceiling that is no positive number.
        """
        name = (values or {}).get("name", "none")
        if name == "none":
            return NO_TRANSFORM
        if name not in ("error", "log-odds") or not 0 < values["ceiling"] < np.inf:
            raise ValueError(f"transform {values!r} is not known; expected error or log-odds with a positive ceiling")
        return cls(name, float(values["ceiling"]))


NO_TRANSFORM = Transform()


def check_ceiling(ceiling: float | None) -> None:
    """Raise ValueError for a ceiling that is not a positive number."""
    if ceiling is not None and not 0 < ceiling < np.inf:
        raise ValueError(f"`ceiling` is {ceiling:g}; expected a positive number")


def choose_transform(name: TransformName, ceiling: float | None, highest: Callable[[], float]) -> Transform:
    """Return the transform of a table's scores.

    Args:
        ceiling: highest possible score; None: 1 where all scores are up to 1, 100 where the highest is 10 to 100.
        highest: returns the highest score.

    Raises:
        ValueError: the ceiling cannot be inferred from the scores.
    """
    if name == "none":
        return NO_TRANSFORM
    if ceiling is None:
        top = highest()
        if top <= 1:
            ceiling = 1.0
        elif _LOWEST_PERCENT < top <= 100:
            ceiling = 100.0
        else:
            raise ValueError(
                f"the highest y is {top:g}, so the highest possible score cannot be inferred: give `ceiling`, such "
                "as 100 for percent"
            )
    return Transform(name, float(ceiling))
