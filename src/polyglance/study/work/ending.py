"""Ends of jobs, as reported by every place where jobs are done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from polyglance.study.grid.jobs import Job

__all__ = ["NOT_BEGUN", "DiedError", "EndedJob", "Ending", "GivenUpError"]

Ending = Literal["done", "refused", "failed", "died", "stopped"]
"""`done`. `refused`: the user has to change something; no other job is started. `failed`: this job failed finally;
others go on. `died`: it ended without a report, as a killed process does, and may be tried again. `stopped`: it was
asked to stop, and has saved its state."""

NOT_BEGUN = "not begun"
"""In place of an ending, in the report of a batch job that was stopped before it came to the job."""


@dataclass(frozen=True, kw_only=True)
class EndedJob:
    """End of one try at a job."""

    job: Job
    ending: Ending = "done"
    """How it has ended."""
    seconds: float = 0.0
    """Time that it took."""
    problem: str = ""
    """Why it is not done, in one line."""
    step: int = 0
    """Stopped: the last step that is saved."""
    host: str = ""
    """Name of the machine, if it is not the scheduler's."""
    clock_offset_s: float = 0.0
    """Seconds that this machine's clock is ahead of the file server's."""

    def report(self) -> dict[str, Any]:
        """Return what a scheduler on another machine has to know, as JSON."""
        return {name: value for name, value in vars(self).items() if name != "job"}

    @classmethod
    def of(cls, job: Job, report: Mapping[str, Any]) -> Self:
        """Read a report."""
        return cls(job=job, **report)


class DiedError(Exception):
    """A program that a job has started was killed, or broke down."""


class GivenUpError(Exception):
    """A program that was started again as often as `cluster.retries` says, and died each time."""
