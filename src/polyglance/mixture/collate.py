"""Texts and pixels to the tensors a model takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from tokenizers import Tokenizer
from torch import Tensor

from polyglance.mixture.tokenizer import EOS, PAD

__all__ = ["IGNORED", "Batch", "collate", "pad", "target_ids"]

IGNORED = -100
"""Label of positions that do not count in the loss."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's samples. B samples, S prompt tokens, T target tokens."""

    images: UInt8[Tensor, "B H W 3"]
    input_ids: Int[Tensor, "B S"]
    attention_mask: Int[Tensor, "B S"]
    labels: Int[Tensor, "B T"]
    """Target tokens with the end token; `IGNORED` after it."""
    cell: Int[np.ndarray, "B"]
    """Index of each sample's cell in the mixture's cells."""


def collate(
    images: UInt8[np.ndarray, "B H W 3"],
    prompts: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    cell: Int[np.ndarray, "B"],
) -> Batch:
    """A batch, padded on the right to the longest of its prompts and of its targets."""
    input_ids = pad(prompts, PAD)
    lengths = torch.tensor([len(ids) for ids in prompts])
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(images)),
        input_ids=input_ids,
        attention_mask=(torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
        labels=pad(targets, IGNORED),
        cell=cell,
    )


def pad(sequences: Sequence[Sequence[int]], value: int) -> Int[Tensor, "B T"]:
    """Sequences of ids as one tensor, filled up on the right."""
    padded = torch.full((len(sequences), max(map(len, sequences))), value, dtype=torch.long)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return padded


def target_ids(tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of texts with the end token, cut to `max_tokens`; a text that is cut keeps its end token."""
    return [[*encoding.ids[: max_tokens - 1], EOS] for encoding in tokenizer.encode_batch_fast(list(texts))]
