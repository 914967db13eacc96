"""Cross-entropy per cell on held-out data (paper section 5.1), with and without prefix, with right and wrong images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from polyglance.coverage import SPLITS, Coverage, Split
from polyglance.evaluate.cells import CellSamples
from polyglance.mixture.collate import IGNORED, pad
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import encode
from polyglance.model.architecture import Polyglance
from polyglance.model.processor import Processor
from polyglance.model.vision import normalise_pixels

__all__ = [
    "ALONE",
    "VARIANTS",
    "CellLoss",
    "Processes",
    "cell_losses",
    "losses_to_dict",
    "scored_text",
    "split_loss",
]

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


@runtime_checkable
class Processes(Protocol):
    """Those that measure a model together; all have to measure the same at the same time."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def world_size(self) -> int:
        """Processes."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order of rank, in every process."""


@dataclass(frozen=True)
class _Alone:
    rank: int = 0
    world_size: int = 1

    def gather(self, value: Any) -> list[Any]:
        return [value]


ALONE: Processes = _Alone()
"""One process, which measures by itself."""


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
    processes: Processes = ALONE,
) -> dict[str, CellLoss]:
    """The loss of a cell in each of the `variants`; with several processes the same in all, to the precision of the
    model's numbers.

    A target that begins with its language's prefix is scored from where the prefix ends; one that does not is scored
    whole, after a prefix put before it. Prefix and rest are tokens of their own, as when a caption is generated.

    Args:
        prefix: of the cell's language.
        max_source_tokens: prompts are cut to this length, as in training; None: to what the encoder has positions for.
        max_target_tokens: targets are cut to this length, as in training.
        batch_size: samples at a time, of all processes together.
        processes: share the rows of every batch between them, each with as many passes through the model as the
            others: a model that is divided over processes is passed through by all of them at once or not at all.
    """
    texts = [annotation.text for annotation in samples.annotations]
    positions = model.config.decoder_config.max_position_embeddings
    limits = (max_source_tokens or processor.config.max_prompt_tokens, min(max_target_tokens, positions - 1))
    own: dict[str, list[tuple[int, _Row]]] = {name: [] for name in variants}
    for first in range(0, len(texts), batch_size):
        size = min(batch_size, len(texts) - first)
        share = np.arange(processes.rank, size, processes.world_size)
        # A process for which there is no row goes through the first one, which counts for another.
        rows = share if len(share) else np.zeros(1, dtype=np.int64)
        losses = _batch_losses(model, processor, samples, slice(first, first + size), rows, prefix, limits, variants)
        for name, found in losses.items():
            own[name] += zip((first + share).tolist(), found, strict=False)
    parts = processes.gather(own)
    num_bytes = {
        name: sum(len(scored_text(text, prefix if name.startswith("prefix") else "").encode()) for text in texts)
        for name in variants
    }
    return {name: _summary([row for part in parts for row in part[name]], num_bytes[name]) for name in variants}


_Row = Float[np.ndarray, "_"]
"""Cross-entropies of the tokens of one sample that count."""


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
    rows: Int[np.ndarray, "R"],
    prefix: str,
    limits: tuple[int, int],
    variants: Sequence[str],
) -> dict[str, list[_Row]]:
    """Variant -> what the tokens that count cost, for some rows of the batch that is `chosen`. How often the model is
    called does not depend on which rows they are."""
    annotations, images = samples.annotations[chosen], samples.images[chosen]
    texts = [annotation.text for annotation in annotations]
    input_ids, mask = _prompts(processor, [prompt_of(annotations[row]) for row in rows], limits[0])
    whole = _targets(processor, texts, "", limits[1])
    rest = _targets(processor, [scored_text(text, prefix) for text in texts], prefix, limits[1])
    num_given = len(processor.start_ids(prefix)) - 1
    result = {}
    for suffix, shown in (("", rows), ("shuffled", rows - 1)):
        wanted = [name for name in variants if name.endswith("shuffled") == bool(suffix)]
        if not wanted:
            continue
        pixels = normalise_pixels(torch.from_numpy(images[shown])).to(model.device, model.dtype)
        encoded = model.encode(pixels, input_ids.to(model.device), mask.to(model.device))
        known: dict[bool, list[_Row]] = {}
        for name in wanted:
            is_after = name.startswith("prefix")
            if is_after not in known:  # where every text begins with the prefix, both are the same tokens
                same = known.get(not is_after) if whole == rest else None
                targets = [(rest if is_after else whole)[row] for row in rows]
                known[is_after] = _token_losses(model, encoded, targets) if same is None else same
            result[name] = [row[num_given if is_after else 0 :] for row in known[is_after]]
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
) -> list[_Row]:
    """Cross-entropy of each token of each target."""
    states, mask = encoded
    nats = model.nats(states, mask, pad(targets, IGNORED).to(model.device)).double().cpu().numpy()
    return [row[: len(target)] for row, target in zip(nats, targets, strict=True)]


def _summary(rows: Sequence[tuple[int, _Row]], num_bytes: int) -> CellLoss:
    """The loss of a cell from its samples, given with their numbers: added up in the same order by every process."""
    counted = [row for _, row in sorted(rows, key=lambda entry: entry[0])]
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
