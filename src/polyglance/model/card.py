"""A model's card: parameters, multiply-accumulates and memory of a size, told before a weight is allocated."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Gemma2Config

from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.flops import macs_by_part, on_meta
from polyglance.model.parts import PARTS, POLICIES, Part, freeze, num_parameters, part_of, train_mode
from polyglance.model.sizes import size

__all__ = ["Card", "card"]

_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a size costs."""

    size: str
    """The name it was asked for by."""
    num_parameters: int
    """P: unique parameters, tied ones once."""
    num_parameters_by_part: dict[str, int]
    """The same by part."""
    num_trained: dict[str, int]
    """P_t: parameters trained, by policy."""
    image_size: int
    """Side of the square image, in pixels, that F and memory are for."""
    source_tokens: int
    """Prompt tokens that F and memory are for."""
    target_tokens: int
    """Target tokens that F and memory are for."""
    gmac: float
    """F: multiply-accumulates of one forward pass, in 10^9, 1 MAC = 1."""
    gmac_by_part: dict[str, float]
    """The same by part."""
    inference_bytes: dict[str, int]
    """Memory for one image and `beams` beams, by precision: weights, keys and values, one step's logits."""
    training_bytes: dict[str, dict[str, int]]
    """Memory for one sample, by policy and precision: weights, gradients, Adam's two moments, saved activations. For
    bfloat16 (autocast) weights, gradients and moments stay float32, and a cast copy of the weights comes on top."""
    activation_bytes: dict[str, dict[str, int]]
    """What of it each further sample of a batch takes again."""
    beams: int
    """Beams that the memory for inference is for."""


def card(
    name: str,
    *,
    image_size: int | None = None,
    source_tokens: int | None = None,
    target_tokens: int | None = None,
    beams: int = 4,
) -> Card:
    """The card of a size (see `polyglance.model.sizes.size`), without allocating its weights.

    Args:
        image_size: side of the square image, in pixels; None: 224, or what a micro size is made for.
        source_tokens: prompt tokens, the image's come on top; None: 128, or as many as there are positions for.
        target_tokens: decoder positions, each with logits over the whole vocabulary; None: likewise.

    Raises:
        ValueError: an unknown size, or lengths that it has no positions for.
    """
    asked = {"image_size": image_size, "source_tokens": source_tokens, "target_tokens": target_tokens, "beams": beams}
    for option, value in asked.items():
        if value is not None and value < 1:
            raise ValueError(f"{option} is {value}; 1 or more is right")
    config = size(name)
    model = on_meta(config)
    image_size = image_size or config.image_size
    image_tokens = config.num_image_tokens(image_size)
    source_tokens = source_tokens or min(128, config.encoder_config.max_position_embeddings - image_tokens)
    limit = config.decoder_config.max_position_embeddings
    target_tokens = target_tokens or min(128, limit)
    if target_tokens > limit:
        raise ValueError(f"{name} has positions for {limit} target tokens, not for {target_tokens}")
    lengths = {"image_size": image_size, "source_tokens": source_tokens, "target_tokens": target_tokens}
    macs = macs_by_part(model, **lengths)
    kind = config.decoder_config.model_type
    costs = {parts[kind]: _training_costs(model, parts[kind], **lengths) for parts in POLICIES.values()}
    kept = _cached_values(config, model, beams=beams, source=image_tokens + source_tokens, target=target_tokens)
    logits_bytes = 4 * beams * config.vocab_size
    return Card(
        size=name,
        num_parameters=num_parameters(model),
        num_parameters_by_part=_parameters_by_part(model),
        num_trained={policy: costs[parts[kind]].num_trained for policy, parts in POLICIES.items()},
        gmac=sum(macs.values()) / 1e9,
        gmac_by_part={part: value / 1e9 for part, value in macs.items()},
        inference_bytes={n: size_ * (num_parameters(model) + kept) + logits_bytes for n, size_ in _BYTES.items()},
        training_bytes={policy: costs[parts[kind]].total_bytes for policy, parts in POLICIES.items()},
        activation_bytes={policy: costs[parts[kind]].activation_bytes for policy, parts in POLICIES.items()},
        beams=beams,
        **lengths,
    )


def _parameters_by_part(model: Polyglance) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        counts[part_of(name)] += parameter.numel()
    return counts


def _cached_values(config: PolyglanceConfig, model: Polyglance, *, beams: int, source: int, target: int) -> int:
    """Numbers kept while one image is decoded: keys and values, of the source once, of the target for every beam."""
    decoder = config.decoder_config
    gemma = isinstance(decoder, Gemma2Config)
    width = decoder.num_key_value_heads * decoder.head_dim if gemma else decoder.d_model
    layers = list(model.decoder.get_submodule("layers").children())
    crossed = sum(getattr(layer, "has_cross_attention", True) for layer in layers)
    return 2 * width * (len(layers) * beams * target + crossed * source)


@dataclass(frozen=True, kw_only=True)
class _TrainingCosts:
    num_trained: int
    total_bytes: dict[str, int]
    activation_bytes: dict[str, int]


def _training_costs(model: Polyglance, trained: tuple[Part, ...], **lengths: int) -> _TrainingCosts:
    freeze(model, trained)
    total, updated = num_parameters(model), num_parameters(model, trained_only=True)
    saved = {name: _saved_bytes(model, getattr(torch, name), **lengths) for name in _BYTES}
    weights = {"float32": 4 * total, "bfloat16": (4 + 2) * total}  # autocast keeps a cast copy for the step
    gradients_and_moments = 3 * 4 * updated
    return _TrainingCosts(
        num_trained=updated,
        total_bytes={name: weights[name] + gradients_and_moments + saved[name] for name in _BYTES},
        activation_bytes=saved,
    )


def _saved_bytes(
    model: Polyglance, dtype: torch.dtype, *, image_size: int, source_tokens: int, target_tokens: int
) -> int:
    """Bytes that autograd keeps for the backward pass of one sample, everything but the loss, which keeps nothing
    that grows with the vocabulary (`polyglance.model.loss`). Counted, on the meta device, not estimated."""
    model = model.to(dtype)
    train_mode(model)
    held: dict[int, Tensor] = {}
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states, _ = model.encode(
            torch.empty(1, 3, image_size, image_size, dtype=dtype), torch.empty(1, source_tokens, dtype=torch.long)
        )
        decoded = model.decoder(
            input_ids=torch.empty(1, target_tokens, dtype=torch.long),
            attention_mask=torch.empty(1, 1, target_tokens, target_tokens, dtype=dtype),
            encoder_hidden_states=states,
            use_cache=False,
        )
    total = sum(t.untyped_storage().nbytes() for storage, t in held.items() if storage not in weights)
    del decoded
    model.to(torch.float32)
    return total
