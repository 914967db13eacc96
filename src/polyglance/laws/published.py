"""Laws that the paper prints (version 1), with their stated intervals.

They have no draws, so predictions come without an interval: the printed intervals of a0 and a1 are those of single
coefficients, and without their correlation they do not determine an interval of the curve.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from polyglance.laws.form import Form
from polyglance.laws.forms import make_form
from polyglance.laws.law import Fit, Law, LawWarning, SolverReport
from polyglance.laws.roles import resolve_roles

__all__ = ["PUBLISHED_LAWS", "load_law"]

_Coefficients = Mapping[str, tuple[float, float, float]]

_COMPUTE_V1: Mapping[str, _Coefficients] = {  # paper v1, table 2: value, low, high; C in GMAC
    "UC": {"a0": (1.86, 0.92, 2.80), "a1": (-0.15, -0.26, -0.04)},
    "ST": {"a0": (2.02, 1.75, 2.23), "a1": (-0.18, -0.21, -0.15)},
    "SC": {"a0": (1.42, 1.29, 1.56), "a1": (-0.15, -0.16, -0.13)},
}
_PRODUCT_V1: Mapping[str, _Coefficients] = {  # paper v1, table 3: value, low, high
    "UC": {"b0": (2.30, 1.95, 2.66), "b_P": (-0.16, -0.19, -0.13), "b_S": (-0.04, -0.08, -0.01)},
    "ST": {"b0": (3.03, 2.55, 3.50), "b_P": (-0.15, -0.19, -0.11), "b_S": (-0.19, -0.24, -0.15)},
    "SC": {"b0": (2.20, 2.02, 2.38), "b_P": (-0.13, -0.14, -0.11), "b_S": (-0.15, -0.16, -0.13)},
}
_RANGES = {"C": (2.5e7, 1.8e10), "P": (0.4e9, 11.2e9), "S": (512_000.0, 10_240_000.0)}
"""Ranges of the published runs: four sizes, 500 to 10,000 steps of 1,024 samples (paper v1, figure 3). The range of C
in GMAC is estimated from the layer counts of the smallest and the largest model."""

_TABLES = {
    "paper-v1-compute": ("compute-v1", _COMPUTE_V1, "arXiv 2503.09443v1, table 2"),
    "paper-v1-product": ("product-v1", _PRODUCT_V1, "arXiv 2503.09443v1, table 3"),
}
PUBLISHED_LAWS = tuple(_TABLES)
"""Names of the published laws; each has the groups UC, ST and SC."""


def load_law(source: str | Path) -> Law:
    """Return a published law by its name, or read a law file.

    Raises:
        ValueError: no published law of that name and no such file, or not a law file.
    """
    if source not in _TABLES:
        if not Path(source).exists():
            raise ValueError(f"{source}: no such file; published laws: {', '.join(PUBLISHED_LAWS)}")
        return Law.load(source)
    form_name, table, origin = _TABLES[str(source)]
    form = make_form(form_name)
    columns = {name: name for name in (*form.predictors, "y")}
    return Law(
        form=form_name,
        columns=columns,
        roles=resolve_roles(columns),
        fits={split: _make_fit(form, split, coefficients) for split, coefficients in table.items()},
        config={"objective": "log-lsq (inferred: the paper says log-space linear regression)"},
        data={"source": origin},
    )


def _make_fit(form: Form, split: str, coefficients: _Coefficients) -> Fit:
    theta = form.to_internal({name: value for name, (value, _, _) in coefficients.items()})
    warnings = [
        LawWarning(
            "published",
            "info",
            "coefficients as printed, to two decimals: predictions are good to about 12 %, and carry no band.",
        )
    ]
    if split == "ST" and "a0" in coefficients:
        warnings.append(LawWarning("published-typo", "info", "the printed interval of a0 is not centred on its value."))
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
        intervals={name: (low, high) for name, (_, low, high) in coefficients.items()},
        solver=SolverReport(num_starts=0, agreement=1.0, decrement=0.0, converged=True),
        warnings=tuple(warnings),
    )
