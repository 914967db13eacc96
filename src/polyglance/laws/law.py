"""Records of a fit: `Fit` (parameters, draws and warnings of one group; predictions) and `Law` (all groups, as a file).

A law file is JSON and holds the solver's numbers in full, so that a law predicts bit for bit the same after it is read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from polyglance.files import DamagedError, read_json, unseal, write_record
from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Floats, Indices
from polyglance.laws.equations.form import Form
from polyglance.laws.equations.forms import FORMS, make_form
from polyglance.laws.equations.roles import Role, resolve_roles
from polyglance.laws.equations.transforms import NO_TRANSFORM, Transform
from polyglance.laws.intervals import Estimate, Interval, make_estimate, widen_interval
from polyglance.laws.law_checks import check_law_values, check_parameters, read_fit_arrays
from polyglance.laws.tables.numerals import parse_numbers
from polyglance.laws.tables.table_frames import convert_column

__all__ = ["Fit", "HeldOut", "Law", "LawWarning", "Prediction", "Severity", "SolverReport"]

Severity = Literal["info", "warning", "error"]

_FORMAT = "polyglance.law/1"
_AGAIN = "fit the law again, or make one of constants (law make)"
_OTHER_END = {"low": "high", "high": "low", "low_new": "high_new", "high_new": "low_new"}


@dataclass(frozen=True)
class LawWarning:
    """A limitation of a law that its users must know, with a code for machines."""

    code: str
    severity: Severity
    """info: good to know; warning: read it before using a number; error: names a number not to use."""
    message: str
    """One sentence, with the numbers."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted y at n points. Intervals are None where the law has no draws (bootstrap 0, published laws)."""

    mean: Floats
    """(n,) in the unit of y."""
    low: Floats | None = None
    """(n,) lower end of the interval of the mean curve; `high` is the upper end."""
    high: Floats | None = None
    low_new: Floats | None = None
    """(n,) lower end of the interval of one new run with its own noise, widened if too few of the table's largest runs
    were inside (`HeldOut.widening`); `high_new` is the upper end. None for a law without rows, of unknown noise."""
    high_new: Floats | None = None
    extrapolation: Floats
    """(n,) distance outside the range of the data, in decades, of the predictor that is furthest outside; 0 inside, nan
    if the range is not known."""


