"""Laws that are sums of power terms, evaluated in log space for many parameter sets at once.

Shapes: R parameter sets (starts, bootstrap replicates), n rows, k predictors, p parameters, m parameters of one term.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from polyglance.laws.arrays import Floats
from polyglance.laws.equations.form import Form, Respond, Term

__all__ = ["PowerSum", "fit_non_negative"]

_OFFSET_FRACTIONS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.96, 0.99)
"""Offsets of the starts, as fractions of the smallest y."""
_EXPONENT_GRID = (0.05, 0.12, 0.22, 0.35, 0.5, 0.75, 1.1, 1.8)
"""Exponents that the starts of a law with several power terms try for each term."""
_LARGEST_EXPONENT = 10.0
"""Largest absolute value of exponents; a fit that ends there is reported as having hit a bound."""
_LOG_ZERO = -1e3
"""Log of an amplitude whose term is negligible."""
_MOST_NEWTON_STEPS = 100
"""Steps of Newton's method for the inverse of a sum of several terms; about five are needed."""


@dataclass(frozen=True)
class PowerSum(Form):
    """Sum of power terms with positive amplitudes: log y is a log-sum-exp of expressions linear in the parameters.

    The solver works on log amplitudes (at the geometric mean of the inputs, where they are well determined) and on
    exponents. Gradient and exact Hessian reduce to matrix products of the terms' shares with constant matrices, so a
    thousand replicates cost little more than their exponentials.
    """

    name: str
    predictors: tuple[str, ...]
    parameters: tuple[str, ...]
    terms: tuple[Term, ...]
    log10_amplitude: bool = False
    """Whether amplitudes are reported as log10, as in the tables of the paper's version 1."""

    @property
    def amplitudes(self) -> tuple[str, ...]:
        return tuple(term.amplitude for term in self.terms)

    @property
    def positive(self) -> tuple[str, ...]:
        return () if self.log10_amplitude else self.amplitudes

    @property
    def offset(self) -> str | None:
        return next((term.amplitude for term in self.terms if not term.exponents), None)

    @property
    def label(self) -> str:
        return super().label + ("" if self.offset else " without offset")

    @property
    def formula(self) -> str:
        terms = []
        for term in self.terms:
            amplitude = f"10^{term.amplitude}" if self.log10_amplitude else term.amplitude
            power = " ".join(f"{predictor}^{exponent}" for predictor, exponent in term.exponents)
            terms.append(f"{amplitude} / {power}" if term.sign < 0 else f"{amplitude} {power}".strip())
        return " + ".join(terms)

    def bounds(self, log_y: Floats) -> tuple[Floats, Floats]:
        lower = np.full(len(self.parameters), -_LARGEST_EXPONENT)
        upper = np.full(len(self.parameters), _LARGEST_EXPONENT)
        amplitudes = [self.parameters.index(name) for name in self.amplitudes]
        lower[amplitudes], upper[amplitudes] = log_y.min() - 30.0, log_y.max() + 30.0
        return lower, upper

    def design(self, z: Floats) -> tuple[list[Floats], dict[tuple[int, int], Floats]]:
        """Return per term its columns (n, m), and for each pair of terms their products (n, m * m')."""
        columns = []
        for term in self.terms:
            inputs = [term.sign * z[:, self.predictors.index(predictor)] for predictor, _ in term.exponents]
            columns.append(np.column_stack([np.ones(len(z)), *inputs]))
        pairs = {
            (i, j): (columns[i][:, :, None] * columns[j][:, None, :]).reshape(len(z), -1)
            for i in range(len(columns))
            for j in range(i, len(columns))
        }
        return columns, pairs

    def reference(self, z: Floats) -> Floats:
        return np.asarray(z.mean(axis=0))

    def centring(self, reference: Floats) -> Floats:
        matrix = np.eye(len(self.parameters))
        for term in self.terms:
            row = self.parameters.index(term.amplitude)
            for predictor, exponent in term.exponents:
                shift = term.sign * reference[self.predictors.index(predictor)]
                matrix[row, self.parameters.index(exponent)] = shift
        return matrix

    def log_mean(self, theta: Floats, design: Any) -> Floats:
        return self._log_mean_and_shares(theta, design[0])[0]

    def jacobian(self, theta: Floats, design: Any) -> Floats:
        _, shares = self._log_mean_and_shares(theta, design[0])
        jacobian = np.zeros((*shares[0].shape, len(self.parameters)))
        for positions, share, columns in zip(self._positions, shares, design[0], strict=True):
            jacobian[:, :, positions] += share[:, :, None] * columns
        return jacobian

    def derivatives(self, theta: Floats, design: Any, respond: Respond) -> tuple[Floats, Floats]:
        columns, pairs = design
        log_mean, shares = self._log_mean_and_shares(theta, columns)
        slope, bend = respond(log_mean)
        gradient = np.zeros_like(theta)
        hessian = np.zeros((*theta.shape, theta.shape[1]))
        cross = bend - slope
        for i, rows in enumerate(self._positions):
            pull = slope * shares[i]
            gradient[:, rows] += pull @ columns[i]
            for j, others in enumerate(self._positions[i:], i):
                weight = cross * shares[i] * shares[j]
                if i == j:
                    weight += pull
                block = (weight @ pairs[i, j]).reshape(len(theta), len(rows), len(others))
                hessian[:, rows[:, None], others] += block
                if i != j:
                    hessian[:, others[:, None], rows] += block.transpose(0, 2, 1)
        return gradient, hessian

    def solve_for(self, predictor: str, theta: Floats, z: Floats, log_y: float | Floats) -> Floats:
        """Solve as `Form.solve_for`; +inf where the other terms alone exceed y, or the predictor does not lower y."""
        columns, _ = self.design(np.where(np.array(self.predictors) == predictor, 0.0, z)[None])
        logs = [theta[:, positions] @ x[0] for positions, x in zip(self._positions, columns, strict=True)]
        inside = [i for i, term in enumerate(self.terms) if predictor in dict(term.exponents)]
        others = [np.exp(log - log_y) for i, log in enumerate(logs) if i not in inside]
        left = 1 - np.sum(others, axis=0) if others else np.ones(len(theta))
        levels = np.stack([logs[i] for i in inside], axis=-1)
        exponents = [self.parameters.index(dict(self.terms[i].exponents)[predictor]) for i in inside]
        slopes = np.array([self.terms[i].sign for i in inside]) * theta[:, exponents]
        reached = (left > 0) & (slopes < 0).all(axis=1)
        target = np.log(np.where(reached, left, 1.0)) + log_y
        safe = np.where(reached[:, None], slopes, -1.0)
        return np.where(reached, _solve_log_sum(levels, safe, target), np.inf)

    def without_offset(self, theta: Floats) -> Floats:
        reducible = theta.copy()
        if self.offset:
            reducible[:, self.parameters.index(self.offset)] = _LOG_ZERO
        return reducible

    def to_internal(self, values: Mapping[str, float]) -> Floats:
        theta = super().to_internal(values)
        if self.log10_amplitude:
            theta[[self.parameters.index(name) for name in self.amplitudes]] *= np.log(10.0)
        return theta

    def to_reported(self, theta: Floats) -> Floats:
        reported = super().to_reported(theta)
        if self.log10_amplitude:
            reported[..., [self.parameters.index(name) for name in self.amplitudes]] /= np.log(10.0)
        return reported

    def starts(self, z: Floats, log_y: Floats) -> Floats:
        powers = [i for i, term in enumerate(self.terms) if term.exponents]
        if len(powers) == 1:
            return self._starts_by_regression(z, log_y, powers[0])
        return self._starts_by_grid(z, log_y, powers)

    @cached_property
    def _positions(self) -> tuple[Any, ...]:
        """Per term the positions (m,) of its parameters: its log amplitude, then its exponents."""
        names = [(term.amplitude, *(exponent for _, exponent in term.exponents)) for term in self.terms]
        return tuple(np.array([self.parameters.index(name) for name in group]) for group in names)

    def _log_mean_and_shares(self, theta: Floats, columns: Sequence[Floats]) -> tuple[Floats, list[Floats]]:
        """Return log y (R, n) and each term's share of y, (R, n) per term."""
        logs = [theta[:, positions] @ x.T for positions, x in zip(self._positions, columns, strict=True)]
        if len(logs) == 1:
            return logs[0], [np.ones_like(logs[0])]
        top = logs[0]
        for log in logs[1:]:
            top = np.maximum(top, log)
        shares = [np.exp(log - top) for log in logs]
        total = shares[0].copy()
        for share in shares[1:]:
            total += share
        for share in shares:
            share /= total
        return top + np.log(total), shares

    def _starts_by_regression(self, z: Floats, log_y: Floats, power: int) -> Floats:
        """Return for each offset tried the least squares solution of log (y - offset): exponents have either sign."""
        term = self.terms[power]
        predictors = [self.predictors.index(predictor) for predictor, _ in term.exponents]
        solve = np.linalg.pinv(np.column_stack([np.ones(len(z)), term.sign * z[:, predictors]]))
        smallest = log_y.min()
        starts = []
        for fraction in _OFFSET_FRACTIONS if self.offset else (0.0,):
            theta = np.zeros(len(self.parameters))
            theta[self._positions[power]] = solve @ (log_y + np.log1p(-fraction * np.exp(smallest - log_y)))
            if self.offset:
                theta[self.parameters.index(self.offset)] = smallest + np.log(max(fraction, 0.03))
            starts.append(theta)
        return np.array(starts)

    def _starts_by_grid(self, z: Floats, log_y: Floats, powers: Sequence[int]) -> Floats:
        """Return a grid of exponents; amplitudes for each by non-negative least squares on relative errors."""
        if any(len(self.terms[i].exponents) != 1 for i in powers):
            raise ValueError(f"{self.name}: a sum of terms with several predictors each needs another `starts` method")
        grids = np.meshgrid(*[np.array(_EXPONENT_GRID)] * len(powers), indexing="ij")
        exponents = np.stack([grid.ravel() for grid in grids], axis=1)
        logs = [
            -np.multiply.outer(column, z[:, self.predictors.index(self.terms[i].exponents[0][0])]) - log_y
            for i, column in zip(powers, exponents.T, strict=True)
        ]
        if self.offset:
            logs.append(np.broadcast_to(-log_y, logs[0].shape))
        amplitudes = fit_non_negative(np.exp(np.clip(np.stack(logs, axis=-1), -150.0, 150.0)))
        theta = np.zeros((len(exponents), len(self.parameters)))
        for i, amplitude, column in zip(powers, amplitudes.T, exponents.T, strict=False):
            theta[:, self._positions[i]] = np.column_stack([np.log(amplitude), -self.terms[i].sign * column])
        if self.offset:
            theta[:, self.parameters.index(self.offset)] = np.log(amplitudes[:, -1])
        return theta


