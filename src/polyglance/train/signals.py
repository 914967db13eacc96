"""Being asked to stop: Slurm's preemption, Ctrl-C's politer sister. The step is finished, saved, and that is all."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "stop_requests"]


class Stopped(Exception):
    """A run was asked to stop and has saved where it was; the same command goes on from there."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}, which is saved; the same command goes on from there")
        self.step = step


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """A function that says whether SIGTERM or SIGUSR1 has come since the block began. Handlers are put back after it;
    in a thread that cannot have handlers nothing is ever asked."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()

    def ask(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        asked.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield asked.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
