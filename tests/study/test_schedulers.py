"""The order of jobs, and the time that it is expected to take."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyglance.study.grid.jobs import Job
from polyglance.study.places.schedulers import NoRoomError, run_jobs
from polyglance.study.planning.costs import estimate_s
from polyglance.study.work.ending import EndedJob, Ending


def job(name: str, *needs: str) -> Job:
    return Job(id=name, kind="run", folder=Path(name), needs=needs)


JOBS = (job("data"), job("short", "data"), job("start", "data"), job("long", "start"), job("other", "start"))
SECONDS = {"data": 1.0, "short": 2.0, "start": 3.0, "long": 7.0, "other": 4.0}


class Recorder:
    """Ends the job that was started last; `broken` does not end well, as often as `endings` has ways for it."""

    def __init__(self, num_slots: int, broken: str = "", endings: Sequence[tuple[Ending, int]] = ()) -> None:
        self.num_slots, self.broken, self.endings = num_slots, broken, list(endings)
        self.started: list[str] = []
        self.running: list[Job] = []
        self.waiting: list[Job] = []

    def start(self, job: Job) -> None:
        assert len(self.running) < self.num_slots
        self.started.append(job.id)
        self.running.append(job)

    def wait(self) -> list[EndedJob]:
        ended = self.running.pop()
        if ended.id != self.broken or not self.endings:
            return [EndedJob(job=ended, seconds=1.5)]
        ending, step = self.endings.pop(0)
        return [EndedJob(job=ended, ending=ending, problem="no disk", step=step)]

    def cancel_waiting(self) -> int:
        self.waiting, self.running = self.running[1:], self.running[:1]
        return len(self.waiting)


def test_the_longest_chain_is_first_and_needs_are_kept() -> None:
    recorder = Recorder(num_slots=1)
    times: dict[str, float] = {}
    run_jobs(JOBS, recorder, done=set(), seconds=SECONDS, on_done=lambda e: times.update({e.job.id: e.seconds}))
    assert recorder.started == ["data", "start", "long", "other", "short"]
    assert times == dict.fromkeys(SECONDS, 1.5)


def test_there_is_time_for_other_work_while_all_jobs_that_can_be_are_at_work() -> None:
    recorder, seen = Recorder(num_slots=2), list[list[str]]()
    run_jobs(
        JOBS,
        recorder,
        done=set(),
        seconds=SECONDS,
        before_wait=lambda: seen.append([job.id for job in recorder.running]),
    )
    assert seen == [["data"], ["start", "short"], ["start"], ["long", "other"], ["long"]]


def test_a_refusal_is_said_at_once_jobs_that_wait_are_taken_back_and_those_at_work_waited_for() -> None:
    recorder = Recorder(num_slots=3, broken="short", endings=[("refused", 0)])
    jobs, said = (*JOBS[:3], job("at-work")), list[tuple[str, int]]()
    with pytest.raises(ValueError, match="no disk"):
        run_jobs(
            jobs,
            recorder,
            done={"data"},
            seconds={**SECONDS, "start": 9.0, "at-work": 4.0},
            on_refused=lambda line: said.append((line, len(recorder.running))),
        )
    assert recorder.started == ["start", "at-work", "short"]
    assert [waiting.id for waiting in recorder.waiting] == ["at-work"]
    assert said == [("no disk; no other job is started, and 1 at work are waited for", 1)]
    assert recorder.running == []


def test_a_job_that_fails_alone_stops_only_those_that_need_it() -> None:
    recorder = Recorder(num_slots=2, broken="start", endings=[("failed", 0)])
    failed = run_jobs(JOBS, recorder, done=set(), seconds=SECONDS)
    assert recorder.started == ["data", "start", "short"]
    assert failed == {
        "start": "no disk",
        "long": "long: needs start, which failed",
        "other": "other: needs start, which failed",
    }


def test_a_job_waits_for_those_it_comes_after_but_does_not_fail_with_them() -> None:
    late = replace(job("late", "data"), after=("start", "short"))
    recorder = Recorder(num_slots=1, broken="start", endings=[("failed", 0)])
    failed = run_jobs((*JOBS[:3], late), recorder, done=set(), seconds={**SECONDS, "late": 100.0})
    assert recorder.started == ["data", "start", "short", "late"]
    assert failed == {"start": "no disk"}


def test_a_job_that_died_is_tried_again_before_those_behind_it_and_given_up_after_its_retries() -> None:
    said: list[str] = []
    recorder = Recorder(num_slots=1, broken="start", endings=[("died", 0)] * 2)
    assert run_jobs(JOBS, recorder, done={"data"}, seconds=SECONDS, retries=2, on_retry=said.append) == {}
    assert recorder.started == ["start", "start", "start", "long", "other", "short"]
    assert said == [f"no disk; it goes on from its last checkpoint (retry {n} of 2)" for n in (1, 2)]
    recorder = Recorder(num_slots=1, broken="start", endings=[("died", 0)] * 3)
    failed = run_jobs(JOBS, recorder, done={"data"}, seconds=SECONDS, retries=2)
    assert recorder.started == ["start", "start", "start", "short"]
    assert failed["start"] == "no disk; given up after 2 retries (cluster.retries)"
    assert failed["long"] == "long: needs start, which failed"


def test_a_job_that_was_stopped_goes_on_as_long_as_it_comes_further() -> None:
    further: list[tuple[Ending, int]] = [("stopped", step) for step in (5, 10, 15)]
    recorder = Recorder(num_slots=1, broken="start", endings=further)
    assert run_jobs(JOBS, recorder, done={"data"}, seconds=SECONDS) == {}
    recorder = Recorder(num_slots=1, broken="start", endings=[*further, ("stopped", 15), ("stopped", 20)])
    failed = run_jobs(JOBS, recorder, done={"data"}, seconds=SECONDS)
    assert failed["start"] == "no disk; given up after 0 retries (cluster.retries)"


@pytest.mark.parametrize(("num_slots", "expected"), [(1, 17.0), (2, 11.0), (3, 11.0)])
def test_expected_time_follows_the_order_of_the_jobs(num_slots: int, expected: float) -> None:
    assert estimate_s(JOBS, done=set(), seconds=SECONDS, num_slots=num_slots) == expected
    assert estimate_s(JOBS, done=set(SECONDS), seconds=SECONDS, num_slots=num_slots) == 0.0


class RandomEnds:
    """Starts jobs only when all they wait for is over, and ends one of those at work at random, well or not."""

    def __init__(self, jobs: Sequence[Job], draws: Random, num_slots: int) -> None:
        self.jobs, self.draws, self.num_slots = jobs, draws, num_slots
        self.running: list[Job] = []
        self.over: dict[str, Ending] = {}
        self.tries: dict[str, int] = {}

    def start(self, job: Job) -> None:
        if self.draws.random() < 0.1 and self.running:
            raise NoRoomError("no room")
        assert len(self.running) < self.num_slots
        assert job.id not in self.over
        assert all(self.over.get(name) == "done" for name in job.needs), job
        assert self.over.keys() | self.find_lost() >= set(job.after), job
        self.tries[job.id] = self.tries.get(job.id, 0) + 1
        self.running.append(job)

    def wait(self) -> list[EndedJob]:
        number = self.draws.randint(0, len(self.running)) if self.draws.random() < 0.5 else 1
        return [self.end(self.running.pop(self.draws.randrange(len(self.running)))) for _ in range(number)]

    def end(self, job: Job) -> EndedJob:
        endings: list[Ending] = ["done", "done", "failed", "died"]
        ending = self.draws.choice(endings)
        if ending != "died" or self.tries[job.id] == 3:
            self.over[job.id] = ending
        return EndedJob(job=job, ending=ending, problem=f"{job.id} is {ending}")

    def find_lost(self) -> set[str]:
        """Return the jobs that have failed, and those that need them."""
        lost = {name for name, ending in self.over.items() if ending != "done"}
        for one in self.jobs:  # each after those it needs
            if not lost.isdisjoint(one.needs):
                lost.add(one.id)
        return lost

    def cancel_waiting(self) -> int:
        return 0


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(1, 4))
def test_any_jobs_start_once_what_they_wait_for_is_over_and_all_end(seed: int, num_jobs: int, num_slots: int) -> None:
    draws = Random(seed)
    jobs: list[Job] = []
    for number in range(num_jobs):
        before = draws.sample([one.id for one in jobs], draws.randint(0, min(3, number)))
        cut = draws.randint(0, len(before))
        jobs.append(replace(job(f"j{number}", *before[:cut]), after=tuple(before[cut:])))
    scheduler = RandomEnds(jobs, draws, num_slots)
    failed = run_jobs(jobs, scheduler, done=set(), seconds={one.id: draws.random() for one in jobs}, retries=2)
    lost = scheduler.find_lost()
    assert failed.keys() == lost
    assert scheduler.over.keys() == scheduler.tries.keys() == {one.id for one in jobs} - (lost - scheduler.over.keys())
    for one in jobs:
        if one.id not in scheduler.tries:
            assert failed[one.id] in {f"{one.id}: needs {name}, which failed" for name in lost & set(one.needs)}
