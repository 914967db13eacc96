"""The planner: what a target costs, which model is cheapest, what a doubling buys, which run to do next.

With y - eps = b0 P^b_P S^b_S T^b_T and a cost proportional to P S, the reducible loss along a line of equal cost goes
with P^(b_P - b_S): it only rises or only falls, so there is no best size inside, only the largest or the smallest that
can be had (a corner). The planner therefore compares the models there are, under the paper's cost C = S F (1 + P_t / P)
and the caps there are. Every number carries its interval, from the law's own draws, and how far it extrapolates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from polyglance.laws.costs import Budget, Candidate
from polyglance.laws.downstream import Downstream
from polyglance.laws.forms import PowerSum
from polyglance.laws.intervals import Estimate, estimate_of
from polyglance.laws.law import Fit, Law

__all__ = ["Gain", "NextRun", "Option", "Plan", "PlanConfig", "expected_new_group", "plan"]

Floats = NDArray[np.float64]

NEXT_RUN_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Next runs are tried at these multiples of the largest S in the data."""


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """The question: a law, a target, what is given, what there is to choose from."""

    law: Law
    group: str | None = None
    """Which of the law's groups; needed where it has several."""
    target: float | None = None
    """Loss to be reached."""
    target_score: float | None = None
    """Score to be reached, in place of a loss, through `downstream`."""
    downstream: Law | None = None
    """A law of the score against the loss."""
    solve_for: str = "S"
    """Predictor whose needed amount is asked for."""
    at: Mapping[str, float] = field(default_factory=dict)
    """Values of the other predictors, where candidates do not bring them; also where gains are told."""
    candidates: tuple[Candidate, ...] = ()
    budget: Budget = field(default_factory=Budget)
    moves: Mapping[str, float] = field(default_factory=dict)
    """What a change to this value buys, per predictor, as T=3.0; doublings of P and S are always told."""

    def __post_init__(self) -> None:
        if (self.target is None) == (self.target_score is None):
            raise ValueError("give a target loss or a target score, one of them")
        if self.target_score is not None and self.downstream is None:
            raise ValueError("a target score needs a downstream law (form 'downstream') to become a loss")
        for name, value in (("target", self.target), ("target score", self.target_score)):
            if value is not None and not 0 < value < np.inf:
                raise ValueError(f"the {name} is {value:g}, must be positive")
        self._check_caps_can_be_judged()

    def _check_caps_can_be_judged(self) -> None:
        """A cap that nothing is known about would pass for one that is kept."""
        budget = self.budget
        slow = [one.name for one in self.candidates if budget.hours(one, 1.0) is None]
        large = [one.name for one in self.candidates if one.memory_bytes is None]
        for cap, value, unknown, wanted in (
            ("max_hours", budget.max_hours, slow, "gmac_per_gpu_s, or candidates with samples_per_s"),
            ("price_per_gpu_hour", budget.price_per_gpu_hour, slow, "gmac_per_gpu_s, or candidates with samples_per_s"),
            ("max_memory_bytes", budget.max_memory_bytes, large, "candidates with memory_bytes"),
        ):
            if value is not None and (unknown or not self.candidates):
                whom = ", ".join(map(repr, unknown)) or "no candidates are given"
                raise ValueError(f"{cap} cannot be judged ({whom}): it needs {wanted}")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One model, and what it takes to reach the target with it."""

    name: str
    needed: Estimate
    """Of the predictor asked for, mostly samples; no value where the target cannot be reached."""
    compute_gmac: Estimate | None
    hours: Estimate | None
    """Wall-clock hours."""
    gpu_hours: Estimate | None
    money: Estimate | None
    loss_at_cap: Estimate | None
    """Loss at the largest amount the budget allows, where it has a cap on samples."""
    share_reached: float
    """Share of the law's draws in which the target can be reached at all."""
    share_cheapest: float
    """Share of the law's draws in which this is the cheapest option within the caps."""
    status: str
    """ok, cannot be reached, or over a cap."""
    reasons: tuple[str, ...]
    extrapolation: float | None
    """Decades outside the data, at the needed amount."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What a change of one predictor buys at a point."""

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


