"""Models, tokenizers and image transforms of local folders through transformers: never from a network or a pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from transformers import AutoProcessor, AutoTokenizer

from polyglance.engines.config import EngineConfig
from polyglance.engines.weights import check_folder

__all__ = ["check_device", "first_line", "load_model", "load_processor", "load_tokenizer", "load_weights", "placed"]

_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.spm")
"""Where tokenizers keep their words. Without any, some are loaded with no words in them, and no complaint."""


def load_model(cls: Any, config: EngineConfig) -> Any:
    """The folder's model as transformers' class `cls`, on its device, ready to be asked.

    Raises:
        ValueError: as `load_weights`, or no such device.
    """
    folder = check_folder(config.path)
    check_device(config.device)
    return load_weights(cls, folder, config.dtype).to(config.device).eval()


def load_weights(cls: Any, folder: Path, dtype: str) -> Any:
    """The folder's model as transformers' class `cls`, in this precision (`float32`, `bfloat16`, ...).

    Raises:
        ValueError: weights that are missing, not safetensors, or do not fit.
    """
    try:
        model, report = cls.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder}: {first_line(error)}") from None
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"{folder}: {len(missing)} tensor(s) are missing: {', '.join(missing[:5])}")
    return model


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder.

    Raises:
        ValueError: there is none, or one that cannot be used here.
    """
    return _loaded(AutoTokenizer, folder, "tokenizer")


def load_processor(folder: Path) -> Any:
    """Tokenizer and image transform in a folder; images by Pillow, so that pixels are the same on every machine.

    Raises:
        ValueError: there is none, or one that cannot be used here.
    """
    processor = _loaded(AutoProcessor, folder, "processor", backend="pil")
    if not hasattr(processor, "image_processor"):
        raise ValueError(f"{folder}: it has no image processor")
    return processor


@runtime_checkable
class Placement(Protocol):
    """Settings that say where a model is: an engine's, or those of a model that is evaluated."""

    @property
    def device(self) -> str: ...

    @property
    def dtype(self) -> str: ...


def placed(inputs: Mapping[str, Any], where: Placement) -> dict[str, Any]:
    """Tensors on the model's device, pixels in its precision."""
    dtype = getattr(torch, where.dtype)
    return {
        name: tensor.to(where.device, dtype if tensor.is_floating_point() else None) for name, tensor in inputs.items()
    }


def check_device(device: str) -> None:
    """Refuse a device that is not there, before anything is read.

    Raises:
        ValueError: torch cannot use it.
    """
    try:
        torch.device(device)
    except RuntimeError:
        raise ValueError(f"the device {device!r} cannot be used: expected cpu, cuda or cuda:N") from None
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        num_gpus = torch.cuda.device_count()
        raise ValueError(f"the device {device!r} cannot be used: {first_line(error)} ({num_gpus} GPUs here)") from None


def _loaded(cls: Any, folder: Path, what: str, **options: Any) -> Any:
    if not any(any(folder.glob(pattern)) for pattern in _VOCABULARIES):
        raise ValueError(f"{folder}: no tokenizer in it ({' or '.join(_VOCABULARIES)})")
    try:
        return cls.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, ImportError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{folder}: its {what} cannot be loaded ({first_line(error)})") from None


def first_line(error: BaseException) -> str:
    """What a library says of a problem, cut to its first line."""
    return str(error).strip().split("\n")[0] or type(error).__name__
