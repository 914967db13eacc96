"""The solver: trust-region Newton with exact derivatives, for many problems of one shape at once.

Every start and every bootstrap replicate is one row of a batch; all rows advance together and leave when they have
converged. Objectives with a kink (log-Huber with a small delta, absolute error) are reached by continuation: the kink
is smoothed on the scale of the residuals first and sharpened step by step, each step begun where the last two point to.
Shapes: R batch rows, n table rows, q free parameters, p parameters of one group's form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyglance.laws.forms import Form
from polyglance.laws.objectives import Objective

__all__ = ["POLISH", "REFIT", "SCAN", "Block", "Effort", "Problem", "Solution", "best_of", "minimise"]

Floats = NDArray[np.float64]
Smoothing = float | None

MAX_BATCH_ELEMENTS = 150_000
"""Batch rows times table rows that are worked on at once: small enough for a processor's cache."""
MOST_SMOOTHINGS = 30
"""However wide the way from the residuals' scale to the kink, no more steps than this are taken."""
LONGEST_STEP = 2.0
"""Bound on one step in any parameter (a log amplitude or an exponent)."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard to try: the three ways the solver is used are below."""

    iterations: int
    """Newton steps at the last smoothing."""
    passing: int
    """Newton steps at each smoothing on the way there."""
    tolerance: float
    """Converged when a full Newton step promises less than this part of the objective."""
    damping: float
    """Where the trust region starts; small trusts the first step."""
    sharpening: float = 0.2
    """Factor between successive smoothings."""
    reach: float = 1.0
    """How many half widths of a kink a step looks ahead (see Objective.evaluate); 1 is exact Newton."""
    finest: float = 0.0
    """Where sharpening stops, as part of the residuals' scale; 0 goes on to the objective itself."""


SCAN = Effort(iterations=25, passing=25, tolerance=1e-6, damping=1e-2, finest=1.0)
"""All starts, to see which of them lead somewhere."""
POLISH = Effort(iterations=300, passing=300, tolerance=1e-12, damping=1e-3)
"""The few best starts, to the last digit."""
REFIT = Effort(iterations=100, passing=40, tolerance=1e-6, damping=1e-6, sharpening=0.4, reach=3.0, finest=0.02)
"""Bootstrap replicates, from the optimum."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """The rows of one group: their form's parameters are an affine function of the free ones, matrix @ free + shift."""

    form: Form
    design: Any
    rows: NDArray[np.int64]
    matrix: Floats
    shift: Floats


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is minimised: blocks that may share free parameters, the objective, and box bounds (q,)."""

    blocks: tuple[Block, ...]
    objective: Objective
    lower: Floats
    upper: Floats

    def log_mean(self, free: Floats, num_rows: int) -> Floats:
        """Log predictions (R, n)."""
        result = np.empty((len(free), num_rows))
        for block in self.blocks:
            result[:, block.rows] = block.form.log_mean(free @ block.matrix.T + block.shift, block.design)
        return result

    def value(self, free: Floats, y: Floats, weights: Floats) -> Floats:
        """The objective itself, without smoothing, (R,)."""
        values, _, _ = self.objective.evaluate(self.log_mean(free, y.shape[1]), y)
        return np.asarray((weights * values).sum(axis=1))

    def derivatives(
        self, free: Floats, y: Floats, weights: Floats, smoothing: Smoothing, reach: float = 1.0
    ) -> tuple[Floats, Floats, Floats]:
        """Value (R,), gradient (R, q) and Hessian (R, q, q) of the smoothed objective."""
        value = np.zeros(len(free))
        gradient = np.zeros_like(free)
        hessian = np.zeros((*free.shape, free.shape[1]))
        for block in self.blocks:

            def respond(log_mean: Floats, rows: NDArray[np.int64] = block.rows) -> tuple[Floats, Floats]:
                w = weights[:, rows]
                values, slope, bend = self.objective.evaluate(log_mean, y[:, rows], smoothing, reach)
                value[:] += (w * values).sum(axis=1)
                return w * slope, w * bend

            theta = free @ block.matrix.T + block.shift
            g, h = block.form.derivatives(theta, block.design, respond)
            gradient += g @ block.matrix
            hessian += block.matrix.T @ h @ block.matrix
        return value, gradient, hessian


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Where a batch ended."""

    free: Floats
    """(R, q)"""
    value: Floats
    """The objective, unsmoothed, (R,)."""
    decrement: Floats
    """How much a full Newton step still promises, relative to the value, (R,)."""
    converged: NDArray[np.bool_]

    def __getitem__(self, chosen: Any) -> "Solution":
        return Solution(
            free=self.free[chosen],
            value=self.value[chosen],
            decrement=self.decrement[chosen],
            converged=self.converged[chosen],
        )


