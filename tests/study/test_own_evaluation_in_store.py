"""Runs in an object store whose training and measurement are jobs of their own, each done on another machine."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.study import StudyConfig, read_study_status, run_study, study
from polyglance.study.grid.job_state import is_done, read_problem
from polyglance.study.grid.jobs import Job, list_runs, training_of
from polyglance.study.places.schedulers import ThisProcess
from polyglance.study.work.attempt import EndedJob, try_job
from polyglance.study.work.do_job import do_job
from polyglance.study.work.in_store import do_stored_job
from polyglance.train.signals import Stopped

from .clusters import fail_training, write_trunk_grid


class OtherMachines(ThisProcess):
    """Do each job with a scratch folder of its own."""

    def wait(self) -> list[EndedJob]:
        job = self._started.pop()
        return [try_job(on_machine(self._config, job.id), job)]


def on_machine(config: StudyConfig, name: str) -> StudyConfig:
    """Return the study as a machine with a scratch folder of this name sees it."""
    if not config.cluster.store:
        return config
    return replace(config, cluster=replace(config.cluster, scratch=f"{config.cluster.scratch}/{name}"))


@pytest.fixture(autouse=True)
def _other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "LocalWorkers", lambda config, num_slots: OtherMachines(config))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_trunk_grid(tmp_path)


def read(path: Path, *more: str) -> StudyConfig:
    store = (f"cluster.store=file://{path.parent}/bucket", f"cluster.scratch={path.parent}/scratch")
    return load(StudyConfig, path, overrides=[*store, "cluster.evaluation=own", *more])


@pytest.fixture
def table(path: Path) -> bytes:
    """The runs.csv of the study in a folder, with each run measured by the job that trains it."""
    return run_study(load(StudyConfig, path, overrides=[f"out={path.parent}/plain"])).table.read_bytes()


def list_models(path: Path) -> list[Path]:
    """List the trained models of runs in the store."""
    return sorted((path.parent / "bucket" / "files" / "runs").glob("**/final/**/*.safetensors"))


def test_the_results_are_those_of_one_job_in_a_folder(path: Path, table: bytes) -> None:
    own = read(path)
    said: list[str] = []
    assert run_study(own, say=said.append).table.read_bytes() == table
    assert sum("] train-" in line for line in said) == len(list_runs(own)) == 2
    models = list_models(path)
    assert len({model.read_bytes() for model in models}) == len(models) > 0  # none is in the store twice
    assert not list(path.parent.glob("scratch/*/*/runs/*"))
    for out in ("elsewhere", "out"):
        assert set(read_study_status(replace(own, out=path.parent / out)).jobs.values()) == {"done"}
    for evaluation in ("with", "own"):
        again: list[str] = []
        config = read(path, f"out={path.parent}/again", f"cluster.evaluation={evaluation}")
        assert run_study(config, say=again.append).table.read_bytes() == table
        assert len(again) == 1
        assert "all of them done" in again[0]


def train_runs(config: StudyConfig) -> None:
    """Do all jobs but the measurements."""
    run_jobs = study.run_jobs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "run_jobs", lambda jobs, *more, **options: train_alone(run_jobs, jobs, *more, **options))
        with pytest.raises(ValueError, match="no run is done"):
            run_study(config)


def train_alone(run_jobs: object, jobs: list[Job], *more: object, **options: object) -> dict[str, str]:
    failed = run_jobs([job for job in jobs if job.kind != "run"], *more, **options)
    return failed or {"runs": "they are not measured"}


@pytest.mark.parametrize("evaluation", ["own", "with"])
def test_runs_that_are_trained_are_only_measured(
    path: Path, table: bytes, evaluation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the way of measuring was changed meanwhile, by a call on another machine."""
    train_runs(read(path))
    status = read_study_status(read(path, f"out={path.parent}/elsewhere"))
    assert {status.jobs[run.id] for run in list_runs(read(path))} == {"begun"}
    monkeypatch.setattr("polyglance.train.run.Loop", None)  # nothing is trained
    config = read(path, f"out={path.parent}/other", f"cluster.evaluation={evaluation}")
    assert run_study(config).table.read_bytes() == table


