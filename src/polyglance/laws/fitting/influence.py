"""Runs that alone move a law by more than noise would.

Leaving a run out moves the parameters of log least squares by about (J'J - Jc'Jc)^-1 Jc'e, with its rows c of the
Jacobian J and of the residuals e. The largest such move, in standard errors, is compared with the largest move in
simulated noise of the same design: where few runs are at the corners of a design, noise alone moves the law much. The
largest distance of a row from the law is tested in the same way; it finds a wrong row among many others. Shapes: n
rows, K clusters, q free parameters, B draws.
"""

from dataclasses import dataclass, replace

import numpy as np

from polyglance.laws.arrays import Floats, Indices
from polyglance.laws.fitting.layout import Layout
from polyglance.laws.fitting.objectives import FitObjective
from polyglance.laws.fitting.solve import REFIT, minimise

__all__ = ["Influence", "find_influence"]

_NUM_DRAWS = 400
_MOST_NUMBERS = 4_000_000
"""Largest number of simulated moves; large tables get fewer draws."""
_FEWEST_OTHERS = 4
"""Smallest number of clusters beyond the number of parameters; with fewer, residuals do not single out a run."""
_RARE = 0.02
"""Share of faultless tables whose largest move is reported as more than noise."""


@dataclass(frozen=True, kw_only=True)
class Influence:
    """The run that moves the law most, and by more than noise."""

    cluster: int
    shift: Floats
    """(q,) move of the law's own fit when the run is left out."""
    distance: float
    """Largest distance of its rows from the law, in log y."""


def find_influence(layout: Layout, optimum: Floats) -> Influence | None:
    """Return the most influential cluster; None if none moves the law by more than noise would, or runs are too few."""
    num_rows, clusters = len(layout.y), layout.clusters
    if layout.num_clusters < len(layout.free) + _FEWEST_OTHERS:
        return None
    smooth = replace(layout.problem, objective=FitObjective(name="log-lsq"))
    centre = minimise(smooth, optimum[None], layout.y[None], layout.weights[None]).free[0]
    root = np.sqrt(layout.weights)
    jacobian = root[:, None] * layout.problem.jacobian(centre, num_rows)
    residuals = root * (np.log(layout.y) - layout.problem.log_mean(centre[None], num_rows)[0])
    moves = _Moves(jacobian, clusters)
    if not np.median(np.abs(residuals)) > 0:
        return None
    found = moves.measure(residuals[None])[:, 0]
    simulated = moves.measure(_simulate_noise(moves, residuals, clusters)).max(axis=2)
    usual = np.quantile(simulated, 1 - _RARE / 2, axis=1)
    excess = found / usual[:, None]
    cluster = int(excess.max(axis=0).argmax())
    if excess[:, cluster].max() <= 1:
        return None
    without = layout.weights * (clusters != cluster)
    free = minimise(layout.problem, optimum[None], layout.y[None], without[None], REFIT).free[0]
    distances = np.log(layout.y) - layout.problem.log_mean(free[None], num_rows)[0]
    return Influence(
        cluster=cluster, shift=free - optimum, distance=float(np.abs(distances[clusters == cluster]).max())
    )


def _simulate_noise(moves: "_Moves", residuals: Floats, clusters: Indices) -> Floats:
    """Return residuals (B, n) of normal noise. The rows of a cluster share as much of it as they do in the table."""
    num_rows = len(residuals)
    rng = np.random.default_rng(0)
    num_draws = int(np.clip(_MOST_NUMBERS // (num_rows * moves.basis.shape[1]), 100, _NUM_DRAWS))
    noise = rng.standard_normal((num_draws, num_rows))
    if moves.num_clusters < num_rows:
        common = _find_common_share(residuals, clusters)
        shared = rng.standard_normal((num_draws, moves.num_clusters))[:, clusters]
        noise = np.sqrt(1 - common) * noise + np.sqrt(common) * shared
    return np.asarray(noise - (noise @ moves.basis) @ moves.basis.T, dtype=float)


class _Moves:
    """Moves of the parameters of least squares when a cluster is left out."""

    def __init__(self, jacobian: Floats, clusters: Indices) -> None:
        basis, values, _ = np.linalg.svd(jacobian, full_matrices=False)
        self.basis: Floats = basis[:, values > 1e-9 * max(float(values.max(initial=0.0)), 1e-300)]
        """(n, q) orthonormal columns that span the Jacobian: coordinates in which each parameter's standard error is
        1."""
        self.num_clusters = int(clusters.max()) + 1
        order = np.argsort(clusters, kind="stable")
        self._order, self._starts = order, np.searchsorted(clusters[order], np.arange(self.num_clusters))
        squares = np.add.reduceat((self.basis[:, :, None] * self.basis[:, None, :])[order], self._starts, axis=0)
        left = np.eye(self.basis.shape[1]) - squares
        self._inverse = np.linalg.inv(left + 1e-6 * np.eye(self.basis.shape[1]))
        self._leverage = np.minimum((self.basis**2).sum(axis=1), 0.99)

    def measure(self, residuals: Floats) -> Floats:
        """Return for residuals (B, n) the size of each cluster's move, and its largest residual, in standard errors:
        (2, B, K)."""
        pulls = np.stack(
            [np.add.reduceat((residuals * column)[:, self._order], self._starts, axis=1) for column in self.basis.T],
            axis=-1,
        )
        moves = np.einsum("kij,bkj->bki", self._inverse, pulls)
        scale = 1.4826 * np.median(np.abs(residuals), axis=1)
        rows = np.abs(residuals) / np.sqrt(1 - self._leverage)
        largest = np.maximum.reduceat(rows[:, self._order], self._starts, axis=1)
        return np.stack([np.sqrt((moves**2).sum(axis=2)), largest]) / scale[None, :, None]


def _find_common_share(residuals: Floats, clusters: Indices) -> float:
    """Return the share of the variance of residuals that the rows of a cluster have in common, 0 to 0.99."""
    counts = np.bincount(clusters)
    means = np.bincount(clusters, residuals) / counts
    within = float(((residuals - means[clusters]) ** 2).sum()) / max(len(residuals) - len(counts), 1)
    total = float((residuals**2).mean())
    return float(np.clip(1 - within / max(total, 1e-300), 0.0, 0.99))
