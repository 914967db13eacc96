"""Cross-entropy per cell on held-out data (paper section 5.1), with and without prefix, with right and wrong images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from polyglance.coverage import SPLITS, Coverage, Split
from polyglance.evaluate.cells import CellSamples
from polyglance.mixture.collate import IGNORED, pad
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import encode
from polyglance.model.architecture import Polyglance
from polyglance.model.processor import Processor
from polyglance.model.vision import pixel_values

__all__ = ["VARIANTS", "CellLoss", "cell_losses", "losses_to_dict", "scored_text", "split_loss"]

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
    processor: Processor,
    samples: CellSamples,
    *,
    prefix: str,
    max_source_tokens: int | None = None,
    max_target_tokens: int,
    batch_size: int = 128,
    variants: Sequence[str] = VARIANTS,
) -> dict[str, CellLoss]:
    """The loss of a cell in each of the `variants`.

    A target that begins with its language's prefix is scored from where the prefix ends; one that does not is scored
    whole, after a prefix put before it. Prefix and rest are tokens of their own, as when a caption is generated.

    Args:
        prefix: of the cell's language.
        max_source_tokens: prompts are cut to this length, as in training; None: to what the encoder has positions for.
        max_target_tokens: targets are cut to this length, as in training.
    """
    texts = [annotation.text for annotation in samples.annotations]
    positions = model.config.decoder_config.max_position_embeddings
    limits = (max_source_tokens or processor.config.max_prompt_tokens, min(max_target_tokens, positions - 1))
    found: dict[str, list[tuple[Float[np.ndarray, "_ _"], int]]] = {name: [] for name in variants}
    for first in range(0, len(texts), batch_size):
        chosen = slice(first, first + batch_size)
        losses = _batch_losses(model, processor, samples, chosen, prefix, limits, variants)
        for name, value in losses.items():
            found[name].append(value)
    num_bytes = {
        name: sum(len(scored_text(text, prefix if name.startswith("prefix") else "").encode()) for text in texts)
        for name in variants
    }
    return {name: _summary(found[name], num_bytes[name]) for name in variants}


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
    processor: Processor,
    samples: CellSamples,
    chosen: slice,
    prefix: str,
    limits: tuple[int, int],
    variants: Sequence[str],
) -> dict[str, tuple[Float[np.ndarray, "B T"], int]]:
    """Variant -> token losses and the number of leading tokens that do not count, for one batch."""
    annotations = samples.annotations[chosen]
    texts = [annotation.text for annotation in annotations]
    input_ids, mask = _prompts(processor, [prompt_of(annotation) for annotation in annotations], limits[0])
    images = pixel_values(torch.from_numpy(samples.images[chosen]))
    whole = _targets(processor, texts, "", limits[1])
    rest = _targets(processor, [scored_text(text, prefix) for text in texts], prefix, limits[1])
    num_given = len(processor.start_ids(prefix)) - 1
    result = {}
    for suffix, pixels in (("", images), ("shuffled", images.roll(1, dims=0))):
        wanted = [name for name in variants if name.endswith("shuffled") == bool(suffix)]
        if not wanted:
            continue
        encoded = model.encode(pixels.to(model.device, model.dtype), input_ids.to(model.device), mask.to(model.device))
        known: dict[bool, Float[np.ndarray, "_ _"]] = {}
        for name in wanted:
            is_after = name.startswith("prefix")
            if is_after not in known:  # where every text begins with the prefix, both are the same tokens
                same = known.get(not is_after) if whole == rest else None
                known[is_after] = _token_losses(model, encoded, rest if is_after else whole) if same is None else same
            result[name] = (known[is_after], num_given if is_after else 0)
    return result


def _prompts(
    processor: Processor, prompts: Sequence[str], max_tokens: int
) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"]]:
    """Ids of prompts, cut as in training, and their mask."""
    rows = [processor.frames.prompt(ids, max_tokens) for ids in encode(processor.encoder_tokenizer, prompts)]
    lengths = torch.tensor([len(row) for row in rows])
    input_ids = pad(rows, processor.config.prompt_pad_id)
    return input_ids, (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()


def _targets(processor: Processor, texts: Sequence[str], prefix: str, max_tokens: int) -> list[list[int]]:
    """Labels of texts after a prefix."""
    (before,) = encode(processor.decoder_tokenizer, [prefix])
    return [processor.frames.target([*before, *ids], max_tokens) for ids in encode(processor.decoder_tokenizer, texts)]


def _token_losses(
    model: Polyglance, encoded: tuple[Tensor, Tensor | None], targets: Sequence[Sequence[int]]
) -> Float[np.ndarray, "B T"]:
    """Cross-entropy of each target token; NaN where there is none."""
    states, mask = encoded
    labels = pad(targets, IGNORED).to(model.device)
    start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
    inputs = torch.cat([start, labels[:, :-1]], dim=1)
    hidden = model.decoder(
        input_ids=inputs.masked_fill(inputs == IGNORED, model.config.pad_token_id),
        encoder_hidden_states=states,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    logits = model.logits(hidden).float().transpose(1, 2)
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    return losses.double().masked_fill(labels == IGNORED, float("nan")).cpu().numpy()


def _summary(batches: Sequence[tuple[Float[np.ndarray, "_ _"], int]], num_bytes: int) -> CellLoss:
    """The loss of a cell from the cross-entropies of its targets' tokens, a number of which is given in every row."""
    counted = [row[num_given:][~np.isnan(row[num_given:])] for rows, num_given in batches for row in rows]
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
