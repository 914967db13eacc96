"""The best use of a budget over all sizes: the best size, the curve along the budget, smaller models of equal loss.

The cost of sizes between the candidates is a power of the size, fitted to the candidates' costs; without candidates it
is proportional to size and tokens. Shapes: R draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polyglance.laws.arrays import Floats
from polyglance.laws.config import Budget
from polyglance.laws.intervals import Estimate
from polyglance.laws.law import Fit
from polyglance.laws.planning.budget_line import Line, PowerTerms, find_best_sizes, least_data, minimise_convex
from polyglance.laws.planning.costs import Candidate, Rates
from polyglance.laws.planning.limits import LIMITS
from polyglance.laws.planning.question import Subject, find_extrapolation, is_beyond, loss_at, ratio_at, to_value

__all__ = [
    "MACS_PER_PARAMETER",
    "BestSize",
    "Continuum",
    "IsoflopPoint",
    "SizeAnswer",
    "SizeCosts",
    "SmallerModel",
    "measure_excess",
]

_SIZES = (float(np.log(1.0)), float(np.log(1e18)))
"""Log of the smallest and largest size that a best size is looked for between."""
_FACTORS = tuple(float(2.0**k) for k in np.arange(-3, 3.5, 0.5))
"""Sizes of the curve, as multiples of the best one."""
_SMALLER = tuple(float(2.0**k) for k in np.arange(-0.5, -4.5, -0.5))
"""Sizes of the smaller models of equal loss, as multiples of the best one."""
_DATA_LIMITS = ("max_samples", "max_tokens")
MACS_PER_PARAMETER = 2.0
"""MAC of training for each parameter and token: a forward pass and as much again."""


@dataclass(frozen=True, kw_only=True)
class BestSize:
    """The size with the lowest loss within the budget, over all sizes."""

    size: Estimate
    """With the interval over the law's draws; an end is open if some draws have no best size."""
    data: Estimate
    """Data of the best size, with the interval of the best amount."""
    loss: Estimate
    """Loss at the estimated size and data."""
    is_corner: bool
    """Whether the loss only falls or only rises with size, so that the best size is the largest or smallest."""
    limited_by: tuple[str, ...]
    """Limits that are used up."""
    costs: Mapping[str, float]
    """Compute in GMAC, hours, GPU-hours and money, as far as they are known."""
    extrapolation: float | None


@dataclass(frozen=True, kw_only=True)
class IsoflopPoint:
    """One size, trained with all data that the budget allows it."""

    factor: float
    """Multiple of the best size."""
    size: float
    data: float
    loss: Estimate
    excess: Estimate
    """Loss over the loss of the best size, minus 1."""
    extrapolation: float | None
    """Decades outside the data of the law; None where its range is not known."""


@dataclass(frozen=True, kw_only=True)
class SmallerModel:
    """A model below the best size, trained longer until it reaches the same loss."""

    factor: float
    """Multiple of the best size."""
    size: float
    data: Estimate
    """No value where the size cannot reach the loss."""
    training_ratio: float | None
    """Training compute, relative to the best size."""
    inference_ratio: float
    """Compute of one token at inference, relative to the best size."""
    total_gmac: Estimate | None
    """Training and inference together; None where `inference_tokens` is not given."""
    is_best: bool
    """Whether this is the size with the least compute in all."""


