"""Checkpoints that a run goes on from: all that training changes, written whole or not at all, checked when read.

A checkpoint is a folder `checkpoints/step-…` with the trained parameters, the persistent buffers and the optimiser's
state, as two safetensors files or, if the model is sharded, as torch's distributed checkpoint, which any number of
processes reads. Frozen parameters are not in it: the start of the run gives them again. `checkpoint.json` is written
last, sealed, and holds size and SHA-256 of every file; the folder gets its name when all is there. No random state is
kept: everything random is a function of seed and step.
"""

import math
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException

from polyglance.config import from_dict, to_dict
from polyglance.distributed import Runtime
from polyglance.error_text import first_line
from polyglance.files import FileDigest, read_record, replacing_folder, write_record
from polyglance.train.identity import RunIdentity
from polyglance.train.parallel import copy_into

__all__ = ["BestCheckpoint", "CheckpointManifest", "Checkpoints", "collect_tensors"]

_NAME = re.compile(r"step-(\d{8})(\.partial)?")
_MANIFEST = "checkpoint.json"
_BEST = "best.json"
_FORMAT = 2
_FORMATS = (1, 2)
"""Formats that are read; in the first there is no seal, and the fingerprint of the settings is by path."""
_KINDS = ("model", "optimizer")
"""First words of the tensors' names; without sharding each kind is a file."""
_RESERVE_BYTES = 16 * 2**20
"""Room for the manifest and for what file systems keep for themselves."""


@dataclass(frozen=True, kw_only=True)
class CheckpointManifest:
    """Content of checkpoint.json."""

    format: int = _FORMAT
    step: int
    """Optimiser steps done."""
    is_sharded: bool
    """Whether the tensors are torch's distributed checkpoint, rather than safetensors files."""
    settings: str
    """Fingerprint of the settings that the weights depend on (`RunIdentity.settings`)."""
    state: Mapping[str, Any]
    """State of the loop beside the tensors, as JSON."""
    files: tuple[FileDigest, ...]

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise ValueError(f"format {self.format}; this polyglance reads up to {_FORMAT}")


@dataclass(frozen=True, kw_only=True)
class BestCheckpoint:
    """Content of best.json: the step with the lowest value of a loss so far, name and value of the loss in nats."""

    step: int
    name: str
    value: float


class _DamagedError(Exception):
    """A checkpoint differs from what was written."""


