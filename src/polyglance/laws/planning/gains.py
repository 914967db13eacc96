"""Gains of changes of single predictors, and the run whose result would narrow a plan most per compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyglance.laws.arrays import Floats
from polyglance.laws.equations.roles import find_by_role
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit
from polyglance.laws.planning.question import Question, estimate_log, find_extrapolation, loss_at, ratio_at, to_value

__all__ = ["Gain", "NextRun", "list_gains", "list_next_runs"]

_NEXT_RUN_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the largest amount of data in the table at which next runs are considered."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Effect on the loss of a change of one predictor."""

    predictor: str
    start: float
    end: float
    loss_at_start: Estimate
    loss_at_end: Estimate
    ratio: Estimate
    """Loss at the end over loss at the start."""
    reducible_ratio: Estimate
    """The same ratio of the fitted quantity without its offset: 2^b for a doubling."""
    extrapolation: float | None
    """Decades outside the data, at the end; None where the range of the data is not known."""


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """A run that could be done next, and its effect on the interval of the plan."""

    name: str
    amount: float
    """Amount of the predictor asked for, in its unit: samples, tokens, epochs or compute."""
    compute_gmac: float
    narrowing: float
    """Share by which the interval of the needed amount shrinks (0 to 1)."""
    narrowing_per_million_gmac: float
    extrapolation: float | None
    """Decades outside the data."""


def list_gains(chosen: Question) -> list[Gain]:
    """Return the gains of doublings, and of the moves asked for, at the point of the plan."""
    config, fit, solve_for = chosen.subject.config, chosen.fit, chosen.subject.solve_for
    amount = to_value(chosen.log_needed) if np.isfinite(chosen.log_needed) else fit.ranges.get(solve_for, (1.0, 1.0))[1]
    point = {**chosen.values, solve_for: config.at.get(solve_for, amount)}
    for name in config.moves:
        if name not in fit.form.predictors:
            raise ValueError(f"moves: the law has no predictor {name!r}")
    starting = find_by_role(chosen.subject.roles, ("starting-loss",))
    doubled = [name for name in fit.form.predictors if name not in (*config.moves, *starting)]
    doublings = {name: 2 * point[name] for name in doubled}
    return [_measure_gain(fit, point, name, end) for name, end in (*doublings.items(), *config.moves.items())]


def _measure_gain(fit: Fit, point: Mapping[str, float], name: str, end: float) -> Gain:
    moved = {**point, name: end}

    def log_ratio(theta: Floats) -> Floats:
        theta = fit.form.without_offset(theta)
        return np.asarray(fit.log_mean(moved, theta)[:, 0] - fit.log_mean(point, theta)[:, 0])

    return Gain(
        predictor=name,
        start=point[name],
        end=end,
        loss_at_start=loss_at(fit, point),
        loss_at_end=loss_at(fit, moved),
        ratio=ratio_at(fit, moved, point),
        reducible_ratio=estimate_log(fit, log_ratio),
        extrapolation=find_extrapolation(fit, moved),
    )


def list_next_runs(chosen: Question, questions: Sequence[Question]) -> list[NextRun]:
    """Return next runs with the narrowing of the needed amount by each: a linear Gaussian update of the draws.

    If v = Var f(x) over the draws and s^2 is the variance of the noise of one run, a run at x removes
    Cov(q, f(x))^2 / (v + s^2) of the variance of the needed amount q.
    """
    fit, data = chosen.fit, chosen.subject.data
    if (
        data is None
        or data != chosen.subject.solve_for
        or chosen.candidate is None
        or len(fit.draws) < 20
        or not fit.ranges
    ):
        return []
    if chosen.subject.role == "compute":  # the law does not tell candidates apart
        questions = [chosen]
    needed = chosen.log_draws
    finite = np.isfinite(needed)
    if finite.mean() < 0.5:  # mostly out of reach: narrow the loss at the largest amount of data instead
        values = {**chosen.values, data: fit.ranges[data][1]}
        needed, finite = fit.log_mean(values, fit.draws)[:, 0], np.ones(len(fit.draws), dtype=bool)
    q = needed[finite] - needed[finite].mean()
    noise = float((fit.residuals**2).sum()) / max(len(fit.residuals) - len(fit.form.parameters), 1)
    runs = []
    for question in questions:
        rate = question.rates.compute
        if question.candidate is None or rate is None:
            continue
        for factor in _NEXT_RUN_FACTORS:
            amount = factor * fit.ranges[data][1]
            if not bool(question.is_within_limits(np.array([np.log(amount)]))[0]):
                continue
            f = fit.log_mean({**question.values, data: amount}, fit.draws[finite])[:, 0]
            f = f - f.mean()
            removed = float((q * f).mean()) ** 2 / max(float((f**2).mean()) + noise, 1e-300)
            narrowing = float(1 - np.sqrt(max(1 - removed / max(float((q**2).mean()), 1e-300), 0.0)))
            gmac = amount * rate
            runs.append(
                NextRun(
                    name=question.candidate.name,
                    amount=amount,
                    compute_gmac=gmac,
                    narrowing=narrowing,
                    narrowing_per_million_gmac=narrowing / gmac * 1e6,
                    extrapolation=question.extrapolation(amount),
                )
            )
    return sorted(runs, key=lambda run: -run.narrowing_per_million_gmac)
