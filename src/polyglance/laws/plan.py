"""The planner: the cost of a target, the cheapest model, the gain of a doubling, the run to do next.

With y - eps = b0 P^b_P S^b_S T^b_T and a cost proportional to P S, the reducible loss along a line of equal cost is
proportional to P^(b_P - b_S). It only rises or only falls, so no size in between is best: the best size is the largest
or the smallest one available (a corner). The planner therefore compares the available models, under the paper's cost
C = S F (1 + P_t / P) and the given limits. Every number has an interval from the law's draws, and its distance outside
the data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from polyglance.laws.arrays import Floats, Mask
from polyglance.laws.config import Budget, PlanConfig
from polyglance.laws.costs import Candidate, estimate_hours, estimate_price
from polyglance.laws.forms import Downstream
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, Law
from polyglance.settings import UnusedSettingError

__all__ = ["Gain", "LawPlan", "NextRun", "Option", "plan_with_law"]

NEXT_RUN_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Next runs are tried at these multiples of the largest S in the data."""
ENDLESS = 1e60
"""Amount of a predictor that stands for the limit of the law."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One model, and what reaching the target with it needs."""

    name: str
    needed: Estimate
    """Needed amount of the predictor asked for; no value where the target cannot be reached."""
    compute_gmac: Estimate | None
    hours: Estimate | None
    """Wall-clock hours."""
    gpu_hours: Estimate | None
    money: Estimate | None
    loss_at_cap: Estimate | None
    """Loss with all samples of the budget; None where the budget does not limit them."""
    share_reached: float
    """Share of the law's draws in which the target can be reached."""
    share_cheapest: float
    """Share of the law's draws in which this is the cheapest option within the limits."""
    status: str
    """`ok`, `cannot be reached` or `over a cap`."""
    reasons: tuple[str, ...]
    """Reasons for a status that is not `ok`."""
    extrapolation: float | None
    """Decades outside the data, at the needed amount."""


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
    """The same without the offset: 2^b for a doubling."""
    extrapolation: float
    """Decades outside the data, at the end."""


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """A run that could be done next, and its effect on the interval of the plan."""

    name: str
    samples: float
    compute_gmac: float
    narrowing: float
    """Share by which the interval of the needed amount shrinks (0 to 1)."""
    narrowing_per_million_gmac: float
    extrapolation: float
    """Decades outside the data."""


@dataclass(frozen=True, kw_only=True)
class LawPlan:
    """Result of `plan_with_law`."""

    target: Estimate
    """The target loss; with an interval where it was computed from a score."""
    solve_for: str
    options: tuple[Option, ...]
    cheapest: str | None
    """Name of the cheapest option within the limits."""
    gains: tuple[Gain, ...]
    next_runs: tuple[NextRun, ...]
    """Ordered by narrowing per compute, best first."""
    notes: tuple[str, ...]
    """Corner solutions, targets out of reach, extrapolation."""


