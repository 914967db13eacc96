"""The laws that the paper prints (version 1), as ready artefacts with their stated intervals.

They have no draws, so predictions come without a band: the printed intervals of a0 and a1 are those of single
coefficients, and without their correlation they say nothing about the curve.
"""

from collections.abc import Mapping

import numpy as np

from polyglance.languages import did_you_mean
from polyglance.laws.forms import PowerSum, make_form
from polyglance.laws.intervals import Interval
from polyglance.laws.law import Fit, Law, SolverReport, Warning

__all__ = ["PUBLISHED", "published"]

Coefficients = Mapping[str, tuple[float, float, float]]

_COMPUTE_V1: Mapping[str, Coefficients] = {  # paper v1, table 2: value, low, high; C in GMAC
    "UC": {"a0": (1.86, 0.92, 2.80), "a1": (-0.15, -0.26, -0.04)},
    "ST": {"a0": (2.02, 1.75, 2.23), "a1": (-0.18, -0.21, -0.15)},
    "SC": {"a0": (1.42, 1.29, 1.56), "a1": (-0.15, -0.16, -0.13)},
}
_PRODUCT_V1: Mapping[str, Coefficients] = {  # paper v1, table 3: value, low, high
    "UC": {"b0": (2.30, 1.95, 2.66), "b_P": (-0.16, -0.19, -0.13), "b_S": (-0.04, -0.08, -0.01)},
    "ST": {"b0": (3.03, 2.55, 3.50), "b_P": (-0.15, -0.19, -0.11), "b_S": (-0.19, -0.24, -0.15)},
    "SC": {"b0": (2.20, 2.02, 2.38), "b_P": (-0.13, -0.14, -0.11), "b_S": (-0.15, -0.16, -0.13)},
}
_RANGES = {"C": (2.5e7, 1.8e10), "P": (0.4e9, 11.2e9), "S": (512_000.0, 10_240_000.0)}
"""What the published runs cover: four sizes, 500 to 10,000 steps of 1,024 samples (paper v1, figure 3). The range of C
in GMAC is estimated from the layer counts of the smallest and the largest model."""

PUBLISHED = ("paper-v1-compute", "paper-v1-product")


def published(name: str) -> Law:
    """A published law by name: `paper-v1-compute` (table 2) or `paper-v1-product` (table 3), groups UC, ST and SC.

    Raises:
        ValueError: there is no such law.
    """
    if name not in PUBLISHED:
        raise ValueError(f"no published law {name!r}; {did_you_mean(name, PUBLISHED)}")
    tables, form_name = (_COMPUTE_V1, "compute-v1") if name == "paper-v1-compute" else (_PRODUCT_V1, "product-v1")
    form = make_form(form_name)
    return Law(
        form=form_name,
        columns={**{predictor: predictor for predictor in form.predictors}, "y": "y"},
        fits={split: _as_fit(form, split, coefficients) for split, coefficients in tables.items()},
        config={"objective": "log-lsq (inferred: the paper says log-space linear regression)"},
        data={"source": f"arXiv 2503.09443v1, table {2 if form_name == 'compute-v1' else 3}"},
    )


def _as_fit(form: PowerSum, split: str, coefficients: Coefficients) -> Fit:
    theta = form.to_internal({name: value for name, (value, _, _) in coefficients.items()})
    intervals: dict[str, Interval] = {name: (low, high) for name, (_, low, high) in coefficients.items()}
    warnings = [
        Warning(
            "published",
            "info",
            "coefficients as printed, to two decimals: predictions are good to about 12 %, and carry no band.",
        )
    ]
    if split == "ST" and "a0" in coefficients:
        warnings.append(Warning("published-typo", "info", "the printed interval of a0 is not centred on its value."))
    return Fit(
        form=form,
        theta=theta,
        reference=np.zeros(len(form.predictors)),
        draws=np.empty((0, len(theta))),
        objective=0.0,
        r2_log=0.0,
        r2_raw=0.0,
        rows=np.empty(0, dtype=np.int64),
        frontier=np.empty(0, dtype=np.int64),
        ranges={name: _RANGES[name] for name in form.predictors},
        residuals=np.empty(0),
        intervals=intervals,
        solver=SolverReport(num_starts=0, agreement=1.0, decrement=0.0, converged=True),
        warnings=tuple(warnings),
    )