def _solve_log_sum(levels: Floats, slopes: Floats, target: Floats) -> Floats:
    """Return x (R,) at which log sum exp(levels + slopes x) is the target, for levels and negative slopes (R, m)."""
    alone = (target[:, None] - levels) / slopes
    x = alone.max(axis=1)
    if levels.shape[1] == 1:
        return np.asarray(x)
    for _ in range(
        _MOST_NEWTON_STEPS
    ):  # the function is convex and falls, so that the steps from its left are monotone
        logs = levels + slopes * x[:, None]
        value = np.logaddexp.reduce(logs, axis=1)
        step = (target - value) / (np.exp(logs - value[:, None]) * slopes).sum(axis=1)
        x = x + step
        if np.all(np.abs(step) <= 1e-13 * np.maximum(np.abs(x), 1.0)):
            break
    return np.asarray(x)


def fit_non_negative(x: Floats) -> Floats:
    """Return per problem in x (R, n, m) the non-negative c (R, m) that brings x @ c nearest to 1.

    Every subset of columns is tried. A coefficient of zero becomes a small positive number, which has a logarithm.
    """
    num_rows, m = x.shape[1], x.shape[2]
    gram = np.einsum("rni,rnj->rij", x, x, optimize=True)
    right = x.sum(axis=1)
    best = np.zeros((len(x), m))
    best_gain = np.zeros(len(x))
    for support in range(1, 2**m):
        chosen = [j for j in range(m) if support >> j & 1]
        block = gram[:, np.array(chosen)[:, None], chosen]
        scale = np.trace(block, axis1=1, axis2=2)[:, None, None]
        solution = np.linalg.solve(block + 1e-13 * scale * np.eye(len(chosen)), right[:, chosen, None])[..., 0]
        gain = np.where((solution > 0).all(axis=1), (solution * right[:, chosen]).sum(axis=1), 0.0)
        better = gain > best_gain
        best[better] = 0.0
        best[np.flatnonzero(better)[:, None], chosen] = solution[better]
        best_gain = np.maximum(best_gain, gain)
    return np.maximum(best, 0.02 * num_rows / x.sum(axis=1) / m)