def plan_with_law(
    config: PlanConfig, law: Law, *, candidates: Sequence[Candidate] = (), downstream: Law | None = None
) -> LawPlan:
    """Compute what a target needs with each candidate, and which candidate is the cheapest.

    Args:
        law: law of the loss.
        candidates: models to choose from; none: the point given by `config.at`.
        downstream: law of the score against the loss (form downstream); needed for a target score.

    Raises:
        ValueError: the law has no such predictor or cannot be inverted, a predictor has no value, or a limit of the
            budget cannot be checked.
    """
    _check_limits(config.budget, candidates)
    fit = law.only if config.group is None else law[config.group]
    if not fit.form.logarithmic:
        raise ValueError(f"form {fit.form.name!r} cannot be planned with; use compute, product or additive")
    if config.solve_for not in fit.form.predictors:
        raise ValueError(f"the law has no predictor {config.solve_for!r}; it has {', '.join(fit.form.predictors)}")
    target, log_target, log_targets = _find_target(config, fit, downstream)
    questions = []
    for candidate in candidates or (None,):
        values = _fill_values(config, fit, candidate)
        log_needed = float(fit.solve_for(config.solve_for, values, log_target)[0])
        draws = fit.solve_for(config.solve_for, values, log_targets, fit.draws)
        log_draws = np.where(np.isnan(draws), np.inf, draws)
        questions.append(_Question(config, fit, candidate, values, log_needed, log_draws))
    shares = _share_cheapest(questions)
    options = tuple(question.make_option(share) for question, share in zip(questions, shares, strict=True))
    fitting = [option for option in options if option.status == "ok"]
    cheapest = min(fitting, key=lambda o: (o.compute_gmac or o.needed).value or np.inf) if fitting else None
    chosen = questions[options.index(cheapest)] if cheapest else questions[0]
    return LawPlan(
        target=target,
        solve_for=config.solve_for,
        options=options,
        cheapest=cheapest.name if cheapest else None,
        gains=tuple(_list_gains(chosen)),
        next_runs=tuple(_list_next_runs(chosen, questions)),
        notes=tuple(_list_notes(fit, options, no_candidate_fits=bool(candidates) and cheapest is None)),
    )


def _check_limits(budget: Budget, candidates: Sequence[Candidate]) -> None:
    """Refuse a limit that cannot be checked; it would pass for one that is kept."""
    slow = [one.name for one in candidates if estimate_hours(budget, one, 1.0) is None]
    large = [one.name for one in candidates if one.memory_bytes is None]
    speed = "gmac_per_gpu_s, or candidates with samples_per_s"
    for limit, value, unknown, needed in (
        ("max_hours", budget.max_hours, slow, speed),
        ("price_per_gpu_hour", budget.price_per_gpu_hour, slow, speed),
        ("max_memory_gb", budget.max_memory_gb, large, "candidates with memory_bytes"),
    ):
        if value is not None and (unknown or not candidates):
            names = ", ".join(map(repr, unknown)) or "no candidates are given"
            raise ValueError(f"{limit} cannot be judged ({names}): it needs {needed}")


def _find_target(config: PlanConfig, fit: Fit, downstream: Law | None) -> tuple[Estimate, float, Floats]:
    """Return the target loss, its log, and its log for each of the law's draws (R,)."""
    if config.target is not None:
        if downstream is not None:
            raise UnusedSettingError("`downstream` has no effect without `target_score`")
        exact = Estimate(value=config.target, low=config.target, high=config.target)
        return exact, float(np.log(config.target)), np.full(len(fit.draws), np.log(config.target))
    assert config.target_score is not None
    if downstream is None:
        raise ValueError("a target score needs a downstream law (form 'downstream') to become a loss")
    scores = downstream.only
    if scores.form.name != Downstream.name:
        raise ValueError(f"the downstream law has form {scores.form.name!r}; it must be 'downstream'")
    (predictor,), log_score = scores.form.predictors, np.log(config.target_score)
    loss = float(scores.solve_for(predictor, {}, log_score)[0])
    draws = scores.solve_for(predictor, {}, log_score, scores.draws)
    if not np.isfinite(loss) or loss <= 0:
        top = scores.parameters["top"]
        raise ValueError(f"score {config.target_score:g} cannot be reached: the law's top is {top:.4g}")
    usable = np.where(np.isfinite(draws) & (draws > 0), draws, np.nan)
    matched = np.resize(usable, len(fit.draws)) if len(draws) else np.full(len(fit.draws), loss)
    return scores.estimate(loss, draws), float(np.log(loss)), np.log(matched)


