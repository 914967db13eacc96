"""The best use of a budget: the best size and data, the excess loss of other sizes, and smaller models of equal loss.

For a law of scores (`transform`), the best is the highest score, and "loss" below means the score.

The budget consists of the limits of the plan: compute, hours, GPU-hours, money, data and memory. Candidates are
compared by their own costs. The best size of all is found in `continuum.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyglance.laws.arrays import Floats
from polyglance.laws.config import Budget, PlanConfig
from polyglance.laws.equations.roles import Role, find_by_role
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit, HeldOut, Law
from polyglance.laws.planning.continuum import (
    MACS_PER_PARAMETER,
    BestSize,
    Continuum,
    IsoflopPoint,
    SizeAnswer,
    SizeCosts,
    SmallerModel,
    measure_excess,
)
from polyglance.laws.planning.costs import Candidate, Rates
from polyglance.laws.planning.limits import LIMITS, check_limits
from polyglance.laws.planning.question import (
    Subject,
    fill_values,
    find_extrapolation,
    find_subject,
    is_beyond,
    loss_at,
    only_downstream,
    score_at,
)
from polyglance.settings import UnusedSettingError

__all__ = ["BudgetOption", "BudgetPlan", "spend_budget"]

_TIE = 1e-12
"""Losses that differ by less than this, relative, are equal."""


@dataclass(frozen=True, kw_only=True)
class BudgetOption:
    """One candidate, trained with all data that the budget allows it."""

    name: str
    size: float
    data: float
    loss: Estimate | None
    """None where the candidate cannot be trained."""
    score: Estimate | None
    """Score to be expected at that loss; None without a downstream law."""
    excess: Estimate | None
    """Loss divided by the loss of the best candidate, minus 1; the same for a score, where it is at most 0."""
    costs: Mapping[str, float]
    """Samples over all cells, compute in GMAC, hours, GPU-hours and money, as far as they are known."""
    limited_by: tuple[str, ...]
    share_best: float | None
    """Share of the law's draws in which this candidate has the lowest loss; None for a law without draws."""
    status: str
    """`ok` or `over a cap`."""
    reasons: tuple[str, ...]
    extrapolation: float | None


@dataclass(frozen=True, kw_only=True)
class BudgetPlan:
    """Result of `spend_budget`."""

    held_out: HeldOut | None
    """How well this law would have predicted the largest runs of its table from the smaller ones; None if not known."""
    size: str
    """Predictor that counts parameters."""
    data: str
    """Predictor that counts samples, tokens or epochs."""
    noun: str
    """`loss`, or `score` for a law of scores (`transform`), in whose unit the numbers below are."""
    roles: Mapping[str, Role]
    limits: Mapping[str, float]
    """Limits of the budget."""
    currency: str
    """Currency of the money; empty where none was given."""
    best: BestSize | None
    """None where sizes between the candidates cannot be judged; a note has the reason."""
    curve: tuple[IsoflopPoint, ...]
    """Sizes along the budget, from small to large, half and twice the best one among them."""
    options: tuple[BudgetOption, ...]
    """The candidates, in their order."""
    chosen: str | None
    """Candidate with the lowest loss; None without candidates, or where several tie."""
    tied: tuple[str, ...]
    smaller: tuple[SmallerModel, ...]
    """Smaller models of equal loss, from large to small (with inference tokens: the best size of all among them)."""
    notes: tuple[str, ...]


def spend_budget(
    config: PlanConfig, law: Law, *, candidates: Sequence[Candidate] = (), downstream: Law | None = None
) -> BudgetPlan:
    """Find the size and data with the lowest loss that a budget allows.

    Args:
        config: a question without a target, with a limit on compute, hours, GPU-hours or money; with candidates a limit
            on samples or tokens is enough.
        candidates: models to choose from; without them any size, at `macs_per_parameter` for a token.
        downstream: law of the score against the loss, by which each candidate's score is expected.

    Raises:
        ValueError: the law has no size or no data, a limit cannot be checked, or the budget is below one unit of data.
    """
    _check_question(config, candidates)
    fit = law.only if config.group is None else law[config.group]
    if not fit.form.logarithmic:
        raise ValueError(f"form {fit.form.name!r} cannot be planned with; use product or additive")
    _refuse_scores(law)
    subject, size = _find_size(config, law, fit, candidates)
    models = [*candidates] or [_model_of_size_one(config.budget)]
    rates = [subject.rates_of(model) for model in models]
    check_limits(config.budget, subject.role, list(zip(models, rates, strict=True)))
    if candidates and config.budget.macs_per_parameter is not None:
        raise UnusedSettingError("`macs_per_parameter` has no effect beside `candidates`, which have their own costs")
    if downstream is not None and (not candidates or fit.transform.is_score):
        raise UnusedSettingError(
            "`downstream` has no effect without a target or `candidates`, or with a law of a score"
        )
    scores = None if downstream is None else only_downstream(downstream)
    options = _judge_candidates(subject, candidates, rates, scores)
    tied = _find_best(fit, options)
    costs = SizeCosts.of(subject, size, models, rates, is_rule=not candidates)
    others, differing = _find_others(subject, size, candidates)
    answer = _find_best_size(config, costs, others, differing)
    return BudgetPlan(
        held_out=fit.held_out,
        size=size,
        data=costs.data,
        noun=fit.transform.noun,
        roles=subject.roles,
        limits=_limits_of(config.budget),
        currency=config.budget.currency,
        best=answer.best,
        curve=answer.curve,
        options=tuple(options),
        chosen=tied[0].name if len(tied) == 1 else None,
        tied=tuple(option.name for option in tied) if len(tied) > 1 else (),
        smaller=answer.smaller,
        notes=(
            *answer.notes,
            *subject.note_cells(),
            *_note_options(options, tied, fit.transform.noun),
            *_note_fit(fit),
        ),
    )


