"""What a model costs, answered by the model itself: parameters, and multiply-accumulates of a forward pass."""

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from polyglance.compute import training_compute
from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.parts import Part, freeze, num_parameters

__all__ = ["Counts", "count", "forward_macs", "macs_by_part", "on_meta", "training_macs"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """P, P_t and F of a model (paper section 4.1)."""

    num_parameters: int
    """P: unique parameters, tied ones once."""
    num_trained: int
    """P_t: those that training updates."""
    macs_per_sample: int
    """F: multiply-accumulates of one forward pass, 1 MAC = 1."""

    def compute_gmac(self, samples: int) -> float:
        """C = S F (1 + P_t / P), in GMAC (paper section 4.1)."""
        forward = samples * self.macs_per_sample / 1e9
        return training_compute(forward, num_trained=self.num_trained, num_parameters=self.num_parameters)


def count(
    config: PolyglanceConfig,
    trained: tuple[Part, ...],
    *,
    image_size: int,
    source_tokens: int,
    target_tokens: int,
) -> Counts:
    """P, P_t and F without allocating a weight: the model is built on the meta device.

    Args:
        image_size: side of the square images, in pixels.
        source_tokens: prompt tokens; the image's tokens come on top.
        target_tokens: decoder positions, each with logits over the whole vocabulary.
    """
    model = on_meta(config)
    freeze(model, trained)
    return Counts(
        num_parameters=num_parameters(model),
        num_trained=num_parameters(model, trained_only=True),
        macs_per_sample=forward_macs(
            model, image_size=image_size, source_tokens=source_tokens, target_tokens=target_tokens
        ),
    )


def on_meta(config: PolyglanceConfig) -> Polyglance:
    """The model without its weights, and with attention that the counters can see through."""
    config = copy.deepcopy(config)
    for part in (config.vision_config, config.encoder_config, config.decoder_config):
        part._attn_implementation = "eager"  # the fused kernels look into masks, which have no values on meta
    with torch.device("meta"):
        return Polyglance(config)


def forward_macs(model: Polyglance, *, image_size: int, source_tokens: int, target_tokens: int) -> int:
    """MACs of one forward pass of a model on the meta device, as torch's own counter sees the operators run."""
    macs = macs_by_part(model, image_size=image_size, source_tokens=source_tokens, target_tokens=target_tokens)
    return sum(macs.values())


def macs_by_part(model: Polyglance, *, image_size: int, source_tokens: int, target_tokens: int) -> dict[str, int]:
    """The same by part: vision, projection, encoder, decoder (cross-attention included), head."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(
            pixel_values=torch.empty(1, 3, image_size, image_size),
            input_ids=torch.empty(1, source_tokens, dtype=torch.long),
            decoder_input_ids=torch.empty(1, target_tokens, dtype=torch.long),
            decoder_attention_mask=torch.empty(1, 1, target_tokens, target_tokens),  # as is, not looked into
        )
    # The counter's convention is 2 per multiply-accumulate.
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    root = type(model).__name__
    macs = {part: flops.get(f"{root}.{module}", 0) // 2 for part, module in _MODULES.items()}
    assert sum(macs.values()) == counter.get_total_flops() // 2, "a multiplication outside the parts"
    return macs


def training_macs(
    config: PolyglanceConfig, trained: tuple[Part, ...], *, image_size: int, source_tokens: int, target_tokens: int
) -> int:
    """MACs that a training step needs for one sample: forward, the gradients of activations as far back as something
    is trained, and those of the trained weights. Counted as torch's counter sees them run, on the meta device.

    The paper's C = S F (1 + P_t / P) is a convention that laws are fitted with; hours and MFU are reckoned with this.
    """
    model = on_meta(config)
    freeze(model, trained)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        logits = model.eval()(
            pixel_values=torch.empty(1, 3, image_size, image_size),
            input_ids=torch.empty(1, source_tokens, dtype=torch.long),
            decoder_input_ids=torch.empty(1, target_tokens, dtype=torch.long),
            decoder_attention_mask=torch.empty(1, 1, target_tokens, target_tokens),
        ).logits
        logits.sum().backward()
    return counter.get_total_flops() // 2


_MODULES = {
    "vision": "vision_tower",
    "projection": "projector",
    "encoder": "encoder",
    "decoder": "decoder",
    "head": "lm_head",
}