def _fill_values(config: PlanConfig, fit: Fit, candidate: Candidate | None) -> dict[str, float]:
    """Return a value for each predictor except the one asked for."""
    values = dict(config.at)
    if candidate is not None:
        values |= {name: candidate.P for name in ("P", "N") if name in fit.form.predictors}
        values |= candidate.inputs
    values.pop(config.solve_for, None)
    known = {name: value for name, value in values.items() if name in fit.form.predictors}
    missing = [name for name in fit.form.predictors if name != config.solve_for and name not in known]
    if missing:
        whose = f"candidate {candidate.name!r}" if candidate else "the plan"
        raise ValueError(f"{whose} has no {', '.join(missing)}; give it with the candidate or as at {missing[0]}=...")
    return known


@dataclass(frozen=True)
class _Question:
    """One candidate (or the point given by `at`) and the amount it needs for the target."""

    config: PlanConfig
    fit: Fit
    candidate: Candidate | None
    values: Mapping[str, float]
    """The predictors except the one asked for."""
    log_needed: float
    """Log of the needed amount; +inf where the target cannot be reached."""
    log_draws: Floats
    """(R,) the same for each of the law's draws."""

    @cached_property
    def gmac(self) -> float | None:
        """GMAC per unit of the predictor asked for."""
        return self.candidate.compute_gmac(1.0) if self.candidate and self.config.solve_for == "S" else None

    @cached_property
    def hours(self) -> float | None:
        """Wall-clock hours per unit of the predictor asked for."""
        if self.candidate is None or self.config.solve_for != "S":
            return None
        return estimate_hours(self.config.budget, self.candidate, 1.0)

    def scale(self, factor: float | None) -> Estimate | None:
        """Return the needed amount times a cost per unit."""
        if factor is None:
            return None
        shift = float(np.log(factor))
        return self.fit.estimate(self.log_needed + shift, self.log_draws + shift).map(_exp)

    def is_within_limits(self, log_amounts: Floats) -> Mask:
        """Return whether amounts (R,) of the predictor asked for fit the budget, (R,)."""
        budget, fits = self.config.budget, np.isfinite(log_amounts)
        if self.config.solve_for == "S" and budget.max_samples is not None:
            fits &= log_amounts <= np.log(budget.max_samples)
        if self.hours is not None and budget.max_hours is not None:
            fits &= log_amounts <= np.log(budget.max_hours / self.hours)
        if self.candidate and self.candidate.memory_bytes and budget.max_memory_gb:
            fits &= self.candidate.memory_bytes <= budget.max_memory_gb * 1e9
        return fits

    def make_option(self, share_cheapest: float) -> Option:
        budget, needed = self.config.budget, self.scale(1.0)
        assert needed is not None
        samples = budget.max_samples if self.config.solve_for == "S" else None
        reasons = tuple(self._list_reasons(needed.value))
        reachable = needed.value is not None
        return Option(
            name=self.candidate.name if self.candidate else "as given",
            needed=needed,
            compute_gmac=self.scale(self.gmac),
            hours=self.scale(self.hours),
            gpu_hours=self.scale(None if self.hours is None else self.hours * budget.gpus),
            money=self.scale(estimate_price(budget, self.hours)),
            loss_at_cap=None if samples is None else self.loss_with(samples),
            share_reached=float(np.isfinite(self.log_draws).mean()) if len(self.log_draws) else float(reachable),
            share_cheapest=share_cheapest,
            status="cannot be reached" if not reachable else "over a cap" if reasons else "ok",
            reasons=reasons,
            extrapolation=None if needed.value is None else self.extrapolation(needed.value),
        )

    def extrapolation(self, amount: float) -> float:
        return float(self.fit.extrapolation({**self.values, self.config.solve_for: amount})[0])

    def loss_with(self, amount: float) -> Estimate:
        return _loss_at(self.fit, {**self.values, self.config.solve_for: amount})

    def _list_reasons(self, needed: float | None) -> list[str]:
        budget, hours = self.config.budget, self.hours
        if needed is None:
            return [self._explain_unreachable()]
        reasons = []
        if self.config.solve_for == "S" and budget.max_samples is not None and needed > budget.max_samples:
            reasons.append(f"needs {needed:.3g} samples, there are {budget.max_samples:.3g}")
        if hours is not None and budget.max_hours is not None and needed * hours > budget.max_hours:
            reasons.append(f"needs {needed * hours:.3g} hours, there are {budget.max_hours:.3g}")
        memory = self.candidate.memory_bytes if self.candidate else None
        if memory and budget.max_memory_gb and memory > budget.max_memory_gb * 1e9:
            reasons.append(f"needs {memory / 1e9:.3g} GB of memory, there are {budget.max_memory_gb:.3g}")
        return reasons

    def _explain_unreachable(self) -> str:
        floor, start, name = self.loss_with(ENDLESS), self.loss_with(1.0), self.config.solve_for
        if floor.value is not None and start.value is not None and floor.value >= start.value:
            return f"more {name} does not lower the loss by this law"
        return f"even with endless {name} the law stays at {floor}"


