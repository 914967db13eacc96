"""The training loop: every step spelt out, resumable bit for bit, the same for one process and for many."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polyglance.distributed import Runtime
from polyglance.mixture.collate import Batch
from polyglance.model.components import set_train_mode
from polyglance.progress import Show, progress
from polyglance.train.checkpoint import Checkpoints
from polyglance.train.metrics import Meter, MetricsLog, gate_openings, memory_bytes
from polyglance.train.optim import OptimConfig
from polyglance.train.parallel import parallel, part_by_part, synchronising, whole
from polyglance.train.phases import Phases
from polyglance.train.signals import Stopped
from polyglance.train.watch import LossWatch, WatchConfig, stall_notice

__all__ = ["Batches", "LossScale", "Training", "optimise"]

Batches = Callable[[int], AbstractContextManager[Iterator[tuple[int, int, Batch]]]]
"""First step -> (step, number of the part, micro-batch) for this process, in order."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `optimise` needs to know beside model and batches."""

    optim: OptimConfig
    num_steps: int
    """Optimiser steps of the whole run."""
    run_dir: Path
    """Where checkpoints and metrics.jsonl are."""
    cells: Sequence[str]
    """Names of what `Batch.cell` counts."""
    num_parts: int = 1
    """Parts that a step's samples are divided into (`RuntimeConfig.num_parts`)."""
    seed: int = 0
    """Of dropout."""
    settings: str = ""
    """Stands for the settings that checkpoints belong to."""
    save_every_steps: int = 200
    keep_last: int = 2
    best: str | None = None
    """The loss whose best checkpoint is kept: `loss_nats`, a cell, or a name that `validate` gives."""
    log_every_steps: int = 25
    watch: WatchConfig = field(default_factory=WatchConfig)
    show_progress: bool = False
    is_timed: bool = False
    """Wait for the device at every phase, so that `Phases` is true; costs a little."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked once a step; where it says yes in any process, all stop after the step."""
    validate: Callable[[], Mapping[str, float]] | None = None
    """Losses on held-out data, measured at every checkpoint by all processes together; the same in all of them."""
    mfu: Callable[[float, float, float], float] | None = None
    """(samples/s of all processes, mean prompt and target tokens) -> share of the peak."""
    on_row: Callable[[dict[str, Any]], None] | None = None
    """Given every row of metrics.jsonl."""


def optimise(objective: nn.Module, batches: Batches, training: Training, runtime: Runtime) -> dict[str, float]:
    """Train `objective.model` in place, going on from the newest whole checkpoint in the run's folder.

    The gradient of a step is that of the mean over all valid tokens of the step: of all its parts, in all processes.

    Args:
        objective: a module as in `polyglance.train.step`; on the run's device.

    Returns:
        Seconds by phase (`polyglance.train.phases`).

    Raises:
        ValueError: gradients that are not finite, too many steps in a row; a damaged set of checkpoints.
        Stopped: the run was asked to stop and is saved.
    """
    loop = _Loop(objective, training, runtime)
    with (
        stall_notice(training.watch.stall_s, where=training.run_dir.name) as pulse,
        progress(show=training.show_progress and runtime.is_main) as loop.show,
        batches(loop.first_step) as stream,
    ):
        loop.phases = Phases(lambda phase: pulse(loop.step, phase), runtime.synchronise if training.is_timed else None)
        for step in range(loop.first_step, training.num_steps):
            loop.run_step(step, stream)
    return loop.phases.seconds


class LossScale:
    """The factor that keeps float16 gradients from vanishing: halved when they overflow, doubled when they have not
    for so long (as torch.amp.GradScaler). Judged by the norm over all processes, so that all agree, sharded or not."""

    growth_interval_steps = 2000

    def __init__(self, *, enabled: bool, state: Mapping[str, Any] | None = None) -> None:
        self.enabled = enabled
        self.factor = float(state["factor"]) if state else 2.0**16 if enabled else 1.0
        self.good_steps = int(state["good_steps"]) if state else 0

    def state(self) -> dict[str, Any]:
        return {"factor": self.factor, "good_steps": self.good_steps}

    def overflowed(self) -> bool:
        """Gradients were not finite. Returns whether a smaller factor may help."""
        if not self.enabled or self.factor <= 1:
            return False
        self.factor, self.good_steps = self.factor / 2, 0
        return True

    def fitted(self) -> None:
        """Gradients were finite."""
        self.good_steps += 1
        if self.enabled and self.good_steps == self.growth_interval_steps:
            self.factor, self.good_steps = self.factor * 2, 0


