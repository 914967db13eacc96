"""The law of a gain of size that ends: a term that falls with size and data, and one that falls with data alone.

    y = A P^b_P S^b_S T^b_T + B S^c_S T^b_T + eps

A model of any size still has the loss B S^c_S. With B = 0 it is the product law.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyglance.laws.arrays import Floats
from polyglance.laws.equations.form import Term
from polyglance.laws.equations.power_sum import PowerSum, fit_non_negative

__all__ = ["Saturating"]

_SIZE_EXPONENTS = (-0.5, -1.0, -2.0, -4.0)
"""Exponents of size that the starts try for the first term."""
_DATA_FACTORS = (0.7, 1.0, 1.5)
"""Exponents of data that the starts try for the first term, as multiples of that of a product law."""


@dataclass(frozen=True)
class Saturating(PowerSum):
    """A sum of two power terms, of which the first alone has the size. Further predictors have one exponent in both."""

    @classmethod
    def of(cls, predictors: Sequence[str], *, offset: bool) -> "Saturating":
        """Return the law in size, data and any further predictors, in this order."""
        size, data, *others = predictors
        shared = tuple((name, f"b_{name}") for name in others)
        terms = [
            Term(amplitude="A", exponents=((size, f"b_{size}"), (data, f"b_{data}"), *shared)),
            Term(amplitude="B", exponents=((data, f"c_{data}"), *shared)),
        ]
        if offset:
            terms.append(Term(amplitude="eps"))
        names = dict.fromkeys(name for term in terms for name in (term.amplitude, *dict(term.exponents).values()))
        return cls("saturating", tuple(predictors), tuple(names), tuple(terms))

    def removable_exponent(self, predictor: str) -> str | None:
        """Return as `Form.removable_exponent`; None for size and data, without which the two terms are one."""
        return None if predictor in self.predictors[:2] else super().removable_exponent(predictor)

    def starts(self, z: Floats, log_y: Floats) -> Floats:
        """Return the product law's exponents with other ones of size and data in the first term; amplitudes for each by
        non-negative least squares on relative errors."""
        product = np.linalg.lstsq(np.column_stack([np.ones(len(z)), z]), log_y, rcond=None)[0][1:]
        choices = [(size, product[1] * factor) for size in _SIZE_EXPONENTS for factor in _DATA_FACTORS]
        firsts = np.array([[*pair, *product[2:]] for pair in choices])
        logs = [firsts @ z.T, np.broadcast_to(z[:, 1:] @ product[1:], (len(firsts), len(z)))]
        if self.offset:
            logs.append(np.zeros((len(firsts), len(z))))
        relative = np.stack([log - log_y for log in logs], axis=-1)
        amplitudes = fit_non_negative(np.exp(np.clip(relative, -150.0, 150.0)))
        theta = np.zeros((len(firsts), len(self.parameters)))
        theta[:, [self.parameters.index(name) for name in self.amplitudes]] = np.log(amplitudes)
        first, second = self.terms[:2]
        theta[:, [self.parameters.index(exponent) for _, exponent in first.exponents]] = firsts
        theta[:, self.parameters.index(dict(second.exponents)[self.predictors[1]])] = product[1]
        return theta
