"""The training loop: every step spelt out, resumable bit for bit, the same for one process and for many."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from polyglance.config import to_dict
from polyglance.distributed import Runtime
from polyglance.mixture.collate import Batch
from polyglance.mixture.random_streams import RandomStream
from polyglance.model.architecture import Polyglance
from polyglance.model.components import set_train_mode
from polyglance.progress import Show, track_progress
from polyglance.train.background import BackgroundSaves
from polyglance.train.checkpoint import Checkpoints
from polyglance.train.config import LoopConfig
from polyglance.train.identity import RunIdentity
from polyglance.train.late_values import LateValues
from polyglance.train.metrics import Meter, MetricsLog, Mfu, gate_openings, measure_peak_bytes
from polyglance.train.metrics_rows import MetricsRow
from polyglance.train.optim import LossScale
from polyglance.train.parallel import (
    allow_submodule_calls,
    count_not_finite,
    distribute,
    gather_full,
    synchronise_gradients,
)
from polyglance.train.phases import Phases
from polyglance.train.signals import Stopped
from polyglance.train.watch import LossWatch, NotFiniteError, watch_for_stalls

__all__ = ["BatchSource", "Hooks", "Loop"]

MicroBatches = Iterator[tuple[int, int, Batch]]
"""(step, number of the micro-batch within the step, micro-batch) of this process, in order."""


@dataclass(frozen=True, kw_only=True)
class BatchSource:
    """The batches of a run."""

    cells: tuple[str, ...]
    """Names of what `Batch.cell` counts."""
    num_micro_batches: int
    """Micro-batches of a step, over all processes (`RuntimeConfig.num_micro_batches`)."""
    open: Callable[[int], AbstractContextManager[MicroBatches]]
    """First step -> the micro-batches of this process from that step on."""


class _Outcome(NamedTuple):
    """Outcome of a step, read once the device has computed it."""

    step: int
    values: LateValues
    """Gradient norm, and nats of this process's samples."""
    num_tokens: int
    """Target tokens of this process's samples."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Functions that a run calls. Under torchrun every process gives the same hooks."""

    should_stop: Callable[[], bool] = lambda: False
    """Called once a step. If it returns True in any process, all save after the step and raise `Stopped`."""
    before_first_step: Callable[[Polyglance, Runtime], None] | None = None
    """Called at every start, in every process, with the model before training, undivided."""
    validate: Callable[[Polyglance, Runtime], Mapping[str, float]] | None = None
    """Returns losses on held-out data, by name. Called at every checkpoint, in every process, with the model as it is
    divided: all processes must pass through it equally often and return the same losses."""
    on_row: Callable[[Mapping[str, Any]], None] | None = None
    """Called in the first process with every row of metrics.jsonl."""
    on_phases: Callable[[Mapping[str, float]], None] | None = None
    """Called at the end with the seconds of each phase (`polyglance.train.phases`). If it is given the loop waits for
    the device at every phase, so that the seconds are exact, which costs a little."""


