"""Losses per cell of a model in a folder on a data set: what laws are fitted to (paper section 5.1), for any model.

    record = measure_folder(LossConfig(model=Path("out"), data=Path("data/test"), initial=Path("start")))
    record.summary()["UC"]

Studies measure their models as they train them (`polyglance.evaluate.evaluator`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.engines.checkpoints import check_device
from polyglance.evaluate.cells import choose_cells, read_held_out
from polyglance.evaluate.loss import measure_cell
from polyglance.languages import language
from polyglance.model.generate import load_polyglance
from polyglance.model.processor import Processor
from polyglance.progress import track_progress
from polyglance.run_records import CellRecord, LossRecord, Variant

__all__ = ["LossConfig", "measure_folder"]

_VARIANTS: tuple[Variant, ...] = ("plain", "prefix")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Model and data of `polyglance eval loss`."""

    model: Path
    """Folder of a model of this project, with its processor."""
    data: Path
    """Held-out data set: the folder with manifest.json."""
    captioned: tuple[str, ...] = ()
    """Languages that the model was trained to caption in."""
    translated: tuple[str, ...] = ()
    """Languages that it was trained to translate into. With `captioned` this says which cells are measured, and which
    split each belongs to; if neither is given, every cell of the data is measured."""
    initial: Path | None = None
    """Folder of the model before training: its loss on the UC cells is T."""
    samples_per_cell: int = 1000
    """Images of each cell, the first ones."""
    max_target_tokens: int = 512
    """Targets are cut to this many tokens, and to the positions of the decoder."""
    batch_size: int = 32
    """Samples at a time."""
    device: str = "cpu"
    """Where to compute: `cpu`, `cuda` or `cuda:N`."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the weights."""

    def __post_init__(self) -> None:
        for name in ("samples_per_cell", "max_target_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.initial is not None and not self.translated:
            raise ValueError("T is the loss on the UC split: say which languages are captioned and translated")

    @property
    def coverage(self) -> Coverage | None:
        """The cells that the model was trained on; None where no language is given."""
        if not self.captioned and not self.translated:
            return None
        return Coverage(caption=self.captioned, translation=self.translated)


def measure_folder(config: LossConfig, out: Path | None = None) -> LossRecord:
    """Measure the losses of a model.

    Args:
        out: file that gets the record, with the losses of the splits at its top level.

    Raises:
        ValueError: a folder without a model or data, an unknown language, or data that lacks a cell.
    """
    coverage = config.coverage
    record = LossRecord(
        run=config.model.resolve().name,
        cells=_measure(config, config.model, choose_cells(coverage) if coverage else _cells(config.data)),
        initial=_measure(config, config.initial, coverage.split("UC")) if config.initial and coverage else None,
    )
    if out is not None:
        record.write(out, summary=True)
    return record


def _cells(data: Path) -> list[Cell]:
    """List the cells that a data set has."""
    return [Cell.parse(name) for name, rows in ShardReader(data).manifest.rows_per_cell.items() if rows]


def _measure(config: LossConfig, folder: Path, cells: Sequence[Cell]) -> dict[Cell, CellRecord]:
    check_device(config.device)
    model = load_polyglance(folder).to(device=config.device, dtype=getattr(torch, config.dtype)).eval()
    processor = Processor.load(folder)
    processor.check_vocabularies(model.config)
    reader, size = ShardReader(config.data), processor.config.image_size
    records = {}
    with track_progress() as show:
        for number, cell in enumerate(cells, 1):
            (samples,) = read_held_out(reader, [cell], image_size=size, samples_per_cell=config.samples_per_cell)
            losses = measure_cell(
                model,
                processor,
                samples,
                prefix=language(cell.language).prefix,
                max_target_tokens=config.max_target_tokens,
                batch_size=config.batch_size,
                variants=_VARIANTS,
            )
            records[cell] = CellRecord(split=config.coverage.split_of(cell) if config.coverage else None, losses=losses)
            show(folder.name, number, len(cells))
    return records
