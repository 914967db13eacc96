"""The solver: trust-region Newton with exact derivatives, for many problems of one shape at once.

Every start and every bootstrap replicate is one row of a batch; all rows advance together and leave the batch when they
have converged. Objectives with a kink (log-Huber with a small delta, absolute error) are reached by continuation: the
kink is first smoothed on the scale of the residuals, then sharpened step by step; each step starts from an
extrapolation of the last two.
Shapes: R batch rows, n table rows, q free parameters, p parameters of one group's form.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from polyglance.laws.arrays import Floats, Indices, Mask
from polyglance.laws.equations.form import Form
from polyglance.laws.fitting.objectives import FitObjective

__all__ = ["POLISH", "REFIT", "SCAN", "Block", "Effort", "FitProblem", "Solution", "minimise", "pick_best"]

Smoothing = float | None
"""Half width of the kink of an objective; None for an objective without one."""

_MAX_BATCH_ELEMENTS = 150_000
"""Batch rows times table rows of one batch: small enough for a processor's cache."""
_MOST_SMOOTHINGS = 30
"""Largest number of steps from the scale of the residuals to the kink."""
_LONGEST_STEP = 2.0
"""Bound on one step in any parameter (a log amplitude or an exponent)."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much work the solver does; the three levels in use are below."""

    iterations: int
    """Newton steps at the last smoothing."""
    passing: int
    """Newton steps at each smoothing before the last."""
    tolerance: float
    """A row has converged when the predicted decrease of a Newton step is below this share of the objective."""
    damping: float
    """Damping of the first step; a small value means a nearly full step."""
    sharpening: float = 0.2
    """Factor between successive smoothings."""
    reach: float = 1.0
    """Look-ahead of a step, in half widths of a kink (see `FitObjective.evaluate`); 1 is exact Newton."""
    coarsest: float = 1.0
    """Smoothing at which sharpening begins, as a share of the residuals' scale."""
    finest: float = 0.0
    """Smoothing at which sharpening stops, as a share of the residuals' scale; 0 goes on to the objective itself."""


SCAN = Effort(iterations=25, passing=25, tolerance=1e-6, damping=1e-2, finest=1.0)
"""Effort for all starts, which are only ranked."""
POLISH = Effort(iterations=300, passing=300, tolerance=1e-12, damping=1e-3)
"""Effort for the few best starts, which are minimised to the last digit."""
REFIT = Effort(iterations=100, passing=40, tolerance=1e-6, damping=1e-6, sharpening=0.4, reach=3.0, finest=0.02)
"""Effort for bootstrap replicates, which start at the optimum."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows of one group. The form's parameters are an affine function of the free ones: matrix @ free + shift."""

    form: Form
    design: Any
    """Result of `form.design` for these rows."""
    rows: Indices
    """(n of the group,) positions of the rows in the problem."""
    matrix: Floats
    """(p, q)"""
    shift: Floats
    """(p,)"""

    def theta(self, free: Floats) -> Floats:
        """Return the form's parameters (R, p), at the reference, for free ones (R, q)."""
        return free @ self.matrix.T + self.shift


