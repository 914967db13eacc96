"""The loss of one batch, as modules that replicas and shards of a model wrap whole."""

from jaxtyping import Float
from torch import Tensor, nn
from transformers import Gemma2ForCausalLM

from polyglance.mixture.collate import Batch
from polyglance.model.architecture import Polyglance
from polyglance.model.loss import token_nats
from polyglance.model.vision import normalise_pixels

__all__ = ["CaptionObjective", "LanguageModelObjective"]


class CaptionObjective(nn.Module):
    """Cross-entropy of the targets, given image and prompt.

    `forward` returns the weighted sum of the batch's token losses in nats over `denominator`, and, without weights and
    gradient, the sum of each sample. The gradients of an optimiser step's passes add up to that of the weighted mean
    over all its tokens if the denominator of each is the sum of their weights (`Batch.total_weight`).
    """

    def __init__(self, model: Polyglance) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, denominator: float) -> tuple[Float[Tensor, ""], Float[Tensor, " B"]]:
        states, mask = self.model.encode(
            None if batch.features is not None else normalise_pixels(batch.images),
            batch.input_ids,
            batch.attention_mask,
            tower_features=batch.features,
        )
        nats = self.model.nats(states, mask, batch.labels, places=batch.places)
        weighted = nats if batch.weights is None else nats * batch.weights
        return weighted.sum() / denominator, nats.detach().sum(1)


class LanguageModelObjective(nn.Module):
    """Cross-entropy of texts alone: `input_ids` are the texts from their start token, `labels` the next tokens.

    `forward` returns what `CaptionObjective` returns.
    """

    def __init__(self, model: Gemma2ForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, denominator: float) -> tuple[Float[Tensor, ""], Float[Tensor, " B"]]:
        hidden_states = self.model.model(input_ids=batch.input_ids).last_hidden_state
        softcap = self.model.config.final_logit_softcapping
        nats = token_nats(hidden_states, self.model.lm_head.weight, batch.labels, softcap=softcap)
        return nats.sum() / denominator, nats.detach().sum(1)
