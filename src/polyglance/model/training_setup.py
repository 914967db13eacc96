"""Recommended setup for training a size on a number of devices: replicas or shards, and the size of micro-batches."""

from dataclasses import dataclass
from typing import Literal

from polyglance.model.card_record import PRECISIONS, Card

__all__ = ["USABLE_SHARE", "TrainingSetup", "find_divisors", "recommend_setup"]

USABLE_SHARE = 0.85
"""Usable share of a device's memory; the rest is for buffers, fragmentation and the loss."""
_POLICY, _PRECISION = "pre-training", "bfloat16"
"""Trained components and number format that a setup is for."""
_GOOD_MICRO_BATCH = 8
"""Samples per device and pass that are enough: a more complex setup is not chosen for more."""


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


def recommend_setup(card: Card, *, devices: int, device_bytes: int, batch_size: int) -> TrainingSetup | None:
    """Find the simplest setup for pre-training in bfloat16 that fits: replicas before shards, stored activations before
    recomputed ones.

    Args:
        devices: number of devices.
        device_bytes: memory of one device, in bytes.
        batch_size: samples of an optimiser step, over all devices.

    Returns:
        None where not even one sample per device fits.

    Raises:
        ValueError: the samples of a step cannot be divided evenly over the devices, which training refuses too.
    """
    for name, value in (("devices", devices), ("device_bytes", device_bytes), ("batch_size", batch_size)):
        if value <= 0:
            raise ValueError(f"{name} is {value}; expected a positive number")
    if batch_size % devices:
        raise ValueError(
            f"a batch of {batch_size:,} samples cannot be divided over {devices:,} devices: the number of devices must "
            "divide it"
        )
    saved = card.activation_bytes[_POLICY][_PRECISION]
    replica = card.training_bytes[_POLICY][_PRECISION] - saved
    per_device = batch_size // devices
    best: TrainingSetup | None = None
    for is_sharded in (False, True) if devices > 1 else (False,):
        for is_recomputed in (False, True):
            state = replica // devices + _count_gathered_bytes(card) if is_sharded else replica
            per_sample = card.recomputed_bytes[_POLICY][_PRECISION] if is_recomputed else saved
            room = int(device_bytes * USABLE_SHARE) - state
            micro_batch_size = max(find_divisors(per_device, most=room // per_sample), default=0)
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


def find_divisors(number: int, most: int | None = None) -> list[int]:
    """Return the numbers that divide a number, in ascending order.

    Args:
        most: largest of them that is asked for.
    """
    return [n for n in range(1, number + 1 if most is None else min(number, most) + 1) if number % n == 0]


def _count_gathered_bytes(card: Card) -> int:
    """Estimate the weights that a sharded model holds gathered at a time: embeddings, and some layers in transfer."""
    largest = card.num_parameters_by_part["embeddings"]
    return PRECISIONS[_PRECISION] * (largest + (card.num_parameters - largest) // 10)