@dataclass(frozen=True, kw_only=True)
class FitProblem:
    """Minimisation problem: blocks that can share free parameters, the objective, and box bounds."""

    blocks: tuple[Block, ...]
    objective: FitObjective
    lower: Floats
    """(q,)"""
    upper: Floats
    """(q,)"""

    def log_mean(self, free: Floats, num_rows: int) -> Floats:
        """Return log predictions (R, n)."""
        result = np.empty((len(free), num_rows))
        for block in self.blocks:
            result[:, block.rows] = block.form.log_mean(block.theta(free), block.design)
        return result

    def jacobian(self, free: Floats, num_rows: int) -> Floats:
        """Return the derivative of the log predictions by the free parameters, (n, q), for one set of them (q,)."""
        result = np.zeros((num_rows, len(free)))
        for block in self.blocks:
            result[block.rows] = block.form.jacobian(block.theta(free[None]), block.design)[0] @ block.matrix
        return result

    def value(self, free: Floats, y: Floats, weights: Floats) -> Floats:
        """Return the objective itself, without smoothing, (R,)."""
        values, _, _ = self.objective.evaluate(self.log_mean(free, y.shape[1]), y)
        return np.asarray((weights * values).sum(axis=1))

    def derivatives(
        self, free: Floats, y: Floats, weights: Floats, smoothing: Smoothing, reach: float = 1.0
    ) -> tuple[Floats, Floats, Floats]:
        """Return value (R,), gradient (R, q) and Hessian (R, q, q) of the smoothed objective."""
        value = np.zeros(len(free))
        gradient = np.zeros_like(free)
        hessian = np.zeros((*free.shape, free.shape[1]))
        for block in self.blocks:

            def respond(log_mean: Floats, rows: Indices = block.rows) -> tuple[Floats, Floats]:
                w = weights[:, rows]
                values, slope, bend = self.objective.evaluate(log_mean, y[:, rows], smoothing, reach)
                value[:] += (w * values).sum(axis=1)
                return w * slope, w * bend

            g, h = block.form.derivatives(block.theta(free), block.design, respond)
            gradient += g @ block.matrix
            hessian += block.matrix.T @ h @ block.matrix
        return value, gradient, hessian


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Result of a batch."""

    free: Floats
    """(R, q)"""
    value: Floats
    """(R,) objective, without smoothing."""
    decrement: Floats
    """(R,) decrease that a further Newton step predicts, relative to the value."""
    converged: Mask
    """(R,)"""

    def __getitem__(self, chosen: Any) -> "Solution":
        return _combine([self], lambda arrays: arrays[0][chosen])

    @property
    def best(self) -> "Solution":
        """The row with the lowest value, as a batch of one."""
        return self[[int(np.argmin(self.value))]]


def minimise(problem: FitProblem, starts: Floats, y: Floats, weights: Floats, effort: Effort = POLISH) -> Solution:
    """Minimise from each start.

    Args:
        starts: (R, q).
        y: observations, (1, n), or one set per start, (R, n).
        weights: (1, n) or (R, n); zero leaves a row out.
    """
    size = max(1, _MAX_BATCH_ELEMENTS // y.shape[1])
    solutions = []
    for begin in range(0, len(starts), size):
        rows = slice(begin, begin + size)
        batch = _Batch(
            problem=problem,
            y=y if len(y) == 1 else y[rows],
            weights=weights if len(weights) == 1 else weights[rows],
            effort=effort,
        )
        solutions.append(batch.run(starts[rows]))
    return solutions[0] if len(solutions) == 1 else _combine(solutions, np.concatenate)


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Starts that are worked on together."""

    problem: FitProblem
    y: Floats
    weights: Floats
    effort: Effort

    def run(self, starts: Floats) -> Solution:
        free = self._clip(starts)
        past: list[tuple[float, Floats]] = []
        smoothings = self._smoothings(free)
        for smoothing in smoothings:
            passing = smoothing != smoothings[-1]
            free, decrement, converged = self._newton(self._ahead(free, past, smoothing), smoothing, passing)
            if smoothing is not None:
                past.append((smoothing, free))
        value = self.problem.value(free, self.y, self.weights)
        return Solution(free=free, value=value, decrement=decrement, converged=converged)

    def _clip(self, free: Floats) -> Floats:
        return np.clip(free, self.problem.lower, self.problem.upper)

    def _smoothings(self, free: Floats) -> list[Smoothing]:
        """Return smoothings from the scale of the residuals (the median of the best start's) to the objective's own."""
        objective = self.problem.objective
        if objective.smooth:
            return [None]
        residuals = np.abs(objective.residuals(self.problem.log_mean(free, self.y.shape[1]), self.y))
        scale = float(np.median(residuals, axis=1).min())
        final = max(objective.final_smoothing(self.y), self.effort.finest * scale)
        first = self.effort.coarsest * scale
        if not final < first < np.inf:
            return [final]
        num = min(math.ceil(math.log(final / first) / math.log(self.effort.sharpening)), _MOST_SMOOTHINGS)
        return [*np.geomspace(first, final, num + 1)[:-1].tolist(), final]

    def _ahead(self, free: Floats, past: Sequence[tuple[float, Floats]], smoothing: Smoothing) -> Floats:
        """Return the next start by extrapolating the path of minima, straight while the same rows are in the kink."""
        if smoothing is None or len(past) < 2:
            return free
        (s0, free0), (s1, free1) = past[-2:]
        guess = self._clip(free1 + (smoothing - s1) / (s1 - s0) * (free1 - free0))
        rows = np.arange(len(free))
        better = self._derivatives(guess, rows, smoothing)[0] < self._derivatives(free, rows, smoothing)[0]
        return np.where(better[:, None], guess, free)

    def _newton(self, free: Floats, smoothing: Smoothing, passing: bool) -> tuple[Floats, Floats, Mask]:
        """Take damped Newton steps at one smoothing; rows that have converged are left out of further work.

        Args:
            passing: this smoothing is not the last one and gets less effort.

        Returns:
            Parameters (R, q), decrement (R,), and which rows have converged (R,).
        """
        iterations = self.effort.passing if passing else self.effort.iterations
        tolerance = max(self.effort.tolerance, 1e-9) if passing else self.effort.tolerance
        free = free.copy()
        decrements = np.full(len(free), np.inf)
        converged = np.zeros(len(free), dtype=bool)
        weight = float(self.weights.sum(axis=1).max())
        active = np.arange(len(free))
        damping = np.full(len(free), self.effort.damping)
        state = self._derivatives(free, active, smoothing)
        for iteration in range(iterations + 1):
            model = self._quadratic(free[active], state[1], state[2])
            _, promise = model.step(np.zeros(len(active)))
            # Residuals near 1 are rounded at 1e-16, which moves a sum of squares by their product.
            rounding = 1e-26 * weight + 1e-16 * np.sqrt(weight * np.abs(state[0]))
            decrements[active] = promise / np.maximum(state[0], rounding)
            converged[active] = promise <= tolerance * state[0] + rounding
            going = ~converged[active] & (damping < 1e14)
            if iteration == iterations or not going.any():
                break
            active, damping, state = active[going], damping[going], (state[0][going], state[1][going], state[2][going])
            damping, state = self._advance(free, active, damping, state, model.take(going), smoothing)
        return free, decrements, converged

    def _advance(
        self,
        free: Floats,
        active: Indices,
        damping: Floats,
        state: tuple[Floats, Floats, Floats],
        model: "_Quadratic",
        smoothing: Smoothing,
    ) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
        """Try one step in every active row, keep those that help (in place in `free`), and adapt the damping."""
        step, promise = model.step(damping)
        trial = self._clip(free[active] + step)
        new = self._derivatives(trial, active, smoothing)
        finite = np.isfinite(new[0]) & np.isfinite(new[1]).all(axis=1) & np.isfinite(new[2]).all(axis=(1, 2))
        ratio = np.where(finite, (state[0] - new[0]) / np.maximum(promise, 1e-300), -1.0)
        better = finite & (new[0] < state[0])
        free[active[better]] = trial[better]
        for old, fresh in zip(state, new, strict=True):
            old[better] = fresh[better]
        damping = np.where(ratio > 0.75, damping * 0.1, damping)
        return np.where(ratio < 0.25, np.maximum(damping, 1e-8) * 8, damping), state

    def _quadratic(self, free: Floats, gradient: Floats, hessian: Floats) -> "_Quadratic":
        """Return the quadratic model about `free`; parameters that a bound holds do not take part."""
        lower, upper = self.problem.lower, self.problem.upper
        held = ((free <= lower) & (gradient > 0)) | ((free >= upper) & (gradient < 0))
        gradient = np.where(held, 0.0, gradient)
        hessian = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
        diagonal = np.abs(np.einsum("rqq->rq", hessian))
        largest = diagonal.max(axis=1, keepdims=True)
        scale = 1 / np.sqrt(np.maximum(diagonal, np.where(largest > 0, 1e-12 * largest, 1.0)))
        values, vectors = np.linalg.eigh(hessian * scale[:, :, None] * scale[:, None, :])
        along = (vectors.transpose(0, 2, 1) @ (gradient * scale)[:, :, None])[:, :, 0]
        return _Quadratic(along=along, curvature=values, vectors=vectors * scale[:, :, None])

    def _derivatives(self, free: Floats, active: Indices, smoothing: Smoothing) -> tuple[Floats, Floats, Floats]:
        y = self.y if len(self.y) == 1 else self.y[active]
        weights = self.weights if len(self.weights) == 1 else self.weights[active]
        with np.errstate(over="ignore", invalid="ignore"):  # too long a step gives a high value and is rejected
            return self.problem.derivatives(free, y, weights, smoothing, self.effort.reach)


