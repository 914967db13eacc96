"""Processes of this machine: how many cores there are, and children that end when their parent does.

Two kinds of children are started: workers of `multiprocessing` and `concurrent.futures` (`end_with_parent` is their
initializer), and other programs (`run_program`).
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing import connection

__all__ = ["end_with_parent", "num_cores", "parent_is_alive", "run_program"]

_PR_SET_PDEATHSIG = 1
"""Number of the prctl request that asks for a signal at the parent's death (linux/prctl.h)."""


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """In a worker process: end as soon as the process that started it ends, however that happens."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def parent_is_alive() -> bool:
    """Whether the process that started this worker is there; True in a process that is no worker."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.is_alive()


def run_program(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with its standard error kept and its standard output dropped.

    Where the kernel is Linux it is sent SIGTERM when this process ends before it.
    """
    return subprocess.run(
        command,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_ask_for_sigterm if sys.platform == "linux" else None,
    )


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker has a parent"
    connection.wait([parent.sentinel])
    os._exit(1)


def _ask_for_sigterm() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
