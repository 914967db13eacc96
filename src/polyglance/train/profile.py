"""Time of the phases of a training step, and work of the device, measured on the first steps of a run."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polyglance.distributed import is_main_process, join_processes
from polyglance.train.config import RunConfig
from polyglance.train.kernels import KernelProfile, StepTrace
from polyglance.train.loop import Hooks
from polyglance.train.run import train
from polyglance.train.start import make_tokenizer

__all__ = ["TrainingProfile", "profile_training"]

_NUM_RECORDED = 3
"""Steps whose kernels are recorded."""


@dataclass(frozen=True, kw_only=True)
class TrainingProfile:
    """Phases of a training step; the device is waited for at the end of each phase."""

    steps: int
    """Number of steps."""
    seconds: Mapping[str, float]
    """Phase -> seconds of all steps."""
    last_row: Mapping[str, Any]
    """Last row of the log: rates, memory and, where the device's peak is known, MFU."""
    kernels: KernelProfile | None
    """Work of the first process's device in the last steps of a second run, in which nothing is waited for."""


def profile_training(config: RunConfig, *, num_steps: int) -> TrainingProfile:
    """Train the first steps in the folder `profile` of the run, which is removed afterwards.

    They are trained twice: once with a wait at the end of each phase and a checkpoint on the way, once with a recording
    of the last steps. Under torchrun every process calls this function.

    Raises:
        ValueError: as `train`.
    """
    seconds: dict[str, float] = {}
    rows: list[Mapping[str, Any]] = []
    folder = config.out / "profile"
    half = max(1, num_steps // 2)
    shortened = replace(
        config.training,
        num_samples=num_steps * config.mixture.batch_size,
        save_every_steps=half,
        log_every_steps=half,
        best=None,
    )
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
    with join_processes(config.engine) as runtime:
        make_tokenizer(config, runtime)
        train(shortened, folder, hooks=Hooks(on_phases=seconds.update, on_row=rows.append), show_progress=True)
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)
        trace = StepTrace(runtime.device, first_step=max(0, num_steps - _NUM_RECORDED))
        train(replace(shortened, save_every_steps=num_steps), folder, hooks=Hooks(should_stop=trace.note_step))
    kernels = trace.finish()
    if is_main_process():
        shutil.rmtree(folder, ignore_errors=True)
    return TrainingProfile(steps=num_steps, seconds=seconds, last_row=rows[-1] if rows else {}, kernels=kernels)