@dataclass(frozen=True, kw_only=True)
class _Quadratic:
    """Quadratic model of the objective about the current point, in the eigenvectors of its scaled Hessian."""

    along: Floats
    """(R, q) gradient along each eigenvector."""
    curvature: Floats
    """(R, q) eigenvalues."""
    vectors: Floats
    """(R, q, q) eigenvectors, in the units of the parameters."""

    def take(self, chosen: Mask) -> "_Quadratic":
        return _Quadratic(along=self.along[chosen], curvature=self.curvature[chosen], vectors=self.vectors[chosen])

    def step(self, damping: Floats) -> tuple[Floats, Floats]:
        """Return the damped Newton step (R, q) and its predicted decrease (R,).

        Negative curvature is used with its sign changed, so that a saddle repels. No eigenvector moves a parameter by
        more than LONGEST_STEP; each is bounded separately, so that flat directions do not shorten the others.
        """
        bent = np.maximum(np.abs(self.curvature), 1e-13) + damping[:, None]
        reach = _LONGEST_STEP / np.abs(self.vectors).max(axis=1)
        amounts = np.clip(-self.along / bent, -reach, reach)
        linear = -(self.along * amounts).sum(axis=1)
        quadratic = 0.5 * (self.curvature * amounts**2).sum(axis=1)
        promise = np.where(quadratic > 0, np.maximum(linear - quadratic, 0.5 * linear), linear)
        return (self.vectors @ amounts[:, :, None])[:, :, 0], promise


def pick_best(solutions: Sequence[Solution]) -> Solution:
    """Return row by row the solution with the lowest value."""
    values = np.stack([np.where(np.isfinite(solution.value), solution.value, np.inf) for solution in solutions])
    winner, rows = values.argmin(axis=0), np.arange(values.shape[1])
    return _combine(solutions, lambda arrays: np.stack(arrays)[winner, rows])


def _combine(solutions: Sequence[Solution], join: Callable[[Any], Any]) -> Solution:
    """Return the solution whose arrays are `join` of the list of the solutions' arrays."""
    return Solution(**{f.name: join([getattr(solution, f.name) for solution in solutions]) for f in fields(Solution)})
