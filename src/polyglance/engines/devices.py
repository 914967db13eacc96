"""Device and precision that a model runs with, where the settings leave them open."""

from dataclasses import replace
from typing import Any, TypeVar

import torch

from polyglance.engines.config import EngineConfig, ModelConfig
from polyglance.error_text import first_line

__all__ = ["check_device", "choose_compute", "choose_device", "choose_dtype", "set_up_gpu"]

Config = TypeVar("Config", bound=EngineConfig | ModelConfig)


def choose_device(device: str) -> str:
    """Return the device that is asked for; for `auto` a GPU if there is one, else the CPU. A GPU is then set up
    (`set_up_gpu`).

    Raises:
        ValueError: torch cannot use it.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    set_up_gpu(device)
    return device


def set_up_gpu(device: torch.device | str) -> None:
    """Switch two of cuDNN's defaults off in this process, if the device is a GPU.

    For every new shape of queries, keys and mask its attention makes a plan, which takes 7 ms of CPU time, and nearly
    every batch has a new shape. Its convolutions round float32 to 10 bits of mantissa (TF32), which torch's matrix
    products do not do.
    """
    if torch.device(device).type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.backends.cudnn.allow_tf32 = False


def choose_dtype(dtype: str, device: str) -> str:
    """Return the precision asked for; for `auto` float32 on a CPU, and on a GPU bfloat16 or, without it, float16."""
    if dtype != "auto":
        return dtype
    if torch.device(device).type != "cuda":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def choose_compute(config: Config) -> Config:
    """Return the settings with device and precision chosen.

    Raises:
        ValueError: torch cannot use the device.
    """
    device = choose_device(config.device)
    chosen: Any = {"device": device, "dtype": choose_dtype(config.dtype, device)}
    return replace(config, **chosen)


def check_device(device: str) -> None:
    """Refuse a device that does not exist, before anything is read.

    Raises:
        ValueError: torch cannot use it.
    """
    try:
        torch.device(device)
    except RuntimeError:
        raise ValueError(f"the device {device!r} cannot be used: expected auto, cpu, cuda or cuda:N") from None
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        num_gpus = torch.cuda.device_count()
        reason = first_line(error)
        raise ValueError(f"the device {device!r} cannot be used: {reason} ({num_gpus} GPUs here)") from None
