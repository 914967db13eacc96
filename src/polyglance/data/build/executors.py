"""Executors of a build: this process, several processes, or a Ray cluster. The files that come out are the same."""

import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue
from typing import Any, Protocol

from polyglance.data.build.parts import PartId, PartReport
from polyglance.data.build.step import Step, do_part
from polyglance.processes import end_with_parent, number_workers, open_worker_context
from polyglance.ray_connection import connect_ray, send_messages_to_stderr

__all__ = ["Executor", "InProcess", "RayCluster", "WorkerPool"]

_MAX_BROKEN = 3
"""Number of pools whose workers die before the build stops and names a part that is left, perhaps the cause."""

_Inputs = Mapping[PartId, tuple[str, ...]]
"""Part -> digests of what it is made from."""


class Executor(Protocol):
    """Does the parts of a step, in any order."""

    def run(self, step: Step, inputs: _Inputs) -> Iterator[tuple[PartId, PartReport]]:
        """Do parts and yield each with its report as it is finished.

        Args:
            inputs: the parts to do, each with the digests of what it is made from.

        Raises:
            ValueError: a part cannot be done; finished parts stay.
        """
        ...


class InProcess:
    """Does one part after the other in this process."""

    def run(self, step: Step, inputs: _Inputs) -> Iterator[tuple[PartId, PartReport]]:
        engine = step.load_engine() if inputs else None
        for part, digests in inputs.items():
            do_part(step, engine, part, digests)
            yield part, step.folder.read_report(part)


class WorkerPool:
    """Does parts in worker processes of this machine, each with its own engine. Workers take turns at the GPUs that
    CUDA_VISIBLE_DEVICES lists.

    Args:
        num_workers: number of processes.

    Raises:
        ValueError: less than one worker.
    """

    def __init__(self, num_workers: int) -> None:
        if num_workers < 1:
            raise ValueError(f"workers is {num_workers}; expected at least 1")
        self.num_workers = num_workers

    def run(self, step: Step, inputs: _Inputs) -> Iterator[tuple[PartId, PartReport]]:
        left = dict(inputs)
        for _ in range(_MAX_BROKEN):
            if not left:
                return
            try:
                for part, report in self._run_once(step, dict(left)):
                    del left[part]
                    yield part, report
            except BrokenProcessPool:
                continue  # a new pool does the parts again that were running
            return
        folder, part = step.folder.path, next(iter(left))
        raise ValueError(
            f"{folder}: workers were killed {_MAX_BROKEN} times (out of memory, or see above); "
            f"the first part left: {part}"
        )

    def _run_once(self, step: Step, inputs: _Inputs) -> Iterator[tuple[PartId, PartReport]]:
        context = open_worker_context()
        num_workers = min(self.num_workers, len(inputs))
        settings = (step, number_workers(context, num_workers))
        with ProcessPoolExecutor(num_workers, context, initializer=_start_worker, initargs=settings) as pool:
            futures: dict[Future[None], PartId] = {pool.submit(_do, *item): item[0] for item in inputs.items()}
            try:
                for future in as_completed(futures):
                    future.result()
                    yield (part := futures[future]), step.folder.read_report(part)
            finally:
                for future in futures:
                    future.cancel()


class _Worker:
    """A step with its engine, in the process that does its parts."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.engine: Any = step.load_engine()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the part of a row of a Ray data set."""
        do_part(self.step, self.engine, PartId.parse(row["part"]), tuple(map(str, row["inputs"])))
        return {"part": row["part"]}


_worker: _Worker


def _start_worker(step: Step, numbers: "SimpleQueue[int]") -> None:
    """Make this process a worker: it ends with its parent, and uses one of the GPUs that CUDA_VISIBLE_DEVICES lists."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[numbers.get() % len(gpus)]
    end_with_parent()
    global _worker
    _worker = _Worker(step)


def _do(part: PartId, inputs: tuple[str, ...]) -> None:
    do_part(_worker.step, _worker.engine, part, inputs)


class RayCluster:
    """Does parts on a Ray cluster, as a Ray Data pipeline with a pool of actors, each with its own engine. Ray restarts
    dead actors and gives their part to another one; a half-finished part is done again from its beginning.

    The build's folder has to be on a file system that all nodes see.

    Args:
        address: address of the cluster (`auto`, `127.0.0.1:6379`, `ray://host:10001`).
        num_workers: actors of a step.
        num_gpus: GPUs of each actor; may be a fraction.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, *, num_workers: int, num_gpus: float = 0.0) -> None:
        connect_ray(address)
        self.num_workers, self.num_gpus = num_workers, num_gpus

    def run(self, step: Step, inputs: _Inputs) -> Iterator[tuple[PartId, PartReport]]:
        if not inputs:
            return
        import ray.data
        from ray.exceptions import RayError

        logging.getLogger("ray.data").setLevel(logging.WARNING)  # no report of every step
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = [{"part": str(part), "inputs": list(digests)} for part, digests in inputs.items()]
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(step,),
            compute=ray.data.ActorPoolStrategy(size=min(self.num_workers, len(rows))),
            num_cpus=1,
            num_gpus=self.num_gpus or None,
            max_restarts=-1,
            max_task_retries=-1,
        )
        try:
            finished = iter(done.iter_rows())
            while True:
                with send_messages_to_stderr():
                    row = next(finished, None)
                if row is None:
                    return
                part = PartId.parse(row["part"])
                yield part, step.folder.read_report(part)
        except RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, ValueError):
                raise ValueError(str(cause)) from None
            raise ValueError(f"{step.name}: a Ray actor failed: {str(error).strip().splitlines()[-1]}") from None
