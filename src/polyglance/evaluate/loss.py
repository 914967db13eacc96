"""Cross-entropy per cell on held-out data (paper section 5.1), with and without prefix, with right and wrong images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyglance.distributed import Runtime
from polyglance.evaluate.cells import CellSamples
from polyglance.mixture.collate import IGNORED, find_places, pad, pad_with_mask
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import encode_prompts, encode_texts
from polyglance.model.architecture import Polyglance
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels
from polyglance.run_records import VARIANTS, CellLoss, Variant

__all__ = [
    "SampleLoss",
    "cut_prefix",
    "encode_labels",
    "find_limits",
    "frame_prompts",
    "measure_batch",
    "measure_cell",
    "measure_tokens",
    "sum_up",
]


@dataclass(frozen=True, kw_only=True)
class SampleLoss:
    """Loss of one sample of a cell in one variant, as far as the loss of the cell depends on it."""

    tokens: int
    """Target tokens that count."""
    bytes: int
    """UTF-8 bytes of the text that they write."""
    nats: float
    """Sum of their cross-entropies."""
    mean_nats: float
    """Mean of these."""
    first_nats: float
    """Cross-entropy of the first."""


@torch.no_grad()
def measure_cell(
    model: Polyglance,
    processor: Processor,
    samples: CellSamples,
    *,
    prefix: str,
    max_source_tokens: int | None = None,
    max_target_tokens: int,
    batch_size: int = 128,
    variants: Sequence[Variant] = VARIANTS,
    runtime: Runtime | None = None,
    num_shares: int | None = None,
) -> dict[Variant, CellLoss]:
    """Measure the loss of a cell in each of the `variants`.

    A target that begins with its language's prefix is scored from the end of the prefix; any other target is scored
    whole, after a prefix that is put before it. Prefix and rest are tokenised apart, as when a caption is generated.

    Args:
        prefix: prefix of the cell's language.
        max_source_tokens: prompts are cut to this length, as in training; None: to the positions of the encoder.
        max_target_tokens: targets are cut to this length, as in training.
        batch_size: samples at a time, over all processes.
        runtime: the processes that share the rows of every batch; None: this process alone. Each makes the same
            number of passes through the model, because a model whose weights are divided over processes has to be
            called by all of them together. Every process returns the same losses; they equal those of a single
            process up to the model's precision.
        num_shares: shares of every batch, a multiple of the processes; None: as many as processes. With the same number
            of shares, every number of processes returns the same digits.
    """
    runtime = runtime or Runtime.single()
    num_shares = num_shares or runtime.world_size
    if num_shares % runtime.world_size:
        raise ValueError(f"{runtime.world_size} processes cannot measure in {num_shares} shares; expected a multiple")
    limits = find_limits(model, processor, max_source_tokens, max_target_tokens)
    local: dict[Variant, list[tuple[int, SampleLoss]]] = {name: [] for name in variants}
    for first in range(0, len(samples), batch_size):
        batch = samples[first : first + batch_size]
        for number in range(runtime.rank, num_shares, runtime.world_size):
            share = np.arange(number, len(batch), num_shares)
            # For a share without a row the first row is computed, and the result is not counted.
            rows = share if len(share) else np.zeros(1, dtype=np.int64)
            losses = _batch_losses(model, processor, batch, rows, prefix, limits, variants)
            for name, row_losses in losses.items():
                local[name] += zip((first + share).tolist(), row_losses, strict=False)
    shares = runtime.gather(local)
    by_number = {name: dict(row for share in shares for row in share[name]) for name in variants}
    return {name: sum_up([rows[number] for number in sorted(rows)]) for name, rows in by_number.items()}


@torch.no_grad()
def measure_batch(
    model: Polyglance,
    processor: Processor,
    samples: CellSamples,
    *,
    prefix: str,
    max_target_tokens: int,
    variants: Sequence[Variant],
) -> dict[Variant, list[SampleLoss]]:
    """Measure all samples at once, as `measure_cell` measures each of its batches: `sum_up` of the samples of all
    batches in their order is its result, bit for bit."""
    limits = find_limits(model, processor, None, max_target_tokens)
    rows = np.arange(len(samples))
    return _batch_losses(model, processor, samples, rows, prefix, limits, variants)


def find_limits(
    model: Polyglance, processor: Processor, max_source_tokens: int | None, max_target_tokens: int
) -> tuple[int, int]:
    """Return the most tokens of a prompt and of a target.

    Args:
        max_source_tokens, max_target_tokens: as for `measure_cell`.
    """
    positions = model.config.decoder_config.max_position_embeddings
    return max_source_tokens or processor.config.max_prompt_tokens, min(max_target_tokens, positions - 1)


_Row = Float[np.ndarray, "_"]
"""Cross-entropies of the tokens of one sample that are scored."""


def _batch_losses(
    model: Polyglance,
    processor: Processor,
    batch: CellSamples,
    rows: Int[np.ndarray, "R"],
    prefix: str,
    limits: tuple[int, int],
    variants: Sequence[Variant],
) -> dict[Variant, list[SampleLoss]]:
    """Return variant -> losses, for some rows of a batch. The model is called equally often for any rows."""
    texts = [annotation.text for annotation in batch.annotations]
    input_ids, mask = frame_prompts(processor, [prompt_of(batch.annotations[row]) for row in rows], limits[0])
    plain_targets = encode_labels(processor, texts, "", limits[1])
    prefixed_targets = encode_labels(processor, [cut_prefix(text, prefix) for text in texts], prefix, limits[1])
    num_given = len(processor.start_ids(prefix)) - 1
    result: dict[Variant, list[SampleLoss]] = {}
    for suffix, image_rows in (("", rows), ("shuffled", rows - 1)):
        wanted = [name for name in variants if name.endswith("shuffled") == bool(suffix)]
        if not wanted:
            continue
        pixels = normalise_pixels(torch.from_numpy(batch.images[image_rows])).to(model.device, model.dtype)
        encoded = model.encode(pixels, input_ids.to(model.device), mask.to(model.device))
        known: dict[bool, list[_Row]] = {}
        for name in wanted:
            is_after = name.startswith("prefix")
            if is_after not in known:  # where every text begins with the prefix, both are the same tokens
                same = known.get(not is_after) if plain_targets == prefixed_targets else None
                targets = [(prefixed_targets if is_after else plain_targets)[row] for row in rows]
                known[is_after] = measure_tokens(model, encoded, targets) if same is None else same
            scored = [row[num_given if is_after else 0 :] for row in known[is_after]]
            written = [cut_prefix(texts[row], prefix if is_after else "") for row in rows]
            result[name] = [_sample_loss(row, text) for row, text in zip(scored, written, strict=True)]
    return result


def frame_prompts(
    processor: Processor, prompts: Sequence[str], max_tokens: int
) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"]]:
    """Return ids of prompts, cut as in training, and their mask."""
    rows = [processor.frames.prompt(ids, max_tokens) for ids in encode_prompts(processor.encoder_tokenizer, prompts)]
    return pad_with_mask(rows, processor.config.prompt_pad_id)


def encode_labels(processor: Processor, texts: Sequence[str], prefix: str, max_tokens: int) -> list[list[int]]:
    """Return the labels of texts after a prefix."""
    (before,) = encode_texts(processor.decoder_tokenizer, [prefix])
    return [
        processor.frames.target([*before, *ids], max_tokens) for ids in encode_texts(processor.decoder_tokenizer, texts)
    ]


def measure_tokens(
    model: Polyglance, encoded: tuple[Tensor, Tensor | None], targets: Sequence[Sequence[int]]
) -> list[_Row]:
    """Return the cross-entropy of each token of each target."""
    states, mask = encoded
    labels = pad(targets, IGNORED)
    places = find_places(labels).to(model.device)
    nats = model.nats(states, mask, labels.to(model.device), places=places).double().cpu().numpy()
    return [row[: len(target)] for row, target in zip(nats, targets, strict=True)]


def _sample_loss(row: _Row, text: str) -> SampleLoss:
    return SampleLoss(
        tokens=len(row),
        bytes=len(text.encode()),
        nats=float(row.sum()),
        mean_nats=float(row.mean()),
        first_nats=float(row[0]),
    )


def sum_up(samples: Sequence[SampleLoss]) -> CellLoss:
    """Sum up the samples of a cell, one after the other: the same samples in the same order give the same bits."""
    return CellLoss(
        samples=len(samples),
        tokens=sum(one.tokens for one in samples),
        bytes=sum(one.bytes for one in samples),
        nats=float(sum(np.array([one.nats for one in samples]))),  # numpy's numbers are added without compensation
        mean_nats=float(np.mean([one.mean_nats for one in samples])),
        first_nats=float(np.mean([one.first_nats for one in samples])),
    )


def cut_prefix(text: str, prefix: str) -> str:
    """Return the part of a text that is scored: what follows the prefix where the text begins with it, else all."""
    return text.removeprefix(prefix)