class _Loop:
    """A run in progress."""

    show: Show
    phases: Phases

    def __init__(self, objective: nn.Module, training: Training, runtime: Runtime) -> None:
        self.training, self.runtime = training, runtime
        self.model: nn.Module = objective.get_submodule("model")
        self.module = parallel(objective, runtime)
        self.optimizer = training.optim.build(self.model)
        set_train_mode(self.model)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.checkpoints = Checkpoints(
            training.run_dir, runtime, keep_last=training.keep_last, settings=training.settings
        )
        self.first_step, state = self.checkpoints.load_newest(self.model, self.optimizer) or (0, {})
        self.step = self.first_step
        self.scale = LossScale(enabled=runtime.precision == "fp16", state=state.get("scale"))
        # A part of a row is handed on by the first process; the others begin with nothing.
        self.meter = Meter(training.cells, runtime.device, state.get("meter") if runtime.is_main else None)
        self.num_skipped, self.last_row = state.get("num_skipped", 0), state.get("last_row", {})
        self.watch = LossWatch(training.watch, where=str(training.run_dir), state=state.get("watch"))
        self.log = MetricsLog(training.run_dir, from_step=self.first_step) if runtime.is_main else None
        self.waited_s = 0.0

    def run_step(self, step: int, stream: Iterator[tuple[int, int, Batch]]) -> None:
        """One optimiser step, and what is due after it."""
        training, self.step = self.training, step
        with self.phases("data wait"):
            parts = [next(stream) for _ in self.runtime.indices(training.num_parts)]
            assert [entry[:2] for entry in parts] == [(step, i) for i in self.runtime.indices(training.num_parts)]
            num_tokens, stop = self._agree([batch for _, _, batch in parts])
        lr_share = training.optim.set_lr(self.optimizer, step, training.num_steps)
        step_nats = self._backward(parts, num_tokens)
        with self.phases("optimiser"):
            norm = self._update(step_nats, sum(batch.num_tokens for _, _, batch in parts))
        done = step + 1
        if done % training.log_every_steps == 0 or done == training.num_steps:
            with self.phases("log"):
                self._write_row(done, training.optim.lr * lr_share, norm)
        is_last = done == training.num_steps
        if not is_last and (stop or done % training.save_every_steps == 0):
            self._save(done, must=stop)
        if stop and not is_last:
            raise Stopped(done)

    def _agree(self, batches: Sequence[Batch]) -> tuple[float, bool]:
        """Valid tokens of the whole step, and whether a process was asked to stop: the one message before the work."""
        own = np.array([sum(batch.num_tokens for batch in batches), self.training.should_stop()], dtype=np.float64)
        num_tokens, stop = self.runtime.all_sum(own).tolist()
        return num_tokens, stop > 0

    def _backward(self, parts: Sequence[tuple[int, int, Batch]], num_tokens: float) -> Tensor:
        """Gradients of the step's mean loss. Returns this process's nats."""
        runtime = self.runtime
        # Replicas and shards average over the processes; what is wanted is the sum.
        denominator = num_tokens / (runtime.world_size * self.scale.factor)
        total = torch.zeros((), dtype=torch.float64, device=runtime.device)
        for step, index, host_batch in parts:
            # Dropout is a function of seed, step and part: whichever process works on it, and after any restart.
            torch.manual_seed(_dropout_seed(self.training.seed, step, index))
            with self.phases("host to device"):
                batch = host_batch.to(runtime.device) if runtime.device.type != "cpu" else host_batch
            with synchronising(self.module, is_last=index == parts[-1][1]):
                with self.phases("forward"), runtime.autocast():
                    loss, nats = self.module(batch, denominator)
                with self.phases("backward"):
                    loss.backward()
            self.meter.add(host_batch, nats)
            total += nats.sum()
        return total

    def _update(self, step_nats: Tensor, own_tokens: int) -> float:
        """Clip and step, unless the gradient is not finite. Returns its norm before clipping."""
        if self.scale.enabled:
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], 1 / self.scale.factor)
        norm = float(whole(nn.utils.clip_grad_norm_(self.parameters, self.training.optim.clip_norm)))
        if np.isfinite(norm):
            self.optimizer.step()
            self.scale.fitted()
            self._report_spike(float(step_nats) / max(own_tokens, 1))
        else:
            self.num_skipped += 1
            if not self.scale.overflowed():
                self.watch.bad(self.step + 1, norm)
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _report_spike(self, loss_nats: float) -> None:
        median = self.watch.good(loss_nats)
        if median is not None:
            self._say(f"step {self.step + 1}: loss {loss_nats:.3f}, where the median of the last steps is {median:.3f}")

    def _write_row(self, done: int, lr: float, norm: float) -> None:
        losses, means = self.meter.row(self.runtime)
        waited_s, self.waited_s = self.phases.seconds["data wait"] - self.waited_s, self.phases.seconds["data wait"]
        row: dict[str, Any] = {"step": done, "loss_nats": losses["loss_nats"], "lr": lr, "grad_norm": norm} | losses
        row |= {
            "data_wait_share": waited_s / means["seconds"],
            "memory_bytes": memory_bytes(self.runtime.device),
            "num_skipped": self.num_skipped,
            "num_spikes": self.watch.num_spikes,
        }
        if self.training.mfu is not None:
            row["mfu"] = self.training.mfu(losses["samples_per_s"], means["source_tokens"], means["target_tokens"])
        if gates := gate_openings(self.model):
            row["gates"] = gates
        self.last_row = {"loss_nats": losses["loss_nats"], **losses["cells"]}
        self._record(row)
        text = f"loss {row['loss_nats']:.3f}, {row['samples_per_s']:.0f} samples/s"
        text += f", MFU {row['mfu']:.0%}" if "mfu" in row else ""
        self.show(self.training.run_dir.name, done, self.training.num_steps, text)

    def _record(self, row: dict[str, Any]) -> None:
        if self.log is not None:
            self.log.write(row)
            if self.training.on_row is not None:
                self.training.on_row(row)

    def _save(self, done: int, *, must: bool) -> None:
        """Write a checkpoint. One that cannot be written is reported; it ends the run only if it `must` be there."""
        with self.phases("checkpoint"):
            losses = {**self.last_row, **self._held_out_losses(done)}
            state = {
                "scale": self.scale.state(),
                "watch": self.watch.state(),
                "meter": self.meter.state(self.runtime),
                "num_skipped": self.num_skipped,
                "last_row": self.last_row,
            }
            problem = self.checkpoints.save(done, self.model, self.optimizer, state)
        if problem is not None:
            if must:
                raise ValueError(f"the run was asked to stop and cannot be saved: {problem}")
            self._say(f"no checkpoint: {problem}")
        elif (best := self.training.best) is not None and losses:  # none before the first row
            if best not in losses:
                raise ValueError(f"best = {best!r} is not a loss that this run knows; it has {', '.join(losses)}")
            self.checkpoints.note_best(done, best, losses[best])

    def _held_out_losses(self, done: int) -> dict[str, float]:
        if self.training.validate is None:
            return {}
        self.model.eval()
        with part_by_part(self.module, self.runtime):
            losses = dict(self.training.validate())
        set_train_mode(self.model)
        self._record({"step": done, "validation": losses})
        return losses

    def _say(self, text: str) -> None:
        if self.runtime.is_main:
            print(f"{self.training.run_dir.name}: {text}", file=sys.stderr, flush=True)


def _dropout_seed(seed: int, step: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, 8, step, index]).generate_state(1, np.uint64)[0] >> 1)
