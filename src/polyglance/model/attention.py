"""Attention of the decoder: exact, soft-capped if the configuration says so, with keys shared by the beams of an image.

transformers offers `eager`, which copies keys and values for each query head, and `sdpa`, which cannot soft-cap. This
attention is `sdpa` without a cap and a grouped product with one. Several rows of queries can read one row of keys, so
that the keys of an image are stored once for all its beams.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

__all__ = ["ATTENTION", "grouped_attention", "is_soft_capped"]

ATTENTION = "polyglance"
"""Name of this attention in transformers (`attn_implementation`)."""


def grouped_attention(
    module: nn.Module,
    query: Float[Tensor, "Q H T K"],
    key: Float[Tensor, "B G S K"],
    value: Float[Tensor, "B G S K"],
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "Q T H K"], None]:
    """Compute attention of H query heads to G key heads, and of Q rows of queries to B rows of keys, without copies.

    Q is a multiple of B: row `q` reads keys `q // (Q // B)`, as the beams of one image do.

    Args:
        attention_mask: with a soft-cap float [B, 1, T, S], added to the scores; without one a mask of `sdpa`.
        softcap: scores are bounded to plus or minus this by tanh before the mask (Gemma-2 report, section 2).
    """
    rows, heads, length, width = query.shape
    batch, groups, _, _ = key.shape
    beams = rows // batch
    if beams > 1:
        query = query.view(batch, beams, heads, length, width).transpose(1, 2).reshape(batch, heads, -1, width)
        if attention_mask is not None:
            attention_mask = attention_mask.repeat(1, 1, beams, 1)
    if softcap is None:
        attended, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        attended = attended.transpose(1, 2)
    else:
        query = (query * scaling).reshape(batch, groups, -1, width)
        scores = softcap * torch.tanh(query @ key.transpose(2, 3) / softcap)
        if attention_mask is not None:
            scores = (scores.unflatten(2, (heads // groups, -1)) + attention_mask.unsqueeze(2)).flatten(2, 3)
        weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
        attended = nn.functional.dropout(weights, dropout) @ value
    attended = attended.reshape(batch, heads, beams, length, width)
    return attended.permute(0, 2, 3, 1, 4).reshape(rows, length, heads, width), None


def is_soft_capped(config: Any) -> bool:
    """Tell whether a decoder's attention scores are soft-capped. Its masks are then additive, otherwise boolean."""
    return getattr(config, "attn_logit_softcapping", None) is not None


def _make_mask(*, config: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
    """Make the mask that `grouped_attention` takes. The library reads the values of a mask to drop one that hides
    nothing. That is free in main memory, but on a GPU the host would wait for it."""
    if attention_mask is not None and attention_mask.device.type != "cpu":
        kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    make = eager_mask if is_soft_capped(config) else sdpa_mask
    return make(config=config, attention_mask=attention_mask, **kwargs)


AttentionInterface.register(ATTENTION, grouped_attention)
AttentionMaskInterface.register(ATTENTION, _make_mask)
