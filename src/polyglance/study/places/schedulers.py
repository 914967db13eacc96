"""Schedulers: places where the jobs of a study are done. One place is one class with `start`, `wait` and
`cancel_waiting`.

    with LocalWorkers(config, num_slots=2) as scheduler:
        run_jobs(list_jobs(config), scheduler, done=set(), seconds=costs.seconds, on_done=print)

`run_jobs` starts the next job of the queue (`job_queue.py`) wherever there is room; a scheduler only starts jobs and
reports those that have ended. Other places are `ray_tasks.py` and `slurm_jobs.py`.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_line
from typing import Protocol, Self

from polyglance.processes import end_with_parent, open_worker_context
from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.places.job_queue import JobQueue
from polyglance.study.work.attempt import prepare_worker, try_job
from polyglance.study.work.ending import EndedJob

__all__ = ["LocalWorkers", "NoRoomError", "Scheduler", "ThisProcess", "run_jobs"]


class NoRoomError(Exception):
    """A place takes no job now, though it has fewer than `num_slots`."""


class Scheduler(Protocol):
    """A place where jobs are done. A job reads and writes the study's folder alone (`do_job`)."""

    @property
    def num_slots(self) -> int:
        """Jobs that can be at work at the same time."""
        ...

    def start(self, job: Job) -> None:
        """Start a job; called with less than `num_slots` jobs at work.

        Raises:
            NoRoomError: the place takes no job now; the job can be started later.
        """
        ...

    def wait(self) -> Sequence[EndedJob]:
        """Wait until one job or more have ended, and return them; none where there may be room again for a job that
        was not taken."""
        ...

    def cancel_waiting(self) -> int:
        """Take back the jobs that were started here but wait in a queue of the place, and return their number; `wait`
        does not return them. Those at work go on."""
        ...


def _ignore(*_: object) -> None:
    """Do nothing: nobody asks for these calls."""


def run_jobs(
    jobs: Sequence[Job],
    scheduler: Scheduler,
    *,
    done: set[str],
    seconds: Mapping[str, float],
    retries: int = 0,
    on_done: Callable[[EndedJob], object] = _ignore,
    on_failed: Callable[[Job, str], object] = _ignore,
    on_retry: Callable[[str], object] = _ignore,
    on_refused: Callable[[str], object] = _ignore,
    before_wait: Callable[[], object] = _ignore,
) -> dict[str, str]:
    """Do all jobs that are not done, each once those it needs are done. Among several that can start, one that
    only measures a model is first, then the one with the longest chain of jobs behind it. A job that is no longer
    finite, or that died too often, fails alone, with those that need it.

    Args:
        jobs: each after those it needs.
        done: ids of the jobs that are done already.
        seconds: job id -> expected seconds.
        retries: times that a job which died is tried again. One that was stopped and has saved its state goes on
            without being counted, as long as it makes progress.
        on_done: called with each job that is done.
        on_failed: called with each job that failed alone, and why in one line.
        on_retry: called with a line for each job that is tried again.
        on_refused: called with why no other job is started, while some are still at work.
        before_wait: called whenever all jobs that can be at work are, before one is waited for.

    Returns:
        Id of each job that failed alone -> why.

    Raises:
        ValueError: a job failed in another way; jobs that wait in a queue are taken back, and those at work are waited
            for first. Or there is no room for a job although none is at work.
    """
    queue = JobQueue(jobs, done=done, seconds=seconds, retries=retries)
    num_running = _start_ready(queue, scheduler, num_running=0)
    problem = ""
    while num_running:
        before_wait()
        is_refused = bool(problem)
        for ended in scheduler.wait():
            num_running -= 1
            if ended.ending == "done":
                queue.finish(ended.job)
                on_done(ended)
            elif ended.ending == "refused":
                problem = problem or ended.problem
            elif ended.ending != "failed" and (line := queue.put_back(ended)):
                on_retry(line)
            else:
                on_failed(ended.job, queue.fail(ended))
        if not problem:
            num_running = _start_ready(queue, scheduler, num_running=num_running)
        elif not is_refused:
            num_running -= scheduler.cancel_waiting()
            if num_running:
                on_refused(f"{problem}; no other job is started, and {num_running} at work are waited for")
    if problem:
        raise ValueError(problem)
    assert queue.is_over, "a job needs one that is not in the list"
    return queue.failed


def _start_ready(queue: JobQueue, scheduler: Scheduler, *, num_running: int) -> int:
    """Start the jobs that can start and that there is room for, and return the number of those at work.

    Raises:
        ValueError: there is no room for one although none is at work.
    """
    while num_running < scheduler.num_slots and (job := queue.find_ready()) is not None:
        try:
            scheduler.start(job)
        except NoRoomError as error:
            if not num_running:
                raise ValueError(str(error)) from None
            break
        queue.take(job)
        num_running += 1
    return num_running


class LocalWorkers:
    """Worker processes on this machine, each with one thread. They end when this process does. Each is a pool of its
    own, so that one that is killed takes no other along.

    Args:
        num_slots: workers.
    """

    def __init__(self, config: StudyConfig, *, num_slots: int) -> None:
        self.num_slots = num_slots
        self._config = config
        self._free = [_Worker() for _ in range(num_slots)]
        self._running: dict[Future[EndedJob], tuple[Job, _Worker]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End the workers, and the jobs that an exception has left at work."""
        for worker in (*self._free, *(worker for _, worker in self._running.values())):
            worker.end()

    def start(self, job: Job) -> None:
        """Give the job to a free worker."""
        worker = self._free.pop()
        try:
            future = worker.pool.submit(try_job, self._config, job)
        except BrokenProcessPool:  # it was killed while it had no job
            worker.end()
            worker = _Worker()
            future = worker.pool.submit(try_job, self._config, job)
        self._running[future] = job, worker

    def wait(self) -> list[EndedJob]:
        """Wait until one job or more have ended, and return them."""
        finished, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [self._end(future) for future in finished]

    def cancel_waiting(self) -> int:
        """Return 0: each job that was started is at work."""
        return 0

    def _end(self, future: Future[EndedJob]) -> EndedJob:
        job, worker = self._running.pop(future)
        if isinstance(future.exception(), BrokenProcessPool):
            worker.end()
            self._free.append(_Worker())
            problem = f"{job.id}: its worker was killed (out of memory, or as said above)"
            return EndedJob(job=job, ending="died", problem=problem)
        self._free.append(worker)
        return future.result()


class _Worker:
    """A worker process, started with its first job: a pool of one, which can be ended in the middle of a job."""

    def __init__(self) -> None:
        context = open_worker_context()
        end, self._line = context.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker, initargs=(end,))

    def end(self) -> None:
        """End the process, and its job."""
        self._line.close()
        self.pool.shutdown()


class ThisProcess:
    """This process, one job after the other. For jobs that start a program of their own."""

    num_slots = 1

    def __init__(self, config: StudyConfig) -> None:
        self._config = config
        self._started: list[Job] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: there is nothing to release."""

    def start(self, job: Job) -> None:
        """Take the job, which `wait` does."""
        self._started.append(job)

    def wait(self) -> list[EndedJob]:
        """Do the job that was started, and return it."""
        return [try_job(self._config, self._started.pop())]

    def cancel_waiting(self) -> int:
        """Return 0: no job waits here."""
        return 0


def _start_worker(line: Connection) -> None:
    """Prepare a worker, which ends when its parent does or closes the line."""
    end_with_parent()
    threading.Thread(target=_exit_after, args=(line,), daemon=True).start()
    prepare_worker()


def _exit_after(line: Connection) -> None:
    wait_for_line([line])
    os._exit(1)
