"""Conversion of checkpoints of the published code and back: tensors are renamed, and one is transposed.

Every key is accounted for. Source of the rules: official code sections 1.2 to 1.6, its models/florence2.py and
models/gemma2.py.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BartConfig, Gemma2Config, GenerationConfig
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from polyglance.engines.folders import find_folder
from polyglance.files import write_json
from polyglance.mixture.tokenizer import has_language_tokens, load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.checkpoint import Checkpoint, new_folder, write_weights
from polyglance.model.configuration import PolyglanceConfig, load_config
from polyglance.model.processor import Processor, has_processor

__all__ = [
    "convert_config_from_published",
    "convert_config_to_published",
    "convert_from_published",
    "convert_key_from_published",
    "convert_key_to_published",
    "convert_to_published",
]

_HEAD = "lm_head.weight"
_EMBEDDING = "decoder.embed_tokens.weight"

_RENAMINGS = (
    ("convs.#.proj.", "convs.#.conv."),
    ("conv1.fn.dw.", "conv1."),
    ("conv2.fn.dw.", "conv2."),
    ("spatial_block.window_attn.norm.", "spatial_block.norm1."),
    ("channel_block.channel_attn.norm.", "channel_block.norm1."),
    ("window_attn.fn.", "window_attn."),
    ("channel_attn.fn.", "channel_attn."),
    ("ffn.norm.", "norm2."),
    ("ffn.fn.net.", "ffn."),
    ("image_projection", "projector.image_projection.weight"),
    ("image_proj_norm.", "projector.image_proj_norm."),
    ("image_pos_embed.", "projector.image_position_embed."),
    ("visual_temporal_embed.", "projector.visual_temporal_embed."),
    ("language_model.model.encoder.", "encoder."),
    ("language_model.model.decoder.", "decoder."),
    ("language_model.lm_head.", "lm_head."),
)
"""Published fragment, this project's fragment; # is a number. Applied in this order to convert published keys, and in
the opposite order to convert back."""


def convert_key_from_published(key: str) -> str:
    """Convert a parameter's name in the published code to its name here."""
    for published, ours in _RENAMINGS:
        key = _replace(key, published, ours)
    return key


def convert_key_to_published(key: str) -> str:
    """Convert a parameter's name here to its name in the published code."""
    for published, ours in reversed(_RENAMINGS):
        key = _replace(key, ours, published)
    return key


def _replace(key: str, old: str, new: str) -> str:
    """Replace whole dotted segments; a fragment that does not end with a dot is the whole key."""
    pattern = r"(?:^|(?<=\.))" + re.escape(old).replace(r"\#", r"(\d+)")
    return re.sub(pattern if old.endswith(".") else f"^{pattern}$", new.replace("#", r"\1"), key)


def convert_from_published(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    tokenizers: tuple[str, str] | None = None,
    unsafe_pickle: bool = False,
) -> Polyglance | None:
    """Convert a checkpoint of the published code.

    Args:
        folder: folder of the checkpoint.
        out: folder for the model, written tensor by tensor; None: build the model in memory and return it.
        tokenizers: Florence-2 and Gemma-2 (folders, or names on the hub) whose tokenizer.json the model was trained
            with; published checkpoints contain none. Without them `out` has no processor.
        unsafe_pickle: also read pickle files (tensors only).

    Raises:
        ValueError: an unreadable folder, a key that is missing or unknown, a shape that does not fit the configuration,
            a head that is not the embedding it is tied to, a tokenizer that does not fit.
    """
    source = Checkpoint(folder, unsafe_pickle=unsafe_pickle)
    config = convert_config_from_published(source.config(), where=str(source.folder / "config.json"))
    processor = None
    if tokenizers is not None:
        loaded = [load_tokenizer(find_folder(name) / "tokenizer.json") for name in tokenizers]
        processor = Processor.for_model(config, *loaded)
    names = _match_names(source, config)
    tensors = ((name, _transpose_projection(source[published], name)) for name, published in names.items())
    if out is not None:
        with new_folder(out) as partial:
            write_weights(partial, tensors)
            config.architectures = [Polyglance.__name__]
            config.save_pretrained(partial)
            GenerationConfig.from_model_config(config).save_pretrained(partial)
            if processor is not None:
                processor.save(partial)
        return None
    model = Polyglance(config)
    model.load_state_dict({**dict(tensors), _HEAD: model.lm_head.weight}, strict=True)
    model.tie_weights()
    return model.eval()


