"""Jobs handed to a fake Slurm (`fake_slurm.py`): programs named sbatch, squeue, scancel. `.ci/slurm` has a real one."""

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.study import StudyConfig
from polyglance.study.cluster import ClusterConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.places.needs import JobNeeds
from polyglance.study.places.schedulers import run_jobs
from polyglance.study.places.slurm_jobs import SlurmJobs

from .clusters import write_grid

NEEDS = JobNeeds(cpus=3, gpus=0, memory_bytes=None)
JOBS = [Job(id=f"run-{n}", kind="run", folder=Path(f"runs/{n}"), fingerprint=f"f{n}") for n in range(6)]
SECONDS = {job.id: 6.0 - n for n, job in enumerate(JOBS)}


class FakeSlurm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs").mkdir(parents=True)
        program = Path(__file__).with_name("fake_slurm.py").read_text()
        for name in ("sbatch", "squeue", "scancel"):
            (folder / name).write_text(f"#!{sys.executable} -IS\n{program}")
            (folder / name).chmod(0o755)

    def write(self, name: str, value: object) -> None:
        (self.folder / name).write_text(json.dumps(value))

    def calls(self, name: str) -> list[str]:
        """Return the calls of a program, without the questions whether a job would be taken."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.startswith(name) and "--test-only" not in line]

    def names(self) -> list[str]:
        """Return the jobs that were taken, in their order."""
        return [job["job-name"] for job in self.jobs()]

    def jobs(self) -> list[dict[str, str]]:
        """Return the jobs that were taken, in their order: options of sbatch, script, state."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("jobs/*"))]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    for name in ("_LOOK_S", "_ASK_S", "_RETRY_S"):
        monkeypatch.setattr(f"polyglance.study.places.slurm_jobs.{name}", 0.01)
    return FakeSlurm(tmp_path / "bin")


@pytest.fixture
def config(tmp_path: Path) -> StudyConfig:
    return load(StudyConfig, write_grid(tmp_path, samples=80))


def test_at_a_limit_of_submitted_jobs_the_others_wait_and_none_is_cancelled(
    slurm: FakeSlurm, config: StudyConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    slurm.write("limits.json", {"submit": 3})
    done: list[str] = []
    with SlurmJobs(config, needs=NEEDS) as scheduler:
        run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS, on_done=lambda ended: done.append(ended.job.id))
    assert slurm.names() == [job.id for job in JOBS]
    assert sorted(done) == slurm.names()
    assert slurm.calls("scancel") == []
    assert capfd.readouterr().err.count("QOSMaxSubmitJobPerUserLimit") == 1


def test_a_refusal_with_no_job_at_work_is_a_mistake_with_its_reason(slurm: FakeSlurm, config: StudyConfig) -> None:
    slurm.write("limits.json", {"submit": 0})
    with (
        pytest.raises(ValueError, match="QOSMaxSubmitJobPerUserLimit; Batch job submission failed"),
        SlurmJobs(config, needs=NEEDS) as scheduler,
    ):
        run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS)


def test_a_refused_job_takes_those_that_slurm_has_not_begun_back(slurm: FakeSlurm, config: StudyConfig) -> None:
    slurm.write("limits.json", {"run": 2})
    slurm.write("reports.json", {"run-0": [{"ending": "refused", "problem": "disk full"}]})
    said: list[str] = []
    with pytest.raises(ValueError, match="disk full"), SlurmJobs(config, needs=NEEDS) as scheduler:
        run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS, on_refused=said.append)
    assert said == ["disk full; no other job is started, and 2 at work are waited for"]
    assert [job["state"] for job in slurm.jobs()] == ["COMPLETED"] * 3 + ["CANCELLED"] * 3


def test_jobs_of_an_earlier_call_are_taken_up_and_not_submitted_again(slurm: FakeSlurm, config: StudyConfig) -> None:
    for job in JOBS[:2]:
        SlurmJobs(config, needs=NEEDS).start(job)
    (slurm.folder / "squeue_fails").touch()
    with pytest.raises(ValueError, match=r"squeue does not list .* Unable to contact slurm controller"):
        SlurmJobs(config, needs=NEEDS)
    (slurm.folder / "squeue_fails").unlink()
    with SlurmJobs(config, needs=NEEDS) as scheduler:
        run_jobs(JOBS, scheduler, done=set(), seconds=SECONDS)
    assert slurm.names() == [job.id for job in JOBS]


def test_a_job_that_slurm_requeues_after_it_died_is_not_submitted_again(slurm: FakeSlurm, config: StudyConfig) -> None:
    slurm.write("reports.json", {"run-0": [{"ending": "died", "problem": "run-0: killed", "state": "PENDING"}]})
    said: list[str] = []
    with SlurmJobs(config, needs=NEEDS) as scheduler:
        run_jobs(JOBS[:1], scheduler, done=set(), seconds=SECONDS, retries=1, on_retry=said.append)
    assert slurm.names() == ["run-0"]
    assert said == []


def test_the_processes_of_a_job_over_nodes_get_its_cpus(slurm: FakeSlurm, config: StudyConfig) -> None:
    SlurmJobs(config, needs=replace(NEEDS, nodes=2)).start(JOBS[0])
    (job,) = slurm.jobs()
    assert (job["nodes"], job["cpus-per-task"]) == ("2", "3")
    srun = shlex.split(job["script"].partition("exec ")[2])
    assert srun[: srun.index(sys.executable)] == ["srun", "--wait=60", "--cpus-per-task=3"]


@pytest.mark.parametrize(
    ("time_limit_h", "nodes", "signal"),
    [(None, 1, "B:TERM@120"), (None, 2, "TERM@120"), (1.0, 1, "B:TERM@120"), (0.05, 1, None)],
)
def test_a_job_is_told_to_save_two_minutes_before_its_end_whoever_sets_it(
    slurm: FakeSlurm, config: StudyConfig, time_limit_h: float | None, nodes: int, signal: str | None
) -> None:
    config = replace(config, cluster=ClusterConfig(time_limit_h=time_limit_h))
    SlurmJobs(config, needs=replace(NEEDS, nodes=nodes)).start(JOBS[0])
    assert [job.get("signal") for job in slurm.jobs()] == [signal]
