"""Costs of a model, counted on the model itself: parameters, and multiply-accumulates (MACs) of its passes."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from polyglance.error_text import first_line
from polyglance.model.architecture import Polyglance
from polyglance.model.components import Component, count_parameters, freeze
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.counts import Counts

__all__ = ["build_on_meta", "count_macs", "count_model", "count_training_macs"]


def count_model(
    config: PolyglanceConfig,
    trained: tuple[Component, ...],
    *,
    image_size: int,
    source_tokens: int,
    target_tokens: int,
    name: str = "model",
) -> Counts:
    """Count P, P_t and F without allocating a weight: the model is built on the meta device.

    Args:
        image_size: side of the square images, in pixels.
        source_tokens: prompt tokens; the image's tokens come on top.
        target_tokens: decoder positions, each with logits over the whole vocabulary.
        name: size or family, for messages.

    Raises:
        ValueError: a configuration that no model can be made of, in one line.
    """
    model = build_on_meta(config, name)
    freeze(model, trained)
    macs = count_macs(model, image_size=image_size, source_tokens=source_tokens, target_tokens=target_tokens)
    return Counts(
        num_parameters=count_parameters(model),
        num_trained=count_parameters(model, trained_only=True),
        macs_per_sample=sum(macs.values()),
    )


def build_on_meta(config: PolyglanceConfig, name: str = "model") -> Polyglance:
    """Build the model without its weights, with attention whose products torch's counter can count.

    Args:
        name: size or folder, for messages.

    Raises:
        ValueError: a configuration that no model can be made of, in one line.
    """
    with _explaining(name), torch.device("meta"):
        model = Polyglance(copy.deepcopy(config))
    model.name_or_path = name
    model.set_attn_implementation("eager")  # fused kernels read masks, which have no values on meta
    return model


def count_macs(model: Polyglance, *, image_size: int, source_tokens: int, target_tokens: int) -> dict[str, int]:
    """Count the MACs of one forward pass of a model on the meta device, by module: vision, projection, encoder, decoder
    (cross-attention included), head. Their sum is F."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _compute_logits(model, image_size, source_tokens, target_tokens)
    # The counter's convention is 2 per multiply-accumulate.
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    root = type(model).__name__
    macs = {name: flops.get(f"{root}.{module}", 0) // 2 for name, module in _MODULES.items()}
    assert sum(macs.values()) == counter.get_total_flops() // 2, "a multiplication outside these modules"
    return macs


def count_training_macs(
    config: PolyglanceConfig,
    trained: tuple[Component, ...],
    *,
    image_size: int,
    source_tokens: int,
    target_tokens: int,
) -> int:
    """Count the MACs of a training step for one sample: forward pass, gradients of activations as far back as something
    is trained, gradients of the trained weights. torch's counter sees them run on the meta device.

    Hours and MFU are computed from this; laws are fitted with the paper's convention, C = S F (1 + P_t / P).
    """
    model = build_on_meta(config)
    freeze(model, trained)
    with FlopCounterMode(display=False) as counter:
        _compute_logits(model, image_size, source_tokens, target_tokens).sum().backward()
    return counter.get_total_flops() // 2


def _compute_logits(model: Polyglance, image_size: int, source_tokens: int, target_tokens: int) -> Tensor:
    with _explaining(model.name_or_path), torch.device("meta"):
        return model.eval()(
            pixel_values=torch.empty(1, 3, image_size, image_size),
            input_ids=torch.empty(1, source_tokens, dtype=torch.long),
            decoder_input_ids=torch.empty(1, target_tokens, dtype=torch.long),
            decoder_attention_mask=torch.empty(1, 1, target_tokens, target_tokens),  # 4-D masks are used as they are
        ).logits


@contextmanager
def _explaining(name: str) -> Iterator[None]:
    """Turn whatever torch and transformers raise about values of a configuration into a `ValueError` of one line."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - torch raises errors of many kinds at sizes that are none
        raise ValueError(f"{name}: no model of this configuration is possible ({first_line(error)})") from None


_MODULES = {
    "vision": "vision_tower",
    "projection": "projector",
    "encoder": "encoder",
    "decoder": "decoder",
    "head": "lm_head",
}
