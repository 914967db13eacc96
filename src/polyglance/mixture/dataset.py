"""A data set under a coverage, as an endless sequence of batches."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import AnnotationTable, ShardReader
from polyglance.mixture.collate import Batch, collate, target_ids
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.images import ImageStore
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.sampler import CellSampler, cell_weights
from polyglance.records import Annotation

__all__ = ["Mixture", "cell_pools"]


@dataclass(frozen=True)
class CellPool:
    """The images that have annotations for one cell, and which those are."""

    rows: Int[np.ndarray, "N"]
    """Rows of the data set."""
    first: Int[np.ndarray, "N+1"]
    """Annotations of the i-th image are `annotations[first[i] : first[i + 1]]`."""
    annotations: Int[np.ndarray, "M"]
    """Indices into the annotation table."""


def cell_pools(table: AnnotationTable, cells: tuple[Cell, ...]) -> dict[Cell, CellPool]:
    """For each cell the images that can show it."""
    entries: dict[Cell, list[tuple[int, int]]] = {cell: [] for cell in cells}
    for index, entry in enumerate(zip(table.rows(), table.task, table.language, strict=True)):
        row, cell = entry[0], Cell(entry[1], entry[2])
        if cell in entries:
            entries[cell].append((row, index))
    return {cell: _pool(np.array(found, dtype=np.int64).reshape(-1, 2)) for cell, found in entries.items()}


def _pool(found: Int[np.ndarray, "M 2"]) -> CellPool:
    rows, first = np.unique(found[:, 0], return_index=True)
    return CellPool(rows=rows, first=np.append(first, len(found)), annotations=found[:, 1])


class Mixture:
    """Batches of a data set. `batch(step)` depends on nothing but the configuration, the seed and the step.

    Raises:
        ValueError: the data has no image for a covered cell, or the balance table does not fit the coverage.
    """

    def __init__(
        self,
        config: MixtureConfig,
        coverage: Coverage,
        reader: ShardReader,
        tokenizer: Tokenizer,
        *,
        image_size: int,
        seed: int,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.seed = seed
        self._table = reader.annotations()
        self._images = ImageStore(reader, image_size)
        self._pools = list((pools := cell_pools(self._table, coverage.cells)).values())
        self._sampler = CellSampler(
            cell_weights(coverage, config.balance),
            {cell: len(pool.rows) for cell, pool in pools.items()},
            batch_size=config.batch_size,
            seed=seed,
        )
        self.cells = self._sampler.cells

    def batch(self, step: int) -> Batch:
        """The samples of an optimiser step."""
        draw = self._sampler.draw(step)
        rows, annotations = [], []
        for cell, item, visit in zip(draw.cell.tolist(), draw.item.tolist(), draw.visit.tolist(), strict=True):
            pool = self._pools[cell]
            rows.append(int(pool.rows[item]))
            first, last = int(pool.first[item]), int(pool.first[item + 1])
            # One annotation per visit; going round them shows all before any is shown again.
            chosen = pool.annotations[first + (visit // len(pool.rows) + item) % (last - first)]
            annotations.append(self._table.annotation(int(chosen)))
        prompts = [prompt_of(self._masked(a, step, place)) for place, a in enumerate(annotations)]
        return collate(
            self._images[rows],
            target_ids(self.tokenizer, prompts, self.config.max_source_tokens),
            target_ids(self.tokenizer, [a.text for a in annotations], self.config.max_target_tokens),
            draw.cell,
        )

    def samples_per_cell(self, num_steps: int) -> dict[str, int]:
        """S by cell after so many steps: exact, because the draw is a formula."""
        counts = self._sampler.counts_before(num_steps * self.config.batch_size)
        return {str(cell): int(count) for cell, count in zip(self.cells, counts, strict=True)}

    def _masked(self, annotation: Annotation, step: int, place: int) -> Annotation:
        """The annotation with some source words hidden, where masking is on and hits this sample."""
        masking = self.config.source_masking
        if not masking.samples or annotation.source is None:
            return annotation
        random = np.random.default_rng([self.seed, 3, step, place])
        if random.random() >= masking.samples:
            return annotation
        words = annotation.source.split(" ")
        hidden = random.permutation(len(words))[: round(masking.words * len(words))]
        for index in hidden.tolist():
            words[index] = "<mask>"
        return Annotation(
            task=annotation.task,
            language=annotation.language,
            text=annotation.text,
            source=" ".join(words),
            style=annotation.style,
        )
