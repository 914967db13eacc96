"""Laws from constants: those of a publication, or of another program's fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from polyglance.config import check_types
from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Floats
from polyglance.laws.equations.form import Form
from polyglance.laws.equations.forms import FORMS, make_form
from polyglance.laws.equations.roles import check_roles, resolve_roles
from polyglance.laws.equations.transforms import TransformName, check_ceiling, choose_transform
from polyglance.laws.fitting.rows import ALL
from polyglance.laws.intervals import Interval
from polyglance.laws.law import Fit, Law, LawWarning, SolverReport
from polyglance.settings import UnusedSettingError, refuse_unused

__all__ = ["MakeConfig", "make_fit", "make_intervals", "make_law"]

_NUM_DRAWS = 1000
_NORMAL_95 = 1.959964
_PREDICTOR_PREFIX = "b_"


@dataclass(frozen=True, kw_only=True)
class MakeConfig:
    """A law whose constants are known."""

    form: str = "additive"
    """Form of the law: compute, product, saturating, additive, compute-v1, product-v1 or downstream."""
    set: Mapping[str, float]
    """Constants of the law, as in E=1.69,A=406.4,B=410.7,alpha=0.34,beta=0.28; for a law without offset, leave the
    offset out. The predictors of a product or saturating law are those of its exponents (b_P, b_S, ...)."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Standard errors of constants, as in alpha=0.02. Predictions have an interval only if they are given. Errors are
    assumed to be independent."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name of the quantity for each name in the law, as in D=tokens; roles are guessed from it."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Quantities that predictors count, as in N=parameters,D=tokens."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Smallest and largest value of each predictor among the runs behind the law, as in N=7e7:1.6e10,D=5e9:5e11.
    Without them no extrapolation can be stated."""
    transform: TransformName = "none"
    """Quantity that the constants describe: for scores, error (ceiling - y) or log-odds ((ceiling - y) / y)."""
    ceiling: float | None = None
    """Highest possible score, for `transform`; by default 1."""
    source: str = ""
    """Where the constants are from."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ceiling(self.ceiling)
        refuse_unused(self, ceiling=(self.transform != "none", "without `transform`"))


def make_law(config: MakeConfig) -> Law:
    """Return a law with the given constants.

    Raises:
        ValueError: an unknown form, a constant that is missing, unknown or out of range, or a role that does not fit.
    """
    form = _choose_form(config)
    _check_constants(config, form)
    _check_predictors(config, form)
    if config.transform != "none" and not form.logarithmic:
        raise ValueError(f"`transform` is not for form {form.name!r}, which has a highest score of its own")
    columns = {name: config.columns.get(name, name) for name in (*form.predictors, "y")}
    roles = resolve_roles(columns, config.roles)
    check_roles(form.name, columns, roles)
    theta = form.to_internal(config.set)
    draws, intervals = _draw_independently(form, theta, config.errors), make_intervals(form, config.set, config.errors)
    warning = LawWarning("no-interval", "info", "constants without standard errors: predictions have no interval.")
    if config.errors:
        warning = LawWarning(
            "independent-errors",
            "warning",
            "the standard errors are taken as independent; those of amplitudes and exponents never are, and the "
            "intervals are most often far too wide.",
        )
    fit = make_fit(form, theta, draws=draws, intervals=intervals, ranges=config.ranges, warnings=[warning])
    transform = choose_transform(config.transform, config.ceiling or 1.0, lambda: 1.0)
    return Law(
        form=form.name,
        columns=columns,
        roles=roles,
        fits={ALL: replace(fit, transform=transform)},
        config={"set": dict(config.set), "errors": dict(config.errors)},
        data={"source": config.source or "constants"},
    )


def make_fit(
    form: Form,
    theta: Floats,
    *,
    draws: Floats,
    intervals: Mapping[str, Interval],
    ranges: Mapping[str, tuple[float, float]],
    warnings: Sequence[LawWarning] = (),
) -> Fit:
    """Return a fit without rows.

    Args:
        theta: (p,) the solver's parameters at the origin.
        draws: (R, p) draws of them.
    """
    return Fit(
        form=form,
        theta=theta,
        reference=np.zeros(len(form.predictors)),
        draws=draws,
        objective=0.0,
        r2_log=0.0,
        r2_raw=0.0,
        rows=np.empty(0, dtype=np.int64),
        frontier=np.empty(0, dtype=np.int64),
        ranges=dict(ranges),
        residuals=np.empty(0),
        intervals=dict(intervals),
        solver=SolverReport(num_starts=0, agreement=1.0, decrement=0.0, converged=True),
        warnings=tuple(warnings),
    )


