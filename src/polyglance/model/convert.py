"""The published code's checkpoints to ours and back: twelve renamings, every key accounted for.

Source of the rules: official code sections 1.2 to 1.6, its models/florence2.py and models/gemma2.py.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from transformers import BartConfig, Gemma2Config, GenerationConfig
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig

__all__ = ["config_from_published", "convert_from_published", "key_from_published"]

_RENAMINGS = [
    (r"^vision_tower\.convs\.(\d+)\.proj\.", r"vision_tower.convs.\1.conv."),
    (r"\.(conv[12])\.fn\.dw\.", r".\1."),
    (r"\.(?:window|channel)_attn\.norm\.", ".norm1."),
    (r"\.(window|channel)_attn\.fn\.", r".\1_attn."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.fn\.net\.", ".ffn."),
    (r"^image_projection$", "projector.image_projection.weight"),
    (r"^image_proj_norm\.", "projector.image_proj_norm."),
    (r"^image_pos_embed\.", "projector.image_position_embed."),
    (r"^visual_temporal_embed\.", "projector.visual_temporal_embed."),
    (r"^language_model\.model\.(encoder|decoder)\.", r"\1."),
    (r"^language_model\.lm_head\.", "lm_head."),
]


def key_from_published(key: str) -> str:
    """Our name of a parameter of the published code."""
    for pattern, replacement in _RENAMINGS:
        key = re.sub(pattern, replacement, key)
    return key


def config_from_published(published: Mapping[str, Any]) -> PolyglanceConfig:
    """Our configuration from the published config.json. What concerns generation is not in it: the published code
    hides settings there (no_repeat_ngram_size and others) that every caller of ours states."""
    vision, text = published["vision_config"], published["text_config"]
    gemma = text.get("gemma_config")
    vision_config = Florence2VisionConfig(
        **{key: vision[key] for key in _VISION_KEYS if key in vision},
        embed_dim=vision["dim_embed"],
        max_temporal_embeddings=vision["visual_temporal_embedding"]["max_temporal_embeddings"],
    )
    encoder_config = BartConfig(
        **{key: text[key] for key in _BART_KEYS if key in text},
        vocab_size=text["encoder_vocab_size"],
        pad_token_id=text.get("encoder_pad_token_id", 1),
        bos_token_id=text.get("encoder_bos_token_id", 0),
        eos_token_id=text.get("encoder_eos_token_id", 2),
        forced_eos_token_id=None,
        use_cache=False,
    )
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    if gemma:
        decoder_config: Gemma2Config | BartConfig = Gemma2Config(
            **{key: gemma[key] for key in _GEMMA_KEYS if key in gemma},
            **ids,
            cross_attention_hidden_size=gemma["encoder_hidden_size"],
            cross_attention_every=gemma.get("encoder_attn_every_x_layers", 1),
            use_cache=False,
        )
    else:
        decoder_config = BartConfig(
            **{key: text[key] for key in _BART_KEYS if key in text},
            **ids,
            vocab_size=text["vocab_size"],
            forced_eos_token_id=None,
            use_cache=False,
        )
    return PolyglanceConfig(
        vision_config,
        encoder_config,
        decoder_config,
        max_image_grid=vision["image_pos_embed"]["max_pos_embeddings"],
        decoder_start_token_id=published.get("decoder_start_token_id", 1),
    )


def convert_from_published(directory: str | Path) -> Polyglance:
    """The model in a folder of the published code (config.json, model.safetensors), in float32 and eval mode."""
    directory = Path(directory)
    config = config_from_published(json.loads((directory / "config.json").read_text()))
    model = Polyglance(config)
    state = _state_from_published(load_file(directory / "model.safetensors"))
    missing = set(model.state_dict()) - set(state) - {"lm_head.weight"}
    unknown = set(state) - set(model.state_dict())
    if missing or unknown:
        raise ValueError(f"{directory}: keys missing {sorted(missing)}, keys unknown {sorted(unknown)}")
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    model.generation_config = GenerationConfig.from_model_config(config)
    return model.eval()


def _state_from_published(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key_from_published(key): value.T.contiguous() if key == "image_projection" else value
        for key, value in published.items()
    }


_VISION_KEYS = (
    "depths patch_size patch_stride patch_padding patch_prenorm num_heads num_groups window_size drop_path_rate "
    "mlp_ratio qkv_bias projection_dim"
).split()
_BART_KEYS = (
    "d_model encoder_layers encoder_ffn_dim encoder_attention_heads decoder_layers decoder_ffn_dim "
    "decoder_attention_heads max_position_embeddings dropout attention_dropout activation_dropout activation_function "
    "encoder_layerdrop decoder_layerdrop scale_embedding init_std"
).split()
_GEMMA_KEYS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "hidden_activation max_position_embeddings initializer_range rms_norm_eps rope_theta attention_bias "
    "attention_dropout query_pre_attn_scalar sliding_window final_logit_softcapping attn_logit_softcapping layer_types"
).split()
