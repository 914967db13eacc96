"""Where a run can go on from: what training changes, written whole or not at all, and checked before it is trusted.

A checkpoint is a folder `checkpoints/step-…` with the trained parameters, the persistent buffers and the optimiser's
state, as two safetensors files or, where the model is sharded, as torch's distributed checkpoint, which any number of
processes reads. Frozen parameters are not in it: they are what the run starts from. `checkpoint.json` is written last
and holds size and SHA-256 of every file; the folder is given its name when all is there. Nothing random has a state
that would have to be kept: all of it is a function of seed and step.
"""

import json
import math
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException

from polyglance.distributed import Runtime
from polyglance.files import file_sha256, write_atomically
from polyglance.train.parallel import copy_into

__all__ = ["Checkpoints", "training_tensors"]

_NAME = re.compile(r"step-(\d{8})(\.partial)?")
_MANIFEST = "checkpoint.json"
_BEST = "best.json"
_RESERVE_BYTES = 16 * 2**20
"""Room for the manifest and what file systems keep for themselves."""


def training_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that training changes, by name: `model.…` and `optimizer.exp_avg.…`; views, not copies. An optimiser
    that has not stepped yet is given the state it would begin with."""
    kept = model.state_dict().keys()
    tensors = {f"model.{name}": tensor for name, tensor in model.named_buffers() if name in kept}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    tensors |= {f"model.{name}": parameter.data for name, parameter in trained.items()}
    for name, parameter in trained.items():
        state = optimizer.state[parameter]
        if not state:  # as AdamW begins, where it is fused
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        tensors |= {f"optimizer.{kind}.{name}": value for kind, value in state.items()}
    return tensors


class _Damaged(Exception):
    """A checkpoint that is not as it was written."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        keep_last: how many are kept, besides the best one.
        settings: stands for all settings that the weights depend on; a checkpoint of other settings is refused.
    """

    def __init__(self, run_dir: Path, runtime: Runtime, *, keep_last: int = 2, settings: str = "") -> None:
        self.folder = run_dir / "checkpoints"
        self.runtime = runtime
        self.keep_last = keep_last
        self.settings = settings

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
    ) -> str | None:
        """Write the checkpoint after `step` optimiser steps, and remove those that are no longer kept.

        Args:
            state: what else has to come back, as JSON.

        Returns:
            None; or why it could not be written, in which case the older ones are as they were.
        """
        tensors = training_tensors(model, optimizer)
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + _RESERVE_BYTES
        partial = self._path(step).with_name(self._path(step).name + ".partial")
        problem = None
        if self.runtime.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            free = shutil.disk_usage(partial).free
            if free < needed:
                problem = f"{self.folder}: step {step} needs {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB"
        if (problem := self.runtime.from_main(problem)) is None:
            problem = self._write(partial, tensors)
        if problem is None:
            problem = self._finish(step, partial, state)
        if problem is not None and self.runtime.is_main:
            shutil.rmtree(partial, ignore_errors=True)
        return problem

    def load_newest(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, Any]] | None:
        """Put the newest whole checkpoint into model and optimiser; damaged ones are named on standard error.

        Returns:
            Its step and its `state`; None where there is no checkpoint.

        Raises:
            ValueError: it belongs to a run with other settings, or all there are are damaged.
        """
        found = self.runtime.from_main(self._steps())
        for step in sorted(found, reverse=True):
            path = self._path(step)
            try:
                manifest = self._checked(path)
            except _Damaged as damage:
                if self.runtime.is_main:
                    print(f"{path}: {damage}; going back to an older one", file=sys.stderr, flush=True)
                continue
            if manifest["settings"] != self.settings:
                raise ValueError(
                    f"{path} belongs to a run with other settings: go on with those, or give another folder"
                )
            self._read(path, training_tensors(model, optimizer), is_sharded=manifest["is_sharded"])
            return step, manifest["state"]
        if found:
            raise ValueError(f"{self.folder}: every checkpoint is damaged; remove the folder to begin again")
        return None

    def load_weights(self, step: int, model: nn.Module) -> None:
        """Put the parameters of a checkpoint, without its optimiser, into a model."""
        manifest = self._checked(path := self._path(step))
        tensors = training_tensors(model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad]))
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}
        self._read(path, tensors, is_sharded=manifest["is_sharded"])

    def note_best(self, step: int, name: str, value: float) -> None:
        """Keep the checkpoint of this step from now on if the loss called `name` is lower than at all before; one that
        is no number is not."""
        best = self.best()
        if self.runtime.is_main and value < (math.inf if best is None else best["value"]):
            record = {"step": step, "name": name, "value": value}
            write_atomically(self.folder / _BEST, json.dumps(record) + "\n")

    def best(self) -> dict[str, Any] | None:
        """Step, name and value of the best loss noted so far."""
        path = self.folder / _BEST
        return json.loads(path.read_text()) if path.exists() else None

    def remove_all(self) -> None:
        """Remove every checkpoint of a step, once the run is finished."""
        for path in self.folder.glob("step-*"):
            shutil.rmtree(path, ignore_errors=True)
        (self.folder / _BEST).unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _steps(self) -> list[int]:
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("step-*"))
        return [int(match[1]) for match in names if match and not match[2]]

    def _write(self, folder: Path, tensors: Mapping[str, Tensor]) -> str | None:
        """Write the tensors; why not, where it did not work in any of the processes."""
        problem = None
        try:
            if self.runtime.strategy == "fsdp":
                state_dict_saver.save(dict(tensors), checkpoint_id=folder)
            elif self.runtime.is_main:
                for part in ("model", "optimizer"):
                    chosen = {name: t.contiguous() for name, t in tensors.items() if name.startswith(part)}
                    save_file(chosen, folder / f"{part}.safetensors")
        except (OSError, SafetensorError, CheckpointException) as error:
            problem = f"{folder}: {str(error).strip().splitlines()[0]}"
        return next((p for p in self.runtime.gather(problem) if p is not None), None)

    def _finish(self, step: int, partial: Path, state: Mapping[str, Any]) -> str | None:
        """Hash the files, each process some of them; write the manifest; rename; remove what is no longer kept."""
        names = self.runtime.from_main(sorted(path.name for path in partial.iterdir()) if self.runtime.is_main else [])
        own = names[self.runtime.rank :: self.runtime.world_size]
        files = [{"name": n, "bytes": (partial / n).stat().st_size, "sha256": file_sha256(partial / n)} for n in own]
        files = [entry for entries in self.runtime.gather(files) for entry in entries]
        problem = None
        if self.runtime.is_main:
            manifest = {
                "format": 1,
                "step": step,
                "is_sharded": self.runtime.strategy == "fsdp",
                "settings": self.settings,
                "state": state,
                "files": files,
            }
            try:
                write_atomically(partial / _MANIFEST, json.dumps(manifest, indent=1) + "\n")
                shutil.rmtree(self._path(step), ignore_errors=True)
                partial.replace(self._path(step))
                self._prune(step)
            except OSError as error:
                problem = f"{partial}: {error.strerror}"
        return self.runtime.from_main(problem)

    def _prune(self, newest: int) -> None:
        kept = sorted(step for step in self._steps() if step <= newest)[-self.keep_last :]
        best = self.best()
        names = {self._path(step).name for step in kept} | ({self._path(best["step"]).name} if best else set())
        for path in self.folder.iterdir():
            if _NAME.fullmatch(path.name) and path.name not in names:
                shutil.rmtree(path)

    def _checked(self, path: Path) -> dict[str, Any]:
        """The manifest, once every file is known to be as it was written; the processes share the reading."""
        problem = None
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
            files = sorted(manifest["files"], key=lambda entry: entry["name"])
            for entry in files[self.runtime.rank :: self.runtime.world_size]:
                file = path / Path(entry["name"]).name
                if file.stat().st_size != entry["bytes"] or file_sha256(file) != entry["sha256"]:
                    problem = f"{file.name} is damaged"
        except FileNotFoundError as error:
            problem = f"{Path(error.filename).name} is missing"
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"{_MANIFEST} cannot be read ({error})"
        if problems := [p for p in self.runtime.gather(problem) if p is not None]:
            raise _Damaged(problems[0])
        return manifest

    def _read(self, path: Path, tensors: dict[str, Tensor], *, is_sharded: bool) -> None:
        if is_sharded:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process: as it should be
                state_dict_loader.load(tensors, checkpoint_id=path, no_dist=not dist.is_initialized())
            return
        for part in ("model", "optimizer"):
            with safe_open(path / f"{part}.safetensors", framework="pt") as file:
                for name, target in tensors.items():
                    if name.startswith(part):
                        copy_into(target, file.get_tensor(name))
