"""The held-out samples of each cell: the first ones of the test data that have it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture.images import ImageStore
from polyglance.mixture.texts import make_cell_pools
from polyglance.records import Annotation

__all__ = ["CellSamples", "evaluated_cells", "held_out_samples"]


@dataclass(frozen=True, kw_only=True)
class CellSamples:
    """Held-out samples of one cell."""

    cell: Cell
    keys: Sequence[str]
    images: UInt8[np.ndarray, "N H W 3"]
    annotations: Sequence[Annotation]


def evaluated_cells(coverage: Coverage, rows_per_cell: Mapping[str, int] | None = None) -> tuple[Cell, ...]:
    """The trained cells and those of UC; of these what held-out data has, where its `rows_per_cell` is given. The
    paper measures UC on two of its four unseen languages (section 5.1).

    Raises:
        ValueError: the data has nothing of UC, though the coverage leaves something unseen.
    """
    cells = tuple(dict.fromkeys((*coverage.cells, *coverage.split("UC"))))
    if rows_per_cell is None:
        return cells
    unseen = coverage.split("UC")
    if unseen and not any(rows_per_cell.get(str(cell)) for cell in unseen):
        raise ValueError(f"the held-out data has none of {', '.join(map(str, unseen))}, which UC is measured on")
    return tuple(cell for cell in cells if rows_per_cell.get(str(cell)))


def held_out_samples(
    reader: ShardReader, cells: Sequence[Cell], *, image_size: int, samples_per_cell: int
) -> list[CellSamples]:
    """For each cell the first `samples_per_cell` images that have it, each with its first annotation.

    Raises:
        ValueError: a cell without any.
    """
    store = ImageStore(reader, image_size)
    table = reader.annotations()
    samples = []
    for cell, pool in make_cell_pools(table, tuple(cells)).items():
        if not len(pool.rows):
            raise ValueError(f"{reader.directory}: no held-out image has {cell}")
        rows: Int[np.ndarray, "N"] = pool.rows[:samples_per_cell]
        samples.append(
            CellSamples(
                cell=cell,
                keys=[record.key for record in reader.read(rows.tolist())],
                images=store[rows.tolist()],
                annotations=[table.annotation(int(i)) for i in pool.annotations[pool.first[: len(rows)]]],
            )
        )
    return samples
