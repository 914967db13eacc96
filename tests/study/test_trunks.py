"""Budgets that branch off a trunk: the results of separate runs, to the bit, through kills and extensions."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from polyglance.config import load
from polyglance.study import StudyConfig, plan_study, read_study_status, run_study
from polyglance.study.grid.job_state import is_done
from polyglance.study.grid.jobs import Job, find_not_needed, list_jobs
from polyglance.train.loop import Loop

TOML = """
out = "{out}"
save_every_steps = 2
[data.world]
num_train_images = 60
num_test_images = 20
[coverage]
caption = ["en"]
translation = ["en", "fr"]
[mixture]
batch_size = 8
[[families]]
name = "scratch"
widths = [8]
samples = [40, 80]
schedule = "trunk"
optim = {{ lr = 3e-3, warmup_steps = 2, cooldown_share = 0.2 }}
[evaluation]
samples_per_cell = 4
captions_per_cell = 2
translations_per_cell = 2
ambiguous_per_cell = 2
max_new_tokens = 3
[laws]
targets = ["UC_prefix"]
bootstrap = 0
"""
LONGER = "families.0.samples=[40,80,160]"


@pytest.fixture(scope="module")
def config_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trunks")
    path = folder / "study.toml"
    path.write_text(TOML.format(out=folder / "out"))
    return path


def jobs_by_id(path: Path, *overrides: str) -> dict[str, Job]:
    return {job.id: job for job in list_jobs(load(StudyConfig, path, overrides=overrides))}


def test_each_trunk_goes_on_from_the_one_before_it(config_path: Path) -> None:
    jobs = jobs_by_id(config_path, LONGER)
    trunks = [job for job in jobs.values() if job.kind == "trunk" and job.width == 8]
    assert [(job.begins_at, job.samples, job.trunk) for job in trunks] == [
        (0, 32, ""),
        (32, 64, trunks[0].id),
        (64, 128, trunks[1].id),
    ]
    runs = [job for job in jobs.values() if job.kind == "run" and job.width == 8]
    assert [(job.begins_at, job.samples, job.trunk) for job in runs] == [
        (trunk.samples, samples, trunk.id) for trunk, samples in zip(trunks, (40, 80, 160), strict=True)
    ]
    assert all(job.trunk in job.needs for job in runs)


def test_no_fingerprint_depends_on_a_trunk(config_path: Path) -> None:
    """So another schedule or a further budget makes no run and no trunk again."""
    jobs = jobs_by_id(config_path)
    separate = jobs_by_id(config_path, "families.0.schedule=separate")
    longer = jobs_by_id(config_path, LONGER)
    assert {name: jobs[name].fingerprint for name in separate} == {n: job.fingerprint for n, job in separate.items()}
    assert {name: longer[name].fingerprint for name in jobs} == {name: job.fingerprint for name, job in jobs.items()}
    between = jobs_by_id(config_path, "families.0.samples=[40,56,80]")
    assert {name: between[name].fingerprint for name in jobs} == {name: job.fingerprint for name, job in jobs.items()}
    slower = jobs_by_id(config_path, "families.0.optim.lr=1e-3")
    assert all((slower[name].fingerprint == jobs[name].fingerprint) == (name in ("data", "tokenizer")) for name in jobs)


def test_the_trunks_of_runs_that_are_predicted_come_after_the_prediction(config_path: Path) -> None:
    jobs = list(jobs_by_id(config_path, "prediction={}", "families.0.widths=[8,16]").values())
    places = {job.id: place for place, job in enumerate(jobs)}
    later = {"trunk-scratch-d16-s64-seed0", "scratch-d16-s80-seed0"}
    assert {job.id for job in jobs[places["prediction"] + 1 :]} == later
    assert all("prediction" in jobs[places[name]].after for name in later)
    assert all(places[other] < places[job.id] for job in jobs for other in (*job.needs, *job.after))


def test_a_trunk_that_no_run_waits_for_is_not_trained(config_path: Path) -> None:
    jobs = list(jobs_by_id(config_path).values())
    trunks = {job.id for job in jobs if job.kind == "trunk"}
    assert find_not_needed(jobs, {job.id for job in jobs if job.kind == "run"}) == trunks
    assert find_not_needed(jobs, {"scratch-d8-s40-seed0"}) == {"trunk-scratch-d8-s32-seed0"}
    assert not find_not_needed(jobs, trunks)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["families.0.optim={ lr = 1e-3 }"], "schedule 'trunk' needs optim.warmup_steps"),
        (["families.0.optim.cooldown_share=0.0"], "schedule 'trunk' needs optim.warmup_steps"),
        (["families.0.schedule=trunks"], "'trunks' is not a choice; did you mean 'trunk'?"),
        (["families.0.optim.warmup_steps=5"], "40 samples: 5 steps of warm-up and 1 of cooldown are more than the 5"),
    ],
)
def test_a_mistake_is_one_line(config_path: Path, overrides: Sequence[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(StudyConfig, config_path, overrides=overrides)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def out(config_path: Path) -> Path:
    """The study with trunks in `whole`, and once more, killed at ten random moments, in `killed`."""
    command = [sys.executable, "-m", "tests.study.killed", str(config_path), "10"]
    ended = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return config_path.parent / "out"


@pytest.mark.slow
def test_kills_trunks_and_separate_runs_give_the_same_table(config_path: Path, out: Path) -> None:
    separate = load(StudyConfig, config_path, overrides=[f"out={out / 'separate'}", "families.0.schedule=separate"])
    run_study(separate, workers=1)
    tables = [(out / name / "runs.csv").read_bytes() for name in ("whole", "killed", "separate")]
    assert tables[0] == tables[1] == tables[2]
    assert not (separate.out / "trunks").exists()


@pytest.mark.slow
def test_a_larger_budget_costs_the_difference(config_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the trunks that are there, it is trained from the start, with the same result."""
    config = load(StudyConfig, config_path, overrides=[f"out={out / 'whole'}", LONGER])
    planned = plan_study(config, workers=1)
    assert planned.training["separate"].samples == 40 + 80 + 160
    assert planned.training["trunk"].samples == 160 + 8 + 16
    before = {path: path.stat().st_mtime_ns for path in config.out.glob("*/*/done.json")}
    steps: list[tuple[str, int]] = []
    run_step = Loop.run_step

    def count_step(loop: Loop, step: int, *rest: object) -> None:
        steps.append((loop.run_dir.name, step))
        run_step(loop, step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Loop, "run_step", count_step)
    monkeypatch.setattr("polyglance.study.study.LocalWorkers", _one_process)
    run_study(config)
    expected = [("trunk-scratch-d8-s128-seed0", step) for step in range(8, 16)]
    expected += [("scratch-d8-s160-seed0", step) for step in range(16, 20)]
    assert steps == expected
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(read_study_status(config).jobs.values()) == {"done"}

    killed = load(StudyConfig, config_path, overrides=[f"out={out / 'killed'}", LONGER])
    for job in list_jobs(killed):
        if job.kind == "trunk" and is_done(killed.out, job):
            (killed.out / job.folder / "done.json").unlink()
    assert set(read_study_status(killed).jobs.values()) == {"done", "to do", "not needed"}
    run_study(killed)
    table = (config.out / "runs.csv").read_bytes()
    assert (killed.out / "runs.csv").read_bytes() == table

    (damaged,) = (config.out / "trunks").glob("*-s128-*/checkpoints/step-*/model.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:-1])
    shutil.rmtree(config.out / "runs" / "scratch-d8-s160-seed0")
    said: list[str] = []
    run_study(config, say=said.append)
    assert any("trunk-scratch-d8-s128-seed0: " in line and "it is made again" in line for line in said)
    assert (killed.out / "runs.csv").read_bytes() == (config.out / "runs.csv").read_bytes()


def _one_process(config: StudyConfig, num_slots: int) -> object:
    from polyglance.study.places.schedulers import ThisProcess

    del num_slots
    return ThisProcess(config)
