"""What a fit gives: `Fit` (one group's parameters, draws, warnings, predictions) and `Law` (the artefact of them all).

A law file is JSON and holds the solver's own numbers, so that a reloaded law predicts bit for bit what it predicted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyglance.files import write_atomically
from polyglance.languages import did_you_mean
from polyglance.laws.forms import FORMS, Form, bounded_exp, make_form
from polyglance.laws.intervals import Interval, widened_interval

__all__ = ["Fit", "Law", "Prediction", "Severity", "SolverReport", "Warning"]

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Severity = Literal["info", "warning", "error"]

FORMAT = "polyglance.law/1"


@dataclass(frozen=True)
class Warning:
    """Something a user of the law has to know, with a code for machines."""

    code: str
    severity: Severity
    """info: good to know; warning: read before using the number; error: do not use the number."""
    message: str
    """One sentence with the numbers in it."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predicted y at n points. Bands are None where the law has no draws (bootstrap 0, published laws)."""

    mean: Floats
    """(n,) in the unit of y."""
    low: Floats | None = None
    """(n,) lower end of the interval of the mean curve; `high` the upper."""
    high: Floats | None = None
    low_new: Floats | None = None
    """(n,) lower end of the interval of one new run, its own noise included; `high_new` the upper."""
    high_new: Floats | None = None
    extrapolation: Floats
    """(n,) how far outside the data, in decades, by the predictor that is furthest out; 0 inside."""


