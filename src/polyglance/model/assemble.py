"""A starting point from parts that exist: a language model, a vision tower."""

from pathlib import Path

import torch
from transformers import Gemma2ForCausalLM

from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig

__all__ = ["language_model", "with_language_model", "with_vision_tower"]


def language_model(config: PolyglanceConfig) -> Gemma2ForCausalLM:
    """A stock Gemma-2 with the sizes of the decoder in `config`: what is trained on text before images come in."""
    return Gemma2ForCausalLM(config.decoder_config)


@torch.no_grad()
def with_language_model(model: Polyglance, language_model: Gemma2ForCausalLM | str | Path) -> None:
    """Put a Gemma-2's weights into the model's decoder, in place. The gates stay zero, so that the decoder starts as
    exactly that language model; the norm after cross-attention starts as a copy of the one after self-attention
    (official code section 1.6).

    Args:
        language_model: the model, or a folder with its checkpoint.
    """
    if isinstance(language_model, (str, Path)):
        language_model = Gemma2ForCausalLM.from_pretrained(language_model)
    unexpected = model.decoder.load_state_dict(language_model.model.state_dict(), strict=False).unexpected_keys
    assert not unexpected, unexpected
    for layer in model.decoder.layers:
        if layer.has_cross_attention:
            layer.post_encoder_attention_layernorm.weight.copy_(layer.post_attention_layernorm.weight)


@torch.no_grad()
def with_vision_tower(model: Polyglance, source: Polyglance | str | Path) -> None:
    """Put the vision tower of another model, or of the checkpoint in a folder, into this one, in place."""
    if isinstance(source, (str, Path)):
        source = Polyglance.from_pretrained(source)
    model.vision_tower.load_state_dict(source.vision_tower.state_dict())
