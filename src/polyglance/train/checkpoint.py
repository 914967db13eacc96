"""Where a run can go on from: weights, optimiser and step, written whole or not at all."""

import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

__all__ = ["latest_checkpoint", "load_checkpoint", "save_checkpoint"]

_NAME = re.compile(r"step-(\d{8})")


def save_checkpoint(run_dir: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write `checkpoints/step-…` after `step` optimiser steps, and remove the older ones."""
    target = run_dir / "checkpoints" / f"step-{step:08d}"
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    # Tied parameters appear once among the named parameters, as safetensors wants it.
    tensors = {name: tensor.detach().contiguous() for name, tensor in (*model.named_parameters(), *_buffers(model))}
    save_file(tensors, partial / "model.safetensors")
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    partial.replace(target)
    for path in target.parent.iterdir():
        if path != target and _NAME.fullmatch(path.name.removesuffix(".partial")):
            shutil.rmtree(path)


def latest_checkpoint(run_dir: Path) -> tuple[int, Path] | None:
    """Step and folder of the newest whole checkpoint; None where there is none."""
    folder = run_dir / "checkpoints"
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return max(found, default=None)


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put weights and optimiser back as they were."""
    missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    assert not unexpected, unexpected
    known = {name for name, _ in model.named_parameters()}
    assert not known & set(missing), missing
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))


def _buffers(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    persistent = model.state_dict().keys()
    return [(name, tensor) for name, tensor in model.named_buffers() if name in persistent]
