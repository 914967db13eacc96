"""The interface of a law's equation. Solver, intervals, diagnosis and planner use only this interface.

Shapes: R parameter sets (starts, bootstrap replicates), n rows, k predictors, p parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyglance.laws.arrays import Floats, bounded_exp

__all__ = ["Form", "Respond", "Term"]

Respond = Callable[[Floats], tuple[Floats, Floats]]
"""From the log of the mean, (R, n), to the objective's first and second derivative by it, both (R, n)."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One power term: an amplitude times the product of predictors to their exponents. Without exponents, an offset."""

    amplitude: str
    exponents: tuple[tuple[str, str], ...] = ()
    """Pairs (predictor, parameter)."""
    sign: int = 1
    """-1 where the exponent is written in the denominator, as in A / N^alpha."""


class Form(ABC):
    """Equation of a law.

    A new form is a subclass that names its predictors and parameters and defines `log_mean` and `starts`. The other
    methods have defaults; override those for which the form has something better.
    """

    name: str
    predictors: tuple[str, ...]
    """Names of the inputs, in the order of the columns of x."""
    parameters: tuple[str, ...]
    """Names of the parameters as they are reported."""
    logarithmic: bool = True
    """Whether the form works on log x (then x must be positive) or on x itself."""
    terms: tuple[Term, ...] = ()
    """Power terms that the form is the sum of; empty for other forms."""

    @property
    def positive(self) -> tuple[str, ...]:
        """Parameters that are positive as reported; the solver works on their logs."""
        return ()

    @property
    def offset(self) -> str | None:
        """Name of the parameter that is the lower limit of y; None for a form without one."""
        return None

    @property
    def label(self) -> str:
        """Name in a comparison of forms."""
        return f"{self.name}({', '.join(self.predictors)})"

    @property
    def formula(self) -> str:
        """Right-hand side of the equation, with the names of the parameters."""
        return self.label

    def exponent_of(self, predictor: str) -> str:
        """Return the parameter of the effect of a predictor; the predictor's name if there is no such parameter."""
        return next(
            (dict(term.exponents)[predictor] for term in self.terms if predictor in dict(term.exponents)), predictor
        )

    def removable_exponent(self, predictor: str) -> str | None:
        """Return the exponent whose value zero removes the predictor from the law; None if there is none."""
        for term in self.terms:
            if len(term.exponents) > 1 and predictor in dict(term.exponents):
                return dict(term.exponents)[predictor]
        return None

    @abstractmethod
    def log_mean(self, theta: Floats, design: Any) -> Floats:
        """Return the log of the predicted y, (R, n), for parameters (R, p) and the result of `design`."""

    @abstractmethod
    def starts(self, z: Floats, log_y: Floats) -> Floats:
        """Return starting points from the data, (starts, p), for inputs z (n, k) and log y (n,)."""

    def bounds(self, log_y: Floats) -> tuple[Floats, Floats]:
        """Return the lower and upper bounds (p,) of the solver's parameters, at the reference."""
        del log_y
        wide = np.full(len(self.parameters), np.inf)
        return -wide, wide

    def design(self, z: Floats) -> Any:
        """Return everything that can be computed once per table of inputs; by default the inputs themselves, (n, k)."""
        return z

    def reference(self, z: Floats) -> Floats:
        """Return the point (k,) that inputs are measured from while fitting; zero for a form that does not centre."""
        return np.zeros(z.shape[1])

    def centring(self, reference: Floats) -> Floats:
        """Return the matrix (p, p) from parameters at the origin to parameters at `reference`."""
        del reference
        return np.eye(len(self.parameters))

    def jacobian(self, theta: Floats, design: Any) -> Floats:
        """Return the derivative of `log_mean` by the parameters, (R, n, p); by default central differences."""
        columns = []
        for j in range(theta.shape[1]):
            step = np.zeros_like(theta)
            step[:, j] = 1e-6 * np.maximum(1.0, np.abs(theta[:, j]))
            rise = self.log_mean(theta + step, design) - self.log_mean(theta - step, design)
            columns.append(rise / (2 * step[:, j, None]))
        return np.stack(columns, axis=-1)

    def derivatives(self, theta: Floats, design: Any, respond: Respond) -> tuple[Floats, Floats]:
        """Return gradient (R, p) and Hessian (R, p, p) of the objective; by default the Gauss-Newton approximation."""
        slope, bend = respond(self.log_mean(theta, design))
        jacobian = self.jacobian(theta, design)
        gradient = np.einsum("rn,rnp->rp", slope, jacobian)
        return gradient, np.einsum("rn,rnp,rnq->rpq", np.maximum(bend, 0.0), jacobian, jacobian, optimize=True)

    def to_internal(self, values: Mapping[str, float]) -> Floats:
        """Return reported values as the vector (p,) that the solver works on, at the origin."""
        theta = np.array([values[name] for name in self.parameters], dtype=float)
        for name in self.positive:
            j = self.parameters.index(name)
            with np.errstate(divide="ignore"):
                theta[j] = np.log(theta[j])
        return theta

    def to_reported(self, theta: Floats) -> Floats:
        """Return solver vectors (..., p), at the origin, as reported values (..., p)."""
        reported = np.array(theta, dtype=float)
        for name in self.positive:
            j = self.parameters.index(name)
            reported[..., j] = bounded_exp(reported[..., j])
        return reported

    def without_offset(self, theta: Floats) -> Floats:
        """Return solver vectors (R, p) with an offset of zero: they give the reducible part of y."""
        return theta

    def solve_for(self, predictor: str, theta: Floats, z: Floats, log_y: float | Floats) -> Floats:
        """Return the value (R,) of one input at which y is reached, the other inputs as in z (k,): the inverse law.

        The value is on the scale of z. It is not finite where y cannot be reached.

        Raises:
            ValueError: the form has no inverse.
        """
        del predictor, theta, z, log_y
        raise ValueError(f"form {self.name!r} cannot be solved for a predictor")
