"""Where jobs are done: in worker processes on this machine, each with one thread, as many as there are cores."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from polyglance.processes import end_with_parent
from polyglance.study.config import StudyConfig
from polyglance.study.grid import Job

__all__ = ["run_local", "urgency"]


def urgency(jobs: Sequence[Job], cost_s: Mapping[str, float]) -> dict[str, float]:
    """Seconds from the start of each job to the end of the longest chain of jobs that need it."""
    urgent: dict[str, float] = {}
    for job in reversed(jobs):
        after = [urgent[other.id] for other in jobs if job.id in other.needs]
        urgent[job.id] = cost_s[job.id] + max(after, default=0.0)
    return urgent


def run_local(
    config: StudyConfig,
    jobs: Sequence[Job],
    *,
    done: set[str],
    cost_s: Mapping[str, float],
    num_workers: int,
    on_done: Callable[[Job, float], None],
) -> None:
    """Do all jobs that are not done, the most urgent first, each once those it needs are done.

    Args:
        jobs: each after those it needs.
        done: ids of those that are done already.
        cost_s: expected seconds of each job.
        on_done: called with each job that is finished and the seconds it took.

    Raises:
        ValueError: a job failed or a worker died; jobs that were running are finished first.
    """
    urgent = urgency(jobs, cost_s)
    waiting = sorted((job for job in jobs if job.id not in done), key=lambda job: -urgent[job.id])
    done = set(done)
    running: dict[Future[float], Job] = {}
    failure: ValueError | None = None
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        while running or (waiting and failure is None):
            while failure is None and len(running) < num_workers and (ready := _next_ready(waiting, done)):
                waiting.remove(ready)
                running[pool.submit(_do, config, ready)] = ready
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                job = running.pop(future)
                try:
                    elapsed_s = future.result()
                except BrokenProcessPool:
                    failure = ValueError(f"{job.id}: its worker was killed (out of memory?); run again to go on")
                except ValueError as error:
                    failure = error
                else:
                    done.add(job.id)
                    on_done(job, elapsed_s)
    if failure is not None:
        raise failure


def _next_ready(waiting: Sequence[Job], done: set[str]) -> Job | None:
    return next((job for job in waiting if done.issuperset(job.needs)), None)


def _do(config: StudyConfig, job: Job) -> float:
    from polyglance.study.work import do

    started_s = time.monotonic()
    do(config, job)
    return time.monotonic() - started_s


def _start_worker() -> None:
    """One thread per worker; and a worker does not outlive the process that started it."""
    end_with_parent()
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # of transformers too: a bar for every small file saved
    import torch

    torch.set_num_threads(1)