class Loop:
    """Train `objective.model` in place, from the newest whole checkpoint in the run's folder to the last step.

    The gradient of a step is that of the mean over all target tokens of the step, of all its micro-batches in all
    processes, weighted where the batches have weights. Losses that are reported have no weights.

    Args:
        objective: a module as in `polyglance.train.step`, on the run's device.
        run_dir: folder of checkpoints and metrics.jsonl.
        identity: what the weights depend on; a checkpoint of other settings is refused.
        mfu: computes the MFU of a row.
        trunk: checkpoints of the run that this one goes on from, as long as it has none of its own.

    Raises:
        ValueError: a checkpoint of other settings, or only damaged ones.
    """

    show: Show
    phases: Phases

    def __init__(
        self,
        objective: nn.Module,
        batches: BatchSource,
        config: LoopConfig,
        run_dir: Path,
        runtime: Runtime,
        identity: RunIdentity,
        *,
        hooks: Hooks = Hooks(),
        mfu: Mfu | None = None,
        trunk: Checkpoints | None = None,
    ) -> None:
        self.batches = batches
        self.config, self.run_dir, self.runtime, self.hooks, self.mfu = config, run_dir, runtime, hooks, mfu
        self.local_indices = runtime.local_micro_batches(batches.num_micro_batches)
        self.model: Any = objective.get_submodule("model")
        self.module = distribute(objective, runtime)
        self.optimizer = config.optim.build(self.model)
        set_train_mode(self.model)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.checkpoints = Checkpoints(run_dir, runtime, keep_last=config.keep_last, identity=identity)
        self.background = BackgroundSaves(self.checkpoints) if config.save_in_background else None
        self.first_step, state = self._load_checkpoint(trunk)
        self.step = self.first_step
        try:
            self._go_on_from(state)
        except (AttributeError, KeyError, TypeError) as error:
            where = f"{run_dir}: the checkpoint of step {self.step}"
            raise ValueError(f"{where}: the loop's state in it is damaged ({error!r})") from None
        self.waited_s = 0.0
        self.unread: _Outcome | None = None
        self.norm = self.local_nats = 0.0
        self.last_batch: Batch | None = None

    def _load_checkpoint(self, trunk: Checkpoints | None) -> tuple[int, Mapping[str, Any]]:
        """Load the newest checkpoint, of this run or else of its trunk; return its step and its `state`."""
        if (own := self.checkpoints.load_newest(self.model, self.optimizer)) is not None:
            return own
        if trunk is None:
            return 0, {}
        if (shared := trunk.load_newest(self.model, self.optimizer)) is None:
            raise ValueError(f"{trunk.folder}: the last checkpoint of the trunk is missing; make the run again")
        step, state = shared
        return step, {**state, "log": None}  # the rows up to here are in the trunk's metrics

    def _go_on_from(self, state: Mapping[str, Any]) -> None:
        """Set what the loop keeps beside the tensors, as it was when a checkpoint was made."""
        runtime, config = self.runtime, self.config
        self.scale = LossScale(enabled=runtime.precision == "fp16", state=state.get("scale"))
        # The sums of an unfinished row are those of all processes: the first process continues them.
        meter_state = state.get("meter") if runtime.is_main else None
        self.meter = Meter(len(self.batches.cells), runtime.device, meter_state)
        self.num_skipped, self.last_losses = state.get("num_skipped", 0), state.get("last_row", {})
        self.watch = LossWatch(config.watch, where=str(self.run_dir), state=state.get("watch"))
        self.log = None
        if runtime.is_main:
            self.log = MetricsLog(self.run_dir, from_step=self.first_step, state=state.get("log"))

    def run(self, *, show_progress: bool = False) -> None:
        """Make all steps.

        Raises:
            NotFiniteError: losses, gradients or weights that are not finite.
            Stopped: the run was asked to stop and is saved.
        """
        synchronise = None if self.hooks.on_phases is None else self.runtime.synchronise
        with (
            watch_for_stalls(self.config.watch.stall_s, where=self.run_dir.name) as pulse,
            track_progress(show=show_progress and self.runtime.is_main) as self.show,
            self.batches.open(self.first_step) as stream,
        ):
            self.phases = Phases(lambda phase: pulse(self.step, phase), synchronise)
            try:
                for step in range(self.first_step, self.config.num_steps):
                    self.run_step(step, stream)
            finally:
                self._finish_saving()
        if self.first_step < self.config.num_steps:  # else the checks were made before the last checkpoint was saved
            self._check_end()
            if self.config.is_trunk:
                self._save(self.config.num_steps, must=True)
        if self.hooks.on_phases is not None:
            self.hooks.on_phases(self.phases.seconds)

    def run_step(self, step: int, stream: MicroBatches) -> None:
        """Compute one optimiser step; then log, save and stop if that is due."""
        config, runtime, self.step = self.config, self.runtime, step
        with self.phases("data wait"):
            micro_batches = [next(stream) for _ in self.local_indices]
            assert [entry[:2] for entry in micro_batches] == [(step, index) for index in self.local_indices]
            local_tokens = sum(batch.num_tokens for _, _, batch in micro_batches)
            local_weight = sum(batch.total_weight for _, _, batch in micro_batches)
            # The only message between the processes before the backward pass.
            sums = runtime.all_sum(np.array([local_weight, self.hooks.should_stop()], dtype=np.float64))
            total_weight, must_stop = float(sums[0]), bool(sums[1])
        lr_share = config.optim.set_lr(self.optimizer, step, config.num_steps)

        # Replicas and shards average gradients over the processes, but the sum is wanted.
        denominator = total_weight / (runtime.world_size * self.scale.factor)
        local_nats = torch.zeros((), dtype=torch.float64, device=runtime.device)
        with runtime.keep_casts():
            for _, index, host_batch in micro_batches:
                # Dropout is a function of seed, step and micro-batch: the same in any process and after any restart.
                torch.manual_seed(_dropout_seed(config.seed, step, index))
                with self.phases("host to device"):
                    batch = host_batch if runtime.device.type == "cpu" else host_batch.to(runtime.device)
                    self.last_batch = batch
                with synchronise_gradients(self.module, is_last=index == self.local_indices[-1]):
                    with self.phases("forward"), runtime.autocast():
                        loss, sample_nats = self.module(batch, denominator)
                    with self.phases("backward"), runtime.autocast(enabled=False):
                        loss.backward()
                self.meter.add(host_batch, sample_nats)
                local_nats += sample_nats.sum()

        with self.phases("optimiser"):
            norm = self._update_weights()
            outcome = _Outcome(step, LateValues(torch.stack([norm.double(), local_nats])), local_tokens)
            # The outcome of the step before is read while the device computes this one.
            self._read_outcome()
            self.unread = outcome
            if self.scale.enabled:  # the next step's factor depends on it
                self._read_outcome()

        done = step + 1
        is_last = done == config.num_steps
        if is_last or done % config.log_every_steps == 0:
            with self.phases("log"):
                self._read_outcome()
                self._write_row(done, config.optim.lr * lr_share, self.norm)
        if not is_last and (must_stop or done % config.save_every_steps == 0):
            self._save(done, must=must_stop)
        if must_stop and not is_last:
            raise Stopped(done)

    def _update_weights(self) -> torch.Tensor:
        """Make the optimiser's step and return the gradient's norm. The device decides whether the norm is finite: if
        not, the step changes nothing."""
        if self.scale.enabled:
            # torch has no public function that scales all gradients in few kernels.
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], 1 / self.scale.factor)
        norm = gather_full(nn.utils.clip_grad_norm_(self.parameters, self.config.optim.clip_norm))
        self.optimizer.found_inf = norm.isfinite().logical_not().float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _read_outcome(self) -> None:
        """Read the outcome of the last step and count it, unless that is done.

        Raises:
            NotFiniteError: gradients that are not finite, too many steps in a row.
        """
        outcome, self.unread = self.unread, None
        if outcome is None:
            return
        self.norm, self.local_nats = outcome.values.read()
        if np.isfinite(self.norm):
            self.scale.note_good_step()
            self._report_spike(outcome.step, self.local_nats / max(outcome.num_tokens, 1))
        else:
            self.num_skipped += 1
            if not self.scale.reduce():
                self.watch.note_bad_step(outcome.step + 1, self.norm)

    def _check_end(self) -> None:
        """Refuse a run that has not ended well, before its model is written.

        Raises:
            NotFiniteError: the weights, or their loss on the last samples, are not finite, or too many of the last
                steps, or all, were left out.
        """
        self._check_weights(self.config.num_steps)
        assert self.last_batch is not None, "there is no checkpoint of the last step"
        self.model.eval()
        # Shards that were gathered for a pass without a backward pass are given back at the end.
        with torch.no_grad(), self.runtime.keep_casts(), allow_submodule_calls(self.module, self.runtime):
            _, trained_nats = self.module(self.last_batch, 1.0)
        # The loss of the last step, and of the weights that it has made, on the same samples.
        nats = self.runtime.all_sum(np.array([self.local_nats, float(trained_nats.sum())]))
        self.watch.check_end(self.config.num_steps, nats=float(nats.sum()), num_skipped=self.num_skipped)

    def _check_weights(self, done: int) -> None:
        """Refuse weights that are not finite, in all processes alike.

        Raises:
            NotFiniteError: the weights of some process are not finite.
        """
        if float(self.runtime.all_sum(np.array([count_not_finite(self.model)]))[0]):
            raise NotFiniteError(
                f"{self.run_dir}: the weights are not finite after step {done}; they are not written: try a lower lr, "
                "more warmup_steps, or bf16 or fp32 in place of fp16"
            )

    def _report_spike(self, step: int, loss_nats: float) -> None:
        median = self.watch.note_loss(loss_nats)
        if median is not None:
            self._print(f"step {step + 1}: loss {loss_nats:.3f}, where the median of the last steps is {median:.3f}")

    def _write_row(self, done: int, lr: float, norm: float) -> None:
        """Write a row of metrics.jsonl about the steps since the last one, and show the progress."""
        totals = self.meter.take(self.runtime)
        num_tokens, num_samples = float(totals.tokens.sum()), float(totals.samples.sum())
        samples_per_s = num_samples / totals.seconds
        mfu = None
        if self.mfu is not None:
            mfu = self.mfu(samples_per_s, float(totals.source_tokens.sum()) / num_samples, num_tokens / num_samples)
        waited_before_s, self.waited_s = self.waited_s, self.phases.seconds["data wait"]
        row = MetricsRow(
            step=done,
            loss_nats=float(totals.nats.sum()) / num_tokens,
            lr=lr,
            grad_norm=norm,
            cells={
                cell: float(nats / tokens)
                for cell, nats, tokens in zip(self.batches.cells, totals.nats, totals.tokens, strict=True)
                if tokens
            },
            tokens_per_s=num_tokens / totals.seconds,
            samples_per_s=samples_per_s,
            num_bad_samples=int(totals.bad_samples[0]),
            data_wait_share=(self.waited_s - waited_before_s) / totals.seconds,
            memory_bytes=measure_peak_bytes(self.runtime.device),
            num_skipped=self.num_skipped,
            num_spikes=self.watch.num_spikes,
            mfu=mfu,
            gates=gate_openings(self.model) or None,
        )
        self.last_losses = {"loss_nats": row.loss_nats, **row.cells}
        self._record(to_dict(row))
        text = f"loss {row.loss_nats:.3f}, {row.samples_per_s:.0f} samples/s"
        text += "" if row.mfu is None else f", MFU {row.mfu:.0%}"
        self.show(self.run_dir.name, done, self.config.num_steps, text)

    def _record(self, row: Mapping[str, Any]) -> None:
        if self.log is not None:
            self.log.write(row)
            if self.hooks.on_row is not None:
                self.hooks.on_row(row)

    def _save(self, done: int, *, must: bool) -> None:
        """Write a checkpoint. A failure is printed, and ends the run only if the checkpoint `must` be there.

        Raises:
            NotFiniteError: the weights are not finite.
        """
        with self.phases("checkpoint"):
            self._read_outcome()
            self._check_weights(done)
            losses = {**self.last_losses, **self._measure_held_out(done)}
            best = self.config.best
            if best is not None and losses and best not in losses:  # there are none before the first row
                raise ValueError(f"best = {best!r} is not a loss that this run knows; it has {', '.join(losses)}")
            state = {
                "scale": self.scale.state(),
                "watch": self.watch.state(),
                "meter": self.meter.state(self.runtime),
                "num_skipped": self.num_skipped,
                "last_row": self.last_losses,
                "log": self.runtime.from_main(None if self.log is None else self.log.state()),
            }
            then = partial(self._note_best, done, losses)
            if self.background is not None and not must:
                self._report_unsaved(self.background.save(done, self.model, self.optimizer, state, then=then))
                return
            self._report_unsaved(None if self.background is None else self.background.finish())
            problem = self.checkpoints.save(done, self.model, self.optimizer, state)
        if problem is None:
            then()
        elif must:
            raise ValueError(f"the run was asked to stop and cannot be saved: {problem}")
        self._report_unsaved(problem)

    def _note_best(self, done: int, losses: Mapping[str, float]) -> None:
        if (best := self.config.best) is not None and losses:
            self.checkpoints.note_best(done, best, losses[best])

    def _report_unsaved(self, problem: str | None) -> None:
        if problem is not None:
            self._print(f"no checkpoint: {problem}")

    def _finish_saving(self) -> None:
        """Wait until the checkpoint in the background is whole."""
        if self.background is not None:
            with self.phases("checkpoint"):
                self._report_unsaved(self.background.finish())
            self.background.close()

    def _measure_held_out(self, done: int) -> dict[str, float]:
        if self.hooks.validate is None:
            return {}
        self.model.eval()
        with allow_submodule_calls(self.module, self.runtime):
            losses = dict(self.hooks.validate(self.model, self.runtime))
        set_train_mode(self.model)
        self._record({"step": done, "validation": losses})
        return losses

    def _print(self, text: str) -> None:
        if self.runtime.is_main:
            print(f"{self.run_dir.name}: {text}", file=sys.stderr, flush=True)


def _dropout_seed(seed: int, step: int, index: int) -> int:
    return int(RandomStream.DROPOUT.sequence(seed, step, index).generate_state(1, np.uint64)[0] >> 1)
