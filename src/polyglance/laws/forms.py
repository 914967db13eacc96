"""The forms a law can have. Built in are sums of power terms, evaluated in log space for many parameter sets at once.

    compute      y = a0 C^a1 + eps                       paper section 4.2 (v2)
    product      y = b0 P^b_P S^b_S T^b_T + eps          paper section 4.3 (v2); any named predictors
    additive     y = E + A / N^alpha + B / D^beta        Hoffmann et al. 2022, arXiv 2203.15556, equation 2
    compute-v1   log10 y = a0 + a1 log10 C               paper v1, table 2 (no offset)
    product-v1   log10 y = b0 + b_P log10 P + b_S log10 S    paper v1, equation 3 (no offset)

A form of your own is a subclass of `Form`: `parameters`, `log_mean` and `starts` are enough.
Shapes: R parameter sets (starts, bootstrap replicates), n rows, k predictors, p parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyglance.languages import did_you_mean

__all__ = ["FORMS", "Form", "PowerSum", "Respond", "Term", "additive", "bounded_exp", "compute", "make_form", "product"]

Floats = NDArray[np.float64]
Respond = Callable[[Floats], tuple[Floats, Floats]]
"""From the log of the mean, (R, n), to the objective's first and second derivative by it, both (R, n)."""

OFFSET_FRACTIONS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.96, 0.99)
"""Where starts put the offset, as fractions of the smallest y."""
EXPONENT_GRID = (0.05, 0.12, 0.22, 0.35, 0.5, 0.75, 1.1, 1.8)
"""Exponents that starts of a law with several power terms try for each term."""
LARGEST_EXPONENT = 10.0
"""Exponents are looked for within plus and minus this; a fit that ends there is reported as having hit a bound."""


def bounded_exp(log: Floats) -> Floats:
    """exp, held between 1e-304 and 1e304 so that no extrapolation, however wild, becomes an infinity in a file."""
    return np.asarray(np.exp(np.clip(log, -700.0, 700.0)))


class Form(ABC):
    """What a law must be able to say of itself. The solver, the intervals and the planner need nothing else."""

    name: str
    predictors: tuple[str, ...]
    """Names of the inputs, in the order of the columns of x."""
    parameters: tuple[str, ...]
    """Names of the parameters as they are reported."""
    logarithmic: bool = True
    """Whether the form works on log x (which then must be positive) or on x itself."""

    @abstractmethod
    def log_mean(self, theta: Floats, design: Any) -> Floats:
        """Log of the predicted y, (R, n), from parameters (R, p) and what `design` made of the inputs."""

    @abstractmethod
    def starts(self, z: Floats, log_y: Floats) -> Floats:
        """Data-driven starting points, (starts, p), for inputs z (n, k) and log y (n,)."""

    def bounds(self, log_y: Floats) -> tuple[Floats, Floats]:
        """Lowest and highest parameters (p,) the solver may try, at the reference; wide, or infinite."""
        del log_y
        wide = np.full(len(self.parameters), np.inf)
        return -wide, wide

    def design(self, z: Floats) -> Any:
        """Whatever can be computed once per table; by default the inputs themselves, (n, k)."""
        return z

    def reference(self, z: Floats) -> Floats:
        """The point (k,) that inputs are measured from while fitting; zero where a form does not centre."""
        return np.zeros(z.shape[1])

    def centring(self, reference: Floats) -> Floats:
        """The matrix (p, p) from parameters at the origin to parameters at `reference`."""
        del reference
        return np.eye(len(self.parameters))

    def jacobian(self, theta: Floats, design: Any) -> Floats:
        """Derivative of `log_mean` by the parameters, (R, n, p); central differences unless a form knows better."""
        columns = []
        for j in range(theta.shape[1]):
            step = np.zeros_like(theta)
            step[:, j] = 1e-6 * np.maximum(1.0, np.abs(theta[:, j]))
            rise = self.log_mean(theta + step, design) - self.log_mean(theta - step, design)
            columns.append(rise / (2 * step[:, j, None]))
        return np.stack(columns, axis=-1)

    def derivatives(self, theta: Floats, design: Any, respond: Respond) -> tuple[Floats, Floats]:
        """Gradient (R, p) and Hessian (R, p, p) of the objective; here in the Gauss-Newton approximation."""
        slope, bend = respond(self.log_mean(theta, design))
        jacobian = self.jacobian(theta, design)
        gradient = np.einsum("rn,rnp->rp", slope, jacobian)
        return gradient, np.einsum("rn,rnp,rnq->rpq", np.maximum(bend, 0.0), jacobian, jacobian, optimize=True)

    def to_internal(self, values: Mapping[str, float]) -> Floats:
        """Reported values as the vector the solver works on (at the origin)."""
        return np.array([values[name] for name in self.parameters])

    def to_reported(self, theta: Floats) -> Floats:
        """Solver vectors (..., p), at the origin, as reported values (..., p)."""
        return theta


