"""One question of a plan: what a candidate needs for a target, what that costs, and whether it is within the limits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyglance.laws.arrays import Floats, Mask
from polyglance.laws.config import CostMeasure, PlanConfig
from polyglance.laws.equations.forms import Downstream
from polyglance.laws.equations.roles import DATA_ROLES, Role, find_by_role, guess_compute_unit, has_scale, resolve_roles
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, Law
from polyglance.laws.planning.costs import Candidate, Rates, compute_rates, refuse_same_names
from polyglance.laws.planning.limits import LIMITS
from polyglance.settings import UnusedSettingError

__all__ = [
    "Option",
    "Question",
    "Subject",
    "estimate_log",
    "fill_values",
    "find_extrapolation",
    "find_subject",
    "is_beyond",
    "loss_at",
    "only_downstream",
    "ratio_at",
    "score_at",
    "to_value",
]

_ENDLESS = 1e60
"""Amount of a predictor at which the law counts as having reached its limit."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One model, and what reaching the target with it needs."""

    name: str
    needed: Estimate
    """Needed amount of the predictor asked for; no value where the target cannot be reached."""
    samples: Estimate | None
    """Samples that the run sees, over all cells; None if they cannot be computed."""
    compute_gmac: Estimate | None
    hours: Estimate | None
    """Wall-clock hours."""
    gpu_hours: Estimate | None
    money: Estimate | None
    loss_at_cap: Estimate | None
    """Loss with all data that the budget allows; None if the budget does not limit the data."""
    share_reached: float
    """Share of the law's draws in which the target can be reached."""
    share_cheapest: float | None
    """Share of the law's draws in which this is the cheapest option within the limits; a tie counts in equal parts.
    None for a law without draws, and where nothing is compared."""
    status: str
    """`ok`, `cannot be reached` or `over a cap`."""
    reasons: tuple[str, ...]
    """Reasons for a status that is not `ok`."""
    extrapolation: float | None
    """Decades outside the data, at the needed amount; None where the range of the data is not known."""

    def cost(self, measure: CostMeasure) -> float | None:
        """Return the cost by one measure; None where it is not known."""
        estimate = {"compute": self.compute_gmac, "hours": self.hours, "money": self.money}[measure]
        return None if estimate is None else estimate.value


@dataclass(frozen=True)
class Subject:
    """Question to a plan: a law of one group, its predictors' roles, and the predictor to solve for."""

    config: PlanConfig
    fit: Fit
    roles: Mapping[str, Role]
    solve_for: str
    data: str | None
    """Predictor that costs are proportional to; None where the law has none."""
    gmac_per_unit: float
    """GMAC in one unit of `data`, where it is compute."""
    cells_ratio: float = 1.0
    """Task-language cells of the plan divided by those behind the law: the factor on the data of a run."""

    @property
    def role(self) -> Role:
        return "none" if self.data is None else self.roles[self.data]

    def rates_of(self, candidate: Candidate | None) -> Rates:
        """Return the costs of one unit of data with a candidate."""
        if self.data is None:
            return Rates()
        return compute_rates(self.role, self.gmac_per_unit, candidate, self.config.budget).times(self.cells_ratio)

    def note_cells(self) -> list[str]:
        """Return a note on the assumption for another number of cells than the law's."""
        if self.cells_ratio == 1:
            return []
        return [
            f"{self.data} is counted as with the cells behind the law; for {self.config.budget.cells} cells a run sees "
            f"{self.cells_ratio:.3g} times as much data, as much for each cell: an assumption, no run has tested it"
        ]


def find_subject(config: PlanConfig, law: Law, fit: Fit, candidates: Sequence[Candidate]) -> Subject:
    refuse_same_names(candidates)
    roles = resolve_roles(law.columns, {**law.roles, **config.roles})
    data = find_by_role(roles, DATA_ROLES)
    if len(data) > 1:
        raise ValueError(
            f"{' and '.join(data)} both count data; give one of them the role none (`roles` {data[1]}=none)"
        )
    solve_for = config.solve_for or next(iter(data), None)
    if solve_for is None:
        raise ValueError(
            "no predictor counts samples, tokens, epochs or compute: give `solve_for`, or `roles` NAME=samples"
        )
    if solve_for not in fit.form.predictors:
        raise ValueError(f"the law has no predictor {solve_for!r}; it has {', '.join(fit.form.predictors)}")
    if candidates and roles[solve_for] == "parameters":
        raise ValueError(
            f"candidates have a fixed {solve_for}; leave the candidates out, or solve for another predictor"
        )
    column = law.columns.get(data[0], data[0]) if data else ""
    if data and roles[data[0]] == "compute" and config.compute_unit is None and has_scale(column):
        raise ValueError(
            f"the unit of compute of {data[0]} (column {column!r}) is not known, costs would be wrong by its scale; "
            "fit the law to a column in FLOP or GMAC (`derive`), or give `compute_unit` if it is GMAC, GFLOP or FLOP"
        )
    units = {None: guess_compute_unit(column) or 1.0, "GMAC": 1.0, "GFLOP": 0.5, "FLOP": 0.5e-9}
    if config.compute_unit and not (data and roles[data[0]] == "compute"):
        raise UnusedSettingError("`compute_unit` has no effect: no predictor of the law is compute")
    unit = units[config.compute_unit]
    return Subject(config, fit, roles, solve_for, data[0] if data else None, unit, _compare_cells(config, law))