@dataclass(frozen=True, kw_only=True)
class NextRun:
    """A run that could be done next, and how much surer the plan would be."""

    name: str
    samples: float
    compute_gmac: float
    narrowing: float
    """Share that the interval of the needed amount shrinks by (0 to 1)."""
    narrowing_per_million_gmac: float
    extrapolation: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The answer."""

    target: Estimate
    """The loss aimed at; with an interval where it came from a score."""
    solve_for: str
    options: tuple[Option, ...]
    cheapest: str | None
    gains: tuple[Gain, ...]
    next_runs: tuple[NextRun, ...]
    """Best first, by narrowing per compute."""
    notes: tuple[str, ...]
    """What has to be said plainly: corners, what cannot be reached, extrapolation."""


def plan(config: PlanConfig) -> Plan:
    """Answer the question.

    Raises:
        ValueError: the law has no such predictor, a predictor has no value, or the law cannot be inverted.
    """
    fit = config.law.only if config.group is None else config.law[config.group]
    if not isinstance(fit.form, PowerSum):
        raise ValueError(f"form {fit.form.name!r} cannot be planned with; use compute, product or additive")
    if config.solve_for not in fit.form.predictors:
        raise ValueError(f"the law has no predictor {config.solve_for!r}; it has {', '.join(fit.form.predictors)}")
    target, log_target, target_draws = _target(config, fit)
    candidates = config.candidates or (None,)
    questions = [_Question(config, fit, candidate, log_target, target_draws) for candidate in candidates]
    shares = _shares_cheapest(questions)
    options = tuple(question.option(share) for question, share in zip(questions, shares, strict=True))
    fitting = [option for option in options if option.status == "ok"]
    cheapest = min(fitting, key=lambda o: (o.compute_gmac or o.needed).value or np.inf) if fitting else None
    chosen = questions[options.index(cheapest)] if cheapest else questions[0]
    return Plan(
        target=target,
        solve_for=config.solve_for,
        options=options,
        cheapest=cheapest.name if cheapest else None,
        gains=tuple(_gains(config, fit, chosen)),
        next_runs=tuple(_next_runs(config, fit, chosen, questions)),
        notes=tuple(_notes(config, fit, options, cheapest)),
    )


def expected_new_group(law: Law, values: Mapping[str, float], confidence: float = 0.95) -> Estimate:
    """Expected y of a group (a language) that the law has not seen, from how much the known ones differ.

    A t interval over the groups' log predictions: wide when few groups are known, or when they differ.

    Raises:
        ValueError: fewer than three groups.
    """
    if len(law.fits) < 3:
        raise ValueError(f"a new group is judged by at least three known ones, the law has {len(law.fits)}")
    logs = np.array([float(fit.log_mean(values)[0, 0]) for fit in law.fits.values()])
    num = len(logs)
    reach = float(stats.t.ppf(0.5 + confidence / 2, num - 1)) * float(logs.std(ddof=1)) * np.sqrt(1 + 1 / num)
    middle = float(logs.mean())
    return Estimate(value=float(np.exp(middle)), low=float(np.exp(middle - reach)), high=float(np.exp(middle + reach)))


def _target(config: PlanConfig, fit: Fit) -> tuple[Estimate, float, Floats]:
    """The loss aimed at, its log, and its log for each of the law's draws (R,)."""
    if config.target is not None:
        exact = Estimate(value=config.target, low=config.target, high=config.target)
        return exact, float(np.log(config.target)), np.full(len(fit.draws), np.log(config.target))
    assert config.downstream is not None
    assert config.target_score is not None
    score_fit = config.downstream.only
    if not isinstance(score_fit.form, Downstream):
        raise ValueError(f"the downstream law has form {score_fit.form.name!r}; it must be 'downstream'")
    loss = float(score_fit.form.loss_for(score_fit.theta[None], config.target_score)[0])
    draws = score_fit.form.loss_for(score_fit.draws, config.target_score)
    if not np.isfinite(loss) or loss <= 0:
        top = score_fit.parameters["top"]
        raise ValueError(f"score {config.target_score:g} cannot be reached: the law's top is {top:.4g}")
    estimate = estimate_of(loss, draws, score_fit.spread, score_fit.confidence)
    usable = np.where(np.isfinite(draws) & (draws > 0), draws, np.nan)
    matched = np.resize(usable, len(fit.draws)) if len(draws) else np.full(len(fit.draws), loss)
    return estimate, float(np.log(loss)), np.log(matched)