@dataclass(frozen=True, kw_only=True)
class SolverReport:
    """How the minimum was found."""

    num_starts: int
    agreement: float
    """Share of the polished starts that ended at the best objective (to 1e-6 relative)."""
    decrement: float
    """What a full Newton step still promises at the optimum, relative to the objective."""
    converged: bool
    at_bound: tuple[str, ...] = ()
    """Parameters that ended at a bound of the search, or at the user's."""
    unmoved: tuple[str, ...] = ()
    """Parameters that never left their start."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """One group's law."""

    form: Form
    theta: Floats
    """(p,) the solver's parameters at `reference`: log amplitudes and exponents."""
    reference: Floats
    """(k,) the point, in the form's inputs (log x), that `theta` is measured at."""
    draws: Floats
    """(R, p) bootstrap replicates of `theta`; empty where there was no bootstrap."""
    spread: float = 1.0
    """Small-sample factor that intervals are widened by, about the estimate."""
    confidence: float = 0.95
    seed: int = 0
    objective: float
    """The minimum of the summed objective; of all groups together where they share parameters."""
    r2_log: float
    """R^2 of log y (share of its variance that the law explains)."""
    r2_raw: float
    """R^2 of y."""
    rows: Indices
    """Indices (from 0) into the table of the rows used."""
    frontier: Indices
    """Compute laws: indices into the table of the group's non-dominated rows. Else empty."""
    ranges: Mapping[str, tuple[float, float]]
    """Smallest and largest value of each predictor (and of y) among the rows used."""
    residuals: Floats
    """(n,) log prediction minus log observation."""
    intervals: Mapping[str, Interval]
    """Per parameter, percentile interval of the bootstrap, widened for small samples."""
    t_intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Per parameter, t interval from the bootstrap's standard deviation (amplitudes on the log scale)."""
    profile_intervals: Mapping[str, Interval] = field(default_factory=dict)
    """Per parameter, profile likelihood interval, where it was asked for; None is an open end."""
    unidentified: tuple[str, ...] = ()
    """Parameters that the data do not determine; the JSON has null for them, and a warning says why."""
    solver: SolverReport
    warnings: tuple[Warning, ...] = ()

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    @cached_property
    def parameters(self) -> dict[str, float]:
        """Values by their published names, at the origin (x = 1)."""
        return dict(zip(self.form.parameters, self.reported(self.theta).tolist(), strict=True))

    def reported(self, theta: Floats) -> Floats:
        """Solver parameters (..., p) at the reference, as reported values at the origin."""
        to_origin = np.asarray(np.linalg.inv(self.form.centring(self.reference)), dtype=float)
        at_origin = theta @ to_origin.T
        return self.form.to_reported(at_origin)

    def log_mean(self, values: Mapping[str, Any], theta: Floats | None = None) -> Floats:
        """Log predictions (R, n) for parameter sets (R, p); for the estimate, (1, n), where none are given."""
        design = self.form.design(self.inputs(values) - self.reference)
        return self.form.log_mean(self.theta[None] if theta is None else theta, design)

    def inputs(self, values: Mapping[str, Any]) -> Floats:
        """The form's inputs (n, k) from named predictors, each a number or an array of n.

        Raises:
            ValueError: a predictor is missing, unknown, or not positive where it must be.
        """
        for name in values:
            if name not in self.form.predictors:
                raise ValueError(f"{name!r} is not a predictor of this law; {did_you_mean(name, self.form.predictors)}")
        missing = [name for name in self.form.predictors if name not in values]
        if missing:
            raise ValueError(f"the law needs a value for {', '.join(missing)}")
        columns = [np.atleast_1d(np.asarray(values[name], dtype=float)) for name in self.form.predictors]
        for name, column in zip(self.form.predictors, columns, strict=True):
            if not np.isfinite(column).all() or (self.form.logarithmic and (column <= 0).any()):
                raise ValueError(f"{name}: values must be finite{' and positive' if self.form.logarithmic else ''}")
        x = np.stack(np.broadcast_arrays(*columns), axis=-1)
        return np.log(x) if self.form.logarithmic else x

    def predict(self, values: Mapping[str, Any]) -> Prediction:
        """Predicted y with its intervals, at values per predictor (numbers or arrays that broadcast)."""
        log_mean = self.log_mean(values)[0]
        bands: dict[str, Floats] = {}
        if len(self.draws):
            draws = self.log_mean(values, self.draws)
            bands["low"], bands["high"] = map(bounded_exp, self.interval_of(log_mean, draws))
            new = self.interval_of(log_mean, draws, noise=self.noise())
            bands["low_new"], bands["high_new"] = map(bounded_exp, new)
        return Prediction(mean=bounded_exp(log_mean), extrapolation=self.extrapolation(values), **bands)

    def interval_of(self, estimate: Floats, draws: Floats, noise: Floats | None = None) -> tuple[Floats, Floats]:
        """Interval (n,), (n,) of a quantity from its estimate (n,) and its value for each draw (R, n)."""
        return widened_interval(estimate, draws, self.spread, self.confidence, noise)

    def noise(self) -> Floats:
        """(R, 1) one residual per draw, widened for the parameters spent: what a new run adds to the mean, in log y."""
        num = len(self.residuals)
        free = max(num - len(self.form.parameters), 1)
        rng = np.random.default_rng([self.seed, 3])
        picked = rng.choice(self.residuals, size=len(self.draws))
        return np.asarray(-picked * np.sqrt(num / free))[:, None]

    def extrapolation(self, values: Mapping[str, Any]) -> Floats:
        """Decades outside the range of the data, by the furthest predictor, (n,)."""
        furthest = np.zeros(1)
        for name in self.form.predictors:
            low, high = self.ranges[name]
            value = np.atleast_1d(np.asarray(values[name], dtype=float))
            if self.form.logarithmic:
                outside = np.maximum(np.log10(value / high), np.log10(low / value))
            else:
                outside = np.maximum(value - high, low - value) / max(high - low, 1e-300)
            furthest = np.maximum(furthest, outside)
        return furthest

    def to_dict(self) -> dict[str, Any]:
        """Plain values: first what a person or a machine reads, then what `Law.load` rebuilds the fit from."""
        return {
            "parameters": {
                name: None if name in self.unidentified else value for name, value in self.parameters.items()
            },
            "objective": self.objective,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "t_intervals": {name: list(interval) for name, interval in self.t_intervals.items()},
            "profile_intervals": {name: list(interval) for name, interval in self.profile_intervals.items()},
            "unidentified": list(self.unidentified),
            "r2_log": self.r2_log,
            "r2_raw": self.r2_raw,
            "num_rows": self.num_rows,
            "warnings": [vars(warning) for warning in self.warnings],
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
    def from_dict(cls, form: Form, values: Mapping[str, Any]) -> "Fit":
        """The inverse of `to_dict`."""
        width = len(form.parameters)
        solver = {**values["solver"]}
        solver["at_bound"], solver["unmoved"] = tuple(solver["at_bound"]), tuple(solver["unmoved"])
        kept = ("objective", "r2_log", "r2_raw", "spread", "confidence", "seed")
        return cls(
            form=form,
            theta=np.array(values["theta"], dtype=float),
            reference=np.array(values["reference"], dtype=float),
            draws=np.array(values["draws"], dtype=float).reshape(-1, width),
            residuals=np.array(values["residuals"], dtype=float),
            rows=np.array(values["rows"], dtype=np.int64),
            frontier=np.array(values["frontier"], dtype=np.int64),
            ranges={name: (ends[0], ends[1]) for name, ends in values["ranges"].items()},
            intervals=_intervals(values["intervals"]),
            t_intervals=_intervals(values["t_intervals"]),
            profile_intervals=_intervals(values["profile_intervals"]),
            unidentified=tuple(values["unidentified"]),
            solver=SolverReport(**solver),
            warnings=tuple(Warning(**warning) for warning in values["warnings"]),
            **{name: values[name] for name in kept},
        )


@dataclass(frozen=True, kw_only=True)
class Law:
    """The artefact of a fit: one law per group, with where it came from."""

    form: str
    columns: Mapping[str, str]
    """Predictor (and `y`) -> column of the table."""
    fits: Mapping[str, Fit]
    """Group -> fit; the one key is `all` where the table was not divided into groups."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The options of the fit, objective and delta among them."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Source, fingerprint, rows read and rows dropped with their reasons."""
    warnings: tuple[Warning, ...] = ()
    """Warnings about the table as a whole."""

    def __getitem__(self, group: str) -> Fit:
        if group not in self.fits:
            raise ValueError(f"the law has no group {group!r}; {did_you_mean(group, self.fits)}")
        return self.fits[group]

    @property
    def only(self) -> Fit:
        """The fit of a law with a single group.

        Raises:
            ValueError: it has several.
        """
        if len(self.fits) > 1:
            raise ValueError(f"the law has {len(self.fits)} groups, choose one: {', '.join(self.fits)}")
        return next(iter(self.fits.values()))

    def to_dict(self) -> dict[str, Any]:
        """The law file's content."""
        first = next(iter(self.fits.values())).form
        return {
            "format": FORMAT,
            "form": self.form,
            "predictors": list(first.predictors),
            "parameter_names": list(first.parameters),
            "columns": dict(self.columns),
            "config": dict(self.config),
            "data": dict(self.data),
            "warnings": [vars(warning) for warning in self.warnings],
            "fits": {group: fit.to_dict() for group, fit in self.fits.items()},
        }

    def summary(self) -> dict[str, Any]:
        """The law without its bulk (draws, residuals, row lists), for `--json`.

        A law that is not divided into groups also has the fields of its one fit at the top.
        """
        bulk = ("draws", "residuals", "rows", "frontier", "theta", "reference")
        content = self.to_dict()
        fits = {
            group: {**{k: v for k, v in fit.items() if k not in bulk}, "num_frontier": len(fit["frontier"])}
            for group, fit in content.pop("fits").items()
        }
        if len(fits) > 1:
            return {**content, "fits": fits}
        only = next(iter(fits.values()))
        return {**content, **only, "warnings": [*content["warnings"], *only["warnings"]], "fits": fits}

    def save(self, path: str | Path) -> None:
        """Write the law file (JSON), whole or not at all."""
        write_atomically(path, json.dumps(self.to_dict(), indent=None, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path, *, forms: Sequence[Form] = ()) -> "Law":
        """Read a law file.

        Args:
            forms: your own forms, where the law was fitted with one.

        Raises:
            ValueError: no such file, not a law file, or a form that is not known.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError(f"{path}: not a law file (its format is not {FORMAT!r})")
            return cls._from_dict(values, {form.name: form for form in forms})
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: cannot be read as a law file ({error})") from None
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{path}: damaged law file ({type(error).__name__}: {error})") from None

    @classmethod
    def _from_dict(cls, values: Mapping[str, Any], own: Mapping[str, Form]) -> "Law":
        name = values["form"]
        form = own.get(name) or _known_form(name, values["predictors"], values["parameter_names"])
        return cls(
            form=name,
            columns=values["columns"],
            fits={group: Fit.from_dict(form, fit) for group, fit in values["fits"].items()},
            config=values["config"],
            data=values["data"],
            warnings=tuple(Warning(**warning) for warning in values["warnings"]),
        )


def _known_form(name: str, predictors: Sequence[str], parameters: Sequence[str]) -> Form:
    from polyglance.laws.downstream import Downstream  # a form that itself is built on fits

    if name == Downstream.name:
        return Downstream(predictors=tuple(predictors))
    if name not in FORMS:
        raise ValueError(f"form {name!r} is not built in; pass it to load(forms=...)")
    return make_form(name, predictors, offset=bool({"eps", "E"} & set(parameters)))


def _intervals(values: Mapping[str, Sequence[float | None]]) -> dict[str, Interval]:
    return {name: (ends[0], ends[1]) for name, ends in values.items()}
