"""Held-out samples of each cell: the first ones of the test data that have it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, UInt8

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture.images import ImageStore
from polyglance.mixture.texts import make_cell_pools
from polyglance.records import Annotation
from polyglance.run_records import VARIANTS, Variant

__all__ = ["CellSamples", "choose_cells", "choose_variants", "count_held_out", "read_held_out"]


@dataclass(frozen=True, kw_only=True)
class CellSamples:
    """Held-out samples of one cell."""

    cell: Cell
    keys: Sequence[str]
    """Image keys."""
    images: UInt8[np.ndarray, "N H W 3"]
    annotations: Sequence[Annotation]
    """Text of the cell for each image."""

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, chosen: slice) -> "CellSamples":
        """Return some of the samples, in their order; there may be none."""
        return replace(self, keys=self.keys[chosen], images=self.images[chosen], annotations=self.annotations[chosen])


def choose_variants(cell: Cell, prefixes: Mapping[str, str], *, with_shuffled: bool = True) -> tuple[Variant, ...]:
    """Return the ways in which a cell can be measured: after the prefix only where its language has one."""
    has_prefix = bool(prefixes.get(cell.language))
    return tuple(
        name
        for name in VARIANTS
        if (has_prefix or not name.startswith("prefix")) and (with_shuffled or not name.endswith("shuffled"))
    )


def choose_cells(coverage: Coverage, rows_per_cell: Mapping[str, int] | None = None) -> tuple[Cell, ...]:
    """Return the trained cells and those of UC, in the coverage's order.

    Args:
        rows_per_cell: annotations of each cell in the held-out data; cells without any are left out. The paper
            measures UC on two of its four unseen languages (section 5.1).

    Raises:
        ValueError: the coverage leaves cells unseen, and the data has none of them.
    """
    unseen = coverage.split("UC")
    cells = tuple(dict.fromkeys((*coverage.cells, *unseen)))
    if rows_per_cell is None:
        return cells
    if unseen and not any(rows_per_cell.get(str(cell)) for cell in unseen):
        raise ValueError(f"the held-out data has no text of {', '.join(map(str, unseen))}, needed for UC")
    return tuple(cell for cell in cells if rows_per_cell.get(str(cell)))


def count_held_out(reader: ShardReader, cells: Sequence[Cell], samples_per_cell: int) -> list[int]:
    """Return the number of samples that `read_held_out` reads of each cell."""
    pools = make_cell_pools(reader.annotations(), tuple(cells))
    return [min(len(pools[cell].rows), samples_per_cell) for cell in cells]


def read_held_out(
    reader: ShardReader,
    cells: Sequence[Cell],
    *,
    image_size: int,
    samples_per_cell: int,
    chosen: Sequence[int] | None = None,
) -> list[CellSamples]:
    """Read for each cell the first images that have it, each with its first annotation.

    Args:
        image_size: side of the square images, in pixels.
        samples_per_cell: images of each cell, at most.
        chosen: numbers of the samples that are read, as far as there are so many; None: all.

    Raises:
        ValueError: no image has one of the cells.
    """
    store = ImageStore(reader, image_size)
    table = reader.annotations()
    samples = []
    for cell, pool in make_cell_pools(table, tuple(cells)).items():
        if not len(pool.rows):
            raise ValueError(f"{reader.directory}: no held-out image has {cell}")
        numbers = np.arange(len(pool.rows))[:samples_per_cell]
        if chosen is not None:
            numbers = numbers[[number for number in chosen if number < len(numbers)]]
        rows: Int[np.ndarray, "N"] = pool.rows[numbers]
        samples.append(
            CellSamples(
                cell=cell,
                keys=[record.key for record in reader.read(rows.tolist())],
                images=store[rows.tolist()],
                annotations=[table.annotation(int(i)) for i in pool.annotations[pool.first[numbers]]],
            )
        )
    return samples