def _loss_at(fit: Fit, values: Mapping[str, float]) -> Estimate:
    """Return the predicted y at one point, with the interval of the mean."""
    return _estimate_log(fit, lambda theta: fit.log_mean(values, theta)[:, 0])


def _estimate_log(fit: Fit, log_quantity: Callable[[Floats], Floats]) -> Estimate:
    """Return exp of a quantity (R,) of parameter sets (R, p), with its interval over the draws."""
    return fit.estimate(float(log_quantity(fit.theta[None])[0]), log_quantity(fit.draws)).map(_exp)


def _exp(value: float) -> float:
    return float(np.exp(min(value, 690.0)))


def _share_cheapest(questions: Sequence[_Question]) -> list[float]:
    """Return per question the share of the law's draws in which it is the cheapest within the limits."""
    if questions[0].log_draws.size == 0:
        return [0.0] * len(questions)
    costs = []
    for question in questions:
        log_costs = question.log_draws + np.log(1.0 if question.gmac is None else question.gmac)
        costs.append(np.where(question.is_within_limits(question.log_draws), log_costs, np.inf))
    stacked = np.stack(costs)
    winner = np.where(np.isfinite(stacked.min(axis=0)), stacked.argmin(axis=0), -1)
    return [float((winner == i).mean()) for i in range(len(questions))]


def _list_gains(chosen: _Question) -> list[Gain]:
    """Return the gains of doublings, and of the moves asked for, at the point of the plan."""
    config, fit = chosen.config, chosen.fit
    needed = float(np.exp(chosen.log_needed))
    amount = needed if np.isfinite(chosen.log_needed) else fit.ranges[config.solve_for][1]
    point = {**chosen.values, config.solve_for: config.at.get(config.solve_for, amount)}
    for name in config.moves:
        if name not in fit.form.predictors:
            raise ValueError(f"moves: the law has no predictor {name!r}")
    doublings = {name: 2 * point[name] for name in fit.form.predictors if name not in config.moves and name != "T"}
    return [_measure_gain(fit, point, name, end) for name, end in (*doublings.items(), *config.moves.items())]


def _measure_gain(fit: Fit, point: Mapping[str, float], name: str, end: float) -> Gain:
    moved = {**point, name: end}

    def log_ratio(theta: Floats) -> Floats:
        return np.asarray(fit.log_mean(moved, theta)[:, 0] - fit.log_mean(point, theta)[:, 0])

    return Gain(
        predictor=name,
        start=point[name],
        end=end,
        loss_at_start=_loss_at(fit, point),
        loss_at_end=_loss_at(fit, moved),
        ratio=_estimate_log(fit, log_ratio),
        reducible_ratio=_estimate_log(fit, lambda theta: log_ratio(fit.form.without_offset(theta))),
        extrapolation=float(fit.extrapolation(moved)[0]),
    )


