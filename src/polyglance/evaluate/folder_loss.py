"""Losses per cell of a model in a folder on a data set: what laws are fitted to (paper section 5.1), for any model.

    losses = folder_losses(LossConfig(model=Path("out"), data=Path("data/test"), initial=Path("start")))

Studies measure their small models as they train them (`polyglance.evaluate.evaluator`); this reads prompts and targets
with the folder's own processor, so that it serves models with two tokenizers, on any device.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from polyglance.config import write_atomically
from polyglance.coverage import SPLITS, Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.evaluate.cells import CellSamples, evaluated_cells, held_out_samples
from polyglance.evaluate.loss import CellLoss, losses_to_dict, scored_text, split_loss, summarise
from polyglance.languages import language
from polyglance.mixture.collate import IGNORED, pad
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import encode
from polyglance.model.architecture import Polyglance
from polyglance.model.baselines.library import check_device
from polyglance.model.generate import load_model
from polyglance.model.processor import Processor
from polyglance.model.vision import pixel_values
from polyglance.progress import progress

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
    measured = _Measured(config, folder)
    reader, size = ShardReader(config.data), measured.processor.config.image_size
    losses = {}
    with progress() as show:
        for number, cell in enumerate(cells, 1):
            (samples,) = held_out_samples(reader, [cell], image_size=size, samples_per_cell=config.samples_per_cell)
            losses[str(cell)] = measured.losses(samples)
            show(folder.name, number, len(cells))
    return losses


class _Measured:
    """A model, its processor, and how it is measured."""

    def __init__(self, config: LossConfig, folder: Path) -> None:
        check_device(config.device)
        self.config = config
        self.model: Polyglance = load_model(folder).to(device=config.device, dtype=getattr(torch, config.dtype)).eval()
        self.processor = Processor.load(folder)
        self.processor.check_vocabularies(self.model.config)
        positions = self.model.config.decoder_config.max_position_embeddings
        self._room = min(config.max_target_tokens, positions) - len(self.processor.config.target_start_ids)

    @torch.no_grad()
    def losses(self, samples: CellSamples) -> dict[str, CellLoss]:
        """The loss of a cell, with every token counted, and with those after the language's prefix, which is given."""
        prefix = language(samples.cell.language).prefix
        texts = [annotation.text for annotation in samples.annotations]
        found: dict[str, list[tuple[Float[np.ndarray, "_ _"], Int[np.ndarray, " _"]]]] = {
            name: [] for name in _VARIANTS
        }
        for first in range(0, len(texts), self.config.batch_size):
            chosen = slice(first, first + self.config.batch_size)
            encoded = self._encode(samples, chosen)
            for name in _VARIANTS:
                found[name].append(self._batch(encoded, texts[chosen], prefix if name == "prefix" else ""))
        num_bytes = {
            "plain": sum(len(text.encode()) for text in texts),
            "prefix": sum(len(scored_text(text, prefix).encode()) for text in texts),
        }
        return {name: summarise(found[name], num_bytes[name]) for name in _VARIANTS}

    def _encode(self, samples: CellSamples, chosen: slice) -> tuple[Tensor, Tensor | None]:
        settings, model = self.processor.config, self.model
        room = settings.max_prompt_tokens - len(settings.prompt_start_ids) - len(settings.prompt_end_ids)
        inner = encode(self.processor.encoder_tokenizer, [prompt_of(one) for one in samples.annotations[chosen]])
        rows = [[*settings.prompt_start_ids, *ids[:room], *settings.prompt_end_ids] for ids in inner]
        input_ids = pad(rows, settings.prompt_pad_id)
        mask = (torch.arange(input_ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]).long()
        pixels = pixel_values(torch.from_numpy(samples.images[chosen])).to(model.device, model.dtype)
        return model.encode(pixels, input_ids.to(model.device), mask.to(model.device))

    def _batch(
        self, encoded: tuple[Tensor, Tensor | None], texts: Sequence[str], prefix: str
    ) -> tuple[Float[np.ndarray, "B T"], Int[np.ndarray, " B"]]:
        """Cross-entropies of the targets' tokens, NaN where there is none, and the number of those that are given."""
        model, (states, mask) = self.model, encoded
        start = self.processor.start_ids(prefix)
        rests = encode(self.processor.decoder_tokenizer, [scored_text(text, prefix) for text in texts])
        room = max(1, self._room - len(start))
        rows = [[*start, *ids[:room], model.config.eos_token_id] for ids in rests]
        labels = pad([row[1:] for row in rows], IGNORED).to(model.device)
        hidden = model.decoder(
            input_ids=pad([row[:-1] for row in rows], model.config.pad_token_id).to(model.device),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        logits = model.logits(hidden).float().transpose(1, 2)
        losses = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
        nats = losses.double().masked_fill(labels == IGNORED, float("nan")).cpu().numpy()
        given = len(start) - 1 if prefix else 0
        return nats, np.full(len(texts), given)


def summary_rows(record: Mapping[str, Any]) -> list[tuple[str, str, float, float]]:
    """Cell, split, and its loss without and with the prefix, for tables."""
    return [
        (name, cell["split"] or "", *(cell["losses"][variant]["mean_nats"] for variant in _VARIANTS))
        for name, cell in record["cells"].items()
    ]
