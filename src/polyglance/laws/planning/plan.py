"""The planner: the cost of a target, the cheapest model, the gain of a doubling, the run to do next.

Costs, limits and prices are computed from the roles of the law's predictors (roles.py, costs.py). The candidates are
compared by one measure (compute, hours or money). Every number has an interval from the law's draws, and its
extrapolation.

With y - eps = b0 P^b_P S^b_S T^b_T and a cost proportional to P S, the reducible loss along a line of equal cost is
proportional to P^(b_P - b_S). It only rises or only falls, so no size in between is best (a corner).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyglance.laws.arrays import Floats
from polyglance.laws.config import CostMeasure, PlanConfig
from polyglance.laws.equations.roles import Role, find_by_role
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, HeldOut, Law
from polyglance.laws.planning.costs import Candidate
from polyglance.laws.planning.gains import Gain, NextRun, list_gains, list_next_runs
from polyglance.laws.planning.limits import check_limits, explain_missing
from polyglance.laws.planning.question import (
    Option,
    Question,
    Subject,
    fill_values,
    find_subject,
    is_beyond,
    only_downstream,
    score_at,
)
from polyglance.settings import UnusedSettingError

__all__ = ["LawPlan", "plan_with_law"]

_TIE = 1e-9
"""Costs that differ by less than this, relative, are equal."""


@dataclass(frozen=True, kw_only=True)
class LawPlan:
    """Result of `plan_with_law`."""

    held_out: HeldOut | None
    """How well this law would have predicted the largest runs of its table from the smaller ones; None if not known."""
    noun: str
    """`loss`, or `score` for a law of scores (`transform`), in whose unit the numbers below are."""
    target: Estimate
    """The target; with an interval where it was computed from a score by a downstream law."""
    score: Estimate | None
    """Score to be expected at the target loss; None without a downstream law."""
    solve_for: str
    roles: Mapping[str, Role]
    """Role of each predictor: the quantity that it counts."""
    options: tuple[Option, ...]
    currency: str
    """Currency of the money; empty where none was given."""
    measure: CostMeasure | None
    """Cost by which the options are compared; None where they are not."""
    cheapest: str | None
    """Name of the cheapest option within the limits; None where none fits, or where several tie."""
    tied: tuple[str, ...]
    """Names of the options that tie at the lowest cost; empty where one is the cheapest."""
    gains: tuple[Gain, ...]
    next_runs: tuple[NextRun, ...]
    """Ordered by narrowing per compute, best first."""
    notes: tuple[str, ...]
    """Corner solutions, targets out of reach, extrapolation, units."""


def plan_with_law(
    config: PlanConfig, law: Law, *, candidates: Sequence[Candidate] = (), downstream: Law | None = None
) -> LawPlan:
    """Compute what a target needs with each candidate, and which candidate is the cheapest.

    Args:
        law: law of the loss.
        candidates: models to choose from; none: the point given by `config.at`.
        downstream: law of the score against the loss (form downstream); needed for a target score.

    Raises:
        ValueError: the law has no such predictor or cannot be inverted, a predictor has no value, or a limit or price
            of the budget cannot be checked.
    """
    if not config.has_target:
        raise ValueError("the question has no target; for the best use of a budget call spend_budget")
    fit = law.only if config.group is None else law[config.group]
    if not fit.form.logarithmic:
        raise ValueError(f"form {fit.form.name!r} cannot be planned with; use compute, product or additive")
    subject = find_subject(config, law, fit, candidates)
    models = [(candidate, subject.rates_of(candidate)) for candidate in candidates or (None,)]
    check_limits(config.budget, subject.role, models)
    scores = None if downstream is None else only_downstream(downstream)
    target, log_target, log_targets = _find_target(config, law, fit, scores)
    questions = []
    for candidate, rates in models:
        values = fill_values(subject, candidate)
        log_needed = float(fit.solve_for(subject.solve_for, values, log_target)[0])
        draws = fit.solve_for(subject.solve_for, values, log_targets, fit.draws)
        log_draws = np.where(np.isnan(draws), np.inf, draws)
        questions.append(Question(subject, candidate, rates, values, log_needed, log_draws))
    measure = _choose_measure(config, questions)
    shares = _share_cheapest(questions, measure)
    options = tuple(question.make_option(share) for question, share in zip(questions, shares, strict=True))
    best = _find_cheapest(options, measure)
    chosen = questions[options.index(best[0])] if best else questions[0]
    return LawPlan(
        held_out=fit.held_out,
        noun=fit.transform.noun,
        target=target,
        score=None if scores is None else _expect_score(config, fit, scores),
        solve_for=subject.solve_for,
        roles=subject.roles,
        options=options,
        currency=config.budget.currency,
        measure=measure,
        cheapest=best[0].name if len(best) == 1 else None,
        tied=tuple(option.name for option in best) if len(best) > 1 else (),
        gains=tuple(list_gains(chosen)),
        next_runs=tuple(list_next_runs(chosen, questions)),
        notes=(
            *_list_notes(questions, options, measure, best),
            *(f"{one.code}: {one.message}" for one in law.warnings if one.code == "score-like"),
        ),
    )


def _expect_score(config: PlanConfig, fit: Fit, scores: Fit) -> Estimate:
    if fit.transform.is_score:
        raise ValueError("the law is of a score itself: `downstream`, a score against the loss, does not go with it")
    if config.target is None:
        return Estimate(value=config.target_score, low=config.target_score, high=config.target_score)
    return score_at(scores, config.target, np.empty(0))


def _find_target(config: PlanConfig, law: Law, fit: Fit, scores: Fit | None) -> tuple[Estimate, float, Floats]:
    """Return the target, the log of its fitted quantity, and the same for each of the law's draws (R,)."""
    if config.target is not None:
        exact = Estimate(value=config.target, low=config.target, high=config.target)
        if reason := fit.transform.explain_unusable(config.target):
            raise ValueError(f"`target` {reason}; it is a score, in the unit of {law.columns.get('y', 'y')}")
        log_target = float(np.log(fit.transform.apply(np.array(config.target))))
        return exact, log_target, np.full(len(fit.draws), log_target)
    assert config.target_score is not None
    if fit.transform.is_score:
        raise ValueError("the law is of a score itself: give the score as `target`, not as `target_score`")
    if scores is None:
        raise ValueError("a target score needs a downstream law (form 'downstream') to become a loss")
    (predictor,), log_score = scores.form.predictors, np.log(config.target_score)
    loss = float(scores.solve_for(predictor, {}, log_score)[0])
    draws = scores.solve_for(predictor, {}, log_score, scores.draws)
    if not np.isfinite(loss) or loss <= 0:
        top = scores.parameters["top"]
        raise ValueError(f"score {config.target_score:g} cannot be reached: the law's top is {top:.4g}")
    usable = np.where(np.isfinite(draws) & (draws > 0), draws, np.nan)
    matched = np.resize(usable, len(fit.draws)) if len(draws) else np.full(len(fit.draws), loss)
    return scores.estimate(loss, draws), float(np.log(loss)), np.log(matched)


