"""Schedulers: places where the jobs of a study are done. One place is one class with `start` and `wait`.

    with LocalWorkers(config, num_slots=2) as scheduler:
        run_jobs(list_jobs(config), scheduler, done=set(), seconds=costs.seconds, on_done=print)

`run_jobs` decides which job is next; a scheduler only starts jobs and reports those that have ended. A new place (a Ray
cluster, Slurm) is a class beside `LocalWorkers`.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol, Self

from polyglance.processes import end_with_parent, open_worker_context
from polyglance.study.config import StudyConfig
from polyglance.study.jobs import Job

__all__ = ["EndedJob", "LocalWorkers", "Scheduler", "ThisProcess", "run_jobs", "sum_longest_chains"]


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """A job that has ended."""

    job: Job
    seconds: float = 0.0
    """Time that it took."""
    problem: str = ""
    """Why it failed, in one line; empty where it is done."""
    is_alone: bool = False
    """Whether the problem is that of the job alone, so that others go on."""


class Scheduler(Protocol):
    """A place where jobs are done. A job reads and writes the study's folder alone (`polyglance.study.work.do_job`)."""

    @property
    def num_slots(self) -> int:
        """Jobs that can be at work at the same time."""
        ...

    def start(self, job: Job) -> None:
        """Start a job; called with at most `num_slots` jobs at work."""
        ...

    def wait(self) -> Sequence[EndedJob]:
        """Wait until one job or more have ended, and return them."""
        ...


def sum_longest_chains(jobs: Sequence[Job], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return job id -> seconds from its start to the end of the longest chain of jobs that need it.

    Args:
        jobs: each after those it needs.
        seconds: job id -> expected seconds.
    """
    chains: dict[str, float] = {}
    for job in reversed(jobs):
        later = [chains[other.id] for other in jobs if job.id in (*other.needs, *other.after)]
        chains[job.id] = seconds[job.id] + max(later, default=0.0)
    return chains


def run_jobs(
    jobs: Sequence[Job],
    scheduler: Scheduler,
    *,
    done: set[str],
    seconds: Mapping[str, float],
    on_done: Callable[[Job, float], None] | None = None,
    on_failed: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Do all jobs that are not done, each once those it needs are done. Among several that can start, the one with the
    longest chain of jobs behind it is first. A job that is no longer finite fails alone, with those that need it.

    Args:
        jobs: each after those it needs.
        done: ids of the jobs that are done already.
        seconds: job id -> expected seconds.
        on_done: called with each job that is done, and the seconds it took.
        on_failed: called with a line for each job that failed alone.

    Returns:
        Id of each job that failed alone -> why.

    Raises:
        ValueError: a job failed in another way; jobs that were at work are waited for first.
    """
    chains = sum_longest_chains(jobs, seconds)
    waiting = sorted((job for job in jobs if job.id not in done), key=lambda job: -chains[job.id])
    done = set(done)
    num_running, problem = 0, ""
    failed: dict[str, str] = {}
    while num_running or (waiting and not problem):
        for job in [job for job in waiting if not failed.keys().isdisjoint(job.needs)]:
            waiting.remove(job)
            failed[job.id] = f"{job.id}: needs {', '.join(sorted(failed.keys() & set(job.needs)))}, which failed"
        if not num_running and not waiting:
            break
        over = done | failed.keys()
        ready = next((job for job in waiting if done.issuperset(job.needs) and over.issuperset(job.after)), None)
        if ready is not None and num_running < scheduler.num_slots and not problem:
            waiting.remove(ready)
            scheduler.start(ready)
            num_running += 1
            continue
        for ended in scheduler.wait():
            num_running -= 1
            if ended.problem and ended.is_alone:
                failed[ended.job.id] = ended.problem
                if on_failed is not None:
                    on_failed(ended.problem)
            elif ended.problem:
                problem = ended.problem
            else:
                done.add(ended.job.id)
                if on_done is not None:
                    on_done(ended.job, ended.seconds)
    if problem:
        raise ValueError(problem)
    return failed


class LocalWorkers:
    """Worker processes on this machine, each with one thread. They end when this process does.

    Args:
        num_slots: workers.
    """

    def __init__(self, config: StudyConfig, *, num_slots: int) -> None:
        self.num_slots = num_slots
        self._config = config
        self._pool = ProcessPoolExecutor(num_slots, mp_context=open_worker_context(), initializer=_start_worker)
        self._running: dict[Future[EndedJob], Job] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def start(self, job: Job) -> None:
        """Give the job to a free worker."""
        self._running[self._pool.submit(_do_timed, self._config, job)] = job

    def wait(self) -> list[EndedJob]:
        """Wait until one job or more have ended, and return them."""
        finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [self._end(self._running.pop(future), future) for future in finished]

    @staticmethod
    def _end(job: Job, future: Future[EndedJob]) -> EndedJob:
        try:
            return future.result()
        except BrokenProcessPool:
            problem = f"{job.id}: its worker was killed (out of memory, or as said above); run again to go on"
            return EndedJob(job=job, problem=problem)


class ThisProcess:
    """This process, one job after the other. For jobs that start a program of their own."""

    num_slots = 1

    def __init__(self, config: StudyConfig) -> None:
        self._config = config
        self._ended: list[EndedJob] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is held."""

    def start(self, job: Job) -> None:
        """Do the job."""
        self._ended.append(_do_timed(self._config, job))

    def wait(self) -> list[EndedJob]:
        """Return the job that was started."""
        return [self._ended.pop()]


def _do_timed(config: StudyConfig, job: Job) -> EndedJob:
    from polyglance.study.work import do_job
    from polyglance.train.watch import NotFiniteError

    started_s = time.monotonic()
    try:
        do_job(config, job)
    except NotFiniteError as error:
        return EndedJob(job=job, problem=str(error), is_alone=True)
    except ValueError as error:
        return EndedJob(job=job, problem=str(error))
    return EndedJob(job=job, seconds=time.monotonic() - started_s)


def _start_worker() -> None:
    end_with_parent()
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # transformers shows a bar for every small file that it saves
    import torch

    torch.set_num_threads(1)
