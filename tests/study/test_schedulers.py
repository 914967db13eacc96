"""The order of jobs, and the time that it is expected to take."""

from dataclasses import replace
from pathlib import Path

import pytest

from polyglance.study.costs import estimate_s
from polyglance.study.jobs import Job
from polyglance.study.schedulers import EndedJob, run_jobs


def job(name: str, *needs: str) -> Job:
    return Job(id=name, kind="run", folder=Path(name), needs=needs)


JOBS = (job("data"), job("short", "data"), job("start", "data"), job("long", "start"), job("other", "start"))
SECONDS = {"data": 1.0, "short": 2.0, "start": 3.0, "long": 7.0, "other": 4.0}


class Recorder:
    """Ends the job that was started last; `broken` fails, alone or not."""

    def __init__(self, num_slots: int, broken: str = "", *, is_alone: bool = False) -> None:
        self.num_slots, self.broken, self.is_alone = num_slots, broken, is_alone
        self.started: list[str] = []
        self.running: list[Job] = []

    def start(self, job: Job) -> None:
        assert len(self.running) < self.num_slots
        self.started.append(job.id)
        self.running.append(job)

    def wait(self) -> list[EndedJob]:
        ended = self.running.pop()
        problem = "no disk" if ended.id == self.broken else ""
        return [EndedJob(job=ended, seconds=1.5, problem=problem, is_alone=self.is_alone)]


def test_the_longest_chain_is_first_and_needs_are_kept() -> None:
    recorder = Recorder(num_slots=1)
    times: dict[str, float] = {}
    run_jobs(JOBS, recorder, done=set(), seconds=SECONDS, on_done=lambda job, seconds: times.update({job.id: seconds}))
    assert recorder.started == ["data", "start", "long", "other", "short"]
    assert times == dict.fromkeys(SECONDS, 1.5)


def test_after_a_failure_no_job_is_started_and_running_ones_are_waited_for() -> None:
    recorder = Recorder(num_slots=2, broken="short")
    with pytest.raises(ValueError, match="no disk"):
        run_jobs(JOBS, recorder, done={"data"}, seconds=SECONDS)
    assert recorder.started == ["start", "short"]
    assert recorder.running == []


def test_a_job_that_fails_alone_stops_only_those_that_need_it() -> None:
    recorder = Recorder(num_slots=2, broken="start", is_alone=True)
    failed = run_jobs(JOBS, recorder, done=set(), seconds=SECONDS)
    assert recorder.started == ["data", "start", "short"]
    assert failed == {
        "start": "no disk",
        "long": "long: needs start, which failed",
        "other": "other: needs start, which failed",
    }


def test_a_job_waits_for_those_it_comes_after_but_does_not_fail_with_them() -> None:
    late = replace(job("late", "data"), after=("start", "short"))
    recorder = Recorder(num_slots=1, broken="start", is_alone=True)
    failed = run_jobs((*JOBS[:3], late), recorder, done=set(), seconds={**SECONDS, "late": 100.0})
    assert recorder.started == ["data", "start", "short", "late"]
    assert failed == {"start": "no disk"}


@pytest.mark.parametrize(("num_slots", "expected"), [(1, 17.0), (2, 11.0), (3, 11.0)])
def test_expected_time_follows_the_order_of_the_jobs(num_slots: int, expected: float) -> None:
    assert estimate_s(JOBS, done=set(), seconds=SECONDS, num_slots=num_slots) == expected
    assert estimate_s(JOBS, done=set(SECONDS), seconds=SECONDS, num_slots=num_slots) == 0.0