class _Question:
    """One candidate (or the point given by `at`) against the target, with the answer for each draw."""

    def __init__(
        self, config: PlanConfig, fit: Fit, candidate: Candidate | None, log_target: float, target_draws: Floats
    ) -> None:
        assert isinstance(fit.form, PowerSum)
        self.config, self.fit, self.candidate = config, fit, candidate
        self.values = _values(config, fit, candidate)
        at = {**self.values, config.solve_for: 1.0}
        z = fit.inputs(at)[0] - fit.reference
        shift = float(fit.reference[fit.form.predictors.index(config.solve_for)])
        self.log_needed = float(fit.form.solve_for(config.solve_for, fit.theta[None], z, log_target)[0]) + shift
        draws = fit.form.solve_for(config.solve_for, fit.draws, z, target_draws) + shift
        self.log_draws = np.where(np.isnan(draws), np.inf, draws)

    def scaled(self, factor: float | None) -> Estimate | None:
        """The needed amount times a cost per unit."""
        if factor is None:
            return None
        shift = float(np.log(factor))
        estimate = estimate_of(self.log_needed + shift, self.log_draws + shift, self.fit.spread, self.fit.confidence)
        return estimate.map(_exp)

    def costs(self) -> tuple[float | None, float | None]:
        """GMAC and wall-clock hours per unit of the predictor asked for."""
        if self.candidate is None or self.config.solve_for != "S":
            return None, None
        return self.candidate.compute_gmac(1.0), self.config.budget.hours(self.candidate, 1.0)

    def within_caps(self, log_needed: Floats) -> NDArray[np.bool_]:
        """Whether amounts (R,) fit the budget."""
        budget, (_, hours) = self.config.budget, self.costs()
        fits = np.isfinite(log_needed)
        if self.config.solve_for == "S" and budget.max_samples is not None:
            fits &= log_needed <= np.log(budget.max_samples)
        if hours is not None and budget.max_hours is not None:
            fits &= log_needed <= np.log(budget.max_hours / hours)
        if self.candidate and self.candidate.memory_bytes and budget.max_memory_bytes:
            fits &= self.candidate.memory_bytes <= budget.max_memory_bytes
        return fits

    def option(self, share_cheapest: float) -> Option:
        budget, (gmac, hours) = self.config.budget, self.costs()
        needed = self.scaled(1.0)
        assert needed is not None
        reasons = tuple(self._reasons(needed))
        reachable = np.isfinite(self.log_needed)
        status = "cannot be reached" if not reachable else "over a cap" if reasons else "ok"
        gpu_hours = None if hours is None else hours * budget.num_gpus
        return Option(
            name=self.candidate.name if self.candidate else "as given",
            needed=needed,
            compute_gmac=self.scaled(gmac),
            hours=self.scaled(hours),
            gpu_hours=self.scaled(gpu_hours),
            money=self.scaled(budget.money(hours)),
            loss_at_cap=self._loss_at_cap(),
            share_reached=float(np.isfinite(self.log_draws).mean()) if len(self.log_draws) else float(reachable),
            share_cheapest=share_cheapest,
            status=status,
            reasons=reasons,
            extrapolation=self.extrapolation(needed.value) if needed.value is not None else None,
        )

    def extrapolation(self, amount: float) -> float:
        return float(self.fit.extrapolation({**self.values, self.config.solve_for: amount})[0])

    def _loss_at_cap(self) -> Estimate | None:
        cap = self.config.budget.max_samples
        if cap is None or self.config.solve_for != "S":
            return None
        return loss_at(self.fit, {**self.values, "S": cap})

    def _reasons(self, needed: Estimate) -> list[str]:
        budget, (_, hours) = self.config.budget, self.costs()
        name, reasons = self.config.solve_for, []
        if needed.value is None:
            return [self._why_unreachable()]
        if name == "S" and budget.max_samples is not None and needed.value > budget.max_samples:
            reasons.append(f"needs {needed.value:.3g} samples, there are {budget.max_samples:.3g}")
        if hours is not None and budget.max_hours is not None and needed.value * hours > budget.max_hours:
            reasons.append(f"needs {needed.value * hours:.3g} hours, there are {budget.max_hours:.3g}")
        memory = self.candidate.memory_bytes if self.candidate else None
        if memory and budget.max_memory_bytes and memory > budget.max_memory_bytes:
            reasons.append(f"needs {memory / 1e9:.3g} GB of memory, there are {budget.max_memory_bytes / 1e9:.3g}")
        return reasons

    def _why_unreachable(self) -> str:
        floor = loss_at(self.fit, {**self.values, self.config.solve_for: 1e60})
        name = self.config.solve_for
        start = loss_at(self.fit, {**self.values, name: 1.0})
        if floor.value is not None and start.value is not None and floor.value >= start.value:
            return f"more {name} does not lower the loss by this law"
        return f"even with endless {name} the law stays at {floor.text()}"