def _compare_cells(config: PlanConfig, law: Law) -> float:
    """Return the cells of the plan divided by those behind the law."""
    cells, known = config.budget.cells, law.data.get("cells")
    if cells is None:
        return 1.0
    if not known:
        raise ValueError("cells has no effect: the law does not say how many cells were trained behind it")
    return cells / float(known)


def fill_values(subject: Subject, candidate: Candidate | None, skip: Sequence[str] = ()) -> dict[str, float]:
    """Return a value for each predictor except the one asked for.

    Args:
        skip: predictors that need no value.
    """
    predictors = subject.fit.form.predictors
    values = dict(subject.config.at)
    for name in values:
        if name not in predictors:
            raise ValueError(f"at: the law has no predictor {name!r}; it has {', '.join(predictors)}")
    if candidate is not None:
        values |= candidate.inputs
        values |= dict.fromkeys(find_by_role(subject.roles, ("parameters",)), candidate.P)
    values.pop(subject.solve_for, None)
    known = {name: value for name, value in values.items() if name in predictors}
    missing = [name for name in predictors if name not in (subject.solve_for, *skip, *known)]
    if missing:
        whose = f"candidate {candidate.name!r}" if candidate else "the plan"
        raise ValueError(f"{whose} has no {', '.join(missing)}; give it with the candidate or as `at` {missing[0]}=...")
    return known


@dataclass(frozen=True)
class Question:
    """One candidate (or the point given by `at`) and the amount it needs for the target."""

    subject: Subject
    candidate: Candidate | None
    rates: Rates
    """Costs of one unit of data."""
    values: Mapping[str, float]
    """The predictors except the one asked for."""
    log_needed: float
    """Log of the needed amount; +inf where the target cannot be reached."""
    log_draws: Floats
    """(R,) the same for each of the law's draws."""

    @property
    def fit(self) -> Fit:
        return self.subject.fit

    def log_data(self, log_amounts: Floats) -> Floats:
        """Return the log of the data that a run sees, for amounts (R,) of the predictor asked for, (R,)."""
        data = self.subject.data
        if data is None or data == self.subject.solve_for:
            return log_amounts
        return np.where(np.isfinite(log_amounts), np.log(self.values[data]), np.inf)

    def scale(self, rate: float | None) -> Estimate | None:
        """Return the cost of the needed amount, from the cost of one unit of data."""
        if rate is None:
            return None
        shift = float(np.log(rate))
        needed = float(self.log_data(np.array([self.log_needed]))[0])
        return self.fit.estimate(needed + shift, self.log_data(self.log_draws) + shift).map(to_value)

    def is_within_limits(self, log_amounts: Floats) -> Mask:
        """Tell whether amounts (R,) of the predictor asked for fit the budget, (R,)."""
        budget, fits, log_data = self.subject.config.budget, np.isfinite(log_amounts), self.log_data(log_amounts)
        for limit, (cost, _) in LIMITS.items():
            cap, rate = getattr(budget, limit), getattr(self.rates, cost)
            if cap is not None and rate is not None:
                fits &= log_data + np.log(rate) <= np.log(cap)
        if self.candidate and self.candidate.memory_bytes and budget.max_memory_gb:
            fits &= self.candidate.memory_bytes <= budget.max_memory_gb * 1e9
        return fits

    def make_option(self, share_cheapest: float | None) -> Option:
        needed = self.fit.estimate(self.log_needed, self.log_draws).map(to_value)
        reasons = tuple(self._list_reasons())
        reachable = needed.value is not None
        return Option(
            name=self.candidate.name if self.candidate else "as given",
            needed=needed,
            samples=self.scale(self.rates.samples),
            compute_gmac=self.scale(self.rates.compute),
            hours=self.scale(self.rates.hours),
            gpu_hours=self.scale(self.rates.gpu_hours),
            money=self.scale(self.rates.money),
            loss_at_cap=self._find_loss_at_cap(),
            share_reached=float(np.isfinite(self.log_draws).mean()) if len(self.log_draws) else float(reachable),
            share_cheapest=share_cheapest,
            status="cannot be reached" if not reachable else "over a cap" if reasons else "ok",
            reasons=reasons,
            extrapolation=None if needed.value is None else self.extrapolation(needed.value),
        )

    def extrapolation(self, amount: float) -> float | None:
        return find_extrapolation(self.fit, {**self.values, self.subject.solve_for: amount})

    def loss_with(self, amount: float) -> Estimate:
        return loss_at(self.fit, {**self.values, self.subject.solve_for: amount})

    def _find_loss_at_cap(self) -> Estimate | None:
        """Return the loss with the most data that every limit allows; None where nothing limits the data."""
        if self.subject.data != self.subject.solve_for:
            return None
        budget = self.subject.config.budget
        amounts = [
            getattr(budget, limit) / getattr(self.rates, cost)
            for limit, (cost, _) in LIMITS.items()
            if getattr(budget, limit) is not None and getattr(self.rates, cost) is not None
        ]
        return self.loss_with(min(amounts)) if amounts else None

    def _list_reasons(self) -> list[str]:
        budget = self.subject.config.budget
        if not np.isfinite(self.log_needed):
            return [self._explain_unreachable()]
        reasons = []
        for limit, (cost, unit) in LIMITS.items():
            cap, needed = getattr(budget, limit), self.scale(getattr(self.rates, cost))
            if cap is not None and needed is not None and needed.value is not None and needed.value > cap:
                reasons.append(f"needs {needed.value:.4g} {unit}, there are {cap:.4g}")
        memory = self.candidate.memory_bytes if self.candidate else None
        if memory and budget.max_memory_gb and memory > budget.max_memory_gb * 1e9:
            reasons.append(f"needs {memory / 1e9:.4g} GB of memory, there are {budget.max_memory_gb:.4g}")
        return reasons

    def _explain_unreachable(self) -> str:
        floor, start, name = self.loss_with(_ENDLESS), self.loss_with(1.0), self.subject.solve_for
        is_score = self.fit.transform.is_score
        gain = None if floor.value is None or start.value is None else start.value - floor.value
        if gain is not None and (-gain if is_score else gain) <= 0:
            return f"more {name} does not {'raise the score' if is_score else 'lower the loss'} by this law"
        return f"even with unlimited {name} the law stays at {floor}"


