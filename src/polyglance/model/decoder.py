"""Gemma-2 with gated cross-attention inserted into its layers (paper section 1; official code section 1.6).

The layers are the library's, with three more members; the names in a checkpoint are those of Gemma-2 and of the
published code. With the gates at zero the decoder computes exactly what Gemma-2 computes.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import BartConfig, Gemma2Config, PreTrainedConfig
from transformers import initialization as init
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
)
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.bart.modeling_bart import BartDecoder
from transformers.models.gemma2.modeling_gemma2 import Gemma2Attention, Gemma2DecoderLayer, Gemma2Model, Gemma2RMSNorm
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaCrossAttention
from transformers.utils.output_capturing import OutputRecorder

from polyglance.model.attention import ATTENTION
from polyglance.model.cache import CACHE_ARGUMENT
from polyglance.model.linear import use_few_rows_linear

__all__ = ["GatedGemma2Decoder", "GatedGemma2Layer", "build_decoder"]


def build_decoder(config: PreTrainedConfig) -> nn.Module:
    """Build a decoder, `bart` or `gemma2`: from ids and encoder states to hidden states.

    Its attention is `polyglance.model.attention` unless the configuration names another.
    """
    if config._attn_implementation is None:
        config._attn_implementation = ATTENTION
    if isinstance(config, Gemma2Config):
        module: nn.Module = GatedGemma2Decoder(config)
    elif isinstance(config, BartConfig):
        module = BartDecoder(config)
    else:
        raise ValueError(f"no decoder of type {config.model_type!r}; known: bart, gemma2")
    use_few_rows_linear(module)
    return module


class GatedGemma2Layer(Gemma2DecoderLayer):  # type: ignore[misc]
    """A Gemma-2 layer with `x + tanh(gate) * norm(cross_attention(x, encoder))` between self-attention and MLP."""

    def __init__(self, config: Gemma2Config, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        self.has_cross_attention = layer_idx % getattr(config, "cross_attention_every", 1) == 0
        if self.has_cross_attention:
            self.encoder_attn = T5GemmaCrossAttention(config, layer_idx)
            self.encoder_attn_gate = nn.Parameter(torch.zeros(1))
            self.post_encoder_attention_layernorm = Gemma2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(
        self,
        hidden_states: Float[Tensor, "B T D"],
        *,
        encoder_hidden_states: Float[Tensor, "E S W"] | None = None,
        **kwargs: Any,
    ) -> Float[Tensor, "B T D"]:
        """Call `forward`. The encoder's states are passed by position: re-entrant recomputation gives gradients to
        positional tensors only."""
        return super().__call__(hidden_states, encoder_hidden_states, **kwargs)

    def forward(
        self,
        hidden_states: Float[Tensor, "B T D"],
        encoder_hidden_states: Float[Tensor, "E S W"] | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Any = None,  # a tensor, or what flex attention takes
        position_ids: Tensor | None = None,
        encoder_attention_mask: Any = None,
        **kwargs: Any,
    ) -> Float[Tensor, "B T D"]:
        cache = kwargs.pop(CACHE_ARGUMENT, None)
        attended, _ = self.self_attn(
            hidden_states=self.input_layernorm(hidden_states),
            position_embeddings=position_embeddings,
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{CACHE_ARGUMENT: None if cache is None else cache.self_attention_cache},
            **kwargs,
        )
        hidden_states = hidden_states + self.post_attention_layernorm(attended)
        if self.has_cross_attention:
            crossed, _ = self.encoder_attn(
                hidden_states, encoder_attention_mask, encoder_hidden_states, **{CACHE_ARGUMENT: cache}, **kwargs
            )
            gate = self.encoder_attn_gate.tanh()
            hidden_states = hidden_states + gate * self.post_encoder_attention_layernorm(crossed)
        transformed = self.mlp(self.pre_feedforward_layernorm(hidden_states))
        return hidden_states + self.post_feedforward_layernorm(transformed)


class GatedGemma2Decoder(Gemma2Model):  # type: ignore[misc]
    """Gemma-2 with cross-attention to an encoder's states."""

    _no_split_modules: ClassVar = ["GatedGemma2Layer"]
    _can_record_outputs: ClassVar = {
        "hidden_states": GatedGemma2Layer,
        "attentions": OutputRecorder(Gemma2Attention, index=1),
        "cross_attentions": OutputRecorder(T5GemmaCrossAttention, index=1),
    }
    _supports_sdpa = False  # sdpa leaves out the soft-cap, although transformers 5.20 has True for Gemma-2

    def __init__(self, config: Gemma2Config) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(GatedGemma2Layer(config, i) for i in range(config.num_hidden_layers))
        self.post_init()
        self._tp_plan.pop("embed_tokens", None)  # the head that is tied to it is not sharded either

    def forward(
        self,
        input_ids: Int[Tensor, "B T"] | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        encoder_hidden_states: Float[Tensor, "E S W"] | None = None,
        encoder_attention_mask: Tensor | None = None,
        inputs_embeds: Float[Tensor, "B T D"] | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        if encoder_hidden_states is None:
            raise ValueError("the decoder needs encoder_hidden_states: its layers read the image through them")
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        cross_mask = create_bidirectional_mask(
            config=self.config,
            inputs_embeds=inputs_embeds,
            attention_mask=encoder_attention_mask,
            encoder_hidden_states=encoder_hidden_states,
        )
        masks: Any = attention_mask
        if attention_mask is None and kwargs.get(CACHE_ARGUMENT) is None:
            # The library would look for several texts in one row, and wait for a GPU to know: here there is one a row.
            arguments = {"config": self.config, "inputs_embeds": inputs_embeds, "attention_mask": None}
            arguments[CACHE_ARGUMENT] = None
            masks = {
                "full_attention": create_causal_mask(**arguments),
                "sliding_attention": create_sliding_window_causal_mask(**arguments),
            }
        return super().forward(
            inputs_embeds=inputs_embeds,
            attention_mask=masks,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=cross_mask,
            **kwargs,
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GatedGemma2Layer) and module.has_cross_attention:
            init.zeros_(module.encoder_attn_gate)  # the library does not initialise a bare parameter
