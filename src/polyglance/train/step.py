"""What one batch costs: the sum of its cross-entropies and the number of tokens it is over."""

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import Gemma2ForCausalLM

from polyglance.mixture.collate import IGNORED, Batch
from polyglance.model.architecture import Polyglance
from polyglance.model.loss import summed_loss
from polyglance.model.vision import pixel_values

__all__ = [
    "CaptionObjective",
    "LanguageModelObjective",
    "Objective",
    "caption_loss",
    "language_model_loss",
    "token_losses",
]

_LARGE_VOCABULARY = 2**14
"""From here on the logits of a batch are not held all at once (`polyglance.model.loss`)."""


def token_losses(logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Cross-entropy of each target token in nats; 0 where the label is `IGNORED`."""
    losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.view(labels.shape)


def caption_loss(model: Polyglance, batch: Batch) -> tuple[Float[Tensor, ""], int]:
    """Sum of the batch's token losses in nats, and their number."""
    return CaptionObjective(model)(batch, 1.0)[0], batch.num_tokens


def language_model_loss(model: Gemma2ForCausalLM, ids: Int[Tensor, "B T"]) -> tuple[Float[Tensor, ""], int]:
    """As `caption_loss`, for texts alone: `ids` begin with the start token and are padded with `IGNORED`."""
    labels = ids[:, 1:]
    logits = model(input_ids=ids[:, :-1].clamp(min=0)).logits  # padding is on the right: no real token sees it
    return token_losses(logits, labels).sum(), int((labels != IGNORED).sum())


class Objective(Protocol):
    """A module that holds a model under `model` and knows what a batch costs."""

    def __call__(self, batch: Batch, denominator: float) -> tuple[Float[Tensor, ""], Float[Tensor, " B"]]:
        """The sum of the batch's token losses over `denominator`, and each sample's sum in nats, without gradient."""


class CaptionObjective(nn.Module):
    """Cross-entropy of the targets, given image and prompt. A module, so that replicas and shards wrap it whole.

    `forward` takes a batch and a denominator: the gradients of an optimiser step's passes add up to that of the mean
    over all its tokens if each is given their number. With a large vocabulary the loss is computed in chunks.
    """

    def __init__(self, model: Polyglance) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, denominator: float) -> tuple[Float[Tensor, ""], Float[Tensor, " B"]]:
        model, labels = self.model, batch.labels
        states, mask = model.encode(
            None if batch.features is not None else pixel_values(batch.images),
            batch.input_ids,
            batch.attention_mask,
            tower_features=batch.features,
        )
        hidden = model.decoder(
            input_ids=self._shifted(labels),
            encoder_hidden_states=states,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        if model.config.vocab_size < _LARGE_VOCABULARY:
            losses = token_losses(model.logits(hidden), labels)
            return losses.sum() / denominator, losses.detach().sum(1)
        cap = model.config.final_logit_softcapping
        loss, nats = summed_loss(hidden, model.lm_head.weight, labels, softcap=cap, denominator=denominator)
        return loss, nats.sum(1)

    def _shifted(self, labels: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """What the decoder reads: the target one place later, after the start token (official code section 1.9)."""
        config = self.model.config
        start = torch.full_like(labels[:, :1], config.decoder_start_token_id)
        return torch.cat([start, labels[:, :-1].masked_fill(labels[:, :-1] == IGNORED, config.pad_token_id)], dim=1)


class LanguageModelObjective(nn.Module):
    """Cross-entropy of texts alone: `input_ids` are the texts from their start token, `labels` one place on."""

    def __init__(self, model: Gemma2ForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, denominator: float) -> tuple[Float[Tensor, ""], Float[Tensor, " B"]]:
        losses = token_losses(self.model(input_ids=batch.input_ids).logits, batch.labels)
        return losses.sum() / denominator, losses.detach().sum(1)
