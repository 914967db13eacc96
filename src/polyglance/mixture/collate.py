"""Texts and pixels to the tensors a model takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from tokenizers import Tokenizer
from torch import Tensor

from polyglance.mixture.tokenizer import EOS, PAD, encode

__all__ = ["IGNORED", "BadSample", "Batch", "collate", "pad", "target_ids"]

IGNORED = -100
"""Label of positions that do not count in the loss."""


@dataclass(frozen=True, kw_only=True)
class BadSample:
    """A sample that could not be used; another one of its cell took its place."""

    reason: str
    """Short, to count by: `image: truncated`, `shard: cannot be read`, `text: empty`."""
    where: str
    """The cell, the row of the data set, and what was said of it."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of a step, or a part of them. B samples, S prompt and T target tokens, I image tokens of width E."""

    images: UInt8[Tensor, "B H W 3"]
    """Pixels; of shape (B, 0, 0, 3) where there are `features`."""
    input_ids: Int[Tensor, "B S"]
    attention_mask: Int[Tensor, "B S"]
    labels: Int[Tensor, "B T"]
    """Target tokens with the end token; `IGNORED` after it."""
    cell: Int[np.ndarray, "B"]
    """Index of each sample's cell in the mixture's cells."""
    features: Float[Tensor, "B I E"] | None = None
    """What the vision tower makes of the images, where that is cached."""
    bad: tuple[BadSample, ...] = ()
    """Samples that were replaced."""

    @property
    def num_tokens(self) -> int:
        """Target tokens that count in the loss, the end tokens among them."""
        return int((self.labels != IGNORED).sum())

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device; from pinned memory the copy does not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> "Batch":
        """The batch in page-locked memory, from which a GPU copies fastest."""
        return self._each(lambda tensor: tensor.pin_memory())

    pin_memory = pin
    """The name under which torch's DataLoader looks for it."""

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        names = ("images", "input_ids", "attention_mask", "labels")
        changed: dict[str, Any] = {name: function(getattr(self, name)) for name in names}
        return replace(self, **changed, features=None if self.features is None else function(self.features))


def collate(
    images: UInt8[np.ndarray, "B H W 3"],
    prompts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    cell: Int[np.ndarray, "B"],
    *,
    prompt_pad: int = PAD,
    features: Float[Tensor, "B I E"] | None = None,
    bad: tuple[BadSample, ...] = (),
) -> Batch:
    """A batch, padded on the right to the longest of its prompts and of its targets."""
    input_ids = pad(prompts, prompt_pad)
    lengths = torch.tensor([len(ids) for ids in prompts])
    return Batch(
        images=torch.from_numpy(images),
        input_ids=input_ids,
        attention_mask=(torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
        labels=pad(targets, IGNORED),
        cell=cell,
        features=features,
        bad=bad,
    )


def pad(sequences: Sequence[Sequence[int]], value: int) -> Int[Tensor, "B T"]:
    """Sequences of ids as one tensor, filled up on the right."""
    padded = np.full((len(sequences), max(map(len, sequences))), value, dtype=np.int64)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = ids
    return torch.from_numpy(padded)


def target_ids(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of texts with the end token, cut to `max_tokens`; a text that is cut keeps its end token."""
    return [[*ids[: max_tokens - 1], EOS] for ids in encode(tokenizer, texts)]