@dataclass(frozen=True, kw_only=True)
class Term:
    """One power term: amplitude times the product of predictors to their exponents. Without exponents, an offset."""

    amplitude: str
    exponents: tuple[tuple[str, str], ...] = ()
    """Pairs (predictor, parameter)."""
    sign: int = 1
    """-1 where the exponent is written in the denominator, as in A / N^alpha."""


@dataclass(frozen=True)
class PowerSum(Form):
    """A sum of power terms with positive amplitudes: log y is a log-sum-exp of expressions linear in the parameters.

    The solver sees log amplitudes (at the geometric mean of the inputs, where they are well determined) and exponents.
    Gradient and exact Hessian reduce to matrix products of the terms' shares with constant matrices, so a thousand
    replicates cost little more than their exponentials.
    """

    name: str
    predictors: tuple[str, ...]
    parameters: tuple[str, ...]
    terms: tuple[Term, ...]
    log10_amplitude: bool = False
    """Whether amplitudes are reported as log10, as in the paper's v1 tables."""

    def positions(self, term: Term) -> list[int]:
        """Positions of a term's parameters: its log amplitude, then its exponents."""
        return [self.parameters.index(name) for name in (term.amplitude, *(exponent for _, exponent in term.exponents))]

    @property
    def amplitudes(self) -> tuple[str, ...]:
        return tuple(term.amplitude for term in self.terms)

    @property
    def offset(self) -> str | None:
        """Name of the offset's parameter, or None for a form without."""
        return next((term.amplitude for term in self.terms if not term.exponents), None)

    def bounds(self, log_y: Floats) -> tuple[Floats, Floats]:
        lower = np.full(len(self.parameters), -LARGEST_EXPONENT)
        upper = np.full(len(self.parameters), LARGEST_EXPONENT)
        amplitudes = [self.parameters.index(name) for name in self.amplitudes]
        lower[amplitudes], upper[amplitudes] = log_y.min() - 30.0, log_y.max() + 30.0
        return lower, upper

    def design(self, z: Floats) -> tuple[list[Floats], dict[tuple[int, int], Floats]]:
        """Per term its columns (n, m), and for each pair of terms their products (n, m * m')."""
        columns = []
        for term in self.terms:
            inputs = [term.sign * z[:, self.predictors.index(predictor)] for predictor, _ in term.exponents]
            columns.append(np.column_stack([np.ones(len(z)), *inputs]))
        pairs = {
            (i, j): (columns[i][:, :, None] * columns[j][:, None, :]).reshape(len(z), -1)
            for i in range(len(columns))
            for j in range(i, len(columns))
        }
        return columns, pairs

    def reference(self, z: Floats) -> Floats:
        return np.asarray(z.mean(axis=0))

    def centring(self, reference: Floats) -> Floats:
        matrix = np.eye(len(self.parameters))
        for term in self.terms:
            row = self.parameters.index(term.amplitude)
            for predictor, exponent in term.exponents:
                shift = term.sign * reference[self.predictors.index(predictor)]
                matrix[row, self.parameters.index(exponent)] = shift
        return matrix

    def log_mean(self, theta: Floats, design: Any) -> Floats:
        return self._log_mean_and_shares(theta, design[0])[0]

    def jacobian(self, theta: Floats, design: Any) -> Floats:
        _, shares = self._log_mean_and_shares(theta, design[0])
        jacobian = np.zeros((*shares[0].shape, len(self.parameters)))
        for term, share, columns in zip(self.terms, shares, design[0], strict=True):
            jacobian[:, :, self.positions(term)] += share[:, :, None] * columns
        return jacobian

    def derivatives(self, theta: Floats, design: Any, respond: Respond) -> tuple[Floats, Floats]:
        columns, pairs = design
        log_mean, shares = self._log_mean_and_shares(theta, columns)
        slope, bend = respond(log_mean)
        positions = [self.positions(term) for term in self.terms]
        gradient = np.zeros_like(theta)
        hessian = np.zeros((*theta.shape, theta.shape[1]))
        cross = bend - slope
        for i, here in enumerate(positions):
            pull = slope * shares[i]
            gradient[:, here] += pull @ columns[i]
            for j in range(i, len(positions)):
                weight = cross * shares[i] * shares[j]
                if i == j:
                    weight += pull
                block = (weight @ pairs[i, j]).reshape(len(theta), len(here), len(positions[j]))
                hessian[:, np.array(here)[:, None], positions[j]] += block
                if i != j:
                    hessian[:, np.array(positions[j])[:, None], here] += block.transpose(0, 2, 1)
        return gradient, hessian

    def solve_for(self, predictor: str, theta: Floats, z: Floats, log_y: float | Floats) -> Floats:
        """The value (R,) of log `predictor` at which y is reached, other inputs as in z (k,): the inverse of the law.

        +inf where it cannot be reached: the rest of the law is above the target already, or more of the predictor does
        not lower y.
        """
        columns, _ = self.design(np.where(np.array(self.predictors) == predictor, 0.0, z)[None])
        logs = [theta[:, self.positions(term)] @ x[0] for term, x in zip(self.terms, columns, strict=True)]
        (own,) = [i for i, term in enumerate(self.terms) if predictor in [name for name, _ in term.exponents]]
        others = [np.exp(log - log_y) for i, log in enumerate(logs) if i != own]
        left = 1 - np.sum(others, axis=0) if others else np.ones(len(theta))
        exponent = dict(self.terms[own].exponents)[predictor]
        slope = self.terms[own].sign * theta[:, self.parameters.index(exponent)]
        reached = (left > 0) & (slope < 0)
        safe = np.log(np.where(reached, left, 1.0)) + log_y - logs[own]
        return np.where(reached, safe / np.where(reached, slope, 1.0), np.inf)

    def to_internal(self, values: Mapping[str, float]) -> Floats:
        theta = np.array([values[name] for name in self.parameters], dtype=float)
        for name in self.amplitudes:
            j = self.parameters.index(name)
            with np.errstate(divide="ignore"):
                theta[j] = theta[j] * np.log(10.0) if self.log10_amplitude else np.log(theta[j])
        return theta

    def to_reported(self, theta: Floats) -> Floats:
        reported = np.array(theta, dtype=float)
        for name in self.amplitudes:
            j = self.parameters.index(name)
            log = theta[..., j]
            reported[..., j] = log / np.log(10.0) if self.log10_amplitude else bounded_exp(log)
        return reported

    def starts(self, z: Floats, log_y: Floats) -> Floats:
        powers = [term for term in self.terms if term.exponents]
        if len(powers) == 1:
            return self._starts_by_regression(z, log_y, powers[0])
        return self._starts_by_grid(z, log_y, powers)

    def _log_mean_and_shares(self, theta: Floats, columns: Sequence[Floats]) -> tuple[Floats, list[Floats]]:
        """log y (R, n) and each term's share of y, (R, n) per term."""
        logs = [theta[:, self.positions(term)] @ x.T for term, x in zip(self.terms, columns, strict=True)]
        if len(logs) == 1:
            return logs[0], [np.ones_like(logs[0])]
        top = logs[0]
        for log in logs[1:]:
            top = np.maximum(top, log)
        shares = [np.exp(log - top) for log in logs]
        total = shares[0].copy()
        for share in shares[1:]:
            total += share
        for share in shares:
            share /= total
        return top + np.log(total), shares

    def _starts_by_regression(self, z: Floats, log_y: Floats, term: Term) -> Floats:
        """For each offset tried, least squares on log (y - offset): exponents free in sign, amplitude exact."""
        predictors = [self.predictors.index(predictor) for predictor, _ in term.exponents]
        x = np.column_stack([np.ones(len(z)), term.sign * z[:, predictors]])
        solve = np.linalg.pinv(x)
        smallest = log_y.min()
        starts = []
        for fraction in OFFSET_FRACTIONS if self.offset else (0.0,):
            theta = np.zeros(len(self.parameters))
            theta[self.positions(term)] = solve @ (log_y + np.log1p(-fraction * np.exp(smallest - log_y)))
            if self.offset:
                theta[self.parameters.index(self.offset)] = smallest + np.log(max(fraction, 0.03))
            starts.append(theta)
        return np.array(starts)

    def _starts_by_grid(self, z: Floats, log_y: Floats, powers: Sequence[Term]) -> Floats:
        """A grid of exponents; for each the amplitudes by non-negative least squares on relative errors."""
        if any(len(term.exponents) != 1 for term in powers):
            raise ValueError(f"{self.name}: starts for several terms with several predictors each are yours to give")
        grids = np.meshgrid(*[np.array(EXPONENT_GRID)] * len(powers), indexing="ij")
        exponents = np.stack([grid.ravel() for grid in grids], axis=1)
        logs = [
            -np.multiply.outer(exponents[:, i], z[:, self.predictors.index(term.exponents[0][0])]) - log_y
            for i, term in enumerate(powers)
        ]
        if self.offset:
            logs.append(np.broadcast_to(-log_y, logs[0].shape))
        amplitudes = _non_negative(np.exp(np.clip(np.stack(logs, axis=-1), -150.0, 150.0)))
        theta = np.zeros((len(exponents), len(self.parameters)))
        for i, term in enumerate(powers):
            theta[:, self.positions(term)] = np.column_stack([np.log(amplitudes[:, i]), -term.sign * exponents[:, i]])
        if self.offset:
            theta[:, self.parameters.index(self.offset)] = np.log(amplitudes[:, -1])
        return theta


