"""A model's card: parameters, multiply-accumulates and memory of a size, without allocating its weights."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Gemma2Config

from polyglance.model.architecture import Polyglance
from polyglance.model.components import (
    COMPONENTS,
    POLICIES,
    Component,
    count_parameters,
    find_component,
    freeze,
    set_train_mode,
)
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.flops import build_on_meta, count_macs
from polyglance.model.sizes import resolve_size

__all__ = ["Card", "count_saved_bytes", "make_card"]

_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class Card:
    """Costs of a size; the content of `polyglance model card --json`."""

    size: str
    """Name of the size, as it was given."""
    num_parameters: int
    """P: unique parameters, tied ones once."""
    num_parameters_by_part: dict[str, int]
    """P by component."""
    num_trained: dict[str, int]
    """P_t: trained parameters, by policy."""
    image_size: int
    """Side of the square image, in pixels, for F and memory."""
    source_tokens: int
    """Prompt tokens, for F and memory."""
    target_tokens: int
    """Target tokens, for F and memory."""
    gmac: float
    """F: multiply-accumulates of one forward pass, in 10^9, 1 MAC = 1."""
    gmac_by_part: dict[str, float]
    """F by module."""
    inference_bytes: dict[str, int]
    """Memory for one image and `beams` beams, by precision: weights, keys and values, logits of one step."""
    training_bytes: dict[str, dict[str, int]]
    """Memory for one sample, by policy and precision: weights, gradients, Adam's two moments, saved activations. For
    bfloat16 (autocast) weights, gradients and moments stay float32, and a cast copy of the weights comes on top."""
    activation_bytes: dict[str, dict[str, int]]
    """Saved activations alone, by policy and precision: the memory of each further sample of a batch."""
    beams: int
    """Beams, for the memory of inference."""


def make_card(
    name: str,
    *,
    image_size: int | None = None,
    source_tokens: int | None = None,
    target_tokens: int | None = None,
    beams: int = 4,
) -> Card:
    """Count the costs of a size (see `polyglance.model.sizes.resolve_size`), without allocating its weights.

    Args:
        image_size: side of the square image, in pixels; None: 224, or the size that a micro model is made for.
        source_tokens: prompt tokens, without the image's; None: 128, or as many as there are positions for.
        target_tokens: decoder positions, each with logits over the whole vocabulary; None: likewise.

    Raises:
        ValueError: an unknown size, or lengths that it has no positions for.
    """
    given = {"image_size": image_size, "source_tokens": source_tokens, "target_tokens": target_tokens, "beams": beams}
    for option, value in given.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}; 1 or more is right")
    config = resolve_size(name)
    model = build_on_meta(config)
    image_size = image_size or config.image_size
    image_tokens = config.num_image_tokens(image_size)
    source_tokens = source_tokens or min(128, config.encoder_config.max_position_embeddings - image_tokens)
    limit = config.decoder_config.max_position_embeddings
    target_tokens = target_tokens or min(128, limit)
    if target_tokens > limit:
        raise ValueError(f"{name} has positions for {limit} target tokens, not for {target_tokens}")
    lengths = {"image_size": image_size, "source_tokens": source_tokens, "target_tokens": target_tokens}
    macs = count_macs(model, **lengths)
    kind = config.decoder_config.model_type
    costs = {policy: _count_training_costs(model, trained[kind], **lengths) for policy, trained in POLICIES.items()}
    num_parameters = count_parameters(model)
    num_cached = _count_cached_values(
        config, model, beams=beams, source=image_tokens + source_tokens, target=target_tokens
    )
    logits_bytes = 4 * beams * config.vocab_size
    return Card(
        size=name,
        num_parameters=num_parameters,
        num_parameters_by_part=_count_by_component(model),
        num_trained={policy: cost.num_trained for policy, cost in costs.items()},
        gmac=sum(macs.values()) / 1e9,
        gmac_by_part={module: value / 1e9 for module, value in macs.items()},
        inference_bytes={
            precision: num_bytes * (num_parameters + num_cached) + logits_bytes
            for precision, num_bytes in _BYTES.items()
        },
        training_bytes={policy: cost.total_bytes for policy, cost in costs.items()},
        activation_bytes={policy: cost.activation_bytes for policy, cost in costs.items()},
        beams=beams,
        **lengths,
    )


def _count_by_component(model: Polyglance) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(COMPONENTS, 0)
    for name, parameter in model.named_parameters():
        counts[find_component(name)] += parameter.numel()
    return counts


def _count_cached_values(config: PolyglanceConfig, model: Polyglance, *, beams: int, source: int, target: int) -> int:
    """Count the numbers kept while one image is decoded: keys and values, those of the source once, those of the target
    for every beam."""
    decoder = config.decoder_config
    is_gemma = isinstance(decoder, Gemma2Config)
    width = decoder.num_key_value_heads * decoder.head_dim if is_gemma else decoder.d_model
    layers = list(model.decoder.get_submodule("layers").children())
    num_crossed = sum(getattr(layer, "has_cross_attention", True) for layer in layers)
    return 2 * width * (len(layers) * beams * target + num_crossed * source)


@dataclass(frozen=True, kw_only=True)
class _TrainingCosts:
    num_trained: int
    total_bytes: dict[str, int]
    activation_bytes: dict[str, int]


def _count_training_costs(model: Polyglance, trained: tuple[Component, ...], **lengths: int) -> _TrainingCosts:
    freeze(model, trained)
    total, num_trained = count_parameters(model), count_parameters(model, trained_only=True)
    saved = {precision: count_saved_bytes(model, getattr(torch, precision), **lengths) for precision in _BYTES}
    weights = {"float32": 4 * total, "bfloat16": (4 + 2) * total}  # autocast keeps a cast copy for the step
    gradients_and_moments = 3 * 4 * num_trained
    return _TrainingCosts(
        num_trained=num_trained,
        total_bytes={precision: weights[precision] + gradients_and_moments + saved[precision] for precision in _BYTES},
        activation_bytes=saved,
    )


def count_saved_bytes(
    model: Polyglance, dtype: torch.dtype, *, image_size: int, source_tokens: int, target_tokens: int
) -> int:
    """Count the bytes that autograd saves for the backward pass of one sample, on the meta device. The loss is left
    out: it saves nothing that grows with the vocabulary (`polyglance.model.loss`)."""
    model = model.to(dtype)
    set_train_mode(model)
    saved: dict[int, Tensor] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    pixels = torch.empty(1, 3, image_size, image_size, dtype=dtype, device="meta")
    ids_mask = torch.empty(1, 1, target_tokens, target_tokens, dtype=dtype, device="meta")
    source_ids, target_ids = (
        torch.empty(1, length, dtype=torch.long, device="meta") for length in (source_tokens, target_tokens)
    )
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        states, _ = model.encode(pixels, source_ids)
        hidden_states = model.decode(target_ids, states, None, ids_mask=ids_mask)
    total = sum(t.untyped_storage().nbytes() for storage, t in saved.items() if storage not in weights)
    del hidden_states
    model.to(torch.float32)
    return total
