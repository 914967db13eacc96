"""Token ids and pixels of samples as the tensors that a model takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from tokenizers import Tokenizer
from torch import Tensor

from polyglance.mixture.shapes import Shape, find_shape
from polyglance.mixture.tokenizer import EOS, PAD, encode_texts

__all__ = [
    "IGNORED",
    "BadSample",
    "Batch",
    "collate",
    "encode_targets",
    "find_places",
    "pad",
    "pad_with_mask",
    "weigh_tokens",
]

IGNORED = -100
"""Label of positions that the loss ignores."""
_PLACES = 128
"""The number of positions of the loss is a multiple of this, so that there are few different numbers."""


@dataclass(frozen=True, kw_only=True)
class BadSample:
    """A sample that could not be used; another sample of its cell took its place."""

    reason: str
    """Short reason, by which samples are counted: `image: truncated`, `shard: cannot be read`, `text: empty`."""
    where: str
    """Cell, row of the data set, and detail."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of a step or a micro-batch: B samples, S prompt tokens, T target tokens, I image tokens of width E."""

    images: UInt8[Tensor, "B H W 3"]
    """Pixels; of shape (B, 0, 0, 3) if there are `features`."""
    input_ids: Int[Tensor, "B S"]
    """Token ids of the prompts, padded on the right."""
    attention_mask: Int[Tensor, "B S"]
    """1 for the tokens of a prompt, 0 for its padding."""
    labels: Int[Tensor, "B T"]
    """Target tokens with the end token; `IGNORED` after it."""
    cell: Int[np.ndarray, "B"]
    """Index of each sample's cell in the mixture's cells."""
    features: Float[Tensor, "B I E"] | None = None
    """Cached features of the vision tower, in place of the pixels."""
    places: Int[Tensor, " K"] | None = None
    """Positions in the flattened labels that the loss is computed at (`find_places`); None: all."""
    weights: Float[Tensor, "B T"] | None = None
    """Weight of each target token in the loss, 0 after the end token; None: all have 1."""
    bad: tuple[BadSample, ...] = ()
    """Samples that were replaced."""

    @property
    def num_tokens(self) -> int:
        """Number of target tokens that count in the loss, end tokens included."""
        return int((self.labels != IGNORED).sum())

    @property
    def total_weight(self) -> float:
        """Sum of the weights of the target tokens: without weights, their number."""
        return float(self.num_tokens if self.weights is None else self.weights.double().sum())

    def to(self, device: torch.device | str) -> "Batch":
        """Copy the batch to a device; the copy from pinned memory is asynchronous."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Copy the batch to page-locked memory, from which a GPU copies fastest. torch's DataLoader calls this."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            images=function(self.images),
            input_ids=function(self.input_ids),
            attention_mask=function(self.attention_mask),
            labels=function(self.labels),
            features=None if self.features is None else function(self.features),
            places=None if self.places is None else function(self.places),
            weights=None if self.weights is None else function(self.weights),
        )


def collate(
    images: UInt8[np.ndarray, "B H W 3"],
    prompts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    cell: Int[np.ndarray, "B"],
    *,
    prompt_pad: int = PAD,
    features: Float[Tensor, "B I E"] | None = None,
    bad: tuple[BadSample, ...] = (),
    shapes: Sequence[Shape] | None = None,
    token_weights: Mapping[int, float] | None = None,
) -> Batch:
    """Make a batch; prompts and targets are padded right to the longest of each, or to the least shape that fits.

    Args:
        prompts: token ids of each prompt, framed.
        targets: token ids of each target, framed.
        cell: index of each sample's cell.
        prompt_pad: padding id of prompts; it is masked.
        shapes: as `polyglance.mixture.shapes` chooses them.
        token_weights: position in the targets -> its weight in the loss; others have 1. None: no weights.
    """
    shape = Shape(max(map(len, prompts)), max(map(len, targets)))
    if shapes is not None:
        shape = find_shape(shapes, *shape)
    input_ids, attention_mask = pad_with_mask(prompts, prompt_pad, length=shape.prompt)
    labels = pad(targets, IGNORED, length=shape.target)
    return Batch(
        images=torch.from_numpy(images),
        input_ids=input_ids,
        attention_mask=attention_mask,
        labels=labels,
        cell=cell,
        features=features,
        places=find_places(labels),
        weights=None if token_weights is None else weigh_tokens(labels, token_weights),
        bad=bad,
    )


def weigh_tokens(labels: Int[Tensor, "B T"], token_weights: Mapping[int, float]) -> Float[Tensor, "B T"]:
    """Return the weight of each label in the loss: that of its position, 1 for other positions, 0 if it is ignored."""
    weights = (labels != IGNORED).float()
    for position, weight in token_weights.items():
        weights[:, position] *= weight
    return weights


def find_places(labels: Int[Tensor, "B T"]) -> Int[Tensor, " K"]:
    """Return the positions of the flattened labels that count, filled up with other positions to a multiple of 128. The
    labels have to be in main memory: the number of positions on an accelerator is known only after a wait."""
    ignored = (labels == IGNORED).flatten()
    num_counted = len(ignored) - int(ignored.sum())
    order = torch.argsort(ignored.byte(), stable=True)
    return order[: max(1, -(-num_counted // _PLACES)) * _PLACES]


def pad(sequences: Sequence[Sequence[int]], value: int, *, length: int | None = None) -> Int[Tensor, "B T"]:
    """Stack sequences of ids in one tensor, filled up with `value` on the right.

    Args:
        length: T; None: that of the longest.
    """
    padded = np.full((len(sequences), length or max(map(len, sequences))), value, dtype=np.int64)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = ids
    return torch.from_numpy(padded)


def pad_with_mask(
    sequences: Sequence[Sequence[int]], value: int, *, length: int | None = None
) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
    """Pad as `pad` does, and return a mask too: 1 for given ids, 0 for padding."""
    padded = pad(sequences, value, length=length)
    lengths = torch.tensor([len(ids) for ids in sequences])
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long()


def encode_targets(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Return the token ids of texts with the end token, cut to `max_tokens`; a text that is cut keeps its end token."""
    return [[*ids[: max_tokens - 1], EOS] for ids in encode_texts(tokenizer, texts)]
