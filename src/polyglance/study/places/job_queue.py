"""The order of jobs: which of them can start, which comes first, and which is tried again.

A change costs no more than the logarithm of the number of jobs.
"""

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence

from polyglance.study.grid.jobs import Job
from polyglance.study.work.ending import EndedJob

__all__ = ["JobQueue", "sum_longest_chains"]


def sum_longest_chains(jobs: Sequence[Job], seconds: Mapping[str, float]) -> dict[str, float]:
    """Return job id -> seconds from its start to the end of the longest chain of jobs that need it.

    Args:
        jobs: each after those it needs.
        seconds: job id -> expected seconds.
    """
    chains: dict[str, float] = {}
    behind: dict[str, float] = defaultdict(float)
    for job in reversed(jobs):
        chains[job.id] = seconds[job.id] + behind[job.id]
        for name in (*job.needs, *job.after):
            behind[name] = max(behind[name], chains[job.id])
    return chains


class JobQueue:
    """The jobs that are not done, in the order in which they start, and those that failed.

    Args:
        jobs: each after those it needs.
        done: ids of the jobs that are done already.
        seconds: job id -> expected seconds.
        retries: times that a job which died is tried again.
    """

    def __init__(self, jobs: Sequence[Job], *, done: set[str], seconds: Mapping[str, float], retries: int) -> None:
        self.failed: dict[str, str] = {}
        """Id of each job that failed, or that needs one which did -> why."""
        chains = sum_longest_chains(jobs, seconds)
        order = sorted(jobs, key=lambda job: (not job.trained_by and job.kind != "start", -chains[job.id]))
        self._place = {job.id: place for place, job in enumerate(order)}
        self._retries = retries
        self._num_deaths: dict[str, int] = defaultdict(int)
        self._stopped_at: dict[str, int] = defaultdict(int)
        left = [job for job in order if job.id not in done]
        self._num_left = len(left)
        self._awaited = {job.id: {*job.needs, *job.after} - done for job in left}
        self._followers: dict[str, list[Job]] = defaultdict(list)
        for job in left:
            for name in self._awaited[job.id]:
                self._followers[name].append(job)
        self._ready = [(self._place[job.id], job) for job in left if not self._awaited[job.id]]  # sorted: a heap

    @property
    def is_over(self) -> bool:
        """Whether each job is done, or has failed."""
        return self._num_left == 0

    def find_ready(self) -> Job | None:
        """Return the next job that can start; None if there is none now."""
        return self._ready[0][1] if self._ready else None

    def take(self, job: Job) -> None:
        """Remove the job that `find_ready` has returned: it has started."""
        _, first = heapq.heappop(self._ready)
        assert first is job, "jobs are taken in their order"

    def finish(self, job: Job) -> None:
        """Note that a job is done, and let those start that waited for it alone."""
        self._num_left -= 1
        for follower in self._followers[job.id]:
            self._stop_waiting(follower, job.id)

    def fail(self, ended: EndedJob) -> str:
        """Note that a job failed for good, with those that need it, and return why, in one line."""
        why = ended.problem
        if ended.ending != "failed":
            why = f"{why}; given up after {self._num_deaths[ended.job.id] - 1} retries (cluster.retries)"
        self._fail(ended.job, why)
        return why

    def put_back(self, ended: EndedJob) -> str:
        """Let a job that died or was stopped wait again, and return a line that says so; an empty text if it has been
        tried often enough."""
        name = ended.job.id
        if ended.ending == "stopped" and ended.step > self._stopped_at[name]:
            self._stopped_at[name] = ended.step
            again = "it goes on from there"
        else:
            self._num_deaths[name] += 1
            if self._num_deaths[name] > self._retries:
                return ""
            again = f"it goes on from its last checkpoint (retry {self._num_deaths[name]} of {self._retries})"
        self._add_ready(ended.job)
        return f"{ended.problem}; {again}"

    def _fail(self, job: Job, why: str) -> None:
        self._num_left -= 1
        self.failed[job.id] = why
        for follower in self._followers[job.id]:
            if job.id not in follower.needs:
                self._stop_waiting(follower, job.id)
            elif follower.id not in self.failed:
                self._fail(follower, f"{follower.id}: needs {job.id}, which failed")

    def _stop_waiting(self, job: Job, name: str) -> None:
        """Let a job no longer wait for another one, and start if that was the last."""
        self._awaited[job.id].discard(name)
        if not self._awaited[job.id]:  # one that has failed waits for a job that it needs, for ever
            self._add_ready(job)

    def _add_ready(self, job: Job) -> None:
        heapq.heappush(self._ready, (self._place[job.id], job))
