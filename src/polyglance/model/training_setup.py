"""Recommended setup for training a size on a number of devices: replicated or sharded, in what micro-batches."""

from dataclasses import dataclass
from typing import Literal

from polyglance.model.card import Card
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.sizes import resolve_size

__all__ = ["USABLE_SHARE", "TrainingSetup", "count_recomputed_bytes", "find_divisors", "recommend_setup"]

USABLE_SHARE = 0.85
"""Share of a device's memory that is planned with; the rest is for buffers, fragments and the loss."""
_GOOD_MICRO_BATCH = 8
"""Samples per device and pass from which on the setup is not changed for more of them."""


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """A recommendation, in the words of `engine` in a training configuration."""

    strategy: Literal["single", "ddp", "fsdp"]
    activation_checkpointing: bool
    micro_batch_size: int
    """Samples of a forward pass on one device."""
    accumulation: int
    """Forward passes of a device in one optimiser step."""
    bytes_per_device: int
    """Expected memory of a device, in bytes."""

    def __str__(self) -> str:
        recomputed = " recomputing activations" if self.activation_checkpointing else ""
        batches = f"{self.micro_batch_size} x {self.accumulation} samples per device"
        return f"{self.strategy}{recomputed}, {batches}, {self.bytes_per_device / 1e9:.0f} GB"


def recommend_setup(
    card: Card,
    *,
    policy: str = "pre-training",
    devices: int,
    device_bytes: int,
    batch_size: int,
    precision: Literal["float32", "bfloat16"] = "bfloat16",
) -> TrainingSetup | None:
    """Find the simplest setup that fits: replicas before shards, stored activations before recomputed ones.

    Args:
        policy: trained components (`polyglance.model.components.POLICIES`).
        devices: number of devices.
        device_bytes: memory of one device, in bytes.
        batch_size: samples of an optimiser step, over all devices.

    Returns:
        None where not even one sample per device fits.
    """
    if devices < 1 or device_bytes <= 0 or batch_size < 1:
        raise ValueError("devices, their memory and the batch size have to be positive")
    config = resolve_size(card.size)
    saved = card.activation_bytes[policy][precision]
    replica = card.training_bytes[policy][precision] - saved
    recomputed = count_recomputed_bytes(
        config,
        image_size=card.image_size,
        source_tokens=card.source_tokens,
        target_tokens=card.target_tokens,
        saved=saved,
        bytes_per_value=4 if precision == "float32" else 2,
    )
    per_device = batch_size // devices
    best: TrainingSetup | None = None
    for is_sharded in (False, True) if devices > 1 else (False,):
        for is_recomputed in (False, True):
            state = replica // devices + _count_gathered_bytes(card, precision) if is_sharded else replica
            per_sample = recomputed if is_recomputed else saved
            room = int(device_bytes * USABLE_SHARE) - state
            sizes = (n for n in find_divisors(per_device) if n * per_sample <= room)
            micro_batch_size = max(sizes, default=0)
            if micro_batch_size and (best is None or micro_batch_size > best.micro_batch_size):
                best = TrainingSetup(
                    strategy="fsdp" if is_sharded else "ddp" if devices > 1 else "single",
                    activation_checkpointing=is_recomputed,
                    micro_batch_size=micro_batch_size,
                    accumulation=per_device // micro_batch_size,
                    bytes_per_device=state + micro_batch_size * per_sample,
                )
            if best is not None and best.micro_batch_size >= _GOOD_MICRO_BATCH:
                return best
    return best


def find_divisors(number: int) -> list[int]:
    """Return the numbers that divide a number, in ascending order."""
    return [n for n in range(1, number + 1) if number % n == 0]


def _count_gathered_bytes(card: Card, precision: str) -> int:
    """Estimate the weights that a sharded model holds whole at a time: embeddings, and some layers on their way."""
    bytes_per_value = 4 if precision == "float32" else 2
    largest = card.num_parameters_by_part["embeddings"]
    return bytes_per_value * (largest + (card.num_parameters - largest) // 10)


def count_recomputed_bytes(
    config: PolyglanceConfig,
    *,
    image_size: int,
    source_tokens: int,
    target_tokens: int,
    saved: int,
    bytes_per_value: int,
) -> int:
    """Estimate the activations of a sample where each layer keeps its input only, and one layer at a time computes the
    rest again.

    Args:
        saved: bytes of a sample where every layer keeps what it needs.
    """
    source = config.num_image_tokens(image_size) + source_tokens
    encoder, decoder = config.encoder_config, config.decoder_config
    layers = encoder.encoder_layers + decoder.num_hidden_layers
    inputs = encoder.encoder_layers * source * encoder.d_model
    inputs += decoder.num_hidden_layers * target_tokens * decoder.hidden_size
    return bytes_per_value * inputs + saved // layers
