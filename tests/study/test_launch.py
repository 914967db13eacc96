"""Runs of published sizes as programs of several processes, which torchrun starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from polyglance.config import load, save
from polyglance.study import StudyConfig
from polyglance.study.grid.jobs import list_jobs
from polyglance.study.places import batch_job
from polyglance.study.work import launch
from polyglance.study.work.attempt import name_job, try_job
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


BREAKS = """
import os, sys, time
import torch.distributed as dist
dist.init_process_group("gloo")
if dist.get_rank() == 0:
    dist.barrier()
print("no checkpoint: a warning", file=sys.stderr, flush=True)
raise RuntimeError("CUDA error: an illegal memory access")
"""


def test_a_run_that_broke_names_the_error_of_the_first_process_and_its_log(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process then fails too, in its message to the first one."""
    config = load(StudyConfig, write_published_study(world, tmp_path))
    script = tmp_path / "breaks.py"
    script.write_text(BREAKS)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    monkeypatch.setattr(launch, "_make_command", lambda config, job: torchrun)
    run = list_jobs(config)[-1]
    log = config.out / run.folder / "train.log"
    for tries in (1, 2):
        ended = try_job(config, run)
        assert ended.ending == "died"
        assert ended.problem == (
            f"{run.id}: `polyglance train` did not finish: RuntimeError: CUDA error: an illegal memory access ({log})"
        )
        assert log.read_text().count("no checkpoint: a warning") == tries


def test_the_second_node_of_a_job_says_why_it_did_not_start_and_fails(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `srun` starts it. First another version is installed there, then its processes break."""
    path = write_published_study(world, tmp_path)
    config = load(StudyConfig, path)
    config.out.mkdir()
    save(config, config.out / "study.toml")
    run = list_jobs(config)[-1]
    monkeypatch.setenv("SLURM_PROCID", "1")
    reports, named = tmp_path / "reports", name_job(config, run)
    words = [named["folder"], named["study"], named["version"], str(reports), named["job"], named["mark"]]
    command = [sys.executable, "-m", "polyglance.study.places.batch_job", *words[:2], "0.0", *words[3:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("polyglance: ")
    assert "and `study run` 0.0: install the same" in done.stderr

    breaks = [sys.executable, "-c", "raise RuntimeError('no GPU')"]
    monkeypatch.setattr(launch, "_make_command", lambda config, job: breaks)
    with pytest.raises(SystemExit, match=r"did not finish: RuntimeError: no GPU \(.*/train-1\.log\)$"):
        batch_job.do_batch_job(*words)
    monkeypatch.setattr(launch, "_make_command", lambda config, job: [sys.executable, "-c", ""])
    batch_job.do_batch_job(*words)
    assert not reports.exists()
