"""Losses per cell on a data set, for a model in a folder; laws are fitted to such losses (paper section 5.1).

    record = measure_folder(LossConfig(model=Path("out"), data=Path("data/test"), initial=Path("start")))
    record.summary()["UC"]

Studies measure their models as they train them (`polyglance.evaluate.evaluator`).
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from polyglance.coverage import Cell
from polyglance.data.manifest import choose_prefixes
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime, choose_local_device, join_for_messages
from polyglance.engines.devices import choose_device, choose_dtype
from polyglance.engines.folders import find_folder
from polyglance.evaluate.cells import choose_cells, choose_variants, read_held_out
from polyglance.evaluate.config import LossConfig
from polyglance.evaluate.loss import SampleLoss, measure_batch, sum_up
from polyglance.mixture.tokenizer import choose_writable
from polyglance.model.generate import load_polyglance
from polyglance.model.processor import Processor
from polyglance.progress import track_progress
from polyglance.run_records import CellRecord, LossRecord, Variant

__all__ = [
    "BatchLosses",
    "FolderLosses",
    "ModelRole",
    "list_cells",
    "list_roles",
    "make_loss_record",
    "measure_folder",
    "note_precision",
    "sum_up_cell",
]

ModelRole = Literal["model", "initial"]
"""The model itself, or that before training."""
BatchLosses = dict[Variant, list[SampleLoss]]
"""Variant -> losses of the samples of a batch."""


def measure_folder(config: LossConfig, out: Path | None = None) -> LossRecord:
    """Measure the losses of a model. Under torchrun each process measures every n-th cell. All processes return the
    same record, bit for bit that of a single process, and the first process writes it.

    Args:
        out: file that gets the record, with the losses of the splits at its top level.

    Raises:
        ValueError: a folder without a model or data, an unknown language, or data that lacks a cell.
    """
    with join_for_messages() as runtime:
        cells = {role: _measure(config, role, runtime) for role in list_roles(config)}
    record = make_loss_record(config, cells)
    if out is not None and runtime.is_main:
        record.write(out, summary=True)
    return record


def list_roles(config: LossConfig) -> tuple[ModelRole, ...]:
    """List the models that are measured."""
    return ("model", "initial") if config.initial else ("model",)


def note_precision(config: LossConfig, name: str, dtype: str) -> None:
    """Say that losses in half precision have few digits, if they do and the precision was left open."""
    if config.dtype == "auto" and dtype != "float32":
        print(f"{name}: losses in {dtype} have three digits; --dtype float32 gives more", file=sys.stderr)


def make_loss_record(config: LossConfig, cells: Mapping[ModelRole, Mapping[Cell, CellRecord]]) -> LossRecord:
    """Return the record of a model."""
    return LossRecord(run=config.model.resolve().name, cells=cells["model"], initial=cells.get("initial"))


def list_cells(config: LossConfig, role: ModelRole) -> list[Cell]:
    """List the cells that a model is measured on: all of the coverage or, before training, those of UC."""
    coverage = config.coverage
    if coverage is None:
        return [Cell.parse(name) for name, rows in ShardReader(config.data).manifest.rows_per_cell.items() if rows]
    return list(choose_cells(coverage) if role == "model" else coverage.split("UC"))


def sum_up_cell(config: LossConfig, cell: Cell, batches: Sequence[BatchLosses]) -> CellRecord:
    """Return the record of a cell.

    Args:
        batches: all of the cell's, in their order.
    """
    losses = {name: sum_up([one for batch in batches for one in batch[name]]) for name in batches[0]}
    return CellRecord(split=config.coverage.split_of(cell) if config.coverage else None, losses=losses)


class FolderLosses:
    """One of the models in their folders, which is measured on held-out data.

    Args:
        device: device of the model, as in the configuration.

    Raises:
        ValueError: a folder without a model or data.
    """

    def __init__(self, config: LossConfig, role: ModelRole, *, device: str) -> None:
        self._config = config
        given = config.model if role == "model" else config.initial
        assert given is not None
        self.folder = folder = find_folder(given)
        device = choose_device(device)
        self.dtype = choose_dtype(config.dtype, device)
        self._model = load_polyglance(folder).to(device=device, dtype=getattr(torch, self.dtype)).eval()
        self._processor = Processor.load(folder)
        self._processor.check_vocabularies(self._model.config)
        self.reader = ShardReader(config.data)
        self.prefixes = choose_writable(self._processor.decoder_tokenizer, choose_prefixes(config.data))

    def measure(self, cell: Cell, batches: Sequence[int] | None = None) -> Iterator[BatchLosses]:
        """Measure batches of a cell, one after the other.

        Args:
            batches: numbers of the batches, ascending; None: all.

        Raises:
            ValueError: the data lacks the cell.
        """
        size, per_cell = self._config.batch_size, self._config.samples_per_cell
        firsts = None if batches is None else [batch * size for batch in batches]
        numbers = None if firsts is None else [number for first in firsts for number in range(first, first + size)]
        (samples,) = read_held_out(
            self.reader,
            [cell],
            image_size=self._processor.config.image_size,
            samples_per_cell=per_cell,
            chosen=numbers,
        )
        for first in range(0, len(samples), size):
            yield measure_batch(
                self._model,
                self._processor,
                samples[first : first + size],
                prefix=self.prefixes.get(cell.language, ""),
                max_target_tokens=self._config.max_target_tokens,
                variants=choose_variants(cell, self.prefixes, with_shuffled=False),
            )


def _measure(config: LossConfig, role: ModelRole, runtime: Runtime) -> dict[Cell, CellRecord]:
    """Measure a share of the cells, and return all of them in their order."""
    losses = FolderLosses(config, role, device=choose_local_device(config.device))
    if runtime.is_main:
        note_precision(config, losses.folder.name, losses.dtype)
    cells, records = list_cells(config, role), {}
    with track_progress(show=runtime.is_main) as show:
        for number, cell in enumerate(cells[runtime.rank :: runtime.world_size], 1):
            records[cell] = sum_up_cell(config, cell, list(losses.measure(cell)))
            show(losses.folder.name, min(number * runtime.world_size, len(cells)), len(cells))
    gathered = {cell: record for share in runtime.gather(records) for cell, record in share.items()}
    return {cell: gathered[cell] for cell in cells}
