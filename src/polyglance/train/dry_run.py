"""The data of a run without its model: how fast batches come, how long texts are, what cannot be used."""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from polyglance.mixture.collate import IGNORED
from polyglance.mixture.loader import Loader
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.configuration import PolyglanceConfig
from polyglance.train.config import TrainConfig
from polyglance.train.run import mixture_for, processor_for

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What the first steps of a run would be fed with."""

    num_steps: int
    num_samples: int
    samples_per_s: float
    """Of one process with its loader processes; a training step cannot be faster than this feeds it."""
    source_tokens: dict[str, float]
    """Prompt tokens of a sample: mean, and longest."""
    target_tokens: dict[str, float]
    """Target tokens of a sample: mean, and longest."""
    padding_share: float
    """Share of the positions of prompts and targets that are padding."""
    samples_per_cell: dict[str, int]
    bad_samples: dict[str, Any]
    """Samples that could not be used and were replaced: reason -> count and first places."""


def dry_run(config: TrainConfig, *, num_steps: int) -> DryRun:
    """Make the batches of the first steps in this process and its loader processes; no model is loaded.

    Raises:
        ValueError: data, coverage and configuration do not fit each other.
    """
    checkpoint = config.start.checkpoint
    if checkpoint is not None:
        model_config = PolyglanceConfig.from_pretrained(checkpoint)
    else:
        assert config.tokenizer is not None
        model_config = config.start.model.build(load_tokenizer(config.tokenizer).get_vocab_size())
    mixture = mixture_for(config, processor_for(config, model_config))
    num_parts = config.engine.num_micro_batches(config.mixture.batch_size, 1)
    cells: Counter[str] = Counter()
    lengths: dict[str, list[int]] = {"source": [], "target": []}
    num_positions = 0
    with Loader(
        mixture,
        first_step=0,
        num_steps=num_steps,
        micro_batches=range(num_parts),
        num_micro_batches=num_parts,
        num_workers=config.engine.num_workers,
    ) as loader:
        since_s = time.monotonic()
        for _, _, batch in loader:
            cells.update(str(mixture.cells[cell]) for cell in batch.cell.tolist())
            lengths["source"] += batch.attention_mask.sum(1).tolist()
            lengths["target"] += (batch.labels != IGNORED).sum(1).tolist()
            num_positions += batch.input_ids.numel() + batch.labels.numel()
        seconds = time.monotonic() - since_s
    num_samples = num_steps * config.mixture.batch_size
    return DryRun(
        num_steps=num_steps,
        num_samples=num_samples,
        samples_per_s=num_samples / seconds,
        source_tokens={"mean": float(np.mean(lengths["source"])), "longest": max(lengths["source"])},
        target_tokens={"mean": float(np.mean(lengths["target"])), "longest": max(lengths["target"])},
        padding_share=1 - (sum(lengths["source"]) + sum(lengths["target"])) / num_positions,
        samples_per_cell=dict(sorted(cells.items())),
        bad_samples=loader.bad_samples.to_dict(),
    )