def convert_to_published(folder: str | Path, out: str | Path) -> None:
    """Convert a checkpoint to the published code's layout: config.json and weights under its names.

    Raises:
        ValueError: an unreadable folder, or a model with a component, or with language tokens, that the published code
            does not have.
    """
    source = Checkpoint(folder)
    if has_processor(folder) and has_language_tokens(Processor.load(folder).encoder_tokenizer):
        raise ValueError(
            f"{folder}: this model reads a language token before each prompt, which the published code does not write"
        )
    config = load_config(folder)
    published = convert_config_to_published(config)
    names, expected = {name: name for name in source}, set(_find_shapes(config)) - {_HEAD}
    _merge_head(source, names)
    _check_keys(source.folder, missing=expected - set(names), unknown=set(names) - expected)
    with new_folder(out) as partial:
        write_weights(partial, _convert_tensors(source, names))
        write_json(partial / "config.json", published, indent=2)


def _convert_tensors(source: Checkpoint, names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    for name, held in names.items():
        yield convert_key_to_published(name), _transpose_projection(source[held], name)
    yield convert_key_to_published(_HEAD), source[names[_EMBEDDING]]


def _merge_head(source: Checkpoint, names: dict[str, str]) -> None:
    """Merge the head with the embedding that it is tied to; a checkpoint may hold either or both.

    Args:
        names: this project's name -> the source's.

    Raises:
        ValueError: the two differ.
    """
    if _HEAD not in names:
        return
    held = names.pop(_HEAD)
    table = names.setdefault(_EMBEDDING, held)
    if table != held and not torch.equal(source[held], source[table]):
        raise ValueError(f"{source.folder}: the head and the decoder's embedding differ; they must be tied")


def _match_names(source: Checkpoint, config: PolyglanceConfig) -> dict[str, str]:
    """Return this project's name -> the source's name of each tensor, the tied head left out.

    Raises:
        ValueError: a key that is missing, unknown or repeated, a wrong shape, an untied head.
    """
    names = {convert_key_from_published(published): published for published in source}
    if len(names) < len(source):
        raise ValueError(f"{source.folder}: two of its keys are names of the same parameter")
    _merge_head(source, names)
    shapes = _find_shapes(config)
    missing = {convert_key_to_published(name) for name in shapes if name not in names and name != _HEAD}
    _check_keys(source.folder, missing=missing, unknown={names[name] for name in names if name not in shapes})
    for name, published in names.items():
        shape = source.shape(published)
        expected = shapes[name][::-1] if published == "image_projection" else shapes[name]
        if shape != expected:
            raise ValueError(f"{source.folder}: {published!r} has the shape {shape}; config.json asks for {expected}")
    return names


def _check_keys(folder: Path, *, missing: set[str], unknown: set[str]) -> None:
    for problem, keys in (("missing", missing), ("unknown", unknown)):
        if keys:
            shown = ", ".join(sorted(keys)[:5])
            raise ValueError(f"{folder}: {len(keys)} {problem} key(s): {shown}{', ...' if len(keys) > 5 else ''}")


def _find_shapes(config: PolyglanceConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Polyglance(config).state_dict().items()}


def _transpose_projection(tensor: Tensor, name: str) -> Tensor:
    """Transpose the image projection: published as a bare matrix [in, out], here the weight of a linear layer."""
    return tensor.T.contiguous() if name == "projector.image_projection.weight" else tensor


def convert_config_from_published(published: Mapping[str, Any], *, where: str = "config.json") -> PolyglanceConfig:
    """Convert a published config.json.

    Settings of generation are left out: the published code hides some of them there (no_repeat_ngram_size and others);
    here every caller states them.

    Raises:
        ValueError: a key that the published layout has is missing.
    """
    try:
        vision, text = published["vision_config"], published["text_config"]
        gemma = text.get("gemma_config")
        return PolyglanceConfig(
            convert_vision_config(vision),
            convert_encoder_config(text),
            convert_gemma2_config(gemma) if gemma else _convert_bart_config(text),
            max_image_grid=vision["image_pos_embed"]["max_pos_embeddings"],
            final_logit_softcapping=gemma.get("final_logit_softcapping", 30.0) if gemma else 30.0,
            decoder_start_token_id=published.get("decoder_start_token_id", 1),
        )
    except KeyError as error:
        raise ValueError(f"{where}: not a configuration of the published code: the key {error} is missing") from None


def convert_vision_config(vision: Mapping[str, Any]) -> Florence2VisionConfig:
    """Convert a published vision_config, which is Microsoft's."""
    return Florence2VisionConfig(
        **_pick(vision, _VISION_KEYS),
        embed_dim=vision["dim_embed"],
        max_temporal_embeddings=vision["visual_temporal_embedding"]["max_temporal_embeddings"],
        max_position_embeddings=vision["image_pos_embed"]["max_pos_embeddings"],
    )


def convert_encoder_config(text: Mapping[str, Any], *, vocab_size: int | None = None) -> BartConfig:
    """Convert the encoder's settings of a published text_config, or of Florence-2's, which has one vocabulary.

    Args:
        vocab_size: number of rows of the encoder's table; None: the published key.
    """
    return BartConfig(
        **_pick(text, _BART_KEYS),
        vocab_size=vocab_size or text["encoder_vocab_size"],
        pad_token_id=text.get("encoder_pad_token_id", 1),
        bos_token_id=text.get("encoder_bos_token_id", 0),
        eos_token_id=text.get("encoder_eos_token_id", 2),
        forced_eos_token_id=None,
        use_cache=False,
    )


def _convert_bart_config(text: Mapping[str, Any]) -> BartConfig:
    return BartConfig(
        **_pick(text, _BART_KEYS),
        **_pick(text, _ID_DEFAULTS, _ID_DEFAULTS),
        vocab_size=text["vocab_size"],
        forced_eos_token_id=None,
        use_cache=False,
    )


def convert_gemma2_config(gemma: Mapping[str, Any]) -> Gemma2Config:
    """Convert a published gemma_config, which is Gemma-2's with two more keys."""
    return Gemma2Config(
        **_pick(gemma, _GEMMA_KEYS),
        **_pick(gemma, _ID_DEFAULTS, _ID_DEFAULTS),
        cross_attention_hidden_size=gemma.get("encoder_hidden_size", 1024),
        cross_attention_every=gemma.get("encoder_attn_every_x_layers", 1),
        use_cache=False,
    )


def convert_config_to_published(config: PolyglanceConfig) -> dict[str, Any]:
    """Make the published code's config.json of a model.

    Raises:
        ValueError: a vision tower that the published code does not have.
    """
    vision, encoder, decoder = (
        c.to_dict() for c in (config.vision_config, config.encoder_config, config.decoder_config)
    )
    if vision["model_type"] != "florence_vision":
        raise ValueError(f"the published code has no vision tower of type {vision['model_type']!r}; only Florence-2's")
    ids = {key: getattr(config, key) for key in (*_ID_DEFAULTS, "decoder_start_token_id")}
    text = {
        **_pick(encoder, _BART_KEYS),
        **ids,
        "vocab_size": config.vocab_size,
        "encoder_vocab_size": encoder["vocab_size"],
        **{f"encoder_{key}": encoder[key] for key in _ID_DEFAULTS},
    }
    if isinstance(config.decoder_config, Gemma2Config):
        text["gemma_config"] = {
            **_pick(decoder, [key for key in _GEMMA_KEYS if key != "rope_parameters"]),
            **_pick(decoder, _ID_DEFAULTS),
            "model_type": "gemma2",
            "rope_theta": decoder["rope_parameters"]["rope_theta"],
            "final_logit_softcapping": config.final_logit_softcapping,
            "encoder_hidden_size": decoder["cross_attention_hidden_size"],
            "encoder_attn_every_x_layers": decoder.get("cross_attention_every", 1),
            "_attn_implementation": "eager",
        }
    else:
        text |= _pick(decoder, [key for key in _BART_KEYS if key.startswith("decoder")])
        text["use_encoder_tokenizer"] = True
    return {
        "model_type": "florence2",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "encoder_vocab_size": encoder["vocab_size"],
        "projection_dim": encoder["d_model"],
        **ids,
        "text_config": {**text, "_attn_implementation": "eager"},
        "vision_config": _make_published_vision(vision, config),
    }


def _make_published_vision(vision: Mapping[str, Any], config: PolyglanceConfig) -> dict[str, Any]:
    return {
        **_pick(vision, _VISION_KEYS),
        "model_type": "davit",
        "dim_embed": vision["embed_dim"],
        "projection_dim": config.encoder_config.d_model,
        "visual_temporal_embedding": {"type": "COSINE", "max_temporal_embeddings": vision["max_temporal_embeddings"]},
        "image_pos_embed": {"type": "learned_abs_2d", "max_pos_embeddings": config.max_image_grid},
        "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"],
        "_attn_implementation": "eager",
    }


def _pick(values: Mapping[str, Any], keys: Any, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {**(defaults or {}), **{key: values[key] for key in keys if key in values}}


_ID_DEFAULTS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
_VISION_KEYS = (
    *("depths", "patch_size", "patch_stride", "patch_padding", "patch_prenorm", "num_heads", "num_groups"),
    *("window_size", "drop_path_rate", "mlp_ratio", "qkv_bias", "projection_dim"),
)
_BART_KEYS = (
    *("d_model", "encoder_layers", "encoder_ffn_dim", "encoder_attention_heads"),
    *("decoder_layers", "decoder_ffn_dim", "decoder_attention_heads", "max_position_embeddings"),
    *("dropout", "attention_dropout", "activation_dropout", "activation_function"),
    *("encoder_layerdrop", "decoder_layerdrop", "scale_embedding", "init_std"),
)
_GEMMA_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "hidden_activation", "max_position_embeddings", "initializer_range"),
    *("rms_norm_eps", "rope_theta", "rope_parameters", "attention_bias", "attention_dropout"),
    *("query_pre_attn_scalar", "sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "layer_types"),
)