class _NotWrittenError(Exception):
    """A checkpoint cannot be written; raised in all processes alike."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        keep_last: number of checkpoints that are kept, besides the best one.
        identity: what the weights depend on; a checkpoint of other settings is refused. None: nothing is loaded into
            an optimiser, nor saved.
    """

    def __init__(
        self, run_dir: Path, runtime: Runtime, *, keep_last: int = 2, identity: RunIdentity | None = None
    ) -> None:
        self.folder = run_dir / "checkpoints"
        self.runtime = runtime
        self.keep_last = keep_last
        self.identity = identity or RunIdentity(settings="", inputs={})

    def with_runtime(self, runtime: Runtime) -> "Checkpoints":
        """Return the same checkpoints, written and read with the messages of another runtime."""
        return Checkpoints(self.folder.parent, runtime, keep_last=self.keep_last, identity=self.identity)

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
    ) -> str | None:
        """Write the checkpoint after `step` optimiser steps, and remove those that are no longer kept.

        Args:
            state: state of the loop beside the tensors, as JSON.

        Returns:
            None; or why it could not be written: the older checkpoints are then unchanged.
        """
        return self.write(step, collect_tensors(model, optimizer), state)

    def write(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str | None:
        """Do what `save` does with tensors that were collected (`collect_tensors`). Without sharding only those of the
        first process are used."""
        folder = self._path(step)
        partial_name = folder.with_name(f"{folder.name}.partial")  # as replacing_folder names it, in all processes
        problem = None
        try:
            with replacing_folder(folder) if self.runtime.is_main else nullcontext(partial_name) as partial:
                self._check_space(partial, tensors)
                self._write_tensors(partial, tensors)
                self._write_manifest(partial, step, state)
            if self.runtime.is_main:
                self._remove_old(step)
        except _NotWrittenError as error:
            return str(error)
        except OSError as error:
            problem = f"{partial_name}: {error.strerror}"
        return self.runtime.first(problem)

    def load_newest(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, Mapping[str, Any]] | None:
        """Load the newest whole checkpoint into model and optimiser; damaged ones are named on standard error.

        Returns:
            Its step and its `state`; None if there is no checkpoint.

        Raises:
            ValueError: it belongs to a run with other settings, or all checkpoints are damaged.
        """
        steps = self.runtime.from_main(self._steps())
        for step in sorted(steps, reverse=True):
            path = self._path(step)
            try:
                manifest = self._check_files(path, step)
            except _DamagedError as damage:
                if self.runtime.is_main:
                    print(f"{path}: {damage}; going back to an older one", file=sys.stderr, flush=True)
                continue
            if not self.identity.is_of(manifest.settings):
                raise ValueError(
                    f"{path} belongs to a run with other settings: go on with those, or give another folder"
                )
            tensors = collect_tensors(model, optimizer)
            _read_tensors(path, tensors, is_sharded=manifest.is_sharded)
            return step, manifest.state
        if steps:
            raise ValueError(f"{self.folder}: every checkpoint is damaged; remove the folder to begin again")
        return None

    def load_weights(self, step: int, model: nn.Module) -> None:
        """Load the parameters of a checkpoint, without its optimiser, into a model."""
        path = self._path(step)
        try:
            manifest = self._check_files(path, step)
        except _DamagedError as damage:
            raise ValueError(f"{path}: {damage}") from None
        _read_tensors(path, _model_tensors(model), is_sharded=manifest.is_sharded)

    def note_best(self, step: int, name: str, value: float) -> None:
        """Keep the checkpoint of this step from now on if `value` is lower than any before; NaN never is.

        Args:
            name: name of the loss.
            value: its value, in nats.
        """
        best = self.best()
        if self.runtime.is_main and value < (math.inf if best is None else best.value):
            write_record(self.folder / _BEST, to_dict(BestCheckpoint(step=step, name=name, value=value)), indent=None)

    def best(self) -> BestCheckpoint | None:
        """Return the checkpoint with the lowest loss noted so far.

        Raises:
            ValueError: the note is damaged.
        """
        path = self.folder / _BEST
        if not path.exists():
            return None
        try:
            return from_dict(BestCheckpoint, read_record(path))
        except ValueError as error:
            raise ValueError(f"{error}; remove {path}, and the best checkpoint is chosen from now on") from None

    def remove_all(self, *, except_step: int | None = None) -> None:
        """Remove every checkpoint of a step, once the run is finished.

        Args:
            except_step: step whose checkpoint stays: the last one of a trunk.
        """
        for path in self.folder.glob("step-*"):
            if except_step is None or path != self._path(except_step):
                shutil.rmtree(path, ignore_errors=True)
        (self.folder / _BEST).unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _steps(self) -> list[int]:
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("step-*"))
        return [int(match[1]) for match in names if match and not match[2]]

    @contextmanager
    def _agree_on_errors(self, folder: Path) -> Iterator[None]:
        """Raise an error of any of the processes in all of them; every process must enter the block."""
        problem = None
        try:
            yield
        except (OSError, SafetensorError, CheckpointException) as error:
            problem = f"{folder}: {first_line(error)}"
        if (problem := self.runtime.first(problem)) is not None:
            raise _NotWrittenError(problem)

    def _check_space(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + _RESERVE_BYTES
        with self._agree_on_errors(folder):
            if self.runtime.is_main and (free := shutil.disk_usage(folder).free) < needed:
                raise OSError(f"the checkpoint needs {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB")

    def _write_tensors(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        with self._agree_on_errors(folder):
            if self.runtime.strategy == "fsdp":
                state_dict_saver.save(dict(tensors), checkpoint_id=folder, process_group=self.runtime.group)
            elif self.runtime.is_main:
                for kind in _KINDS:
                    chosen = {name: t.contiguous() for name, t in tensors.items() if name.startswith(kind)}
                    save_file(chosen, folder / f"{kind}.safetensors")

    def _write_manifest(self, folder: Path, step: int, state: Mapping[str, Any]) -> None:
        """Hash the files, each process some of them, and write the manifest."""
        names = self.runtime.from_main(sorted(path.name for path in folder.iterdir()) if self.runtime.is_main else [])
        with self._agree_on_errors(folder):
            local_names = names[self.runtime.rank :: self.runtime.world_size]
            local_files = [FileDigest.of(folder / name) for name in local_names]
        files = tuple(file for some in self.runtime.gather(local_files) for file in some)
        if self.runtime.is_main:
            is_sharded = self.runtime.strategy == "fsdp"
            manifest = CheckpointManifest(
                step=step, is_sharded=is_sharded, settings=self.identity.settings, state=state, files=files
            )
            write_record(folder / _MANIFEST, to_dict(manifest))

    def _remove_old(self, newest: int) -> None:
        steps = sorted(step for step in self._steps() if step <= newest)[-self.keep_last :]
        best = self.best()
        names = {self._path(step).name for step in (*steps, *([best.step] if best else []))}
        for path in self.folder.iterdir():
            if _NAME.fullmatch(path.name) and path.name not in names:
                shutil.rmtree(path)

    def _check_files(self, folder: Path, step: int) -> CheckpointManifest:
        """Return the manifest after comparing every file with it; the processes share the reading.

        Raises:
            _DamagedError: in all processes alike.
        """
        problem = None
        try:
            if not (folder / _MANIFEST).exists():
                raise _DamagedError(f"{_MANIFEST} is missing")
            manifest = from_dict(CheckpointManifest, read_record(folder / _MANIFEST), allow_nan=True)
            if manifest.step != step:
                raise _DamagedError(f"{_MANIFEST} is that of step {manifest.step}")
            files = sorted(manifest.files, key=lambda file: file.name)
            for file in files[self.runtime.rank :: self.runtime.world_size]:
                if not file.is_of(folder / Path(file.name).name):
                    raise _DamagedError(f"{file.name} is damaged")
        except _DamagedError as error:
            problem = str(error)
        except FileNotFoundError as error:
            problem = f"{Path(error.filename).name} is missing"
        except (OSError, ValueError) as error:
            problem = f"{_MANIFEST} cannot be read ({error})"
        if (problem := self.runtime.first(problem)) is not None:
            raise _DamagedError(problem)
        return manifest


def collect_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all tensors that training changes, by name; views, not copies."""
    return _model_tensors(model) | _optimizer_tensors(model, optimizer)


def _model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model that training changes, by name (`model.…`); views, not copies."""
    persistent = model.state_dict().keys()
    tensors = {f"model.{name}": tensor for name, tensor in model.named_buffers() if name in persistent}
    return tensors | {f"model.{name}": p.data for name, p in model.named_parameters() if p.requires_grad}


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimiser, by name (`optimizer.exp_avg.…`); views, not copies. An optimiser that has not
    made a step gets the state that it would begin with."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = optimizer.state[parameter]
        if not state:  # as a fused AdamW initialises it
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        tensors |= {f"optimizer.{kind}.{name}": value for kind, value in state.items()}
    return tensors


def _read_tensors(folder: Path, tensors: dict[str, Tensor], *, is_sharded: bool) -> None:
    """Read a checkpoint into the tensors."""
    if is_sharded:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # intended in one process
            state_dict_loader.load(tensors, checkpoint_id=folder, no_dist=not dist.is_initialized())
        return
    for kind in _KINDS:
        chosen = {name: tensor for name, tensor in tensors.items() if name.startswith(kind)}
        if chosen:
            with safe_open(folder / f"{kind}.safetensors", framework="pt") as file:
                for name, tensor in chosen.items():
                    copy_into(tensor, file.get_tensor(name))
