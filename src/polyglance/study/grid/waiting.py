"""Waiting time of processes whose micro-batches differ in length. Importing this loads no torch.

The time is simulated, not measured: samples of the published lengths are divided as in training, and the time of a pass
is proportional to its positions.
"""

from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Int

from polyglance.distributed import divide_micro_batches
from polyglance.mixture.shapes import divide_by_length

__all__ = ["draw_published_lengths", "estimate_waiting", "waiting_shares"]

_MEAN_TOKENS = ((16, 61), (17, 58), (60, 55), (47, 40), (45, 32), (44, 41), (45, 41))
"""Mean prompt and target tokens of the seven published cells (official code section 2.3)."""
_LIMITS = (4, 128)
_NUM_STEPS = 20


@cache
def estimate_waiting(
    strategy: Literal["single", "ddp", "fsdp"], *, devices: int, passes: int, samples: int, image_tokens: int
) -> float:
    """Estimate the time that is lost by waiting in a step, as a share of the step without it.

    Args:
        passes: forward passes of a device in a step.
        samples: samples of a pass.
        image_tokens: tokens that the encoder reads before the prompt.
    """
    if devices == 1 or strategy == "single":
        return 0.0
    random = np.random.default_rng(0)
    shares = [_draw_step(random, strategy, devices, passes, samples, image_tokens) for _ in range(_NUM_STEPS)]
    return float(np.mean(shares))


def draw_published_lengths(random: np.random.Generator, num_samples: int) -> Int[np.ndarray, "N 2"]:
    """Draw prompt and target tokens of samples, the cells in turn."""
    means = np.array(_MEAN_TOKENS)[np.arange(num_samples) % len(_MEAN_TOKENS)]
    return np.clip(random.gamma(6, means / 6).round().astype(int), *_LIMITS)


def waiting_shares(positions: Int[np.ndarray, "W P"]) -> dict[str, float]:
    """Return the waiting time of W processes in P passes, as a share of the step without it: replicas wait at the end
    of the step, shards in every pass."""
    mean = positions.sum() / len(positions)
    return {
        "ddp": float(positions.sum(1).max() / mean - 1),
        "fsdp": float(positions.max(0).sum() / mean - 1),
    }


def _draw_step(
    random: np.random.Generator, strategy: str, devices: int, passes: int, samples: int, image_tokens: int
) -> float:
    num = devices * passes
    lengths = draw_published_lengths(random, num * samples)
    positions = samples * (lengths[divide_by_length(lengths, num)].max(1).sum(1) + image_tokens)
    chosen = [divide_micro_batches(num, rank, devices) for rank in range(devices)]
    return waiting_shares(positions[np.array(chosen)])[strategy]
