"""Cross-entropy per cell on held-out data (paper section 5.1), with and without prefix, with right and wrong images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor

from polyglance.coverage import SPLITS, Coverage, Split
from polyglance.evaluate.cells import CellSamples
from polyglance.mixture.collate import IGNORED, collate, pad, target_ids
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import BOS
from polyglance.model.architecture import Polyglance
from polyglance.model.vision import pixel_values

__all__ = ["VARIANTS", "CellLoss", "cell_losses", "losses_to_dict", "scored_text", "split_loss", "summarise"]

VARIANTS = ("plain", "prefix", "shuffled", "prefix_shuffled")
"""`plain`: every token of the target. `prefix`: the tokens after the language prefix, which is given. `shuffled`: as
`plain` with the next sample's image, so that only what the prompt says can help. `prefix_shuffled`: both."""


@dataclass(frozen=True, kw_only=True)
class CellLoss:
    """The loss of one cell. Sums are kept, so that other averages come from the same record."""

    samples: int
    tokens: int
    """Target tokens that count, end tokens among them."""
    bytes: int
    """UTF-8 bytes of the text that those tokens write."""
    nats: float
    """Sum of the tokens' cross-entropies."""
    mean_nats: float
    """Mean over samples of the per-sample token mean: the paper's loss, and the headline."""
    first_nats: float
    """Mean cross-entropy of the first token that counts. Without a prefix it chooses the language."""


@torch.no_grad()
def cell_losses(
    model: Polyglance,
    tokenizer: Tokenizer,
    samples: CellSamples,
    *,
    prefixes: Mapping[str, str],
    max_source_tokens: int,
    max_target_tokens: int,
    batch_size: int = 128,
    variants: Sequence[str] = VARIANTS,
) -> dict[str, CellLoss]:
    """The loss of a cell in each of the `variants`.

    A target that begins with its language's prefix is scored from where the prefix ends; one that does not is scored
    whole, after a prefix put before it.

    Args:
        prefixes: language code -> prefix.
        max_source_tokens: prompts are cut to this length, as in training.
        max_target_tokens: targets are cut to this length, as in training.
    """
    prefix = prefixes.get(samples.cell.language, "")
    texts = [annotation.text for annotation in samples.annotations]
    found: dict[str, list[tuple[Float[np.ndarray, "_ _"], Int[np.ndarray, " _"]]]] = {name: [] for name in variants}
    for first in range(0, len(texts), batch_size):
        chosen = slice(first, first + batch_size)
        limits = (max_source_tokens, max_target_tokens)
        losses = _batch_losses(model, tokenizer, samples, chosen, prefix, limits, variants)
        for name, value in losses.items():
            found[name].append(value)
    num_bytes = {
        name: sum(len(scored_text(text, prefix if name.startswith("prefix") else "").encode()) for text in texts)
        for name in variants
    }
    return {name: summarise(found[name], num_bytes[name]) for name in variants}


def split_loss(losses: Mapping[str, Mapping[str, CellLoss]], coverage: Coverage, split: Split, variant: str) -> float:
    """Loss of a split: the mean of its cells' `mean_nats`, each cell alike; NaN where the split has none.

    Args:
        losses: cell name -> variant -> loss.
    """
    values = [losses[str(cell)][variant].mean_nats for cell in coverage.split(split) if str(cell) in losses]
    return float(np.mean(values)) if values else float("nan")


def losses_to_dict(losses: Mapping[str, Mapping[str, CellLoss]], coverage: Coverage) -> dict[str, Any]:
    """`{"caption-fr": {"split": "UC", "losses": {"plain": {...}, ...}}}`, as losses.json holds it."""
    split_of = {str(cell): split for split in SPLITS for cell in coverage.split(split)}
    return {
        cell: {"split": split_of.get(cell), "losses": {name: vars(loss) for name, loss in variants.items()}}
        for cell, variants in losses.items()
    }


def _batch_losses(
    model: Polyglance,
    tokenizer: Tokenizer,
    samples: CellSamples,
    chosen: slice,
    prefix: str,
    limits: tuple[int, int],
    variants: Sequence[str],
) -> dict[str, tuple[Float[np.ndarray, "B T"], Int[np.ndarray, "B"]]]:
    """Variant -> token losses and the number of leading tokens that do not count, for one batch."""
    annotations = samples.annotations[chosen]
    texts = [annotation.text for annotation in annotations]
    targets = target_ids(tokenizer, texts, limits[1])
    batch = collate(
        samples.images[chosen],
        target_ids(tokenizer, [prompt_of(annotation) for annotation in annotations], limits[0]),
        targets,
        np.zeros(len(texts), dtype=np.int64),
    )
    images = pixel_values(batch.images)
    prefix_ids = tokenizer.encode(prefix).ids
    begins = [text.startswith(prefix) for text in texts]
    given = [target if begin else [*prefix_ids, *target] for target, begin in zip(targets, begins, strict=True)]
    skipped = np.full(len(texts), len(prefix_ids))
    result = {}
    for suffix, pixels in (("", images), ("shuffled", images.roll(1, dims=0))):
        if not any(name.endswith("shuffled") == bool(suffix) for name in variants):
            continue
        encoded = model.encode(pixels, batch.input_ids, batch.attention_mask)
        plain = _token_losses(model, encoded, targets)
        result[suffix or "plain"] = (plain, np.zeros_like(skipped))
        if (with_prefix := f"prefix_{suffix}".rstrip("_")) in variants:
            after = plain if all(begins) else _token_losses(model, encoded, given)
            result[with_prefix] = (after, skipped)
    return {name: value for name, value in result.items() if name in variants}


def _token_losses(
    model: Polyglance, encoded: tuple[Tensor, Tensor | None], targets: Sequence[Sequence[int]]
) -> Float[np.ndarray, "B T"]:
    """Cross-entropy of each target token; NaN where there is none."""
    states, mask = encoded
    labels = pad(targets, IGNORED)
    inputs = torch.cat([torch.full_like(labels[:, :1], BOS), labels[:, :-1].clamp(min=0)], dim=1)
    hidden = model.decoder(
        input_ids=inputs, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
    ).last_hidden_state
    losses = F.cross_entropy(model.logits(hidden).transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return losses.masked_fill(labels == IGNORED, float("nan")).double().numpy()


def summarise(batches: list[tuple[Float[np.ndarray, "_ _"], Int[np.ndarray, " _"]]], num_bytes: int) -> CellLoss:
    """The loss of a cell.

    Args:
        batches: cross-entropies of the targets' tokens (NaN where there is none), and how many of each row's first
            tokens do not count.
        num_bytes: of the texts that the other tokens write.
    """
    from_first = [row[first:] for rows, skipped in batches for row, first in zip(rows, skipped, strict=True)]
    counted = [row[~np.isnan(row)] for row in from_first]
    return CellLoss(
        samples=len(counted),
        tokens=sum(map(len, counted)),
        bytes=num_bytes,
        nats=float(sum(row.sum() for row in counted)),
        mean_nats=float(np.mean([row.mean() for row in counted])),
        first_nats=float(np.mean([row[0] for row in counted])),
    )


def scored_text(text: str, prefix: str) -> str:
    """What of a text is scored: all, or what comes after a prefix that it begins with."""
    return text[len(prefix) :] if text.startswith(prefix) else text
