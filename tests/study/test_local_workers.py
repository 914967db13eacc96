"""Worker processes of this machine that are killed, or left in the middle of a job."""

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.study import StudyConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.places.schedulers import LocalWorkers
from polyglance.study.work.ending import EndedJob

from .clusters import write_grid

JOB = Job(id="run-1", kind="run", folder=Path("runs/1"))


def try_pid_job(config: StudyConfig, job: Job) -> EndedJob:
    """Stand for a job that tells its process, and `hangs` if its id says so."""
    del config
    if job.id == "hangs":
        Path(job.folder).write_text(json.dumps(os.getpid()))
        threading.Event().wait()
    return EndedJob(job=job, host=str(os.getpid()))


def is_there(pid: int) -> bool:
    """Return whether a process is there, or is one that its parent has not waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    monkeypatch.setattr("polyglance.study.places.schedulers.try_job", try_pid_job)
    return load(StudyConfig, write_grid(tmp_path, samples=80))


def test_a_worker_that_is_killed_while_idle_is_replaced(config: StudyConfig) -> None:
    with LocalWorkers(config, num_slots=1) as workers:
        workers.start(JOB)
        (first,) = workers.wait()
        os.kill(int(first.host), signal.SIGKILL)
        while is_there(int(first.host)):  # until its pool has seen its death
            os.sched_yield()
        workers.start(JOB)
        (second,) = workers.wait()
    assert second.ending == "done"
    assert second.host != first.host


def test_an_exception_ends_the_jobs_at_work(config: StudyConfig, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pid")
    with suppress(KeyboardInterrupt), LocalWorkers(config, num_slots=1) as workers:
        workers.start(Job(id="hangs", kind="run", folder=tmp_path / "pid"))
        pid = json.loads((tmp_path / "pid").read_text())
        raise KeyboardInterrupt
    assert not is_there(pid)