def _check_question(config: PlanConfig, candidates: Sequence[Candidate]) -> None:
    """Refuse a question with a target, or without a budget."""
    if config.has_target:
        raise ValueError("the question has a target; for its cost call plan_with_law")
    has_data_limit = bool(candidates and (config.budget.max_samples or config.budget.max_tokens))
    if not config.budget.can_be_spent and not has_data_limit:
        raise ValueError(
            "give a target loss or a target score, or a budget to spend: max_gmac, max_flop, max_hours, "
            "max_gpu_hours or max_money"
        )


def _find_best_size(
    config: PlanConfig, costs: SizeCosts, others: Mapping[str, float], differing: Sequence[str]
) -> SizeAnswer:
    """Return the best size over all sizes, or a note on why there is none.

    Args:
        others: values of the predictors beside size and data.
        differing: predictors in which the candidates differ.
    """
    if not differing and config.budget.can_be_spent:
        return Continuum(costs, others).answer()
    why = f"the candidates differ in {', '.join(differing)}" if differing else "only the data is limited"
    reason = f"no best size over all sizes: {why}"
    if config.inference_tokens is not None:
        raise ValueError(f"inference_tokens needs a best size over all sizes; {reason}")
    return SizeAnswer(notes=(reason,))


def _refuse_scores(law: Law) -> None:
    """Refuse a law of what seems to be a score: the lowest y would be the worst."""
    if any(warning.code == "score-like" for warning in law.warnings):
        raise ValueError(
            f"{law.columns.get('y', 'y')} rises with scale, as a score does (score-like): a budget would be spent on "
            "the lowest one; fit the law with `transform` error or log-odds"
        )


def _find_size(config: PlanConfig, law: Law, fit: Fit, candidates: Sequence[Candidate]) -> tuple[Subject, str]:
    """Return the question with the predictor that counts data, and the predictor that is the size."""
    subject = find_subject(config, law, fit, candidates)
    if subject.role == "compute":
        raise ValueError(
            f"a law of compute has no size to choose: for the loss at a budget use "
            f"`law predict --at {subject.data}=...`; a best size needs a law of size and data (product, additive)"
        )
    if subject.role == "none" or subject.data is None:
        raise ValueError("no predictor counts samples, tokens or epochs: give `roles` NAME=samples")
    sizes = find_by_role(subject.roles, ("parameters",))
    if not sizes:
        raise ValueError("no predictor counts parameters, so there is no size to choose: give `roles` NAME=parameters")
    for name in (sizes[0], subject.data):
        if name in config.at:
            raise UnusedSettingError(f"`at` {name} has no effect: the plan chooses it")
    return subject, sizes[0]


def _model_of_size_one(budget: Budget) -> Candidate:
    macs = budget.macs_per_parameter or MACS_PER_PARAMETER
    return Candidate(name="any size", P=1.0, P_t=1.0, F_gmac=macs / 2 * 1e-9, F_unit="token")


def _limits_of(budget: Budget) -> dict[str, float]:
    names = (*LIMITS, "max_memory_gb")
    return {name: getattr(budget, name) for name in names if getattr(budget, name) is not None}


def _find_others(subject: Subject, size: str, candidates: Sequence[Candidate]) -> tuple[dict[str, float], list[str]]:
    """Return the other predictors than size and data with their values, and those in which the candidates differ."""
    names = [name for name in subject.fit.form.predictors if name not in (size, subject.data)]
    filled = [fill_values(subject, one) for one in candidates] or [fill_values(subject, None, skip=(size,))]
    differing = [name for name in names if len({values[name] for values in filled}) > 1]
    return {name: filled[0][name] for name in names}, differing


