"""Where the time of a run goes, phase by phase."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["PHASES", "Phases"]

PHASES = ("data wait", "host to device", "forward", "backward", "optimiser", "checkpoint", "log")
"""In the order of a step. Waiting for other processes counts where it happens: in the backward pass, mostly."""


class Phases:
    """Seconds by phase, added up.

    Args:
        enter: called with the name of each phase as it begins.
        synchronise: called before a clock is read; waits for the device where the figures have to be true for a GPU,
            which works through what it was given in its own time.
    """

    def __init__(self, enter: Callable[[str], None], synchronise: Callable[[], None] | None = None) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._enter = enter
        self._synchronise = synchronise

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Count the time of the block as this phase's."""
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
