"""Time that a run spends in each phase of its steps."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["PHASES", "Phases"]

PHASES = ("data wait", "host to device", "forward", "backward", "optimiser", "checkpoint", "log")
"""Phases in the order of a step. Waiting for other processes counts in the phase that waits, mostly the backward
pass."""


class Phases:
    """Seconds by phase, added up.

    Args:
        enter: called with the name of each phase as it begins.
        synchronise: called before a clock is read, to wait for a device that works asynchronously. Without it the
            figures are true for a CPU only.
    """

    def __init__(self, enter: Callable[[str], None], synchronise: Callable[[], None] | None = None) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._enter = enter
        self._synchronise = synchronise

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time of a block as this phase's."""
        self._enter(phase)
        since_s = self._now_s()
        try:
            yield
        finally:
            self.seconds[phase] += self._now_s() - since_s

    def _now_s(self) -> float:
        if self._synchronise is not None:
            self._synchronise()
        return time.perf_counter()
