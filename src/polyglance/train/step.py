"""What one batch costs: the sum of its cross-entropies and the number of tokens it is over."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Gemma2ForCausalLM

from polyglance.mixture.collate import IGNORED, Batch
from polyglance.model.architecture import Polyglance
from polyglance.model.vision import pixel_values

__all__ = ["caption_loss", "language_model_loss", "token_losses"]


def token_losses(logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Cross-entropy of each target token in nats; 0 where the label is `IGNORED`."""
    losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(labels.shape)


def caption_loss(model: Polyglance, batch: Batch) -> tuple[Float[Tensor, ""], int]:
    """Sum of the batch's token losses in nats, and their number."""
    logits = model(
        pixel_values=pixel_values(batch.images),
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        labels=batch.labels,
    ).logits
    return token_losses(logits, batch.labels).sum(), int((batch.labels != IGNORED).sum())


def language_model_loss(model: Gemma2ForCausalLM, ids: Int[Tensor, "B T"]) -> tuple[Float[Tensor, ""], int]:
    """As `caption_loss`, for texts alone: `ids` begin with the start token and are padded with `IGNORED`."""
    labels = ids[:, 1:]
    logits = model(input_ids=ids[:, :-1].clamp(min=0)).logits  # padding is on the right: no real token sees it
    return token_losses(logits, labels).sum(), int((labels != IGNORED).sum())
