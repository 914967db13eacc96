"""Loss along a budget: the best size if the rest of the budget is spent on data, and the sizes that reach a given loss.

A limit lets a model of size P see D = level P^-slope units of data. With several limits, the smallest of these amounts
counts. On a log scale a sum of power terms is convex along that line, so the best size is the stationary point of one
limit's line, the crossing of two lines, or an end of the sizes considered. A stationary point has a closed form where
at most two terms change along the line, as in the additive and the product law: for y = E + A / N^alpha + B / D^beta
and C = k N D

    N = (alpha A / (beta B))^(1 / (alpha + beta)) (C / k)^(beta / (alpha + beta))    Hoffmann et al. 2022, equation 4

Shapes: R parameter sets, m terms, n sizes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from polyglance.laws.arrays import Floats
from polyglance.laws.law import Fit

__all__ = ["Line", "PowerTerms", "find_best_sizes", "least_data", "minimise_convex"]

_GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Line:
    """log D = level - slope log P: the most data that one limit allows a model of size P."""

    limit: str
    level: float
    slope: float

    def log_data(self, log_sizes: Floats) -> Floats:
        return self.level - self.slope * log_sizes


def least_data(lines: Sequence[Line], log_sizes: Floats) -> Floats:
    """Return the log of the data that all limits allow, in the shape of the sizes."""
    return np.asarray(np.min([line.log_data(log_sizes) for line in lines], axis=0))


@dataclass(frozen=True)
class PowerTerms:
    """A law as a sum of power terms of size and data, the other predictors fixed: each of (R, m)."""

    level: Floats
    """Log of the term at size 1 and data 1."""
    by_size: Floats
    """Exponent of the size."""
    by_data: Floats
    """Exponent of the data."""

    @classmethod
    def of(cls, fit: Fit, theta: Floats, size: str, data: str, others: Mapping[str, float]) -> "PowerTerms":
        """Return the terms of a fit for parameter sets (R, p).

        Raises:
            ValueError: the form is not a sum of power terms.
        """
        form = fit.form
        if not form.terms:
            raise ValueError(
                f"form {form.name!r} is not a sum of power terms, so it cannot spend a budget; use product or additive"
            )
        at_origin = fit.at_origin(theta)
        column = {name: at_origin[:, j] for j, name in enumerate(form.parameters)}
        logs = {name: float(np.log(value)) for name, value in others.items()}
        level, by_size, by_data = [], [], []
        for term in form.terms:
            exponents = {predictor: term.sign * column[parameter] for predictor, parameter in term.exponents}
            nothing = np.zeros(len(theta))
            by_size.append(exponents.pop(size, nothing))
            by_data.append(exponents.pop(data, nothing))
            rest = [exponent * logs[predictor] for predictor, exponent in exponents.items()]
            level.append(column[term.amplitude] + np.sum(rest, axis=0, initial=0.0))
        return cls(np.stack(level, axis=1), np.stack(by_size, axis=1), np.stack(by_data, axis=1))

    def log_loss(self, log_sizes: Floats, log_data: Floats) -> Floats:
        """Return the log of y for sizes and data that broadcast to (R, n), (R, n)."""
        terms = (
            self.level[:, :, None]
            + self.by_size[:, :, None] * log_sizes[..., None, :]
            + self.by_data[:, :, None] * log_data[..., None, :]
        )
        return np.asarray(np.logaddexp.reduce(terms, axis=1))

    def stationary_sizes(self, line: Line) -> Floats:
        """Return the log sizes (R,) at which the loss along a line is stationary; nan where there is no such size.

        Raises:
            ValueError: more than two terms change along the line.
        """
        slope, level = self.by_size - line.slope * self.by_data, self.level + line.level * self.by_data
        changing = np.flatnonzero((np.abs(slope) > 1e-12).any(axis=0))
        if len(changing) > 2:
            raise ValueError("the law has more than two terms in size and data; the best size is known for at most two")
        if len(changing) < 2:
            return np.full(len(slope), np.nan)
        (s, t), (a, b) = slope[:, changing].T, level[:, changing].T
        opposite = s * t < 0  # one term falls with size, the other one rises
        ratio = np.log(np.where(opposite, -t / np.where(s == 0, 1.0, s), 1.0))
        return np.where(opposite, (ratio + b - a) / np.where(opposite, s - t, 1.0), np.nan)

    def solve_data(self, log_sizes: Floats, log_loss: Floats) -> Floats:
        """Return the log data (R, n) at which sizes (R, n) reach a loss (R, 1); +inf where they cannot."""
        (index,) = np.flatnonzero((self.by_data != 0).any(axis=0))
        terms = self.level[:, :, None] + self.by_size[:, :, None] * log_sizes[:, None, :]
        others = np.delete(terms, index, axis=1) - log_loss[:, None, :]
        left = 1 - np.exp(others).sum(axis=1)
        slope = self.by_data[:, index, None]
        reached = (left > 0) & (slope < 0)
        room = np.log(np.where(reached, left, 1.0)) + log_loss - terms[:, index]
        return np.asarray(np.where(reached, room / np.where(reached, slope, 1.0), np.inf))


def find_best_sizes(terms: PowerTerms, lines: Sequence[Line], low: float, high: float) -> Floats:
    """Return the log sizes (R,) between low and high with the lowest loss along the limits."""
    sizes = [terms.stationary_sizes(line) for line in lines]
    for one, other in combinations(lines, 2):
        if one.slope != other.slope:
            sizes.append(np.full(len(terms.level), (one.level - other.level) / (one.slope - other.slope)))
    sizes += [np.full(len(terms.level), end) for end in (low, high)]
    points = np.clip(np.where(np.isnan(sizes), low, sizes), low, high).T
    best = terms.log_loss(points, least_data(lines, points)).argmin(axis=1)
    return np.asarray(points[np.arange(len(points)), best])


def minimise_convex(function: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Return where a function of (R, n) that first falls and then rises is lowest, between low and high (R, 1)."""
    low, high = low.copy(), high.copy()
    for _ in range(100):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        falls = function(left) > function(right)
        low, high = np.where(falls, left, low), np.where(falls, high, right)
    return (low + high) / 2