@dataclass(frozen=True, kw_only=True)
class SolverReport:
    """How the minimum was found."""

    num_starts: int
    """Starts that were scanned."""
    agreement: float
    """Share of the polished starts that ended at the best objective (to 1e-6 relative)."""
    decrement: float
    """Decrease of the objective that a further Newton step predicts at the optimum, relative to the objective."""
    converged: bool
    at_bound: tuple[str, ...] = ()
    """Parameters that ended at a bound, the solver's or the user's."""
    at_user_bound: tuple[str, ...] = ()
    """Parameters that ended at a bound that the user gave."""
    unmoved: tuple[str, ...] = ()
    """Parameters that never left their start."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How well the law, fitted to the smaller runs of its table, predicts the largest ones."""

    num_train: int
    """Smaller runs that were fitted."""
    num_rows: int
    """Largest runs that were predicted."""
    decades: float
    """Ratio of the largest scale to the largest fitted scale, in decades."""
    median_error: float
    """Median of |predicted / measured - 1|."""
    mean_error: float
    bias: float
    """Mean of predicted / measured - 1."""
    last_value_error: float
    """Median error if the y of the nearest smaller run is the prediction."""
    coverage: float | None
    """Share of the largest runs inside the interval of a new run; None for a law without draws."""
    confidence: float
    """Nominal coverage of that interval."""
    widening: float = 1.0
    """Factor by which the law's intervals of a new run are widened, so that they would have covered these runs as often
    as they should; 1 unless the coverage is too low to be chance."""

    def __str__(self) -> str:
        inside = ""
        if self.coverage is not None:
            inside = f", {100 * self.coverage:.0f} % inside the {100 * self.confidence:g} % interval of a new run"
        widened = ""
        if self.widening > 1:
            widened = f"; the law's intervals of a new run are made {self.widening:.2g} times as wide for it"
        return (
            f"fitted to the {self.num_train} smaller runs, this law misses the {self.num_rows} largest (up to "
            f"{self.decades:.2f} decades larger) by a median of {100 * self.median_error:.2g} % (mean "
            f"{100 * self.mean_error:.2g} %, bias {100 * self.bias:+.2g} %{inside}); the value of the nearest smaller "
            f"run misses by {100 * self.last_value_error:.2g} %{widened}"
        )


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Law of one group."""

    form: Form
    theta: Floats
    """(p,) the solver's parameters at `reference`: log amplitudes and exponents."""
    reference: Floats
    """(k,) point, in the form's inputs (log x), at which `theta` is measured."""
    draws: Floats
    """(R, p) bootstrap replicates of `theta`; empty without a bootstrap."""
    spread: float = 1.0
    """Small-sample factor that widens intervals about the estimate."""
    confidence: float = 0.95
    """Confidence level of the intervals."""
    seed: int = 0
    """Seed of the bootstrap, also for the noise of new runs."""
    objective: float
    """Minimum of the summed objective; over all groups where they share parameters."""
    r2_log: float
    """R^2 of the log of the fitted quantity (y): share of its variance that the law explains."""
    r2_raw: float
    """R^2 of y."""
    rows: Indices
    """Indices (from 0) in the table of the rows used."""
    frontier: Indices
    """Indices in the table of the group's non-dominated rows; empty for laws with several predictors."""
    ranges: Mapping[str, tuple[float, float]]
    """Smallest and largest value of each predictor, and of y, among the rows used; empty where they are not known."""
    residuals: Floats
    """(n,) log prediction minus log observation, of the fitted quantity."""
    intervals: Mapping[str, Interval]
    """Parameter -> percentile interval of the bootstrap, widened for small samples."""
    unidentified: tuple[str, ...] = ()
    """Parameters that the data do not determine; null in the law file, with a warning that says why."""
    solver: SolverReport
    warnings: tuple[LawWarning, ...] = ()
    transform: Transform = NO_TRANSFORM
    """Quantity that the form is the law of: y, or the distance of a score to its ceiling."""
    held_out: HeldOut | None = None
    """None where the smaller runs do not determine the law, and for laws without rows."""

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    @cached_property
    def parameters(self) -> dict[str, float]:
        """Reported values, at the origin (x = 1)."""
        reported = self.form.to_reported(self.at_origin(self.theta))
        return dict(zip(self.form.parameters, reported.tolist(), strict=True))

    def at_origin(self, theta: Floats) -> Floats:
        """Return solver parameters (..., p) measured at the origin, from those measured at the reference."""
        return theta @ np.asarray(np.linalg.inv(self.form.centring(self.reference)), dtype=float).T

    def log_mean(self, values: Mapping[str, Any], theta: Floats | None = None) -> Floats:
        """Return log predictions of the fitted quantity, (R, n), for parameter sets (R, p); by default for the
        estimate, (1, n)."""
        design = self.form.design(self.inputs(values) - self.reference)
        return self.form.log_mean(self.theta[None] if theta is None else theta, design)

    def response(self, values: Mapping[str, Any], theta: Floats | None = None) -> Floats:
        """Return predictions of y, (R, n), as `log_mean` does."""
        return self.transform.invert_log(self.log_mean(values, theta))

    def inputs(self, values: Mapping[str, Any]) -> Floats:
        """Return the form's inputs (n, k) for named predictors, each a number or an array of n.

        Raises:
            ValueError: a predictor is missing, unknown, or not positive where it must be.
        """
        for name in values:
            if name not in self.form.predictors:
                raise ValueError(f"{name!r} is not a predictor of this law; {did_you_mean(name, self.form.predictors)}")
        missing = [name for name in self.form.predictors if name not in values]
        if missing:
            raise ValueError(f"the law needs a value for {', '.join(missing)}")
        columns = [self._read_input(name, values[name]) for name in self.form.predictors]
        lengths = {name: len(column) for name, column in zip(self.form.predictors, columns, strict=True)}
        if len({length for length in lengths.values() if length != 1}) > 1:
            raise ValueError(f"the predictors have different numbers of values: {lengths}")
        x = np.stack(np.broadcast_arrays(*columns), axis=-1)
        return np.log(x) if self.form.logarithmic else x

    def _read_input(self, name: str, value: Any) -> Floats:
        """Return the values (n,) of one predictor, given as one number (also a text such as 7B) or as several."""
        is_single = isinstance(value, str) or not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0
        cells = np.asarray(value).reshape(1).tolist() if is_single else convert_column(name, value)
        if not len(cells):
            raise ValueError(f"{name}: no values")
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiu":
            numbers = cells.astype(float)
        else:
            numbers, problems = parse_numbers(cells)
            for index, problem in problems.items():
                raise ValueError(f"{name}{f', value {index + 1},' if len(cells) > 1 else ''} {problem}")
        if not np.isfinite(numbers).all() or (self.form.logarithmic and (numbers <= 0).any()):
            raise ValueError(f"{name}: values must be finite{' and positive' if self.form.logarithmic else ''}")
        return numbers

    def predict(self, values: Mapping[str, Any]) -> Prediction:
        """Return predicted y with intervals, at values per predictor (numbers, or arrays that broadcast)."""
        log_mean = self.log_mean(values)[0]
        ends: dict[str, Floats] = {}
        if len(self.draws):
            draws = self.log_mean(values, self.draws)
            low, high = widen_interval(log_mean, draws, self.spread, self.confidence)
            logs = {"low": low, "high": high}
            if len(self.residuals):
                new = widen_interval(log_mean, draws, self.spread, self.confidence, self.noise())
                factor = self.held_out.widening if self.held_out else 1.0
                if factor > 1:
                    new = log_mean + factor * (new[0] - log_mean), log_mean + factor * (new[1] - log_mean)
                logs["low_new"], logs["high_new"] = new
            ends = {name: self.transform.invert_log(log) for name, log in logs.items()}
        if self.transform.is_score:
            ends = {_OTHER_END[name]: values for name, values in ends.items()}
        return Prediction(mean=self.transform.invert_log(log_mean), extrapolation=self.extrapolation(values), **ends)

    def solve_for(
        self, predictor: str, values: Mapping[str, float], log_y: float | Floats, theta: Floats | None = None
    ) -> Floats:
        """Return the input (R,), log x or x, at which the law reaches log y; not finite where it cannot.

        Args:
            values: the other predictors.
            theta: (R, p) parameter sets; by default the estimate.
        """
        z = self.inputs({**values, predictor: 1.0})[0] - self.reference
        shift = float(self.reference[self.form.predictors.index(predictor)])
        return self.form.solve_for(predictor, self.theta[None] if theta is None else theta, z, log_y) + shift

    def estimate(self, value: float, draws: Floats) -> Estimate:
        """Return a quantity with its interval, from its value for the estimate and for each draw (R,)."""
        return make_estimate(value, draws, self.spread, self.confidence)

    def noise(self) -> Floats:
        """Return (R, 1) one residual per draw, scaled up for the fitted parameters: the noise of a new run in log y."""
        num = len(self.residuals)
        free = max(num - len(self.form.parameters), 1)
        rng = np.random.default_rng([self.seed, 3])
        picked = rng.choice(self.residuals, size=len(self.draws))
        return np.asarray(-picked * np.sqrt(num / free))[:, None]

    def extrapolation(self, values: Mapping[str, Any]) -> Floats:
        """Return the distance outside the range of the data, (n,), in decades, of the predictor furthest outside; nan
        if the range is not known."""
        furthest = np.zeros(1)
        for name in self.form.predictors:
            low, high = self.ranges.get(name, (np.nan, np.nan))
            value = self._read_input(name, values[name])
            if self.form.logarithmic:
                outside = np.maximum(np.log10(value / high), np.log10(low / value))
            else:
                outside = np.maximum(value - high, low - value) / max(high - low, 1e-300)
            furthest = np.maximum(furthest, outside)
        return furthest

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: first the results, then the numbers that `from_dict` needs."""
        return {
            "parameters": {
                name: None if name in self.unidentified else value for name, value in self.parameters.items()
            },
            "objective": self.objective,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "unidentified": list(self.unidentified),
            "r2_log": self.r2_log,
            "r2_raw": self.r2_raw,
            "num_rows": self.num_rows,
            "warnings": [vars(warning) for warning in self.warnings],
            "held_out": None if self.held_out is None else vars(self.held_out),
            "solver": {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self.solver).items()},
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "confidence": self.confidence,
            "spread": self.spread,
            "seed": self.seed,
            "rows": self.rows.tolist(),
            "frontier": self.frontier.tolist(),
            "reference": self.reference.tolist(),
            "theta": self.theta.tolist(),
            "residuals": self.residuals.tolist(),
            "draws": self.draws.tolist(),
        }

    @classmethod
    def from_dict(cls, form: Form, values: Mapping[str, Any], transform: Transform = NO_TRANSFORM) -> "Fit":
        """Return the fit that `to_dict` wrote. Fields that are not known (of older law files) are ignored.

        Raises:
            ValueError: a value that no fit has; one line.
        """
        arrays = read_fit_arrays(values, form)
        solver = {**values["solver"]}
        for name in ("at_bound", "at_user_bound", "unmoved"):
            solver[name] = tuple(solver.get(name, ()))
        numbers = ("objective", "r2_log", "r2_raw", "spread", "confidence")
        held_out = values.get("held_out") or None
        if held_out:
            held_out = HeldOut(**{**held_out, "widening": float(held_out.get("widening", 1.0))})
        fit = cls(
            form=form,
            transform=transform,
            theta=arrays["theta"],
            reference=arrays["reference"],
            draws=arrays["draws"],
            residuals=arrays["residuals"],
            rows=np.array(values["rows"], dtype=np.int64),
            frontier=np.array(values["frontier"], dtype=np.int64),
            ranges={name: (ends[0], ends[1]) for name, ends in values["ranges"].items()},
            intervals={name: (ends[0], ends[1]) for name, ends in values["intervals"].items()},
            unidentified=tuple(values["unidentified"]),
            solver=SolverReport(**solver),
            warnings=tuple(LawWarning(**warning) for warning in values["warnings"]),
            held_out=held_out,
            seed=values["seed"],
            **{name: float(values[name]) for name in numbers},
        )
        check_parameters(values["parameters"], fit.parameters, fit.unidentified)
        return fit


_BULK = ("draws", "residuals", "rows", "frontier", "theta", "reference")
"""Fields of a fit that `Law.summary` leaves out."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """Result of a fit: one law per group, with the options and the table it came from."""

    form: str
    """Name of the form."""
    columns: Mapping[str, str]
    """Predictor (and `y`) -> column of the table."""
    fits: Mapping[str, Fit]
    """Group -> fit; the only key is `all` where the table has no groups."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Predictor -> what it counts."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Options of the fit, objective and delta among them."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Source, fingerprint, number of rows, and the rows left out with their reasons."""
    warnings: tuple[LawWarning, ...] = ()
    """Warnings about the table as a whole."""

    def __getitem__(self, group: str) -> Fit:
        if group not in self.fits:
            raise ValueError(f"the law has no group {group!r}; {did_you_mean(group, self.fits)}")
        return self.fits[group]

    def list_warnings(self, group: str) -> tuple[LawWarning, ...]:
        """Return the warnings of the table and of one group's fit."""
        return (*self.warnings, *self[group].warnings)

    @property
    def equation(self) -> str:
        """The law with the names of its columns and parameters."""
        return f"{self.first.transform.describe(self.columns.get('y', 'y'))} = {self.first.form.formula}"

    @property
    def only(self) -> Fit:
        """The fit of a law with a single group.

        Raises:
            ValueError: the law has several groups.
        """
        if len(self.fits) > 1:
            raise ValueError(f"the law has {len(self.fits)} groups, choose one: {', '.join(self.fits)}")
        return self.first

    @property
    def first(self) -> Fit:
        """The fit of the first group. All groups have the same form."""
        return next(iter(self.fits.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the law file."""
        return {
            "format": _FORMAT,
            "form": self.form,
            "predictors": list(self.first.form.predictors),
            "parameter_names": list(self.first.form.parameters),
            "columns": dict(self.columns),
            "roles": dict(self.roles),
            "transform": self.first.transform.to_dict(),
            "config": dict(self.config),
            "data": dict(self.data),
            "warnings": [vars(warning) for warning in self.warnings],
            "fits": {group: fit.to_dict() for group, fit in self.fits.items()},
        }

    def summary(self) -> dict[str, Any]:
        """Return the law without draws, residuals and row lists, for `--json`.

        A law without groups also has the fields of its only fit at the top.
        """
        content = self.to_dict()
        fits = {
            group: {**{k: v for k, v in fit.items() if k not in _BULK}, "num_frontier": len(fit["frontier"])}
            for group, fit in content.pop("fits").items()
        }
        if len(fits) > 1:
            return {**content, "fits": fits}
        only = next(iter(fits.values()))
        return {**content, **only, "warnings": [*content["warnings"], *only["warnings"]], "fits": fits}

    def save(self, path: str | Path) -> None:
        """Write the law file (JSON with a seal), whole or not at all."""
        values = self.to_dict()
        json.dumps(values, allow_nan=False)  # fails for NaN and infinity
        write_record(path, values, indent=None)

    @classmethod
    def load(cls, path: str | Path, *, forms: Sequence[Form] = ()) -> "Law":
        """Read a law file.

        Args:
            forms: forms that are not built in, where the law was fitted with one.

        Raises:
            ValueError: no such file, not a law file, or a form that is not known.
        """
        values = read_json(path)
        try:
            found = unseal(values, str(path)).get("format") if isinstance(values, dict) else None
        except DamagedError as error:
            raise DamagedError(f"{error}; {_AGAIN}") from None
        if found != _FORMAT:
            raise ValueError(f"{path}: not a law file (its format is {found!r}, not {_FORMAT!r})")
        try:
            return cls._from_dict(values, {form.name: form for form in forms})
        except ValueError as error:
            raise ValueError(f"{path}: {error}; {_AGAIN}") from None
        except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path}: damaged law file ({type(error).__name__}: {error}); {_AGAIN}") from None

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any], forms: Mapping[str, Form]) -> "Law":
        name, parameters = values["form"], values["parameter_names"]
        if name not in forms and name not in FORMS:
            raise ValueError(f"form {name!r} is not built in; pass it to load(forms=...)")
        offset = bool({"eps", "E"} & set(parameters))
        form = forms.get(name) or make_form(name, values["predictors"], offset=offset)
        check_law_values(values, form)
        transform = Transform.from_dict(values.get("transform"))
        return cls(
            form=name,
            columns=values["columns"],
            roles=resolve_roles(values["columns"], values.get("roles")),
            fits={group: Fit.from_dict(form, fit, transform) for group, fit in values["fits"].items()},
            config=values["config"],
            data=values["data"],
            warnings=tuple(LawWarning(**warning) for warning in values["warnings"]),
        )
