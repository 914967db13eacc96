"""Rows of an embedding for another vocabulary: each new token is the mean of the old tokens that spell it."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

__all__ = ["mean_rows", "spellings"]


def spellings(new: Tokenizer, old: Tokenizer, specials: Mapping[int, int]) -> list[list[int]]:
    """For each id of the new vocabulary the ids of the old one that spell it (official code section 1.7).

    Gemma marks a word's beginning by a leading U+2581, which stands for a space; only the first one is one.

    Args:
        specials: new id -> old id of tokens that correspond, not spelt.
    """
    size = new.get_vocab_size()
    tokens = [new.id_to_token(i) or "" for i in range(size)]
    texts = [" " + token[1:] if token.startswith("\u2581") else token for token in tokens]
    spelt = [encoding.ids for encoding in old.encode_batch(texts, add_special_tokens=False)]
    for new_id, old_id in specials.items():
        spelt[new_id] = [old_id]
    return spelt


def mean_rows(
    table: Float[Tensor, "V D"], spelt: list[list[int]], fallback: Float[Tensor, "U D"]
) -> Float[Tensor, "U D"]:
    """Rows of the new table: means of the old rows. Rows past the vocabulary, and of tokens that the old one cannot
    spell, are the fallback's.

    Raises:
        ValueError: a spelling with an id that the old table has no row for.
    """
    largest = max((max(ids) for ids in spelt if ids), default=0)
    if largest >= len(table):
        raise ValueError(
            f"vocabulary mismatch: the tokenizer gives the id {largest}, the embedding has {len(table)} rows: "
            "checkpoint and tokenizer do not belong together"
        )
    lengths = torch.tensor([len(ids) for ids in spelt])
    flat = torch.tensor([i for ids in spelt for i in ids], dtype=torch.long)
    rows = fallback.clone()
    means = F.embedding_bag(flat, table, lengths.cumsum(0) - lengths, mode="mean")
    can_be_spelt = lengths > 0
    rows[: len(spelt)][can_be_spelt] = means[can_be_spelt]
    return rows