def is_beyond(extrapolation: float | None) -> bool:
    """Tell whether a number of decades beyond the data is not zero when printed with two digits."""
    return extrapolation is not None and extrapolation >= 0.005


def find_extrapolation(fit: Fit, values: Mapping[str, float]) -> float | None:
    """Return the distance outside the law's data at one point, in decades; None where its range is not known."""
    return float(fit.extrapolation(values)[0]) if fit.ranges else None


def loss_at(fit: Fit, values: Mapping[str, float]) -> Estimate:
    """Return the predicted y at one point, with the interval of the mean."""
    log_mean, draws = fit.log_mean(values)[0, 0], fit.log_mean(values, fit.draws)[:, 0]
    return fit.transform.invert_estimate(fit.estimate(float(log_mean), draws))


def ratio_at(fit: Fit, values: Mapping[str, float], base: Mapping[str, float]) -> Estimate:
    """Return the predicted y at one point over that at another one."""
    if not fit.transform.is_score:
        return estimate_log(fit, lambda theta: fit.log_mean(values, theta)[:, 0] - fit.log_mean(base, theta)[:, 0])

    def ratio(theta: Floats) -> Floats:
        return np.asarray(fit.response(values, theta)[:, 0] / fit.response(base, theta)[:, 0])

    return fit.estimate(float(ratio(fit.theta[None])[0]), ratio(fit.draws))


def only_downstream(law: Law) -> Fit:
    """Return the fit of a law of the score against the loss.

    Raises:
        ValueError: a law of another form, or of several groups.
    """
    if law.form != Downstream.name:
        raise ValueError(f"the downstream law has form {law.form!r}; expected 'downstream'")
    return law.only


def score_at(scores: Fit, loss: float, draws: Floats) -> Estimate:
    """Return the score at a loss, with the interval from the draws of both laws.

    Args:
        scores: law of the score against the loss.
        draws: (R,) the loss by each draw of its law; empty where it is exact.
    """
    logs = np.empty(0)
    if len(scores.draws):
        losses = np.resize(draws, len(scores.draws)) if len(draws) else np.full(len(scores.draws), loss)
        logs = np.diagonal(scores.form.log_mean(scores.draws, losses[:, None]))
    log_score = float(scores.form.log_mean(scores.theta[None], np.array([[loss]]))[0, 0])
    return scores.estimate(log_score, logs).map(to_value)


def estimate_log(fit: Fit, log_quantity: Callable[[Floats], Floats]) -> Estimate:
    """Return exp of a quantity (R,) of parameter sets (R, p), with its interval over the draws."""
    return fit.estimate(float(log_quantity(fit.theta[None])[0]), log_quantity(fit.draws)).map(to_value)


def to_value(value: float) -> float:
    return float(np.exp(min(value, 690.0)))