def _values(config: PlanConfig, fit: Fit, candidate: Candidate | None) -> dict[str, float]:
    """A value for each predictor but the one asked for."""
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


def loss_at(fit: Fit, values: Mapping[str, float]) -> Estimate:
    """Predicted y at one point with the interval of the mean."""
    draws = fit.log_mean(values, fit.draws)[:, 0] if len(fit.draws) else np.empty(0)
    return estimate_of(float(fit.log_mean(values)[0, 0]), draws, fit.spread, fit.confidence).map(_exp)


def _exp(value: float) -> float:
    return float(np.exp(min(value, 690.0)))


def _shares_cheapest(questions: Sequence[_Question]) -> list[float]:
    if questions[0].log_draws.size == 0:
        return [0.0] * len(questions)
    costs = []
    for question in questions:
        gmac, _ = question.costs()
        fits = question.within_caps(question.log_draws)
        costs.append(np.where(fits, question.log_draws + np.log(gmac if gmac is not None else 1.0), np.inf))
    stacked = np.stack(costs)
    winner = np.where(np.isfinite(stacked.min(axis=0)), stacked.argmin(axis=0), -1)
    return [float((winner == i).mean()) for i in range(len(questions))]


def _gains(config: PlanConfig, fit: Fit, chosen: _Question) -> list[Gain]:
    """Doublings of what can be doubled, and the moves asked for, from the plan's point."""
    amount = float(np.exp(chosen.log_needed)) if np.isfinite(chosen.log_needed) else fit.ranges[config.solve_for][1]
    here = {**chosen.values, config.solve_for: config.at.get(config.solve_for, amount)}
    moves = [(name, 2 * here[name]) for name in fit.form.predictors if name not in config.moves and name != "T"]
    for name, value in config.moves.items():
        if name not in fit.form.predictors:
            raise ValueError(f"moves: the law has no predictor {name!r}")
        moves.append((name, value))
    return [_gain(fit, here, name, value) for name, value in moves]


