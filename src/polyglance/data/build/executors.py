"""Where tasks run: in this process, in several, or on a Ray cluster. The files that come out are the same."""

import logging
import multiprocessing
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

from polyglance.data.build.tasks import Report, Step, do_part, read_report
from polyglance.processes import end_with_parent

__all__ = ["Executor", "InProcess", "Processes", "RayCluster"]

_CONNECT_S = 10.0
_MAX_BROKEN = 3
"""A pool whose workers die is started anew so often; a part that kills every worker is then named."""


class Executor(Protocol):
    """Runs the parts of a step, in any order."""

    def run(self, step: Step, folder: Path, parts: Sequence[str]) -> Iterator[tuple[str, Report]]:
        """Each part with its report, as they are finished.

        Raises:
            ValueError: a part cannot be done; what is finished stays.
        """
        ...


class InProcess:
    """One after the other, here."""

    def run(self, step: Step, folder: Path, parts: Sequence[str]) -> Iterator[tuple[str, Report]]:
        if parts:
            engine = step.start()
            for part in parts:
                yield part, do_part(step, engine, folder, part)


class Processes:
    """In worker processes of this machine, each with its own engine. They take turns at the GPUs that
    CUDA_VISIBLE_DEVICES lists.

    Args:
        num_workers: how many.
    """

    def __init__(self, num_workers: int) -> None:
        if num_workers < 1:
            raise ValueError(f"workers must be at least 1, not {num_workers}")
        self.num_workers = num_workers

    def run(self, step: Step, folder: Path, parts: Sequence[str]) -> Iterator[tuple[str, Report]]:
        left = list(parts)
        for _ in range(_MAX_BROKEN):
            if not left:
                return
            try:
                for part, report in self._run_once(step, folder, left):
                    left.remove(part)
                    yield part, report
            except BrokenProcessPool:
                continue  # the parts that were running are done again by a new pool
            return
        raise ValueError(f"{folder}: workers were killed {_MAX_BROKEN} times (out of memory?); first left: {left[0]}")

    def _run_once(self, step: Step, folder: Path, parts: Sequence[str]) -> Iterator[tuple[str, Report]]:
        context = multiprocessing.get_context("spawn")
        workers = min(self.num_workers, len(parts))
        with ProcessPoolExecutor(workers, context, initializer=_start, initargs=(step, folder)) as pool:
            futures: dict[Future[None], str] = {pool.submit(_do, part): part for part in parts}
            try:
                for future in as_completed(futures):
                    future.result()
                    yield (part := futures[future]), read_report(folder, part)
            finally:
                for future in futures:
                    future.cancel()


class _Worker:
    """A step with its engine, in the process that it works in."""

    def __init__(self, step: Step, folder: Path) -> None:
        self.step, self.folder = step, folder
        self.engine: Any = step.start()

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        do_part(self.step, self.engine, self.folder, row["part"])
        return row


_worker: _Worker


def _start(step: Step, folder: Path) -> None:
    """Make this process a worker, which does not outlive the one that started it, and has a GPU of its own where
    CUDA_VISIBLE_DEVICES names several."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(gpus) > 1:
        number = multiprocessing.current_process()._identity[0]  # counts the processes that were started
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    end_with_parent()
    global _worker
    _worker = _Worker(step, folder)


def _do(part: str) -> None:
    _worker({"part": part})


def _check_reachable(address: str) -> None:
    """Ray itself goes on asking a port where nobody is for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        except OSError as error:
            raise ValueError(f"no Ray cluster at {address}: {error.strerror or error}") from None


class RayCluster:
    """On a Ray cluster, as a Ray Data pipeline with a pool of actors, each with its own engine. Ray starts dead actors
    again and gives their part to another; a part that was half done is simply done again.

    The build's folder has to be on a file system that all nodes see.

    Args:
        address: of the cluster (`auto`, `127.0.0.1:6379`, `ray://host:10001`).
        num_workers: actors of a step.
        num_gpus: GPUs of each actor; may be a fraction.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, *, num_workers: int, num_gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError("Ray is not installed: pip install 'polyglance[ray]'") from None
        _check_reachable(address)
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError) as error:
            raise ValueError(f"no Ray cluster at {address}: {str(error).splitlines()[0]}") from None
        self.num_workers, self.num_gpus = num_workers, num_gpus

    def run(self, step: Step, folder: Path, parts: Sequence[str]) -> Iterator[tuple[str, Report]]:
        if not parts:
            return
        import ray.data
        from ray.exceptions import RayError

        logging.getLogger("ray.data").setLevel(logging.WARNING)  # its report of every step
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=len(parts))
        done = rows.map(
            _Worker,
            fn_constructor_args=(step, folder.resolve()),
            compute=ray.data.ActorPoolStrategy(size=min(self.num_workers, len(parts))),
            num_cpus=1,
            num_gpus=self.num_gpus or None,
            max_restarts=-1,
            max_task_retries=-1,
        )
        try:
            for row in done.iter_rows():
                yield row["part"], read_report(folder, row["part"])
        except RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, ValueError):
                raise ValueError(str(cause)) from None
            raise ValueError(f"{step.name}: a Ray actor failed: {str(error).strip().splitlines()[-1]}") from None
