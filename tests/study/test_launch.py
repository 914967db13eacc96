"""Runs of published sizes as programs of several processes, which torchrun starts."""

from pathlib import Path

from polyglance.config import load
from polyglance.study import StudyConfig
from polyglance.study.attempt import try_job
from polyglance.study.jobs import list_jobs
from tests.study.test_published_run import write_published_study


def test_a_run_of_two_processes_that_was_asked_to_stop_has_saved_and_is_no_death(world: Path, tmp_path: Path) -> None:
    path = write_published_study(world, tmp_path)
    config = load(StudyConfig, path, overrides=["families.0.samples=[1600000]"])
    *before, run = list_jobs(config)
    assert {try_job(config, job).ending for job in before if job.kind in ("data", "tokenizer")} <= {"done"}
    metrics = config.out / run.folder / "metrics.jsonl"
    ended = try_job(config, run, metrics.is_file)
    assert ended.ending == "stopped", ended.problem
    assert ended.step > 0
    assert [path.name for path in metrics.parent.glob("checkpoints/step-*")] == [f"step-{ended.step:08d}"]
