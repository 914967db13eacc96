"""Losses per cell on a data set, for a model in a folder; laws are fitted to such losses (paper section 5.1).

    record = measure_folder(LossConfig(model=Path("out"), data=Path("data/test"), initial=Path("start")))
    record.summary()["UC"]

Studies measure their models as they train them (`polyglance.evaluate.evaluator`).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from polyglance.coverage import Cell
from polyglance.data.manifest import choose_prefixes
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime, choose_local_device, join_for_messages
from polyglance.engines.devices import choose_device, choose_dtype
from polyglance.evaluate.cells import choose_cells, choose_variants, read_held_out
from polyglance.evaluate.config import LossConfig
from polyglance.evaluate.loss import measure_cell
from polyglance.mixture.tokenizer import can_write
from polyglance.model.generate import load_polyglance
from polyglance.model.processor import Processor
from polyglance.progress import track_progress
from polyglance.run_records import CellRecord, LossRecord

__all__ = ["measure_folder"]


def measure_folder(config: LossConfig, out: Path | None = None) -> LossRecord:
    """Measure the losses of a model. Under torchrun each process measures every n-th cell. All processes return the
    same record, bit for bit that of a single process, and the first process writes it.

    Args:
        out: file that gets the record, with the losses of the splits at its top level.

    Raises:
        ValueError: a folder without a model or data, an unknown language, or data that lacks a cell.
    """
    coverage = config.coverage
    with join_for_messages() as runtime:
        record = LossRecord(
            run=config.model.resolve().name,
            cells=_measure(config, config.model, choose_cells(coverage) if coverage else _cells(config.data), runtime),
            initial=(
                _measure(config, config.initial, coverage.split("UC"), runtime) if config.initial and coverage else None
            ),
        )
    if out is not None and runtime.is_main:
        record.write(out, summary=True)
    return record


def _cells(data: Path) -> list[Cell]:
    """List the cells that a data set has."""
    return [Cell.parse(name) for name, rows in ShardReader(data).manifest.rows_per_cell.items() if rows]


def _measure(config: LossConfig, folder: Path, cells: Sequence[Cell], runtime: Runtime) -> dict[Cell, CellRecord]:
    """Measure a share of the cells, and return all of them in their order."""
    device = choose_device(choose_local_device(config.device))
    dtype = choose_dtype(config.dtype, device)
    if config.dtype == "auto" and dtype != "float32" and runtime.is_main:
        print(f"{folder.name}: losses in {dtype} have three digits; --dtype float32 gives more", file=sys.stderr)
    model = load_polyglance(folder).to(device=device, dtype=getattr(torch, dtype)).eval()
    processor = Processor.load(folder)
    processor.check_vocabularies(model.config)
    reader, size = ShardReader(config.data), processor.config.image_size
    known = choose_prefixes(config.data)
    prefixes = {code: words for code, words in known.items() if can_write(processor.decoder_tokenizer, words)}
    records = {}
    share = cells[runtime.rank :: runtime.world_size]
    with track_progress(show=runtime.is_main) as show:
        for number, cell in enumerate(share, 1):
            (samples,) = read_held_out(reader, [cell], image_size=size, samples_per_cell=config.samples_per_cell)
            losses = measure_cell(
                model,
                processor,
                samples,
                prefix=prefixes.get(cell.language, ""),
                max_target_tokens=config.max_target_tokens,
                batch_size=config.batch_size,
                variants=choose_variants(cell, prefixes, with_shuffled=False),
            )
            records[cell] = CellRecord(split=config.coverage.split_of(cell) if config.coverage else None, losses=losses)
            show(folder.name, min(number * runtime.world_size, len(cells)), len(cells))
    gathered = {cell: record for part in runtime.gather(records) for cell, record in part.items()}
    return {cell: gathered[cell] for cell in cells}