def test_a_copy_of_the_records_of_a_trained_run_is_not_the_run(path: Path, table: bytes) -> None:
    train_runs(read(path))
    config = read(path, f"out={path.parent}/elsewhere")
    assert "begun" in read_study_status(config).jobs.values()
    shutil.rmtree(path.parent / "bucket")
    said: list[str] = []
    assert run_study(config, say=said.append).table.read_bytes() == table
    assert sum("] train-" in line for line in said) == 2


@pytest.mark.parametrize("schedule", ["trunk", "separate"])
@pytest.mark.parametrize("evaluation", ["own", "with"])
def test_without_the_store_a_copy_of_the_records_is_refused(path: Path, evaluation: str, schedule: str) -> None:
    """Not trained again or from nothing, and not called unfinished."""
    train_runs(read(path, f"families.0.schedule={schedule}"))
    settings = [f"cluster.evaluation={evaluation}", f"families.0.schedule={schedule}"]
    read_study_status(read(path, *settings))
    name = "trunk-" if schedule == "trunk" else "train-"
    with pytest.raises(ValueError, match=rf"a copy of records; the other files of {name}.*cluster.store names none"):
        run_study(load(StudyConfig, path, overrides=settings))


@pytest.mark.parametrize(("first", "then"), [("own", "with"), ("with", "own"), ("own", "own")])
def test_a_training_that_was_stopped_goes_on_whichever_job_it_is_of(
    path: Path, first: str, then: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("save_every_steps=1", "families.0.schedule=separate")
    plain = run_study(load(StudyConfig, path, overrides=[f"out={path.parent}/separate", *more])).table.read_bytes()
    config = read(path, *more, f"cluster.evaluation={first}")
    run = list_runs(config)[-1]
    stopped = training_of(run) if first == "own" else run
    run_jobs = study.run_jobs

    def stop_first(*given: object, **options: object) -> dict[str, str]:
        with pytest.raises(Stopped):
            do_stored_job(on_machine(config, "stopped"), stopped, lambda: True, do_job)
        return run_jobs(*given, **options)

    monkeypatch.setattr(study, "run_jobs", stop_first)
    assert run_study(read(path, *more, f"cluster.evaluation={then}")).table.read_bytes() == plain
    assert "goes on from step 1, from file://" in capfd.readouterr().err
    assert not [*path.parent.glob("bucket/marks/**/saved-*"), *path.parent.glob("bucket/files/runs/**/step-*/*")]


def test_a_training_that_failed_is_a_run_that_failed_for_all_who_look(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = read(path, "families.0.schedule=separate")
    run, other = list_runs(own)

    fail_training(monkeypatch, run)
    assert run_study(own).num_runs == 1
    for out in ("out", "elsewhere", "elsewhere"):
        config = replace(own, out=path.parent / out)
        status = read_study_status(config)
        assert {name: status.jobs[name] for name in (run.id, other.id)} == {run.id: "failed", other.id: "done"}
        assert "the loss is not finite" in read_problem(config.out, run)
    fail_training(monkeypatch, None)
    assert run_study(read(path, "families.0.schedule=separate", "cluster.evaluation=with")).num_runs == 2
    assert not list(path.parent.glob("bucket/marks/**/failed.json"))
    for out in ("out", "elsewhere"):
        assert is_done(replace(own, out=path.parent / out).out, other)
        assert set(read_study_status(replace(own, out=path.parent / out)).jobs.values()) == {"done"}


def test_a_folder_with_trained_runs_goes_on_in_a_store(
    path: Path, table: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load(StudyConfig, path, overrides=["cluster.evaluation=own"])
    train_runs(plain)
    monkeypatch.setattr("polyglance.train.run.Loop", None)  # nothing is trained
    assert run_study(read(path)).table.read_bytes() == table