def minimise(
    problem: Problem,
    starts: Floats,
    y: Floats,
    weights: Floats,
    effort: Effort = POLISH,
    *,
    lower: Floats | None = None,
    upper: Floats | None = None,
) -> Solution:
    """Minimise from each start.

    Args:
        starts: (R, q).
        y: observations, (1, n) or one set per start, (R, n).
        weights: (1, n) or (R, n); zero leaves a row out.
        lower: bounds (R, q) in place of the problem's own, as a profile needs them; `upper` likewise.
    """
    lower = np.broadcast_to(problem.lower if lower is None else lower, starts.shape)
    upper = np.broadcast_to(problem.upper if upper is None else upper, starts.shape)
    size = max(1, MAX_BATCH_ELEMENTS // y.shape[1])
    parts = []
    for begin in range(0, len(starts), size):
        part = slice(begin, begin + size)
        batch = _Batch(
            problem=problem,
            y=y if len(y) == 1 else y[part],
            weights=weights if len(weights) == 1 else weights[part],
            lower=lower[part],
            upper=upper[part],
            effort=effort,
        )
        parts.append(batch.run(starts[part]))
    return _joined(parts)


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """One cache-sized part of the batch."""

    problem: Problem
    y: Floats
    weights: Floats
    lower: Floats
    upper: Floats
    effort: Effort

    def run(self, starts: Floats) -> Solution:
        free = np.clip(starts, self.lower, self.upper)
        past: list[tuple[float, Floats]] = []
        smoothings = self._smoothings(free)
        for smoothing in smoothings:
            passing = smoothing != smoothings[-1]
            free, decrement, converged = self._newton(self._ahead(free, past, smoothing), smoothing, passing)
            if smoothing is not None:
                past.append((smoothing, free))
        return Solution(
            free=free, value=self.problem.value(free, self.y, self.weights), decrement=decrement, converged=converged
        )

    def _smoothings(self, free: Floats) -> list[Smoothing]:
        """From the scale of the residuals (the median of the best start's) down to the objective itself."""
        objective = self.problem.objective
        if objective.smooth:
            return [None]
        residuals = np.abs(objective.residuals(self.problem.log_mean(free, self.y.shape[1]), self.y))
        scale = float(np.median(residuals, axis=1).min())
        final = max(objective.final_smoothing(self.y), self.effort.finest * scale)
        if not final < scale < np.inf:
            return [final]
        num = min(math.ceil(math.log(final / scale) / math.log(self.effort.sharpening)), MOST_SMOOTHINGS)
        return [*np.geomspace(scale, final, num + 1)[:-1].tolist(), final]

    def _ahead(self, free: Floats, past: Sequence[tuple[float, Floats]], smoothing: Smoothing) -> Floats:
        """Where the path of minima points next: it is straight while the same rows stay inside the kink."""
        if smoothing is None or len(past) < 2:
            return free
        (s0, free0), (s1, free1) = past[-2:]
        guess = np.clip(free1 + (smoothing - s1) / (s1 - s0) * (free1 - free0), self.lower, self.upper)
        everything = np.arange(len(free))
        better = self._derivatives(guess, everything, smoothing)[0] < self._derivatives(free, everything, smoothing)[0]
        return np.where(better[:, None], guess, free)

    def _newton(self, free: Floats, smoothing: Smoothing, passing: bool) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Damped Newton steps at one smoothing; rows that have converged are left out of further work.

        Args:
            passing: this smoothing is only on the way, and gets less effort than the last.
        """
        iterations = self.effort.passing if passing else self.effort.iterations
        tolerance = max(self.effort.tolerance, 1e-9) if passing else self.effort.tolerance
        free = free.copy()
        decrements = np.full(len(free), np.inf)
        converged = np.zeros(len(free), dtype=bool)
        rounding = 1e-26 * float(self.weights.sum(axis=1).max())
        active = np.arange(len(free))
        damping = np.full(len(free), self.effort.damping)
        state = self._derivatives(free, active, smoothing)
        for iteration in range(iterations + 1):
            model = _quadratic(free[active], self.lower[active], self.upper[active], state[1], state[2])
            _, promise = model.step(np.zeros(len(active)))
            decrements[active] = promise / np.maximum(state[0], rounding)
            converged[active] = promise <= tolerance * state[0] + rounding
            going = ~converged[active] & (damping < 1e14)
            if iteration == iterations or not going.any():
                break
            active, damping, state = active[going], damping[going], _select(state, going)
            damping, state = self._advance(free, active, damping, state, model.take(going), smoothing)
        return free, decrements, converged

    def _advance(
        self,
        free: Floats,
        active: NDArray[np.int64],
        damping: Floats,
        state: tuple[Floats, Floats, Floats],
        model: "_Quadratic",
        smoothing: Smoothing,
    ) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
        """Try one step in every active row, keep those that help (in place in `free`), adapt the damping."""
        step, promise = model.step(damping)
        trial = np.clip(free[active] + step, self.lower[active], self.upper[active])
        new = self._derivatives(trial, active, smoothing)
        finite = np.isfinite(new[0]) & np.isfinite(new[1]).all(axis=1) & np.isfinite(new[2]).all(axis=(1, 2))
        ratio = np.where(finite, (state[0] - new[0]) / np.maximum(promise, 1e-300), -1.0)
        better = finite & (new[0] < state[0])
        free[active[better]] = trial[better]
        for old, fresh in zip(state, new, strict=True):
            old[better] = fresh[better]
        damping = np.where(ratio > 0.75, damping * 0.1, damping)
        return np.where(ratio < 0.25, np.maximum(damping, 1e-8) * 8, damping), state

    def _derivatives(
        self, free: Floats, active: NDArray[np.int64], smoothing: Smoothing
    ) -> tuple[Floats, Floats, Floats]:
        y = self.y if len(self.y) == 1 else self.y[active]
        weights = self.weights if len(self.weights) == 1 else self.weights[active]
        with np.errstate(over="ignore", invalid="ignore"):  # a step too far is seen by its value and taken back
            return self.problem.derivatives(free, y, weights, smoothing, self.effort.reach)


@dataclass(frozen=True, kw_only=True)
class _Quadratic:
    """The objective's quadratic model about the current point, in the eigenvectors of its scaled Hessian."""

    along: Floats
    """Gradient along each eigenvector, (R, q)."""
    curvature: Floats
    """Eigenvalues, (R, q)."""
    vectors: Floats
    """Eigenvectors in the parameters' own units, (R, q, q)."""

    def take(self, chosen: NDArray[np.bool_]) -> "_Quadratic":
        return _Quadratic(along=self.along[chosen], curvature=self.curvature[chosen], vectors=self.vectors[chosen])

    def step(self, damping: Floats) -> tuple[Floats, Floats]:
        """The damped Newton step (R, q) and the decrease it promises (R,).

        Negative curvature is used with its sign turned, so a saddle repels. No eigenvector moves a parameter by more
        than LONGEST_STEP; each is bounded for itself, so that flat directions do not shorten the others.
        """
        bent = np.maximum(np.abs(self.curvature), 1e-13) + damping[:, None]
        reach = LONGEST_STEP / np.abs(self.vectors).max(axis=1)
        amounts = np.clip(-self.along / bent, -reach, reach)
        linear = -(self.along * amounts).sum(axis=1)
        quadratic = 0.5 * (self.curvature * amounts**2).sum(axis=1)
        promise = np.where(quadratic > 0, np.maximum(linear - quadratic, 0.5 * linear), linear)
        return (self.vectors @ amounts[:, :, None])[:, :, 0], promise


def _quadratic(free: Floats, lower: Floats, upper: Floats, gradient: Floats, hessian: Floats) -> _Quadratic:
    """The quadratic model; parameters held by a bound do not take part."""
    held = ((free <= lower) & (gradient > 0)) | ((free >= upper) & (gradient < 0))
    gradient = np.where(held, 0.0, gradient)
    hessian = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    diagonal = np.abs(np.einsum("rqq->rq", hessian))
    largest = diagonal.max(axis=1, keepdims=True)
    scale = 1 / np.sqrt(np.maximum(diagonal, np.where(largest > 0, 1e-12 * largest, 1.0)))
    values, vectors = np.linalg.eigh(hessian * scale[:, :, None] * scale[:, None, :])
    along = (vectors.transpose(0, 2, 1) @ (gradient * scale)[:, :, None])[:, :, 0]
    return _Quadratic(along=along, curvature=values, vectors=vectors * scale[:, :, None])


def _select(state: tuple[Floats, Floats, Floats], chosen: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    return state[0][chosen], state[1][chosen], state[2][chosen]


def best_of(solutions: Sequence[Solution]) -> Solution:
    """Row by row the solution with the lowest value."""
    values = np.stack([np.where(np.isfinite(solution.value), solution.value, np.inf) for solution in solutions])
    winner, rows = values.argmin(axis=0), np.arange(values.shape[1])
    free, value, decrement, converged = (
        np.stack([getattr(solution, name) for solution in solutions])[winner, rows]
        for name in ("free", "value", "decrement", "converged")
    )
    return Solution(free=free, value=value, decrement=decrement, converged=converged)


def _joined(parts: Sequence[Solution]) -> Solution:
    if len(parts) == 1:
        return parts[0]
    return Solution(
        free=np.concatenate([part.free for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        decrement=np.concatenate([part.decrement for part in parts]),
        converged=np.concatenate([part.converged for part in parts]),
    )