def _non_negative(x: Floats) -> Floats:
    """Per problem in x (R, n, m) the non-negative c (R, m) that brings x @ c nearest to 1, by trying every support.

    A coefficient of zero comes back as a small positive number, for the logarithm's sake.
    """
    num_rows, m = x.shape[1], x.shape[2]
    gram = np.einsum("rni,rnj->rij", x, x, optimize=True)
    right = x.sum(axis=1)
    best = np.zeros((len(x), m))
    best_gain = np.zeros(len(x))
    for support in range(1, 2**m):
        chosen = [j for j in range(m) if support >> j & 1]
        block = gram[:, np.array(chosen)[:, None], chosen]
        scale = np.trace(block, axis1=1, axis2=2)[:, None, None]
        solution = np.linalg.solve(block + 1e-13 * scale * np.eye(len(chosen)), right[:, chosen, None])[..., 0]
        gain = np.where((solution > 0).all(axis=1), (solution * right[:, chosen]).sum(axis=1), 0.0)
        better = gain > best_gain
        best[better] = 0.0
        best[np.flatnonzero(better)[:, None], chosen] = solution[better]
        best_gain = np.maximum(best_gain, gain)
    return np.maximum(best, 0.02 * num_rows / x.sum(axis=1) / m)


def compute(predictors: Sequence[str] = ("C",), *, offset: bool = True) -> PowerSum:
    """y = a0 C^a1 + eps, meant for the Pareto frontier of runs (paper section 4.2, v2)."""
    (predictor,) = _exactly("compute", predictors, 1)
    terms = [Term(amplitude="a0", exponents=((predictor, "a1"),))]
    return _power_sum("compute", (predictor,), ("a0", "a1"), terms, offset="eps" if offset else None)


