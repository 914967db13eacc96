"""Counts of a model's card, made on the model itself, without allocating its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import Gemma2Config

from polyglance.engines.checkpoints import INDEX_FILE
from polyglance.engines.loading import refuse_misfits, refuse_missing
from polyglance.model.architecture import Polyglance
from polyglance.model.card_record import PRECISIONS, Card
from polyglance.model.checkpoint import Checkpoint
from polyglance.model.components import (
    COMPONENTS,
    POLICIES,
    Component,
    count_parameters,
    count_replica_bytes,
    find_component,
    freeze,
    set_train_mode,
)
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.flops import build_on_meta, count_macs, count_training_macs
from polyglance.model.sizes import resolve_size

__all__ = ["count_card", "count_recomputed_bytes", "count_saved_bytes"]


def count_card(
    name: str, *, image_size: int | None, source_tokens: int | None, target_tokens: int | None, beams: int
) -> Card:
    """Count what `polyglance.model.card.make_card` returns."""
    config = resolve_size(name)
    model = build_on_meta(config, name)
    if (folder := Path(name)).is_dir():
        _check_weights(folder, model)
    image_size = image_size or config.image_size
    image_tokens = config.num_image_tokens(image_size)
    limit = config.encoder_config.max_position_embeddings
    source_tokens = source_tokens or min(128, limit - image_tokens)
    if source_tokens < 1:
        raise ValueError(f"{name} has positions for {limit} tokens of image and prompt; the image takes {image_tokens}")
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
            for precision, num_bytes in PRECISIONS.items()
        },
        training_bytes={policy: cost.total_bytes for policy, cost in costs.items()},
        activation_bytes={policy: cost.activation_bytes for policy, cost in costs.items()},
        recomputed_bytes={
            policy: {
                precision: count_recomputed_bytes(config, saved, num_bytes=PRECISIONS[precision], **lengths)
                for precision, saved in cost.activation_bytes.items()
            }
            for policy, cost in costs.items()
        },
        training_gmac=count_training_macs(config, POLICIES["pre-training"][kind], **lengths) / 1e9,
        beams=beams,
        **lengths,
    )


def _check_weights(folder: Path, model: Polyglance) -> None:
    """Compare the shapes of a folder's weights, if it has any, with those of the model that its config.json describes.

    Raises:
        ValueError: weights of other shapes, or some that are missing.
    """
    has_weights = any((folder / name).exists() for name in ("model.safetensors", INDEX_FILE))
    if not has_weights or getattr(model.config, "quantization_config", None) is not None:  # quantised ones are packed
        return
    checkpoint = Checkpoint(folder)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    refuse_misfits(
        f"{folder}: its weights do not fit config.json",
        {name: (checkpoint.shape(name), wanted[name]) for name in checkpoint if name in wanted},
    )
    tied = {*model.all_tied_weights_keys, *model.all_tied_weights_keys.values()}
    refuse_missing(folder, wanted.keys() - set(checkpoint) - tied)


def _count_by_component(model: Polyglance) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(COMPONENTS, 0)
    for name, parameter in model.named_parameters():
        counts[find_component(name)] += parameter.numel()
    return counts


def _count_cached_values(config: PolyglanceConfig, model: Polyglance, *, beams: int, source: int, target: int) -> int:
    """Count the numbers kept while an image is decoded: keys and values, of the source once, of the target for each
    beam."""
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
    replica = {
        precision: count_replica_bytes(model, is_cast=num_bytes == 2) for precision, num_bytes in PRECISIONS.items()
    }
    saved = {precision: count_saved_bytes(model, getattr(torch, precision), **lengths) for precision in PRECISIONS}
    return _TrainingCosts(
        num_trained=count_parameters(model, trained_only=True),
        total_bytes={precision: replica[precision] + saved[precision] for precision in PRECISIONS},
        activation_bytes=saved,
    )


def count_saved_bytes(
    model: Polyglance, dtype: torch.dtype, *, image_size: int, source_tokens: int, target_tokens: int
) -> int:
    """Count the bytes that autograd saves for the backward pass of one sample, on the meta device. The loss is left
    out: it saves nothing that grows with the vocabulary (`polyglance.model.loss`)."""
    model = model.to(dtype)
    set_train_mode(model)
    weights = {parameter.untyped_storage() for parameter in model.parameters()}  # one object for all of its views
    saved: set[torch.UntypedStorage] = set()

    def save(tensor: Tensor) -> Tensor:
        saved.add(tensor.untyped_storage())
        return tensor

    pixels = torch.empty(1, 3, image_size, image_size, dtype=dtype, device="meta")
    ids_mask = torch.empty(1, 1, target_tokens, target_tokens, dtype=dtype, device="meta")
    source_ids, target_ids = (
        torch.empty(1, length, dtype=torch.long, device="meta") for length in (source_tokens, target_tokens)
    )
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        states, _ = model.encode(pixels, source_ids)
        hidden_states = model.decode(target_ids, states, None, ids_mask=ids_mask)
    total = sum(storage.nbytes() for storage in saved - weights)
    del hidden_states
    model.to(torch.float32)
    return total


def count_recomputed_bytes(
    config: PolyglanceConfig, saved: int, *, num_bytes: int, image_size: int, source_tokens: int, target_tokens: int
) -> int:
    """Estimate the activations of a sample if each layer keeps only its input, and one at a time recomputes the rest.

    Args:
        saved: activations if all are kept, in bytes.
        num_bytes: bytes of a number.
    """
    source = config.num_image_tokens(image_size) + source_tokens
    encoder = config.encoder_config
    layers = encoder.encoder_layers + config.num_hidden_layers
    inputs = encoder.encoder_layers * source * encoder.d_model
    inputs += config.num_hidden_layers * target_tokens * config.hidden_size
    return num_bytes * inputs + saved // layers
