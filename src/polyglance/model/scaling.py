"""Scaling efficiency of training on many devices, estimated from the time of one device and from bandwidths.

A step takes the time of one device's passes, and of the messages that do not overlap with them. Replicas add up their
gradients once a step, during the last backward pass. Shards gather the weights for every forward and every backward
pass and scatter the gradients in every pass, while neighbouring layers are computed. These are estimates: nothing here
was measured on several GPUs.
"""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Network", "StepTime", "estimate_step"]

_BACKWARD_SHARE = 2 / 3
"""Share of a pass that is its backward half."""
_HIDING_SHARE = 0.9
"""Share of the computing time that messages can overlap with: the first messages have no computation to overlap
with."""
_NUM_BUCKETS = 25
"""Messages that gradients, or layers, are sent in."""
_WEIGHT_BYTES = 2
"""Bytes of a gathered weight (bf16)."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """Bandwidths and latency of the links between devices."""

    devices_per_node: int = 8
    within_gb_s: float = 360.0
    """10^9 bytes/s of one device to others of its node (NVLink of an H100: 450 by its data sheet, of which libraries
    reach four fifths)."""
    between_gb_s: float = 40.0
    """10^9 bytes/s of one device to other nodes (400 Gbit/s a device: 50, of which libraries reach four fifths)."""
    latency_s: float = 20e-6
    """Time of one message without content."""

    def bandwidth(self, devices: int) -> float:
        """Return bytes per second of a ring through this number of devices: every device of a node has its own link."""
        if devices <= self.devices_per_node:
            return self.within_gb_s * 1e9
        return min(self.within_gb_s, self.between_gb_s * self.devices_per_node) * 1e9


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Expected time of one optimiser step."""

    compute_s: float
    """Time of a device's passes, without any message."""
    exposed_s: float
    """Time of messages that do not overlap with computation."""
    waiting_s: float = 0.0
    """Time in which a device waits for those with longer micro-batches."""

    @property
    def seconds(self) -> float:
        return self.compute_s + self.waiting_s + self.exposed_s

    @property
    def efficiency(self) -> float:
        """Rate as a share of the rate without messages and waiting."""
        return self.compute_s / self.seconds if self.seconds else 1.0


def estimate_step(
    strategy: Literal["single", "ddp", "fsdp"],
    *,
    devices: int,
    compute_s: float,
    passes: int,
    num_parameters: int,
    num_trained: int,
    network: Network,
    waiting_share: float = 0.0,
    gradient_bytes: int = 4,
) -> StepTime:
    """Estimate the time of a step.

    Args:
        compute_s: seconds of a device's passes in a step, without messages.
        passes: forward passes of a device in a step.
        waiting_share: time in which a device waits for those with longer micro-batches, as a share of `compute_s`.
        gradient_bytes: bytes of a gradient that is sent (`RuntimeConfig.reduce_dtype`).
    """
    if devices == 1 or strategy == "single":
        return StepTime(compute_s=compute_s, exposed_s=0.0)
    bandwidth = network.bandwidth(devices)
    hops = (devices - 1) / devices
    latency_s = network.latency_s * _NUM_BUCKETS * math.log2(devices)
    pass_s, waiting_s = compute_s / passes, waiting_share * compute_s
    if strategy == "ddp":
        message_s = 2 * hops * gradient_bytes * num_trained / bandwidth + latency_s
        hidden_s = _HIDING_SHARE * _BACKWARD_SHARE * pass_s
        exposed_s = max(0.0, message_s - hidden_s) + latency_s / _NUM_BUCKETS
        return StepTime(compute_s=compute_s, exposed_s=exposed_s, waiting_s=waiting_s)
    gathered_s = 2 * hops * _WEIGHT_BYTES * num_parameters / bandwidth
    message_s = gathered_s + hops * gradient_bytes * num_trained / bandwidth + 3 * latency_s
    exposed_s = max(0.0, message_s - _HIDING_SHARE * pass_s) + 3 * latency_s / _NUM_BUCKETS
    return StepTime(compute_s=compute_s, exposed_s=passes * exposed_s, waiting_s=waiting_s)
