"""Order in which the images of a cell are shown. Each order is a formula: (cell, number of the visit) -> image.

`WholeOrder` shuffles all images of a cell again in every epoch: any image may be next, so it is for images in memory.
`WindowOrder` is for data on disk: it mixes like webdataset's shuffle buffer, but is a function of the visit's number,
so that a run can be continued anywhere.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int, Integer

from polyglance.coverage import TASKS, Cell
from polyglance.mixture.random_streams import RandomStream

__all__ = ["Order", "WholeOrder", "WindowOrder"]


class WholeOrder:
    """Show all images of a cell in a new random order in every epoch.

    Args:
        pool_sizes: images of each cell.
    """

    def __init__(self, pool_sizes: Mapping[Cell, int], *, seed: int) -> None:
        self._seed = seed
        self._cells = tuple(pool_sizes)
        self._sizes = tuple(pool_sizes.values())
        self._order = lru_cache(maxsize=2 * len(self._cells))(self._order_of_epoch)

    def items(self, cell: int, visits: Int[np.ndarray, " V"]) -> Int[np.ndarray, " V"]:
        """Return the images that visits of a cell show, as indices into the cell's pool."""
        epochs, places = np.divmod(visits, self._sizes[cell])
        items = np.empty_like(visits)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            items[chosen] = self._order(cell, epoch)[places[chosen]]
        return items

    def _order_of_epoch(self, cell: int, epoch: int) -> Int[np.ndarray, " N"]:
        # Seeded by the cell's name, so that adding a cell to the coverage does not reshuffle the others.
        random = RandomStream.EPOCH_ORDER.generator(self._seed, epoch, *_seed_of(self._cells[cell]))
        return random.permutation(self._sizes[cell])


class WindowOrder:
    """Show row groups in a new random order in every epoch, the same for all cells; shuffle images within windows.

    A window is a number of row groups from anywhere in the data. So the images of successive visits are from few row
    groups, which a reader keeps, and cells that go through the data equally fast read the same ones.

    Args:
        pools: cell -> rows of its images, in ascending order.
        group_starts: first row of each row group of the data set, and the number of rows.
        window_images: wanted number of images of a window, on average.

    Attributes:
        groups_per_window: number of row groups of a window.
        images_per_window: number of images of a window, on average.
    """

    def __init__(
        self,
        pools: Mapping[Cell, Integer[np.ndarray, " _"]],
        group_starts: Int[np.ndarray, " _"],
        *,
        window_images: int,
        seed: int,
    ) -> None:
        self._seed = seed
        self._cells = tuple(pools)
        self._num_groups = len(group_starts) - 1
        self.groups_per_window = min(
            self._num_groups, max(1, round(window_images * self._num_groups / group_starts[-1]))
        )
        self.images_per_window = math.ceil(self.groups_per_window * group_starts[-1] / self._num_groups)
        # For each cell, the index of its first item in each row group.
        self._first_items = [np.searchsorted(rows, group_starts) for rows in pools.values()]
        self._groups = lru_cache(maxsize=4)(self._groups_of_epoch)
        self._bounds = lru_cache(maxsize=2 * len(self._cells))(self._bounds_of_epoch)
        self._window = lru_cache(maxsize=4 * len(self._cells))(self._items_of_window)

    def items(self, cell: int, visits: Int[np.ndarray, " V"]) -> Int[np.ndarray, " V"]:
        """Return the images that visits of a cell show, as indices into the cell's pool."""
        epochs, places = np.divmod(visits, self._first_items[cell][-1])
        items = np.empty_like(visits)
        for epoch in np.unique(epochs).tolist():
            bounds = self._bounds(cell, epoch)
            windows = np.where(epochs == epoch, np.searchsorted(bounds, places, side="right") - 1, -1)
            for window in np.unique(windows[windows >= 0]).tolist():
                chosen = windows == window
                items[chosen] = self._window(cell, epoch, window)[places[chosen] - bounds[window]]
        return items

    def _groups_of_epoch(self, epoch: int) -> Int[np.ndarray, " G"]:
        return RandomStream.GROUP_ORDER.generator(self._seed, epoch).permutation(self._num_groups)

    def _bounds_of_epoch(self, cell: int, epoch: int) -> Int[np.ndarray, " _"]:
        """Return the first visit of each window of an epoch, and of the next epoch."""
        counts = np.diff(self._first_items[cell])[self._groups(epoch)]
        windows = np.add.reduceat(counts, np.arange(0, self._num_groups, self.groups_per_window))
        return np.append(0, np.cumsum(windows))

    def _items_of_window(self, cell: int, epoch: int, window: int) -> Int[np.ndarray, " N"]:
        first = self._first_items[cell]
        groups = self._groups(epoch)[window * self.groups_per_window :][: self.groups_per_window]
        items = np.concatenate([np.arange(first[group], first[group + 1]) for group in groups.tolist()])
        random = RandomStream.WINDOW_ORDER.generator(self._seed, epoch, window, *_seed_of(self._cells[cell]))
        return random.permutation(items)


Order = WholeOrder | WindowOrder
"""Map from a visit to an image of its cell's pool; every image comes once before any comes again."""


def _seed_of(cell: Cell) -> Sequence[int]:
    return [TASKS.index(cell.task), *cell.language.encode()]
