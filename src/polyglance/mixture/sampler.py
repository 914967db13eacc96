"""Cell and image of every sample, as a pure function of (seed, sample number).

Each cell gets its target share of the samples (paper section 2.5): the k-th sample of a cell with share w is due at
time (k + 1/2) / w, and samples are taken in order of these times. With n cells, a cell is at no point more than n / 2
samples away from its share, so well within a batch. The published sampler approximates this with counters in every
loader worker. Here it is a formula of the sample's number, so that a run continued on any number of workers or ranks
sees the same samples, and the only state is the step.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from polyglance.coverage import Cell, Coverage
from polyglance.mixture.config import Balance
from polyglance.mixture.order import Order, WholeOrder
from polyglance.mixture.random_streams import RandomStream

__all__ = ["CellSampler", "Draw", "compute_cell_weights"]


def compute_cell_weights(coverage: Coverage, balance: Balance | Mapping[str, float]) -> dict[Cell, float]:
    """Return the target share of each trained cell; the shares sum to 1.

    Args:
        balance: `cell`: all cells equal (published as task-lang-balancing). `task`: all tasks equal, and the cells
            within a task. `language`: all languages equal, and the cells within a language. Or a table such as
            `{"caption-de": 2.0, ...}`, which names every trained cell.

    Raises:
        ValueError: a table that lacks a cell, names one outside the coverage, or has a share that is not positive.
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


class Draw(NamedTuple):
    """The samples of one step: index into the sampler's cells, index into the cell's pool of images, and number of the
    sample within its cell, from 0 over the whole run."""

    cell: Int[np.ndarray, "B"]
    item: Int[np.ndarray, "B"]
    visit: Int[np.ndarray, "B"]


class CellSampler:
    """Draw the samples of any step.

    Args:
        weights: target share of each cell; the shares sum to 1.
        pool_sizes: cell -> number of images that have an annotation for it.
        batch_size: samples of one step.
        order: order of a cell's images; None: all of them shuffled again in every epoch.

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
        """Return the number of samples of each cell among the first `num_samples` samples."""
        # All samples due before time n - C lie among the first n, and at most 2 C more have to be put in order.
        due = np.ceil(self._shares * max(num_samples - len(self.cells), 0) - 0.5)
        counts = np.maximum(due, 0).astype(np.int64)
        while counts.sum() < num_samples:
            counts[np.argmin((counts + 0.5) / self._shares)] += 1
        return counts

    def draw(self, step: int) -> Draw:
        """Return the samples of a step, in an order that mixes the cells."""
        first = self.counts_before(step * self.batch_size)
        last = self.counts_before((step + 1) * self.batch_size)
        cell = np.repeat(np.arange(len(self.cells)), last - first)
        visits = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        item = np.concatenate([self.items(c, cell_visits) for c, cell_visits in enumerate(visits)])
        order = RandomStream.STEP_ORDER.generator(self.seed, step).permutation(self.batch_size)
        return Draw(cell[order], item[order], np.concatenate(visits)[order])

    def items(self, cell: int, visits: Int[np.ndarray, " V"]) -> Int[np.ndarray, " V"]:
        """Return the images that visits of a cell show, as indices into its pool."""
        return self._order.items(cell, visits)