def _choose_measure(config: PlanConfig, questions: Sequence[Question]) -> CostMeasure | None:
    """Return the cost that candidates are compared by; None without candidates, or if no cost can be computed.

    Raises:
        ValueError: the measure asked for is not known for each candidate.
    """
    if questions[0].candidate is None:
        if config.cheapest_by is not None:
            raise UnusedSettingError("`cheapest_by` has no effect without `candidates`")
        return None
    if config.cheapest_by is None:
        measures: tuple[CostMeasure, ...] = ("money", "hours", "compute")
        return next((m for m in measures if all(question.rates.of(m) is not None for question in questions)), None)
    unknown = [
        repr(one.candidate.name) for one in questions if one.candidate and one.rates.of(config.cheapest_by) is None
    ]
    if unknown:
        needed = explain_missing(
            {"money": "max_money", "hours": "max_hours", "compute": "max_gmac"}[config.cheapest_by]
        )
        raise ValueError(
            f"cheapest_by {config.cheapest_by} cannot be computed ({', '.join(unknown)}): it needs {needed}"
        )
    return config.cheapest_by


def _find_cheapest(options: Sequence[Option], measure: CostMeasure | None) -> list[Option]:
    """Return the options within the limits that have the lowest cost; several where they tie.

    Where costs are not compared and there is a single option, it is that one.
    """
    fitting = [option for option in options if option.status == "ok"]
    if measure is None or not fitting:
        return fitting if len(options) == 1 else []
    costs = [option.cost(measure) or np.inf for option in fitting]
    return [one for one, cost in zip(fitting, costs, strict=True) if cost <= min(costs) * (1 + _TIE)]


def _share_cheapest(questions: Sequence[Question], measure: CostMeasure | None) -> list[float | None]:
    """Return per question the share of the law's draws in which it is the cheapest within the limits."""
    if questions[0].log_draws.size == 0 or (measure is None and len(questions) > 1):
        return [None] * len(questions)
    costs = []
    for question in questions:
        rate = 1.0 if measure is None else question.rates.of(measure)
        assert rate is not None
        log_costs = question.log_data(question.log_draws) + np.log(rate)
        costs.append(np.where(question.is_within_limits(question.log_draws), log_costs, np.inf))
    stacked = np.stack(costs)
    lowest = stacked.min(axis=0)
    wins = np.isfinite(stacked) & (stacked <= lowest + _TIE)
    return (wins / np.maximum(wins.sum(axis=0), 1)).mean(axis=1).tolist()