@dataclass(frozen=True, kw_only=True)
class SizeAnswer:
    """Answer over all sizes."""

    best: BestSize | None = None
    """None if there is no best size; a note has the reason."""
    curve: tuple[IsoflopPoint, ...] = ()
    smaller: tuple[SmallerModel, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SizeCosts:
    """Costs of models of any size, each a power of the size: log cost of one unit of data = (level, slope)."""

    subject: Subject
    size: str
    data: str
    rates: Mapping[str, tuple[float, float]]
    """Cost -> level and slope."""
    forward: tuple[float, float] | None
    """The same of the forward pass of one token, in GMAC; None where it is not known."""
    sizes: tuple[float, float]
    """Log of the smallest and largest size of the candidates or, without them, of the law's table."""
    largest: float
    """Log of the largest size that fits the memory."""
    misfit: float
    """Largest deviation of a candidate's cost from the fitted power of the size, in log."""
    is_rule: bool
    """Whether there are no candidates, so that costs follow the rule of proportionality to size and tokens."""

    @classmethod
    def of(
        cls, subject: Subject, size: str, models: Sequence[Candidate], rates: Sequence[Rates], *, is_rule: bool
    ) -> "SizeCosts":
        log_sizes = np.log([model.P for model in models])
        powers: dict[str, tuple[float, float]] = {}
        misfit = 0.0
        names = ("samples", "tokens", "compute", "flop", "hours", "gpu_hours", "money")
        for name in names:
            known = [getattr(rate, name) for rate in rates]
            if None not in known:
                grows = name not in ("samples", "tokens")
                powers[name] = _fit_power(log_sizes, np.log(known), 1.0 if grows else 0.0)
                level, slope = powers[name]
                misfit = max(misfit, float(np.abs(np.log(known) - level - slope * log_sizes).max()))
        tokens = [_forward_of_token(model, rate) for model, rate in zip(models, rates, strict=True)]
        forward = None if None in tokens else _fit_power(log_sizes, np.log([one for one in tokens if one]), 1.0)
        low, high = min(model.P for model in models), max(model.P for model in models)
        if is_rule:
            low, high = subject.fit.ranges.get(size, (np.nan, np.nan))
        return cls(
            subject=subject,
            size=size,
            data=subject.data or "",
            rates=powers,
            forward=forward,
            sizes=(float(np.log(low)), float(np.log(high))),
            largest=_find_largest(subject.config.budget, models, log_sizes),
            misfit=misfit,
            is_rule=is_rule,
        )

    def lines(self) -> list[Line]:
        budget = self.subject.config.budget
        return [
            Line(limit, float(np.log(getattr(budget, limit))) - self.rates[cost][0], self.rates[cost][1])
            for limit, (cost, _) in LIMITS.items()
            if getattr(budget, limit) is not None
        ]

    def rate(self, cost: str, log_sizes: Floats) -> Floats:
        """Return the log of a cost of one unit of data."""
        level, slope = self.rates[cost]
        return level + slope * log_sizes


def _fit_power(log_sizes: Floats, log_values: Floats, slope: float) -> tuple[float, float]:
    """Return level and slope of a line by least squares; with a single size the slope is the given one."""
    centre = log_sizes - log_sizes.mean()
    if np.ptp(log_sizes) > 1e-9:
        slope = float((centre * log_values).sum() / (centre**2).sum())
        slope = 0.0 if abs(slope) < 1e-12 else slope
    return float(log_values.mean() - slope * log_sizes.mean()), slope


def _forward_of_token(model: Candidate, rates: Rates) -> float | None:
    """Return GMAC of the forward pass of one token; None where samples cannot be converted."""
    if model.F_unit == "token" or (model.F_unit is None and rates.tokens == 1.0):
        return model.F_gmac
    if rates.samples is None or rates.tokens is None:
        return None
    return model.F_gmac * rates.samples / rates.tokens


def _find_largest(budget: Budget, models: Sequence[Candidate], log_sizes: Floats) -> float:
    if budget.max_memory_gb is None:
        return float(np.inf)
    level, slope = _fit_power(log_sizes, np.log([model.memory_bytes or 0.0 for model in models]), 1.0)
    return (float(np.log(budget.max_memory_gb * 1e9)) - level) / slope if slope > 0 else float(np.inf)


@dataclass(frozen=True)
class Continuum:
    """The budget question over all sizes."""

    costs: SizeCosts
    others: Mapping[str, float]
    """Values of the predictors beside size and data."""

    @property
    def fit(self) -> Fit:
        return self.costs.subject.fit

    def terms(self, theta: Floats) -> PowerTerms:
        return PowerTerms.of(self.fit, theta, self.costs.size, self.costs.data, self.others)

    def values(self, log_size: float, log_data: float) -> dict[str, float]:
        return {**self.others, self.costs.size: float(np.exp(log_size)), self.costs.data: float(np.exp(log_data))}

    def answer(self) -> SizeAnswer:
        """Return the best size, the curve, the smaller models of equal loss, and notes.

        Raises:
            ValueError: without candidates, a budget below one unit of data.
        """
        lines, terms = self.costs.lines(), self.terms(self.fit.theta[None])
        ends = (_SIZES[0], min(_SIZES[1], self.costs.largest))
        at = float(find_best_sizes(terms, lines, *ends)[0])
        if is_corner := at in _SIZES:
            along = terms.log_loss(np.array(ends), least_data(lines, np.array(ends)))[0]
            trend = f"only {self.fit.transform.trend(at == _SIZES[0])} with"
            trend = "is the same for every" if abs(np.diff(along)[0]) < 1e-9 else trend
            ends = (self.costs.sizes[0], min(self.costs.sizes[1], self.costs.largest))
            if not np.isfinite(ends).all() or ends[0] > ends[1]:
                return SizeAnswer(notes=(self._note_corner(trend, None),))
            at = float(find_best_sizes(terms, lines, *ends)[0])
        log_data = float(least_data(lines, np.array(at)))
        if log_data < 0:
            message = (
                f"the budget is too small: the best size, {np.exp(at):.4g}, would see {np.exp(log_data):.3g} "
                f"{self.costs.subject.role}, less than one"
            )
            if self.costs.is_rule:
                raise ValueError(message)
            return SizeAnswer(notes=(message,))
        best = self._make_best(lines, at, log_data, ends, is_corner=is_corner)
        notes = self._note_costs()
        if is_corner:
            notes.append(self._note_corner(trend, best))
        most = min((line.level for line in lines if line.limit in _DATA_LIMITS), default=np.inf)
        smaller = self._list_smaller(at, log_data, ends[0] if is_corner else -np.inf, most)
        if smaller:
            notes.append(
                "the smaller models see more data than the budget pays for, to reach the "
                f"{self.fit.transform.noun} of the best size"
            )
        return SizeAnswer(
            best=best,
            curve=tuple(self._draw_curve(lines, at, ends if is_corner else (-np.inf, ends[1]))),
            smaller=tuple(smaller),
            notes=(*notes, *self._note_open(best)),
        )

    def _make_best(
        self, lines: Sequence[Line], at: float, log_data: float, ends: tuple[float, float], *, is_corner: bool
    ) -> BestSize:
        fit = self.fit
        draws = find_best_sizes(self.terms(fit.draws), lines, *ends) if len(fit.draws) else np.empty(0)
        data = least_data(lines, draws)
        if not is_corner:  # no best size in these draws
            endless = np.isin(draws, _SIZES)
            data = np.where(endless, np.where(draws == _SIZES[0], np.inf, -np.inf), data)
            draws = np.where(endless, np.where(draws == _SIZES[0], -np.inf, np.inf), draws)
        values = self.values(at, log_data)
        used = [one.limit for one in lines if abs(float(one.log_data(np.array(at))) - log_data) < 1e-9]
        return BestSize(
            size=fit.estimate(at, draws).map(to_value),
            data=fit.estimate(log_data, data).map(to_value),
            loss=loss_at(fit, values),
            is_corner=is_corner,
            limited_by=tuple(used + ["max_memory_gb"] * (at == self.costs.largest)),
            costs={
                cost: float(np.exp(log_data + self.costs.rate(cost, np.array(at))))
                for cost in ("compute", "hours", "gpu_hours", "money")
                if cost in self.costs.rates
            },
            extrapolation=find_extrapolation(fit, values),
        )

    def _draw_curve(self, lines: Sequence[Line], at: float, ends: tuple[float, float]) -> list[IsoflopPoint]:
        best = self.values(at, float(least_data(lines, np.array(at))))
        curve = []
        for factor in _FACTORS:
            log_size = at + float(np.log(factor))
            log_data = float(least_data(lines, np.array(log_size)))
            if not ends[0] - 1e-9 <= log_size <= ends[1] + 1e-9 or log_data < 0:
                continue
            values = self.values(log_size, log_data)
            curve.append(
                IsoflopPoint(
                    factor=factor,
                    size=values[self.costs.size],
                    data=values[self.costs.data],
                    loss=loss_at(self.fit, values),
                    excess=measure_excess(self.fit, values, best),
                    extrapolation=find_extrapolation(self.fit, values),
                )
            )
        return curve

    def _list_smaller(self, at: float, log_data: float, smallest: float, most: float) -> list[SmallerModel]:
        """Return smaller models that reach the loss of the best one, and the one with the least compute in all.

        Args:
            smallest: log of the smallest size to consider.
            most: log of the most data that the limits on data allow; a model that needs more is left out.
        """
        tokens, costs = self.costs.subject.config.inference_tokens, self.costs
        if costs.forward is None:
            if tokens is not None:
                raise ValueError("inference_tokens cannot be checked: it needs tokens_per_sample")
            return []
        factors = [factor for factor in _SMALLER if at + np.log(factor) >= smallest - 1e-9]
        least = None
        if tokens is not None:
            least = float(np.exp(self._find_least_total(at, log_data, max(smallest, at - np.log(1e6)), most) - at))
            least = 1.0 if least > 1 - 1e-9 else least
            factors = sorted({*factors, least}, reverse=True)
        models = [self._make_smaller(at, log_data, factor, is_best=factor == least) for factor in factors]
        return [one for one in models if np.log(one.data.value or 1.0) <= most + 1e-6]

    def _make_smaller(self, at: float, log_data: float, factor: float, *, is_best: bool) -> SmallerModel:
        fit, costs, log_size = self.fit, self.costs, at + float(np.log(factor))
        data = self._solve(fit.theta[None], at, log_data, log_size)
        draws = self._solve(fit.draws, at, log_data, log_size) if len(fit.draws) else np.empty(0)
        needed = fit.estimate(float(data[0]), draws).map(to_value)
        start = log_data + float(costs.rate("compute", np.array(at)))
        rate = float(costs.rate("compute", np.array(log_size)))
        assert costs.forward is not None
        tokens = costs.subject.config.inference_tokens
        total = None
        if tokens is not None:
            serving = tokens * float(np.exp(costs.forward[0] + costs.forward[1] * log_size))
            total = needed.map(lambda amount: amount * float(np.exp(rate)) + serving)
        return SmallerModel(
            factor=factor,
            size=float(np.exp(log_size)),
            data=needed,
            training_ratio=float(np.exp(data[0] + rate - start)) if np.isfinite(data[0]) else None,
            inference_ratio=float(np.exp(costs.forward[1] * (log_size - at))),
            total_gmac=total,
            is_best=is_best,
        )

    def _solve(self, theta: Floats, at: float, log_data: float, log_size: float) -> Floats:
        """Return the log data (R,) with which a size reaches the loss of the best size."""
        terms = self.terms(theta)
        log_loss = terms.log_loss(np.array([at]), np.array([log_data]))
        return terms.solve_data(np.full((len(theta), 1), log_size), log_loss)[:, 0]

    def _find_least_total(self, at: float, log_data: float, smallest: float, most: float) -> float:
        """Return the log size at which training and inference together need the least compute for the same loss."""
        costs, terms = self.costs, self.terms(self.fit.theta[None])
        assert costs.forward is not None
        assert costs.subject.config.inference_tokens is not None
        log_loss = terms.log_loss(np.array([at]), np.array([log_data]))
        level, slope = costs.forward
        log_tokens = float(np.log(costs.subject.config.inference_tokens))

        def total(log_sizes: Floats) -> Floats:
            amount = terms.solve_data(log_sizes, log_loss)
            sums = np.logaddexp(amount + costs.rate("compute", log_sizes), log_tokens + level + slope * log_sizes)
            can = np.isfinite(amount) & (amount <= most + 1e-9)
            return np.asarray(np.where(can, sums, 1e6 - log_sizes))  # a larger size can reach the loss

        return float(minimise_convex(total, np.array([[smallest]]), np.array([[at]]))[0, 0])

    def _note_costs(self) -> list[str]:
        """Return notes on how the costs of sizes between the candidates are computed."""
        notes, costs = [], self.costs
        if costs.is_rule:
            given = costs.subject.config.budget.macs_per_parameter
            macs = given or MACS_PER_PARAMETER
            usual = "" if given else "; macs_per_parameter 3 counts the usual 6 N D FLOP"
            counted = f"{macs:g} MAC ({2 * macs:g} FLOP) of training for each parameter and token"
            notes.append(f"compute is counted as {counted}{usual}")
        elif costs.misfit > 0.01:
            notes.append(
                "the best size over all sizes takes costs as powers of the size, which differ from the candidates' "
                f"costs by up to {100 * np.expm1(costs.misfit):.0f} %"
            )
        return notes

    def _note_corner(self, trend: str, best: BestSize | None) -> str:
        what = f"corner: along the budget the {self.fit.transform.noun} {trend} {self.costs.size}"
        if best is None:
            return f"{what}, and the range of sizes is not known, so there is no best size; give candidates"
        whose = "the law's table" if self.costs.is_rule else "the candidates"
        return f"{what}: no size in between is best; {best.size.value:.4g} is an end of the sizes of {whose}"

    def _note_open(self, best: BestSize) -> list[str]:
        notes = []
        if len(self.fit.draws) and (best.size.low is None or best.size.high is None) and not best.is_corner:
            notes.append("the interval of the best size is open: in some of the law's draws there is no best size")
        if best.extrapolation is None:
            notes.append("the range of the law's data is not known, so no extrapolation can be stated")
        elif is_beyond(best.extrapolation):
            notes.append(f"the best size extrapolates {best.extrapolation:.2f} decades beyond the data")
        return notes


def measure_excess(fit: Fit, values: Mapping[str, float], best: Mapping[str, float]) -> Estimate:
    return ratio_at(fit, values, best).map(lambda value: value - 1)
