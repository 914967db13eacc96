"""Correlated residuals at the levels of a predictor: runs of one size (or one number of tokens) err together.

A one-way analysis of variance compares residuals within and between levels. If residuals of a level are alike, the
bootstrap draws the rows of a level together, as it does with the checkpoints of a run, and the intervals widen. Among
several such predictors the one with the largest design effect, 1 + (rows per level - 1) x intraclass correlation, is
used (Kish 1965). Shapes: n rows, L levels, q free parameters.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from polyglance.laws.arrays import Floats, Indices
from polyglance.laws.config import FitConfig
from polyglance.laws.fitting.layout import Layout

__all__ = ["AlikeLevels", "find_alike_levels"]

_RARE = 0.01
"""Significance level of the analysis of variance, over all predictors together."""
_ROUNDING = 1e-9
"""Residuals below this, in log y, count as a table without noise."""


@dataclass(frozen=True, kw_only=True)
class AlikeLevels:
    """A predictor whose levels have correlated residuals."""

    predictor: str
    num_levels: int
    share: float
    """Intraclass correlation: share of the residuals' variance that rows of one level have in common."""
    degrees: float
    """Degrees of freedom of the intervals: levels minus the parameters that differences between levels determine."""
    layout: Layout
    """The problem with the levels as clusters."""

    def find_shrinkage(self, num_sampled: int) -> float:
        """Return the ratio of the standard error of the table to that of a sample of rows from all levels."""
        variances = [(1 + (num / self.num_levels - 1) * self.share) / num for num in (len(self.layout.y), num_sampled)]
        return float(np.sqrt(variances[0] / variances[1]))


def find_alike_levels(config: FitConfig, layout: Layout, optimum: Floats) -> AlikeLevels | None:
    """Return the levels whose rows are alike; None if there are none, if the user named clusters, and for the
    asymmetric objective, which fits an envelope, so that its residuals are not noise about a mean.

    Args:
        optimum: (q,)
    """
    num_rows = len(layout.y)
    if config.cluster is not None or config.objective == "asymmetric" or not layout.has_noise:
        return None
    residuals = layout.problem.log_mean(optimum[None], num_rows)[0] - np.log(layout.y)
    if residuals.std() < _ROUNDING:
        return None
    basis = _find_basis(layout.problem.jacobian(optimum, num_rows))
    found: list[tuple[float, AlikeLevels]] = []
    names = layout.form.predictors
    for position, name in enumerate(names):
        codes = _number_levels(layout, position)
        num_levels = int(codes.max()) + 1
        if not 2 < num_levels <= num_rows / 2:
            continue
        degrees = num_levels - _count_between(basis, codes)
        ratio, within = _compare_variances(residuals, codes, degrees, num_rows - num_levels - len(layout.free) / 2)
        if degrees < 1 or within < 1 or special.fdtrc(degrees, within, ratio) > _RARE / len(names):
            continue
        per_level = num_rows / num_levels
        share = (ratio - 1) / (ratio - 1 + per_level)
        levels = AlikeLevels(
            predictor=name, num_levels=num_levels, share=share, degrees=degrees, layout=_cluster(layout, codes)
        )
        found.append(((per_level - 1) * share, levels))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _number_levels(layout: Layout, position: int) -> Indices:
    """Return the level of a predictor of each row (n,); levels of different groups are different."""
    numbers, used = [], 0
    for rows in layout.groups.values():
        codes = np.unique(rows.x[:, position], return_inverse=True)[1].ravel() + used
        used = int(codes.max()) + 1
        numbers.append(codes)
    return np.concatenate(numbers)


def _find_basis(jacobian: Floats) -> Floats:
    """Return an orthonormal basis (n, rank) of the changes of the log mean by the parameters."""
    basis, values, _ = np.linalg.svd(jacobian, full_matrices=False)
    return np.asarray(basis[:, values > 1e-9 * max(values.max(initial=0.0), 1e-300)])


def _count_between(basis: Floats, codes: Indices) -> float:
    """Return how many of the parameters are determined by differences between levels: the trace of the product of the
    law's hat matrix and the projection on the levels' means."""
    counts = np.bincount(codes)
    sums = np.stack([np.bincount(codes, column) for column in basis.T])
    return float((sums**2 / counts).sum())


def _compare_variances(residuals: Floats, codes: Indices, between: float, within: float) -> tuple[float, float]:
    """Return the variance of the levels' means over that within levels (the F statistic), and `within`."""
    counts = np.bincount(codes)
    means = np.bincount(codes, residuals) / counts
    inside = float(((residuals - means[codes]) ** 2).sum())
    if between <= 0 or within <= 0 or inside <= 0:
        return 0.0, within
    return float((counts * means**2).sum()) / between / (inside / within), within


def _cluster(layout: Layout, codes: Indices) -> Layout:
    groups, begin = {}, 0
    for label, rows in layout.groups.items():
        clusters = np.unique(codes[begin : begin + len(rows)], return_inverse=True)[1]
        groups[label] = replace(rows, clusters=clusters)
        begin += len(rows)
    return replace(layout, groups=groups)