def _list_notes(
    questions: Sequence[Question], options: Sequence[Option], measure: CostMeasure | None, best: Sequence[Option]
) -> list[str]:
    fit, subject = questions[0].fit, questions[0].subject
    notes = [*_note_units(questions), *subject.note_cells()]
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
        if is_beyond(option.extrapolation):
            notes.append(f"{option.name}: extrapolates {option.extrapolation:.2f} decades beyond the data")
    if questions[0].candidate is not None:
        if not any(option.status == "ok" for option in options):
            notes.append("no candidate reaches the target within the caps")
        elif measure is None:
            notes.append("candidates are not compared: no predictor counts data, so no cost can be computed (roles)")
    notes += _note_ranking(options, measure, best)
    notes += _note_corner(subject, questions, options, measure)
    notes += [f"{w.code}: {w.message}" for w in fit.warnings if w.severity == "error"]
    return notes


def _note_units(questions: Sequence[Question]) -> list[str]:
    """Return notes on units that are assumed."""
    subject, notes = questions[0].subject, []
    candidates = [question.candidate for question in questions if question.candidate]
    if subject.role == "tokens" and any(one.F_unit is None for one in candidates):
        notes.append(f"F_gmac of the candidates is taken as GMAC per token, as {subject.data} counts tokens")
    if subject.role == "compute":
        unit = {1.0: "GMAC", 0.5: "GFLOP", 0.5e-9: "FLOP"}.get(subject.gmac_per_unit)
        unit = unit or f"{subject.gmac_per_unit:g} GMAC"
        notes.append(f"{subject.data} is taken as compute in {unit} (1 MAC = 2 FLOP; compute_unit changes it)")
    speeds = [one for one in candidates if one.has_speed]
    if speeds and subject.config.budget.gmac_per_gpu_s is not None:
        names = ", ".join(one.name for one in speeds)
        notes.append(f"hours follow the measured speed, not gmac_per_gpu_s: {names}")
    return notes


def _note_ranking(options: Sequence[Option], measure: CostMeasure | None, best: Sequence[Option]) -> list[str]:
    """Return notes on a tie, and on a cheapest option that is not the cheapest in most draws."""
    if measure is None or not best or len(options) < 2:
        return []
    if len(best) > 1:
        names = ", ".join(option.name for option in best)
        return [f"a tie by {measure}: {names} reach the target at the same cost; this law and measure cannot choose"]
    favourite = max(options, key=lambda option: option.share_cheapest or 0.0)
    if (favourite.share_cheapest or 0.0) > (best[0].share_cheapest or 0.0):
        return [
            f"close: {best[0].name} is the cheapest by the estimate, {favourite.name} in more of the draws "
            f"({100 * (best[0].share_cheapest or 0):.0f} and {100 * (favourite.share_cheapest or 0):.0f} %)"
        ]
    return []


def _note_corner(
    subject: Subject, questions: Sequence[Question], options: Sequence[Option], measure: CostMeasure | None
) -> list[str]:
    """Return a note on the best size by a law with one power term in size and data, and none in data alone.

    With several candidates it follows from their costs in the table. Without them it is the law's answer for models
    whose cost per unit of data is proportional to their size.
    """
    sizes = find_by_role(subject.roles, ("parameters",))
    data = subject.data
    with_data = [dict(term.exponents) for term in subject.fit.form.terms if data in dict(term.exponents)]
    if not sizes or data is None or subject.role == "compute" or len(with_data) != 1 or sizes[0] not in with_data[0]:
        return []
    (exponents,) = with_data
    if len(options) > 1:
        return _note_costs_by_size(questions, options, measure)
    parameters, fit = subject.fit.form.parameters, subject.fit
    size, amount = (parameters.index(exponents[name]) for name in (sizes[0], data))
    difference, draws = fit.theta[size] - fit.theta[amount], fit.draws[:, size] - fit.draws[:, amount]
    agreement = (
        f"; {100 * (np.sign(draws) == np.sign(difference)).mean():.0f} % of the draws agree" if len(draws) else ""
    )
    trend = f"{fit.transform.noun} {fit.transform.trend(difference >= 0)}"
    return [
        f"corner: at equal {sizes[0]} {data} the {trend} with {sizes[0]} "
        f"({exponents[sizes[0]]} - {exponents[data]} = {difference:.3f}{agreement}): where the cost of a model is "
        f"proportional to its size, no size in between is best"
    ]


def _note_costs_by_size(
    questions: Sequence[Question], options: Sequence[Option], measure: CostMeasure | None
) -> list[str]:
    """Return a note if the cost only falls or only rises with size, over the candidates within the limits."""
    if measure is None:
        return []
    fitting = [
        (question.candidate.P, option.cost(measure) or np.inf)
        for question, option in zip(questions, options, strict=True)
        if question.candidate and option.status == "ok"
    ]
    ordered = sorted(fitting)
    sizes, costs = np.array([p for p, _ in ordered]), np.array([cost for _, cost in ordered])
    if len(ordered) < 2 or (np.diff(sizes) <= 0).any():
        return []
    if (costs[1:] < costs[:-1] * (1 - _TIE)).all():
        return [
            f"corner: within the limits the cost ({measure}) of the target falls with size; the largest is cheapest"
        ]
    if (costs[1:] > costs[:-1] * (1 + _TIE)).all():
        return [
            f"corner: within the limits the cost ({measure}) of the target rises with size; the smallest is cheapest"
        ]
    return []
