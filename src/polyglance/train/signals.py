"""Requests to stop by SIGTERM (Slurm's preemption) or SIGUSR1: the run finishes its step, saves and ends."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Stopped", "catch_stop_requests"]


class Stopped(Exception):
    """A run was asked to stop and has saved its state; the same command continues it."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}, which is saved; the same command goes on from there")
        self.step = step


@contextmanager
def catch_stop_requests() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGTERM or SIGUSR1 has come since the block began.

    The previous handlers are restored at its end. Only the main thread can have handlers: in another thread the
    function always returns False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    requested = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
        requested.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