def _list_next_runs(chosen: _Question, questions: Sequence[_Question]) -> list[NextRun]:
    """Return runs by how much they narrow the needed amount: a linear Gaussian update of the law's draws.

    If v = Var f(x) over the draws and s^2 is the variance of the noise of one run, a run at x removes
    Cov(q, f(x))^2 / (v + s^2) of the variance of the needed amount q.
    """
    fit = chosen.fit
    if chosen.config.solve_for != "S" or chosen.candidate is None or len(fit.draws) < 20:
        return []
    needed = chosen.log_draws
    finite = np.isfinite(needed)
    if finite.mean() < 0.5:  # mostly out of reach: narrow the loss at the largest S instead
        values = {**chosen.values, "S": fit.ranges["S"][1]}
        needed, finite = fit.log_mean(values, fit.draws)[:, 0], np.ones(len(fit.draws), dtype=bool)
    q = needed[finite] - needed[finite].mean()
    noise = float((fit.residuals**2).sum()) / max(len(fit.residuals) - len(fit.form.parameters), 1)
    runs = []
    for question in questions:
        assert question.candidate is not None
        for factor in NEXT_RUN_FACTORS:
            samples = factor * fit.ranges["S"][1]
            if not bool(question.is_within_limits(np.array([np.log(samples)]))[0]):
                continue
            f = fit.log_mean({**question.values, "S": samples}, fit.draws[finite])[:, 0]
            f = f - f.mean()
            removed = float((q * f).mean()) ** 2 / max(float((f**2).mean()) + noise, 1e-300)
            narrowing = float(1 - np.sqrt(max(1 - removed / max(float((q**2).mean()), 1e-300), 0.0)))
            gmac = question.candidate.compute_gmac(samples)
            runs.append(
                NextRun(
                    name=question.candidate.name,
                    samples=samples,
                    compute_gmac=gmac,
                    narrowing=narrowing,
                    narrowing_per_million_gmac=narrowing / gmac * 1e6,
                    extrapolation=question.extrapolation(samples),
                )
            )
    return sorted(runs, key=lambda run: -run.narrowing_per_million_gmac)


def _list_notes(fit: Fit, options: Sequence[Option], *, no_candidate_fits: bool) -> list[str]:
    notes = []
    if len(fit.draws) == 0:
        notes.append("the law has no draws, so no number here has an interval")
    for option in options:
        if option.status != "ok":
            notes.append(f"{option.name}: {option.status}: {'; '.join(option.reasons)}")
        elif option.share_reached < 0.975:
            notes.append(
                f"{option.name}: in {100 * (1 - option.share_reached):.0f} % of the law's draws the target cannot be "
                "reached at all"
            )
        if option.extrapolation:
            notes.append(f"{option.name}: extrapolates {option.extrapolation:.2f} decades beyond the data")
    if no_candidate_fits:
        notes.append("no candidate reaches the target within the caps")
    notes += _note_corner(fit)
    notes += [f"{w.code}: {w.message}" for w in fit.warnings if w.severity == "error"]
    return notes


def _note_corner(fit: Fit) -> list[str]:
    """Return the law's answer on size against samples at equal cost; only for one power term in P and S."""
    exponents = next(
        (dict(term.exponents) for term in fit.form.terms if {"P", "S"} <= dict(term.exponents).keys()), None
    )
    if exponents is None:
        return []
    size, data = (fit.form.parameters.index(exponents[name]) for name in ("P", "S"))
    difference, draws = fit.theta[size] - fit.theta[data], fit.draws[:, size] - fit.draws[:, data]
    best = "largest model that fits" if difference < 0 else "smallest model, with as many samples as there are,"
    share = float((np.sign(draws) == np.sign(difference)).mean()) if len(draws) else None
    agreement = "" if share is None else f" ({100 * share:.0f} % of the draws agree)"
    return [
        f"corner solution: at equal P S the loss only {'falls' if difference < 0 else 'rises'} with P "
        f"(b_P - b_S = {difference:.3f}), so by this law the {best} is best{agreement}; no size in between is best"
    ]
