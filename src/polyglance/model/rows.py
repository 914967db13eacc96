"""Embedding rows for another vocabulary: that of a new token is the mean of those of the old tokens that spell it."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

__all__ = ["average_rows", "spell_tokens"]


def spell_tokens(new: Tokenizer, old: Tokenizer, specials: Mapping[int, int]) -> list[list[int]]:
    """Return for each id of the new vocabulary the ids of the old one that spell it (official code section 1.7).

    Gemma marks the beginning of a word by U+2581, which is replaced by a space; only a leading one is replaced.

    Args:
        specials: new id -> old id of special tokens, which are not spelt.
    """
    size = new.get_vocab_size()
    tokens = [new.id_to_token(i) or "" for i in range(size)]
    texts = [" " + token[1:] if token.startswith("\u2581") else token for token in tokens]
    spelt = [encoding.ids for encoding in old.encode_batch(texts, add_special_tokens=False)]
    for new_id, old_id in specials.items():
        spelt[new_id] = [old_id]
    return spelt


def average_rows(
    table: Float[Tensor, "V D"], spelt: list[list[int]], fallback: Float[Tensor, "U D"]
) -> Float[Tensor, "U D"]:
    """Compute the rows of the new table, [U, D].

    Args:
        table: the old table.
        spelt: for each new id the old ids that spell it.
        fallback: rows of tokens that the old vocabulary cannot spell, and of ids past the new vocabulary.

    Raises:
        ValueError: a spelling with an id that the old table has no row for.
    """
    largest = max((max(ids) for ids in spelt if ids), default=0)
    if largest >= len(table):
        raise ValueError(
            f"vocabulary mismatch: the tokenizer gives the id {largest}, the embedding has {len(table)} rows: "
            "expected the checkpoint's own tokenizer"
        )
    lengths = torch.tensor([len(ids) for ids in spelt])
    flat = torch.tensor([i for ids in spelt for i in ids], dtype=torch.long)
    rows = fallback.clone()
    means = F.embedding_bag(flat, table, lengths.cumsum(0) - lengths, mode="mean")
    can_be_spelt = lengths > 0
    rows[: len(spelt)][can_be_spelt] = means[can_be_spelt]
    return rows
