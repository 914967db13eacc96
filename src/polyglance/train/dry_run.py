"""The data of a run without its model: rate of the batches, lengths of texts, samples that cannot be used."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyglance.mixture.collate import IGNORED
from polyglance.mixture.loader import Loader
from polyglance.train.config import TrainConfig
from polyglance.train.start import make_mixture, make_model_config, make_processor, plan_micro_batches

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The batches of the first steps of a run."""

    num_steps: int
    num_samples: int
    samples_per_s: float
    """Samples per second of one process with its loader processes; training cannot be faster."""
    source_tokens: Mapping[str, float]
    """Prompt tokens of a sample: `mean` and `longest`."""
    target_tokens: Mapping[str, float]
    """Target tokens of a sample: `mean` and `longest`."""
    padding_share: float
    """Share of the positions of prompts and targets that are padding."""
    num_shapes: int
    """Shapes of the micro-batches: samples, lengths that prompts and targets were padded to (`engine.num_shapes`)."""
    samples_per_cell: Mapping[str, int]
    bad_samples: Mapping[str, Any]
    """Samples that could not be used and were replaced: reason -> count and first places."""


def dry_run(config: TrainConfig, *, num_steps: int) -> DryRun:
    """Make the batches of the first steps in this process and its loader processes; no model is loaded. With
    `micro_batch_size = "auto"` a device is taken to have memory for all samples of a step.

    Raises:
        ValueError: data, coverage and configuration do not fit each other.
    """
    model_config = make_model_config(config)
    mixture = make_mixture(config, make_processor(config, model_config), model_config)
    num_micro_batches = plan_micro_batches(config, mixture, model_config, max_samples=config.mixture.batch_size)
    cells: Counter[str] = Counter()
    source_lengths: list[int] = []
    target_lengths: list[int] = []
    num_positions = 0
    shapes: set[tuple[int, ...]] = set()
    with Loader(
        mixture,
        first_step=0,
        num_steps=num_steps,
        micro_batches=range(num_micro_batches),
        num_micro_batches=num_micro_batches,
        num_workers=config.engine.num_workers,
    ) as loader:
        since_s = time.monotonic()
        for _, _, batch in loader:
            cells.update(str(mixture.cells[cell]) for cell in batch.cell.tolist())
            source_lengths += batch.attention_mask.sum(1).tolist()
            target_lengths += (batch.labels != IGNORED).sum(1).tolist()
            shapes.add((*batch.input_ids.shape, *batch.labels.shape))
            num_positions += batch.input_ids.numel() + batch.labels.numel()
        seconds = time.monotonic() - since_s
    num_samples = num_steps * config.mixture.batch_size
    return DryRun(
        num_steps=num_steps,
        num_samples=num_samples,
        samples_per_s=num_samples / seconds,
        source_tokens=_summarise(source_lengths),
        target_tokens=_summarise(target_lengths),
        padding_share=1 - (sum(source_lengths) + sum(target_lengths)) / num_positions,
        num_shapes=len(shapes),
        samples_per_cell=dict(sorted(cells.items())),
        bad_samples=loader.bad_samples.to_dict(),
    )


def _summarise(lengths: Sequence[int]) -> dict[str, float]:
    return {"mean": float(np.mean(lengths)), "longest": max(lengths)}