def product(predictors: Sequence[str] = ("P", "S", "T"), *, offset: bool = True) -> PowerSum:
    """y = b0 prod_i x_i^b_i + eps; an exponent is named after its predictor, b_P (paper section 4.3, v2)."""
    exponents = tuple((predictor, f"b_{predictor}") for predictor in predictors)
    names = ("b0", *(exponent for _, exponent in exponents))
    terms = [Term(amplitude="b0", exponents=exponents)]
    return _power_sum("product", tuple(predictors), names, terms, offset="eps" if offset else None)


def additive(predictors: Sequence[str] = ("N", "D"), *, offset: bool = True) -> PowerSum:
    """y = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv 2203.15556, equation 2)."""
    size, data = _exactly("additive", predictors, 2)
    if (size, data) == ("D", "N"):
        size, data = data, size  # the names say which is which, whatever their order
    terms = [
        Term(amplitude="A", exponents=((size, "alpha"),), sign=-1),
        Term(amplitude="B", exponents=((data, "beta"),), sign=-1),
    ]
    if offset:
        terms.append(Term(amplitude="E"))
    names = ("A", "B", "E", "alpha", "beta") if offset else ("A", "B", "alpha", "beta")
    return PowerSum(name="additive", predictors=(size, data), parameters=names, terms=tuple(terms))