def _judge_candidates(
    subject: Subject, candidates: Sequence[Candidate], rates: Sequence[Rates], scores: Fit | None
) -> list[BudgetOption]:
    if not candidates:
        return []
    fit, budget = subject.fit, subject.config.budget
    points = [_spend_on(budget, rate) for rate in rates]
    reasons = [_list_reasons(subject, budget, model, data) for model, (data, _) in zip(candidates, points, strict=True)]
    values = [
        {**fill_values(subject, model), subject.data or "": max(data, 1e-300)}
        for model, (data, _) in zip(candidates, points, strict=True)
    ]
    log_losses = np.array([float(fit.log_mean(one)[0, 0]) for one in values])
    usable = np.array([not reason for reason in reasons])
    best = values[int(np.where(usable, log_losses, np.inf).argmin())]
    shares = _share_best(fit, values, usable)
    return [
        BudgetOption(
            name=model.name,
            size=model.P,
            data=data,
            loss=None if reason else loss_at(fit, one),
            score=None if reason or scores is None else _expect_score(fit, scores, one),
            excess=None if reason else measure_excess(fit, one, best),
            costs=_list_costs(rate, data),
            limited_by=limits,
            share_best=share,
            status="over a cap" if reason else "ok",
            reasons=tuple(reason),
            extrapolation=find_extrapolation(fit, one),
        )
        for model, rate, (data, limits), reason, one, share in zip(
            candidates, rates, points, reasons, values, shares, strict=True
        )
    ]


def _expect_score(fit: Fit, scores: Fit, values: Mapping[str, float]) -> Estimate:
    loss, draws = np.exp(fit.log_mean(values)[0, 0]), np.exp(fit.log_mean(values, fit.draws)[:, 0])
    return score_at(scores, float(loss), draws)


def _spend_on(budget: Budget, rates: Rates) -> tuple[float, tuple[str, ...]]:
    """Return the largest amount of data within every limit, and the limits that it uses up."""
    amounts = {
        limit: getattr(budget, limit) / getattr(rates, cost)
        for limit, (cost, _) in LIMITS.items()
        if getattr(budget, limit) is not None
    }
    least = min(amounts.values())
    return least, tuple(limit for limit, amount in amounts.items() if amount <= least * (1 + 1e-9))


def _list_reasons(subject: Subject, budget: Budget, candidate: Candidate, data: float) -> list[str]:
    reasons = []
    if data < 1:
        reasons.append(f"the budget allows {data:.3g} {subject.role} of data, less than one")
    if candidate.memory_bytes and budget.max_memory_gb and candidate.memory_bytes > budget.max_memory_gb * 1e9:
        reasons.append(f"needs {candidate.memory_bytes / 1e9:.4g} GB of memory, there are {budget.max_memory_gb:.4g}")
    return reasons


def _share_best(fit: Fit, values: Sequence[Mapping[str, float]], usable: Floats) -> list[float | None]:
    if len(fit.draws) == 0:
        return [None] * len(values)
    losses = np.stack([fit.log_mean(one, fit.draws)[:, 0] for one in values])
    losses = np.where(usable[:, None], losses, np.inf)
    wins = np.isfinite(losses) & (losses <= losses.min(axis=0) + _TIE)
    return (wins / np.maximum(wins.sum(axis=0), 1)).mean(axis=1).tolist()


def _find_best(fit: Fit, options: Sequence[BudgetOption]) -> list[BudgetOption]:
    """Return the candidates with the lowest loss, or the highest score; several where they tie."""
    sign = -1.0 if fit.transform.is_score else 1.0
    losses = {one.name: sign * one.loss.value for one in options if one.loss and one.loss.value is not None}
    lowest = min(losses.values(), default=np.inf)
    most = lowest + _TIE * abs(lowest)
    return [one for one in options if one.status == "ok" and losses.get(one.name, np.inf) <= most]


def _list_costs(rates: Rates, data: float) -> dict[str, float]:
    known = {name: getattr(rates, name) for name in ("samples", "compute", "hours", "gpu_hours", "money")}
    return {name: rate * data for name, rate in known.items() if rate is not None}


def _note_options(options: Sequence[BudgetOption], best: Sequence[BudgetOption], noun: str) -> list[str]:
    notes = [f"{one.name}: {one.status}: {'; '.join(one.reasons)}" for one in options if one.status != "ok"]
    notes += [
        f"{one.name}: extrapolates {one.extrapolation:.2f} decades beyond the data"
        for one in options
        if one.status == "ok" and is_beyond(one.extrapolation)
    ]
    if options and not best:
        notes.append("no candidate can be trained within the budget")
    if len(best) > 1:
        notes.append(f"a tie: {', '.join(one.name for one in best)} reach the same {noun}")
    return notes


def _note_fit(fit: Fit) -> list[str]:
    notes = [] if len(fit.draws) else ["the law has no draws, so no number here has an interval"]
    return notes + [f"{w.code}: {w.message}" for w in fit.warnings if w.severity == "error"]
