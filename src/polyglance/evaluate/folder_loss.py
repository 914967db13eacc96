"""Losses per cell of a model in a folder on a data set: what laws are fitted to (paper section 5.1), for any model.

    losses = folder_losses(LossConfig(model=Path("out"), data=Path("data/test"), initial=Path("start")))

Studies measure their models as they train them (`polyglance.evaluate.evaluator`); this measures any model in a folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from polyglance.coverage import SPLITS, Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.engines.checkpoints import check_device
from polyglance.evaluate.cells import evaluated_cells, held_out_samples
from polyglance.evaluate.loss import CellLoss, cell_losses, losses_to_dict, split_loss
from polyglance.files import write_atomically
from polyglance.languages import language
from polyglance.model.generate import load_polyglance
from polyglance.model.processor import Processor
from polyglance.progress import track_progress

__all__ = ["LossConfig", "folder_losses", "summary_rows"]

_VARIANTS = ("plain", "prefix")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Which model is measured on what."""

    model: Path
    """Folder with a model of this project and its processor."""
    data: Path
    """Held-out data set: the folder with manifest.json."""
    captioned: tuple[str, ...] = ()
    """Languages that the model was trained to caption in."""
    translated: tuple[str, ...] = ()
    """Languages that it was trained to translate into. With `captioned` this says which cells are measured, and which
    split each belongs to; without both, every cell of the data is."""
    initial: Path | None = None
    """The model before training: its loss on the UC cells is T."""
    samples_per_cell: int = 1000
    """Images of each cell, the first ones."""
    max_target_tokens: int = 512
    """Targets are cut to this many tokens, and to what the decoder has positions for."""
    batch_size: int = 32
    """Samples at a time."""
    device: str = "cpu"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name in ("samples_per_cell", "max_target_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.initial is not None and not self.translated:
            raise ValueError("T is the loss on the UC split: say which languages are captioned and translated")


def folder_losses(config: LossConfig, out: Path | None = None) -> dict[str, Any]:
    """Measure the losses; the record is that of a study's run, `{"cells": {"caption-fr": {...}}, "UC": ..., ...}`.

    Args:
        out: file that gets the record.

    Raises:
        ValueError: a folder without a model or data, an unknown language, or data that lacks a cell.
    """
    coverage = _coverage(config)
    losses = _losses(config, config.model, evaluated_cells(coverage) if coverage else _cells(config.data))
    record: dict[str, Any] = {"format": 1, "run": config.model.resolve().name}
    record["cells"] = losses_to_dict(losses, coverage or Coverage(caption=("en",)))
    if coverage is None:
        record["cells"] = {name: {**cell, "split": None} for name, cell in record["cells"].items()}
    else:
        for variant, ending in zip(_VARIANTS, ("", "_prefix"), strict=True):
            record |= {
                f"{split}{ending}": split_loss(losses, coverage, split, variant)
                for split in SPLITS
                if coverage.split(split)
            }
    if config.initial is not None and coverage is not None:
        untrained = _losses(config, config.initial, coverage.split("UC"))
        record["initial"] = losses_to_dict(untrained, coverage)
        record |= {"T": split_loss(untrained, coverage, "UC", "plain")}
        record |= {"T_prefix": split_loss(untrained, coverage, "UC", "prefix")}
    if out is not None:
        write_atomically(out, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    return record


def _coverage(config: LossConfig) -> Coverage | None:
    if not config.captioned and not config.translated:
        return None
    return Coverage(caption=config.captioned, translation=config.translated)


def _cells(data: Path) -> list[Cell]:
    return [Cell.parse(name) for name, rows in ShardReader(data).manifest.rows_per_cell.items() if rows]


def _losses(config: LossConfig, folder: Path, cells: Sequence[Cell]) -> dict[str, dict[str, CellLoss]]:
    check_device(config.device)
    model = load_polyglance(folder).to(device=config.device, dtype=getattr(torch, config.dtype)).eval()
    processor = Processor.load(folder)
    processor.check_vocabularies(model.config)
    reader, size = ShardReader(config.data), processor.config.image_size
    losses = {}
    with track_progress() as show:
        for number, cell in enumerate(cells, 1):
            (samples,) = held_out_samples(reader, [cell], image_size=size, samples_per_cell=config.samples_per_cell)
            losses[str(cell)] = cell_losses(
                model,
                processor,
                samples,
                prefix=language(cell.language).prefix,
                max_target_tokens=config.max_target_tokens,
                batch_size=config.batch_size,
                variants=_VARIANTS,
            )
            show(folder.name, number, len(cells))
    return losses


def summary_rows(record: Mapping[str, Any]) -> list[tuple[str, str, float, float]]:
    """Cell, split, and its loss without and with the prefix, for tables."""
    return [
        (name, cell["split"] or "", *(cell["losses"][variant]["mean_nats"] for variant in _VARIANTS))
        for name, cell in record["cells"].items()
    ]