def compute_v1(predictors: Sequence[str] = ("C",), *, offset: bool = False) -> PowerSum:
    """log10 y = a0 + a1 log10 C (paper v1, table 2)."""
    (predictor,) = _exactly("compute-v1", predictors, 1)
    terms = (Term(amplitude="a0", exponents=((predictor, "a1"),)),)
    _without_offset("compute-v1", offset)
    return PowerSum(
        name="compute-v1", predictors=(predictor,), parameters=("a0", "a1"), terms=terms, log10_amplitude=True
    )


def product_v1(predictors: Sequence[str] = ("P", "S"), *, offset: bool = False) -> PowerSum:
    """log10 y = b0 + sum_i b_i log10 x_i (paper v1, equation 3)."""
    _without_offset("product-v1", offset)
    exponents = tuple((predictor, f"b_{predictor}") for predictor in predictors)
    names = ("b0", *(exponent for _, exponent in exponents))
    terms = (Term(amplitude="b0", exponents=exponents),)
    return PowerSum(
        name="product-v1", predictors=tuple(predictors), parameters=names, terms=terms, log10_amplitude=True
    )


FORMS: Mapping[str, Callable[..., PowerSum]] = {
    "compute": compute,
    "product": product,
    "additive": additive,
    "compute-v1": compute_v1,
    "product-v1": product_v1,
}


def make_form(name: str, predictors: Sequence[str] = (), *, offset: bool | None = None) -> PowerSum:
    """A built-in form by name, with the given predictors (or its usual ones).

    Raises:
        ValueError: unknown name (the nearest is named) or a wrong number of predictors.
    """
    if name not in FORMS:
        raise ValueError(f"form {name!r} is unknown; {did_you_mean(name, FORMS)}")
    options: dict[str, Any] = {} if offset is None else {"offset": offset}
    if predictors:
        options["predictors"] = tuple(predictors)
    return FORMS[name](**options)


def _power_sum(
    name: str, predictors: tuple[str, ...], parameters: tuple[str, ...], terms: list[Term], *, offset: str | None
) -> PowerSum:
    if offset:
        parameters, terms = (*parameters, offset), [*terms, Term(amplitude=offset)]
    return PowerSum(name=name, predictors=predictors, parameters=parameters, terms=tuple(terms))


def _exactly(name: str, predictors: Sequence[str], count: int) -> Sequence[str]:
    if len(predictors) != count:
        wanted = "one predictor" if count == 1 else f"{count} predictors"
        raise ValueError(f"form {name!r} has {wanted}, got {len(predictors)}: {', '.join(predictors) or 'none'}")
    return predictors


def _without_offset(name: str, offset: bool) -> None:
    if offset:
        raise ValueError(f"form {name!r} has no offset; use {name.removesuffix('-v1')!r} for one")