def _gain(fit: Fit, here: Mapping[str, float], name: str, end: float) -> Gain:
    there = {**here, name: end}
    form = fit.form
    assert isinstance(form, PowerSum)

    def log_ratio(theta: Floats) -> Floats:
        return np.asarray(fit.log_mean(there, theta)[:, 0] - fit.log_mean(here, theta)[:, 0])

    def reducible(theta: Floats) -> Floats:
        if form.offset is None:
            return log_ratio(theta)
        without = theta.copy()
        without[:, form.parameters.index(form.offset)] = -1e3
        return log_ratio(without)

    own = fit.theta[None]
    ratio, bare = (
        estimate_of(float(f(own)[0]), f(fit.draws), fit.spread, fit.confidence).map(_exp)
        for f in (log_ratio, reducible)
    )
    return Gain(
        predictor=name,
        start=here[name],
        end=end,
        loss_at_start=loss_at(fit, here),
        loss_at_end=loss_at(fit, there),
        ratio=ratio,
        reducible_ratio=bare,
        extrapolation=float(fit.extrapolation(there)[0]),
    )


def _next_runs(config: PlanConfig, fit: Fit, chosen: _Question, questions: Sequence[_Question]) -> list[NextRun]:
    """Runs by how much they would narrow the needed amount: a linear Gaussian update of the law's draws.

    If v = Var f(x) over the draws and s^2 is the variance of one run's noise, a run at x removes
    Cov(q, f(x))^2 / (v + s^2) of the variance of the question q.
    """
    if config.solve_for != "S" or config.candidates == () or len(fit.draws) < 20:
        return []
    question = chosen.log_draws
    finite = np.isfinite(question)
    if finite.mean() < 0.5:  # mostly out of reach: ask how sure the loss at the largest S is instead
        values = {**chosen.values, "S": fit.ranges["S"][1]}
        question, finite = fit.log_mean(values, fit.draws)[:, 0], np.ones(len(fit.draws), dtype=bool)
    q = question[finite] - question[finite].mean()
    noise = float((fit.residuals**2).sum()) / max(len(fit.residuals) - len(fit.form.parameters), 1)
    runs = []
    for candidate_question in questions:
        candidate = candidate_question.candidate
        assert candidate is not None
        for factor in NEXT_RUN_FACTORS:
            samples = factor * fit.ranges["S"][1]
            if not bool(candidate_question.within_caps(np.array([np.log(samples)]))[0]):
                continue
            f = fit.log_mean({**candidate_question.values, "S": samples}, fit.draws[finite])[:, 0]
            f = f - f.mean()
            removed = float((q * f).mean()) ** 2 / max(float((f**2).mean()) + noise, 1e-300)
            narrowing = 1 - np.sqrt(max(1 - removed / max(float((q**2).mean()), 1e-300), 0.0))
            gmac = candidate.compute_gmac(samples)
            runs.append(
                NextRun(
                    name=candidate.name,
                    samples=samples,
                    compute_gmac=gmac,
                    narrowing=float(narrowing),
                    narrowing_per_million_gmac=float(narrowing) / gmac * 1e6,
                    extrapolation=candidate_question.extrapolation(samples),
                )
            )
    return sorted(runs, key=lambda run: -run.narrowing_per_million_gmac)


def _notes(config: PlanConfig, fit: Fit, options: Sequence[Option], cheapest: Option | None) -> list[str]:
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
    if config.candidates and cheapest is None:
        notes.append("no candidate reaches the target within the caps")
    notes += _corner(fit)
    notes += [f"{w.code}: {w.message}" for w in fit.warnings if w.severity == "error"]
    return notes


def _corner(fit: Fit) -> list[str]:
    """What the law says about size against samples at equal cost; only for one power term in P and S."""
    names = fit.form.parameters
    if not {"b_P", "b_S"} <= set(names):
        return []
    difference = fit.theta[names.index("b_P")] - fit.theta[names.index("b_S")]
    draws = fit.draws[:, names.index("b_P")] - fit.draws[:, names.index("b_S")]
    which = "largest model that fits" if difference < 0 else "smallest model, with as many samples as there are,"
    sure = float((np.sign(draws) == np.sign(difference)).mean()) if len(draws) else None
    share = "" if sure is None else f" ({100 * sure:.0f} % of the draws agree)"
    return [
        f"corner solution: at equal P S the loss only {'falls' if difference < 0 else 'rises'} with P "
        f"(b_P - b_S = {difference:.3f}), so by this law the {which} is best{share}; there is no best size in between"
    ]
