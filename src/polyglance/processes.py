"""Processes of this machine: number of cores, and child processes that end when their parent does.

There are two kinds of children: workers of `multiprocessing` and `concurrent.futures`, whose initializer is
`end_with_parent`, and other programs (`run_program`).
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnContext
from multiprocessing.queues import SimpleQueue
from pathlib import Path

__all__ = [
    "FinishedProgram",
    "end_with_parent",
    "memory_bytes",
    "num_cores",
    "number_workers",
    "open_worker_context",
    "refuse_in_imported_script",
    "run_program",
]

_PR_SET_PDEATHSIG = 1
"""Number of the prctl request that asks for a signal at the parent's death (linux/prctl.h)."""
_KILL_S = 5.0
"""Most seconds that killed processes are waited for."""
_Identity = tuple[int, str]
"""Number of a process, and time of its start, because numbers are reused (`man 5 proc_pid_stat`)."""


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the memory that this process may use, in bytes: the machine's, or the limit of its container."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such file, or `max`
        memory = min(memory, int(_CONTAINER_LIMIT.read_text(encoding="utf-8")))
    return memory


_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def open_worker_context() -> SpawnContext:
    """Return the multiprocessing context of worker processes: new interpreters, which import the main script."""
    refuse_in_imported_script()
    return multiprocessing.get_context("spawn")


def number_workers(context: SpawnContext, num_workers: int) -> "SimpleQueue[int]":
    """Return a queue of the numbers from 0, of which each worker of a pool takes one as it starts."""
    numbers: SimpleQueue[int] = context.SimpleQueue()
    for number in range(num_workers):
        numbers.put(number)
    return numbers


def refuse_in_imported_script() -> None:
    """Refuse a call at the top level of a script: worker processes import the script, and would repeat it.

    Raises:
        RuntimeError: this is a worker that imports the script which started it.
    """
    frames = (frame for frame, _ in traceback.walk_stack(None))
    if any(frame.f_globals.get("__name__") == "__mp_main__" and frame.f_code.co_name == "<module>" for frame in frames):
        raise RuntimeError(
            "a worker process imports this script and would start the same work again: put the call under "
            "`if __name__ == '__main__':`"
        )


def end_with_parent() -> None:
    """Make this worker process end as soon as its parent ends, for whatever reason."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()


@dataclass(frozen=True, kw_only=True)
class FinishedProgram:
    """A program that has ended."""

    code: int
    """Exit code; -N if signal N has killed it."""
    stderr: str
    """Its standard error, without the text of earlier programs in the same file."""
    was_asked: bool
    """Whether it was asked to stop."""


def run_program(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    keep_open: Sequence[int] = (),
    grace_s: float = 10.0,
) -> FinishedProgram:
    """Run a program to its end; append its standard error to a file and drop its standard output.

    On Linux the program is sent SIGTERM if this process ends first. An exception here (Ctrl-C) ends the program too,
    and all processes that it has started: it is sent SIGTERM and has `grace_s` to end; a second exception, or the end
    of that time, kills what is left.

    Args:
        log: file for its standard error, which can be read while the program runs.
        environment: environment variables in addition to those of this process.
        should_stop: called each second; if it returns True, the program is sent SIGTERM once, and waited for.
        keep_open: file descriptors that the program inherits.
        grace_s: seconds between SIGTERM and SIGKILL after an exception.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("ab") as file,
        subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={**os.environ, **(environment or {})},
            pass_fds=keep_open,
            start_new_session=True,  # a terminal's Ctrl-C reaches only this process, which then ends the program
            preexec_fn=_ask_for_sigterm if sys.platform == "linux" else None,
        ) as process,
    ):
        begin = file.tell()
        try:
            was_asked = _wait_for(process, should_stop)
        except BaseException:
            _end_program(process, grace_s)
            raise
    with log.open("rb") as written:
        written.seek(begin)
        stderr = written.read().decode(errors="replace")
    return FinishedProgram(code=process.returncode, stderr=stderr, was_asked=was_asked)


def _wait_for(process: subprocess.Popen[bytes], should_stop: Callable[[], bool]) -> bool:
    """Wait for the end of a program, and return whether it was asked to stop."""
    was_asked = False
    while True:
        try:
            process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            if not was_asked and should_stop():
                process.terminate()
                was_asked = True
            continue
        # The signal behind `should_stop` may have reached the program too, and ended it.
        return was_asked or should_stop()


def _end_program(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """End a program and all processes that it has started. torchrun's processes are in process groups of their own."""
    started = _list_descendants(process.pid)
    try:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            print("polyglance: waits until the program has ended; Ctrl-C again kills it", file=sys.stderr, flush=True)
            process.wait(grace_s)
    except subprocess.TimeoutExpired:
        pass
    finally:
        started |= _list_descendants(process.pid)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        _kill(started)


def _kill(processes: set[_Identity]) -> None:
    """Kill processes, and wait up to `_KILL_S` until they have ended: SIGKILL takes effect a moment later."""
    until_s = time.monotonic() + _KILL_S
    while (left := processes & _list_processes().keys()) and time.monotonic() < until_s:
        for number, _ in left:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.01)


def _list_descendants(number: int) -> set[_Identity]:
    """Return the processes that a process has started, and those that they have started; empty if not on Linux."""
    parents = _list_processes()
    found: set[_Identity] = set()
    wanted = {number}
    while more := {identity for identity, parent in parents.items() if parent in wanted} - found:
        found |= more
        wanted |= {child for child, _ in more}
    return found


def _list_processes() -> dict[_Identity, int]:
    """Return all running processes of this machine, each with its parent's number; empty if not on Linux."""
    parents: dict[_Identity, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if fields[0] not in "ZX":  # ended, and not yet waited for
                parents[int(path.parent.name), fields[19]] = int(fields[1])
    return parents


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only a worker has a parent"
    connection.wait([parent.sentinel])
    os._exit(1)


def _ask_for_sigterm() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