def _choose_form(config: MakeConfig) -> Form:
    predictors = tuple(name for name in config.columns if name != "y")
    if config.form.startswith("product") or config.form == "saturating":
        named = tuple(name.removeprefix(_PREDICTOR_PREFIX) for name in config.set if name.startswith(_PREDICTOR_PREFIX))
        for name in predictors:
            if name not in named:
                raise ValueError(f"columns: the law has no predictor {name!r}; its exponents are of {', '.join(named)}")
        predictors = named
    if config.form not in FORMS:  # the message has the nearest name
        return make_form(config.form)
    with_offset = make_form(config.form, predictors)
    return make_form(config.form, predictors, offset=False) if _lacks_offset(with_offset, config) else with_offset


def _lacks_offset(form: Form, config: MakeConfig) -> bool:
    return form.offset is not None and config.set.get(form.offset, 0.0) == 0.0


def _check_constants(config: MakeConfig, form: Form) -> None:
    known = (*form.parameters, *({"eps", "E"} & {name for name, value in config.set.items() if value == 0}))
    for name, value in config.set.items():
        if name not in known:
            raise ValueError(f"set: form {form.name!r} has no constant {name!r}; {did_you_mean(name, form.parameters)}")
        if name in form.positive and not 0 < value < np.inf:
            raise ValueError(f"set: {name} is {value:g}; expected a positive, finite number")
        if not np.isfinite(value):
            raise ValueError(f"set: {name} is {value:g}; expected a finite number")
    missing = [name for name in form.parameters if name not in config.set]
    if missing:
        raise ValueError(f"set: {', '.join(missing)} missing; the law is {form.formula}")
    for name, value in config.errors.items():
        if name not in form.parameters:
            raise ValueError(f"errors: {name!r} is not a constant of the law; {did_you_mean(name, form.parameters)}")
        if not 0 < value < np.inf:
            raise ValueError(f"errors: {name} is {value:g}; expected a positive, finite standard error")


def _check_predictors(config: MakeConfig, form: Form) -> None:
    for name, (low, high) in config.ranges.items():
        if name not in form.predictors:
            raise ValueError(f"ranges: the law has no predictor {name!r}; it has {', '.join(form.predictors)}")
        if not 0 < low <= high < np.inf:
            raise ValueError(
                f"ranges: {name} from {low:g} to {high:g}; expected two positive numbers, the smaller first"
            )
    unknown = [name for name in form.predictors if name not in config.ranges]
    if config.ranges and unknown:
        raise ValueError(f"ranges: {', '.join(unknown)} missing; give the range of each predictor, or of none")
    for name in config.columns:
        if name not in (*form.predictors, "y"):
            raise UnusedSettingError(f"`columns` {name} has no effect: the law has {', '.join(form.predictors)} and y")


def _draw_independently(form: Form, theta: Floats, errors: Mapping[str, float]) -> Floats:
    """Return (R, p) normal draws, of the log of a constant that is positive; empty without standard errors."""
    if not errors:
        return np.empty((0, len(theta)))
    reported = form.to_reported(theta)
    scale = np.array([errors.get(name, 0.0) for name in form.parameters])
    positive = np.array([name in form.positive for name in form.parameters])
    noise = np.random.default_rng([0, 7]).standard_normal((_NUM_DRAWS, len(theta)))
    shifted = np.where(positive, reported * np.exp(noise * scale / reported), reported + noise * scale)
    return np.array([form.to_internal(dict(zip(form.parameters, row, strict=True))) for row in shifted])


def make_intervals(form: Form, values: Mapping[str, float], errors: Mapping[str, float]) -> dict[str, Interval]:
    """Return 95 % intervals of constants from standard errors, on a log scale for those that are positive."""
    intervals: dict[str, Interval] = {}
    for name, error in errors.items():
        value, reach = values[name], _NORMAL_95 * error
        factor = float(np.exp(reach / value))
        intervals[name] = (value / factor, value * factor) if name in form.positive else (value - reach, value + reach)
    return intervals
