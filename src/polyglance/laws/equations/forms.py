"""The built-in forms of laws, by name.

    compute      y = a0 C^a1 + eps                           paper section 4.2 (v2)
    product      y = b0 P^b_P S^b_S T^b_T + eps              paper section 4.3 (v2); any named predictors
    saturating   y = A P^b_P S^b_S + B S^c_S + eps           a gain of size that ends; further predictors in both terms
    additive     y = E + A / N^alpha + B / D^beta            Hoffmann et al. 2022, arXiv 2203.15556, equation 2
    compute-v1   log10 y = a0 + a1 log10 C                   paper v1, table 2 (no offset)
    product-v1   log10 y = b0 + b_P log10 P + b_S log10 S    paper v1, equation 3 (no offset)
    downstream   score = top / (1 + exp(slope (loss - middle)))    a score against the loss (paper figure 5)

A new built-in form is a `Form` and an entry in `FORMS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyglance.languages import did_you_mean
from polyglance.laws.arrays import Floats
from polyglance.laws.equations.form import Form, Term
from polyglance.laws.equations.power_sum import PowerSum
from polyglance.laws.equations.saturating import Saturating

__all__ = ["FORMS", "Downstream", "make_form"]


@dataclass(frozen=True)
class Downstream(Form):
    """Score (CIDEr, BLEU, accuracy) as a sigmoid of the loss that never rises.

    Parameters: top (the solver works on its log), slope (at least 0), middle.
    """

    predictors: tuple[str, ...] = ("loss",)

    name = "downstream"
    parameters = ("top", "slope", "middle")
    logarithmic = False

    @property
    def positive(self) -> tuple[str, ...]:
        return ("top",)

    def log_mean(self, theta: Floats, design: Any) -> Floats:
        log_top, slope, middle = (theta[:, j, None] for j in range(3))
        return log_top - np.logaddexp(0.0, slope * (design[:, 0] - middle))

    def jacobian(self, theta: Floats, design: Any) -> Floats:
        slope, middle = theta[:, 1, None], theta[:, 2, None]
        distance = design[:, 0] - middle
        share = 1 / (1 + np.exp(-np.clip(slope * distance, -700, 700)))
        return np.stack([np.ones_like(share), -share * distance, share * slope], axis=-1)

    def solve_for(self, predictor: str, theta: Floats, z: Floats, log_y: float | Floats) -> Floats:
        """Solve as `Form.solve_for`; nan above the top, or where the slope is 0."""
        del predictor, z
        slope, middle = theta[:, 1], theta[:, 2]
        ratio = np.expm1(theta[:, 0] - log_y)
        reached = (ratio > 0) & (slope > 0)
        return np.where(reached, middle + np.log(np.where(reached, ratio, 1)) / np.where(reached, slope, 1), np.nan)

    def starts(self, z: Floats, log_y: Floats) -> Floats:
        """Return tops above the best score; slope and middle for each by regression of the logit on the loss."""
        starts = []
        for factor in (1.02, 1.3, 2.0, 5.0, 20.0):
            log_top = log_y.max() + np.log(factor)
            logit = np.log(np.expm1(log_top - log_y))
            slope = max(float(np.polyfit(z[:, 0], logit, 1)[0]), 1e-3)
            starts.append([log_top, slope, float(np.mean(z[:, 0] - logit / slope))])
        return np.array(starts)

    def bounds(self, log_y: Floats) -> tuple[Floats, Floats]:
        return np.array([log_y.min() - 1.0, 0.0, -1e3]), np.array([log_y.max() + 10.0, 1e3, 1e3])


def make_form(name: str, predictors: Sequence[str] = (), *, offset: bool | None = None) -> Form:
    """Return a built-in form.

    Args:
        predictors: names of the inputs, in order; empty: the form's usual ones.
        offset: whether the form has its offset (eps, E); None: the form's default.

    Raises:
        ValueError: unknown name (the message has the nearest one), a wrong number of predictors, or an offset for a
            form without one.
    """
    if name not in FORMS:
        raise ValueError(f"form {name!r} is unknown; {did_you_mean(name, FORMS)}")
    options: dict[str, Any] = {} if offset is None else {"offset": offset}
    if predictors:
        options["predictors"] = tuple(predictors)
    return FORMS[name](**options)


def _make_compute(predictors: Sequence[str] = ("C",), *, offset: bool = True) -> Form:
    (predictor,) = _check_number("compute", predictors, 1)
    return _sum_powers("compute", [predictor], [Term(amplitude="a0", exponents=((predictor, "a1"),))], offset)


def _make_product(predictors: Sequence[str] = ("P", "S", "T"), *, offset: bool = True) -> Form:
    exponents = tuple((predictor, f"b_{predictor}") for predictor in predictors)
    return _sum_powers("product", predictors, [Term(amplitude="b0", exponents=exponents)], offset)


def _make_saturating(predictors: Sequence[str] = ("P", "S"), *, offset: bool = True) -> Form:
    if len(predictors) < 2:
        raise ValueError(
            f"form 'saturating' has size and data as its first two predictors, got {', '.join(predictors)}"
        )
    return Saturating.of(predictors, offset=offset)


def _make_additive(predictors: Sequence[str] = ("N", "D"), *, offset: bool = True) -> Form:
    size, data = _check_number("additive", predictors, 2)
    if (size, data) == ("D", "N"):  # the names decide, in either order
        size, data = data, size
    terms = [
        Term(amplitude="A", exponents=((size, "alpha"),), sign=-1),
        Term(amplitude="B", exponents=((data, "beta"),), sign=-1),
    ]
    if offset:
        terms.append(Term(amplitude="E"))
    parameters = ("A", "B", "E", "alpha", "beta") if offset else ("A", "B", "alpha", "beta")
    return PowerSum(name="additive", predictors=(size, data), parameters=parameters, terms=tuple(terms))


def _make_compute_v1(predictors: Sequence[str] = ("C",), *, offset: bool = False) -> Form:
    (predictor,) = _check_number("compute-v1", predictors, 1)
    _check_no_offset("compute-v1", offset)
    term = Term(amplitude="a0", exponents=((predictor, "a1"),))
    return _sum_powers("compute-v1", [predictor], [term], False, log10_amplitude=True)


def _make_product_v1(predictors: Sequence[str] = ("P", "S"), *, offset: bool = False) -> Form:
    _check_no_offset("product-v1", offset)
    exponents = tuple((predictor, f"b_{predictor}") for predictor in predictors)
    term = Term(amplitude="b0", exponents=exponents)
    return _sum_powers("product-v1", predictors, [term], False, log10_amplitude=True)


def _make_downstream(predictors: Sequence[str] = ("loss",), *, offset: bool = False) -> Form:
    (predictor,) = _check_number("downstream", predictors, 1)
    _check_no_offset("downstream", offset)
    return Downstream(predictors=(predictor,))


FORMS: Mapping[str, Callable[..., Form]] = {
    "compute": _make_compute,
    "product": _make_product,
    "saturating": _make_saturating,
    "additive": _make_additive,
    "compute-v1": _make_compute_v1,
    "product-v1": _make_product_v1,
    "downstream": _make_downstream,
}


def _sum_powers(
    name: str, predictors: Sequence[str], terms: Sequence[Term], offset: bool, *, log10_amplitude: bool = False
) -> PowerSum:
    """Return a sum of terms, and of the offset eps if wanted, with the parameters in the order of the terms."""
    terms = (*terms, Term(amplitude="eps")) if offset else tuple(terms)
    parameters = tuple(name for term in terms for name in (term.amplitude, *dict(term.exponents).values()))
    return PowerSum(name, tuple(predictors), parameters, terms, log10_amplitude)


def _check_number(name: str, predictors: Sequence[str], count: int) -> Sequence[str]:
    if len(predictors) != count:
        expected = "one predictor" if count == 1 else f"{count} predictors"
        raise ValueError(f"form {name!r} has {expected}, got {len(predictors)}: {', '.join(predictors)}")
    return predictors


def _check_no_offset(name: str, offset: bool) -> None:
    if offset:
        other = f"; use {name.removesuffix('-v1')!r} for one" if name.endswith("-v1") else ""
        raise ValueError(f"form {name!r} has no offset{other}")
