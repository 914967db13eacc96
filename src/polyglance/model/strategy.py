"""How a size is best trained on so many devices: replicated or sharded, in what micro-batches."""

from dataclasses import dataclass
from typing import Literal

from polyglance.model.card import Card
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.sizes import size

__all__ = ["Strategy", "recommend"]

_RESERVE = 0.85
"""Share of a device's memory that is planned with; the rest is for buffers, fragments and the loss."""
_GOOD_MICRO_BATCH = 8
"""Samples a device should see at once before recomputing or sharding is given up for less memory."""

_LARGEST = 32
"""Larger micro-batches gain nothing on an accelerator that is busy already."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A recommendation, in the words of `engine` in a training configuration."""

    strategy: Literal["single", "ddp", "fsdp"]
    activation_checkpointing: bool
    micro_batch_size: int
    """Samples of a forward pass on one device."""
    accumulation: int
    """Forward passes of a device in one optimiser step."""
    bytes_per_device: int
    """Memory it is expected to take."""

    def __str__(self) -> str:
        recomputed = " recomputing activations" if self.activation_checkpointing else ""
        parts = f"{self.micro_batch_size} x {self.accumulation} samples per device"
        return f"{self.strategy}{recomputed}, {parts}, {self.bytes_per_device / 1e9:.0f} GB"


def recommend(
    card: Card,
    *,
    policy: str = "pre-training",
    devices: int,
    device_bytes: int,
    batch_size: int,
    precision: Literal["float32", "bfloat16"] = "bfloat16",
) -> Strategy | None:
    """The simplest way that fits: one replica per device before shards, and stored activations before recomputed ones.

    Args:
        policy: what is trained (`polyglance.model.parts.POLICIES`).
        batch_size: samples of an optimiser step, over all devices.

    Returns:
        None where not even one sample per device fits.
    """
    if devices < 1 or device_bytes <= 0 or batch_size < 1:
        raise ValueError("devices, their memory and the batch size have to be positive")
    config = size(card.size)
    saved = card.activation_bytes[policy][precision]
    replica = card.training_bytes[policy][precision] - saved
    per_device = batch_size // devices
    best: Strategy | None = None
    for sharded in (False, True) if devices > 1 else (False,):
        for recomputed in (False, True):
            state = replica // devices + _gathered_bytes(card, precision) if sharded else replica
            per_sample = _recomputed_bytes(config, card, saved, precision) if recomputed else saved
            room = int(device_bytes * _RESERVE) - state
            micro = max((m for m in _divisors(per_device) if m * per_sample <= room and m <= _LARGEST), default=0)
            if micro and (best is None or micro > best.micro_batch_size):
                best = Strategy(
                    strategy="fsdp" if sharded else "ddp" if devices > 1 else "single",
                    activation_checkpointing=recomputed,
                    micro_batch_size=micro,
                    accumulation=per_device // micro,
                    bytes_per_device=state + micro * per_sample,
                )
            if best is not None and best.micro_batch_size >= _GOOD_MICRO_BATCH:
                return best
    return best


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _gathered_bytes(card: Card, precision: str) -> int:
    """What a sharded model holds whole at a time: its embeddings, and some layers on their way."""
    bytes_per_value = 4 if precision == "float32" else 2
    largest = card.num_parameters_by_part["embeddings"]
    return bytes_per_value * (largest + (card.num_parameters - largest) // 10)


def _recomputed_bytes(config: PolyglanceConfig, card: Card, saved: int, precision: str) -> int:
    """Activations of a sample where only each layer's input is kept, and one layer at a time computed again."""
    bytes_per_value = 4 if precision == "float32" else 2
    source = config.num_image_tokens(card.image_size) + card.source_tokens
    encoder, decoder = config.encoder_config, config.decoder_config
    layers = encoder.encoder_layers + decoder.num_hidden_layers
    inputs = encoder.encoder_layers * source * encoder.d_model
    inputs += decoder.num_hidden_layers * card.target_tokens * decoder.hidden_size
    return bytes_per_value * inputs + saved // layers
