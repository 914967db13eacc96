"""MFU: rate of the model's own operations over the peak rate of the devices."""

import time
from collections.abc import Callable
from functools import lru_cache

import torch

from polyglance.distributed import Runtime
from polyglance.model.architecture import Polyglance
from polyglance.model.component_names import PARTS
from polyglance.model.flops import macs_by_part, on_meta, training_macs
from polyglance.model.parts import part_of

__all__ = ["Mfu", "make_mfu", "measure_peak_tflops"]

Mfu = Callable[[float, tuple[float, float]], float]
"""(samples/s of all processes, mean prompt and target tokens of a sample) -> MFU."""


def make_mfu(model: Polyglance, runtime: Runtime, *, peak_tflops: float | str, image_size: int, is_cached: bool) -> Mfu:
    """Return a function that computes the MFU of a model in training.

    Recomputed activations and padding do not count as operations, nor does a vision tower whose features are cached.

    Args:
        peak_tflops: as in `RuntimeConfig`, but not None.
        image_size: side of the square images, in pixels.
        is_cached: the tower's features are cached.
    """
    per_device = measure_peak_tflops(runtime) if peak_tflops == "measured" else float(peak_tflops)
    peak_flops_per_s = per_device * 1e12 * runtime.world_size
    trained_parts = {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    trained = tuple(part for part in PARTS if part in trained_parts)

    @lru_cache
    def count_macs(source_tokens: int, target_tokens: int) -> int:
        sizes = {"image_size": image_size, "source_tokens": source_tokens, "target_tokens": target_tokens}
        total = training_macs(model.config, trained, **sizes)
        return total - (macs_by_part(on_meta(model.config), **sizes)["vision"] if is_cached else 0)

    def mfu(samples_per_s: float, mean_tokens: tuple[float, float]) -> float:
        macs = count_macs(round(mean_tokens[0]), round(mean_tokens[1]))
        return 2 * macs * samples_per_s / peak_flops_per_s

    return mfu


def measure_peak_tflops(runtime: Runtime, *, size: int = 0) -> float:
    """Measure the rate of a large matrix product on this device in the run's precision, in 10^12 FLOP/s; best of three.

    Args:
        size: rows and columns; 0: 8192 on a GPU, 2048 on a CPU.
    """
    size = size or (8192 if runtime.device.type == "cuda" else 2048)
    left, right = (torch.ones(size, size, dtype=runtime.dtype, device=runtime.device) for _ in range(2))
    best_s = float("inf")
    for _ in range(4):  # the first warms up
        runtime.synchronise()
        since_s = time.perf_counter()
        left @ right
        runtime.synchronise()
        best_s = min(best_s, time.perf_counter() - since_s)
    return 2 * size**3 / best_s / 1e12
