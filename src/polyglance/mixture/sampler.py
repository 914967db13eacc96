"""Which cell and which of its images a sample shows: a pure function of (seed, sample number).

Each cell gets its target share of the samples (paper section 2.5), at every point to within half as many samples as
there are cells, so well within a batch. Cells take turns like trains of different frequency: the k-th sample of a cell
with share w is due at time (k + 1/2) / w. What the published sampler approximates with counters in every loader worker
is here a formula of the sample's number, so that a run continued on any number of workers or ranks sees the same
samples, and the only state is the step.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from polyglance.coverage import Cell, Coverage
from polyglance.mixture.config import Balance
from polyglance.mixture.order import Order, WholeOrder

__all__ = ["CellSampler", "Draw", "cell_weights"]


def cell_weights(coverage: Coverage, balance: Balance | Mapping[str, float]) -> dict[Cell, float]:
    """Target share of each covered cell; they sum to 1.

    Args:
        balance: `cell` all alike (published as task-lang-balancing); `task` each task alike, within it each cell;
            `language` each language alike, within it each cell; or a table such as `{"caption-de": 2.0, ...}`, which
            names every covered cell.

    Raises:
        ValueError: a table with cells missing, beyond the coverage, or shares that are not positive.
    """
    cells = coverage.cells
    match balance:
        case "cell":
            weights = dict.fromkeys(cells, 1.0)
        case "task":
            weights = {cell: 1.0 / sum(other.task == cell.task for other in cells) for cell in cells}
        case "language":
            weights = {cell: 1.0 / sum(other.language == cell.language for other in cells) for cell in cells}
        case table:
            weights = {Cell.parse(name): float(weight) for name, weight in table.items()}
            if missing := coverage.missing(weights):
                raise ValueError(f"the balance table has no share for {missing[0]}, which the coverage trains")
            if extra := sorted(map(str, set(weights) - set(cells))):
                raise ValueError(f"the balance table names {extra[0]}, which the coverage does not train")
            if wrong := [cell for cell, weight in weights.items() if not 0 < weight < float("inf")]:
                raise ValueError(f"the share of {wrong[0]} must be a positive number, not {weights[wrong[0]]}")
    total = sum(weights.values())
    return {cell: weights[cell] / total for cell in cells}


class Draw:
    """The samples of one step: for each, its cell, its place in that cell's pool, and how often the cell came before.

    Attributes:
        cell: int[B], index into the sampler's cells.
        item: int[B], index into the cell's pool of images.
        visit: int[B], number of the sample within its cell; a seed for what is drawn per visit.
    """

    def __init__(self, cell: Int[np.ndarray, "B"], item: Int[np.ndarray, "B"], visit: Int[np.ndarray, "B"]) -> None:
        self.cell, self.item, self.visit = cell, item, visit


class CellSampler:
    """Draws the samples of any step.

    Args:
        weights: target share of each cell, summing to 1.
        pool_sizes: images that have an annotation for the cell.
        batch_size: samples of one step.
        order: in which order a cell's images are shown; None: all of them shuffled anew in every epoch.

    Raises:
        ValueError: a cell without images.
    """

    def __init__(
        self,
        weights: Mapping[Cell, float],
        pool_sizes: Mapping[Cell, int],
        *,
        batch_size: int,
        seed: int,
        order: Order | None = None,
    ) -> None:
        if empty := [str(cell) for cell in weights if not pool_sizes.get(cell)]:
            raise ValueError(f"the data has no image for {', '.join(empty)}; leave it out of the coverage or add data")
        self.cells = tuple(weights)
        self.batch_size = batch_size
        self.seed = seed
        self._shares: Float[np.ndarray, "C"] = np.array(list(weights.values()))
        self._order = order or WholeOrder({cell: pool_sizes[cell] for cell in self.cells}, seed=seed)

    def counts_before(self, num_samples: int) -> Int[np.ndarray, "C"]:
        """How many of the first `num_samples` samples each cell has had."""
        # All samples due before time n - C lie among the first n, and at most 2 C more have to be put in order.
        due = np.ceil(self._shares * max(num_samples - len(self.cells), 0) - 0.5)
        counts = np.maximum(due, 0).astype(np.int64)
        while counts.sum() < num_samples:
            counts[np.argmin((counts + 0.5) / self._shares)] += 1
        return counts

    def draw(self, step: int) -> Draw:
        """The samples of a step, in an order that mixes the cells."""
        first = self.counts_before(step * self.batch_size)
        last = self.counts_before((step + 1) * self.batch_size)
        cell = np.repeat(np.arange(len(self.cells)), last - first)
        visits = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        item = np.concatenate([self.items(c, these) for c, these in enumerate(visits)])
        order = np.random.default_rng([self.seed, 1, step]).permutation(self.batch_size)
        return Draw(cell[order], item[order], np.concatenate(visits)[order])

    def items(self, cell: int, visits: Int[np.ndarray, " V"]) -> Int[np.ndarray, " V"]:
        """The images that visits of a cell show: indices into its pool."""
        return self._order.items(cell, visits)
