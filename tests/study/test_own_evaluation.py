"""Runs that are measured by jobs of their own (`cluster.evaluation = "own"`): the same files as by one job."""

from dataclasses import replace
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.evaluate.evaluator import Evaluator
from polyglance.study import StudyConfig, read_study_status, run_study
from polyglance.study.grid.job_state import is_done
from polyglance.study.grid.jobs import list_jobs, list_runs, list_work
from polyglance.study.needs import JobNeeds, find_needs
from polyglance.study.places.schedulers import ThisProcess
from polyglance.study.work.attempt import try_job

from .clusters import fail_training, write_trunk_grid
from .killed_in import run_until_killed
from .test_published_run import write_published_study

MEASURED = ("initial.json", "losses.json", "captions.jsonl")


@pytest.fixture(autouse=True)
def _this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the jobs in this process, where they can be watched."""
    monkeypatch.setattr("polyglance.study.study.LocalWorkers", lambda config, num_slots: ThisProcess(config))


def read(path: Path, out: str, *overrides: str) -> StudyConfig:
    """Read a study that is made in `out`; its evaluation is `own` if that begins so."""
    how = "own" if out.startswith("own") else "with"
    own = (f"out={path.parent / out}", f"cluster.evaluation={how}")
    return load(StudyConfig, path, overrides=[*own, *overrides])


def read_measured(config: StudyConfig) -> list[bytes]:
    """Return the bytes of the table and of all that is measured."""
    folders = [config.out / run.folder for run in list_runs(config)]
    return [path.read_bytes() for path in (config.out / "runs.csv", *(f / n for f in folders for n in MEASURED))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_trunk_grid(tmp_path)


def test_the_results_are_the_same_and_a_finished_study_stays_finished(path: Path) -> None:
    together, own = read(path, "with"), read(path, "own")
    said: list[str] = []
    run_study(together)
    run_study(own, say=said.append)
    assert read_measured(own) == read_measured(together)
    ids = [line.split()[1] for line in said if line.startswith("[")]
    for run in list_runs(own):
        assert ids.index(run.id) == ids.index(f"train-{run.id}") + 1  # measured as soon as it is trained
    again: list[str] = []
    run_study(read(path, "with", "cluster.evaluation=own"), say=again.append)
    assert len(again) == 1
    assert "all of them done" in again[0]


def test_a_measuring_job_that_is_killed_measures_again_and_trains_nothing(path: Path) -> None:
    together, own = read(path, "with"), read(path, "own")
    run_study(together)
    run_until_killed(own, Evaluator, "generate")
    states = read_study_status(own).jobs
    (begun,) = [run for run in list_runs(own) if states[run.id] == "begun"]
    final = own.out / begun.folder / "checkpoints" / "final" / "training.json"
    changed_ns = final.stat().st_mtime_ns
    said: list[str] = []
    run_study(own, say=said.append)
    assert f"train-{begun.id}" not in "".join(said)
    assert final.stat().st_mtime_ns == changed_ns
    assert read_measured(own) == read_measured(together)


def test_the_way_of_measuring_can_change_on_the_way(path: Path) -> None:
    """A run that is trained is measured by the job that would train it; one that is measured is trained already."""
    together, own = read(path, "with"), read(path, "own")
    run_study(together)
    *before, last = [job for job in list_work(own) if job.kind != "run"]
    for job in (*before, last):
        assert try_job(own, job).ending == "done"
    assert not any(is_done(own.out, run) for run in list_runs(own))
    run_study(replace(own, cluster=together.cluster))
    assert read_measured(own) == read_measured(together)
    (own.out / list_runs(own)[0].folder / "losses.json").unlink()
    said: list[str] = []
    run_study(own, say=said.append)
    assert read_measured(own) == read_measured(together)


def test_a_training_that_is_no_longer_finite_is_a_run_that_failed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = read(path, "own", "families.0.schedule=separate")
    run, other = list_runs(own)

    fail_training(monkeypatch, run)
    result = run_study(own)
    assert result.num_runs == 1
    status = read_study_status(own)
    assert {name: status.jobs[name] for name in (run.id, other.id)} == {run.id: "failed", other.id: "done"}
    assert "the loss is not finite" in status.problems[run.id]
    fail_training(monkeypatch, None)
    assert run_study(own).num_runs == 2


@pytest.mark.slow
def test_one_process_measures_to_the_digits_of_two(world: Path, tmp_path: Path) -> None:
    path = write_published_study(world, tmp_path)
    together, own = read(path, "with"), read(path, "own")
    run_study(together)
    run_study(own)
    assert read_measured(own) == read_measured(together)


def test_a_measuring_job_asks_for_the_share_of_one_device(path: Path) -> None:
    needs = JobNeeds(cpus=17, gpus=8, memory_bytes=800, nodes=2, devices=8)
    of = {job.id: needs.of(job) for job in list_work(read(path, "own"))}
    (run, *_) = list_runs(read(path, "own"))
    assert of[run.id] == JobNeeds(cpus=3, gpus=1, memory_bytes=100)
    assert of[f"train-{run.id}"] == needs


def test_trainings_come_after_the_prediction_as_their_runs_do(path: Path) -> None:
    own = read(path, "own", "prediction={}", "families.0.widths=[8,16]")
    jobs = {job.id: job for job in list_work(own)}
    held_out = list_runs(own)[-1].id
    assert "prediction" in jobs[f"train-{held_out}"].after
    assert [job.fingerprint for job in list_jobs(own)] == [
        job.fingerprint for job in list_work(own) if job.kind != "training"
    ]
    marks = [job.mark for job in jobs.values()]
    assert len(set(marks)) == len(marks)


@pytest.mark.parametrize("way", ["cluster.nodes=2", "cluster.evaluation=own"])
@pytest.mark.parametrize(
    ("gpus", "line"),
    [("3", "cluster.gpus is 3 on each node, where a run has 2 processes"), ("1.5", "gpus is 1.5; expected a whole")],
)
def test_gpus_of_which_a_process_would_get_one_and_a_part_are_refused(way: str, gpus: str, line: str) -> None:
    """Ray refuses them, but only once a run starts."""
    devices = f"machine.devices={4 if 'nodes' in way else 2}"
    paper = Path(__file__).parents[2] / "examples" / "paper.toml"
    for fits in ("1", "0.5", "2", "4"):
        needs = find_needs(load(StudyConfig, paper, overrides=[way, devices, f"cluster.gpus={fits}"]))
        assert needs.gpus == float(fits)
        assert needs.devices == 2
    with pytest.raises(ValueError, match=line) as caught:
        load(StudyConfig, paper, overrides=[way, devices, f"cluster.gpus={gpus}"])
    assert "\n" not in str(caught.value)
