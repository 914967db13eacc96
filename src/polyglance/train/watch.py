"""Problems of runs that last for days: losses that are not finite, losses that jump, and runs that hang."""

import math
import statistics
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["NOT_FINITE_EXIT_CODE", "LossWatch", "NotFiniteError", "WatchConfig", "watch_for_stalls"]

_WINDOW_STEPS = 100
"""Number of steps whose median a loss is compared with."""
_FIRST_STEPS = 20
"""Number of losses that are needed before one is called a spike."""


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """When a run reports a problem, and when it stops."""

    max_bad_steps: int = 10
    """A step whose gradient is not finite changes nothing and is counted; this many in a row stop the run."""
    spike_factor: float = 3.0
    """A step's loss above this many times the median of the last 100 steps is reported."""
    stall_s: float = 600.0
    """A run that has not finished a step for this many seconds reports it, and again after as many."""

    def __post_init__(self) -> None:
        if self.max_bad_steps < 1 or self.spike_factor <= 1 or self.stall_s <= 0:
            raise ValueError("max_bad_steps must be at least 1, spike_factor above 1 and stall_s positive")


NOT_FINITE_EXIT_CODE = 3
"""Exit code of a command that `NotFiniteError` ends, by which a study knows it."""


class NotFiniteError(ValueError):
    """A run whose losses, gradients or weights are not finite: its model is not written."""


class LossWatch:
    """Judge the losses of a run, one step at a time.

    Args:
        where: name of the run, for messages.
        state: result of `state` when a checkpoint was made, to go on with.
    """

    def __init__(self, config: WatchConfig, *, where: str, state: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self.where = where
        self.num_spikes = int(state["num_spikes"]) if state else 0
        self._bad_in_a_row = int(state["bad_in_a_row"]) if state else 0
        self._losses: deque[float] = deque(state["losses"] if state else (), maxlen=_WINDOW_STEPS)

    def state(self) -> dict[str, Any]:
        """Return everything that the next judgement depends on, as JSON."""
        return {"num_spikes": self.num_spikes, "bad_in_a_row": self._bad_in_a_row, "losses": list(self._losses)}

    def note_bad_step(self, step: int, norm: float) -> None:
        """Count a step that was left out because its gradient was not finite.

        Raises:
            NotFiniteError: it was one too many in a row.
        """
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= self.config.max_bad_steps:
            raise NotFiniteError(
                f"{self.where}: the gradient was not finite ({norm}) in {self._bad_in_a_row} steps in a row, up to "
                f"step {step}; the weights are those before them: try a lower lr, or bf16 or fp32 in place of fp16"
            )

    def check_end(self, num_steps: int, *, nats: float, num_skipped: int) -> None:
        """Judge a run after its last step. Of a short run fewer bad steps at the end are too many than of a long one:
        a tenth of its steps.

        Args:
            nats: sum of the losses of the last step's samples, before and after it.
            num_skipped: steps of the whole run that were left out.

        Raises:
            NotFiniteError: it has not ended well.
        """
        limit = min(self.config.max_bad_steps, max(1, num_steps // 10))
        if not math.isfinite(nats):
            problem = f"the loss at the last step is not finite ({nats})"
        elif num_skipped >= num_steps:
            problem = f"the gradient was not finite in any of the {num_steps} steps, so that no weight has changed"
        elif self._bad_in_a_row >= limit:
            problem = f"the gradient was not finite in the last {self._bad_in_a_row} steps of {num_steps}"
        else:
            return
        raise NotFiniteError(
            f"{self.where}: {problem}; the model is not written: try a lower lr, more warmup_steps, or bf16 or fp32 in "
            "place of fp16"
        )

    def note_loss(self, loss_nats: float) -> float | None:
        """Record the loss of a step. Returns the median of the losses before it if this one is a spike."""
        self._bad_in_a_row = 0
        median = statistics.median(self._losses) if len(self._losses) >= _FIRST_STEPS else math.inf
        is_spike = loss_nats > self.config.spike_factor * median
        if math.isfinite(loss_nats):
            self._losses.append(loss_nats)
        self.num_spikes += is_spike
        return median if is_spike else None


class _Pulse:
    """Current step and phase of a run, for the thread that watches it."""

    def __init__(self) -> None:
        self.phase = "start"
        self.step = 0
        self.num_beats = 0

    def __call__(self, step: int, phase: str) -> None:
        self.step, self.phase = step, phase
        self.num_beats += 1


@contextmanager
def watch_for_stalls(stall_s: float, *, where: str) -> Iterator[_Pulse]:
    """Give a function to call with (step, name of the phase). If it has not been called for `stall_s` seconds, a line
    on standard error names the last step and phase.

    Args:
        where: name of the run.
    """
    pulse, finished = _Pulse(), threading.Event()

    def watch() -> None:
        last_beats, silent_s = -1, 0.0
        while not finished.wait(stall_s):
            silent_s = silent_s + stall_s if pulse.num_beats == last_beats else 0.0
            if silent_s:
                line = f"{where}: no progress for {silent_s:.0f} s; step {pulse.step}, {pulse.phase}"
                print(line, file=sys.stderr, flush=True)
            last_beats = pulse.num_beats

    thread = threading.Thread(target=watch, name="stall-notice", daemon=True)
    thread.start()
    try:
        yield pulse
    finally:
        finished.set()
        thread.join()
