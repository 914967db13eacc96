"""A study folder as runs leave it on the way, written without any training."""

import json
from pathlib import Path

from polyglance.config import load
from polyglance.coverage import Cell
from polyglance.prediction_records import RunPrediction, RunPredictions
from polyglance.run_records import CellLoss, CellRecord, LossRecord
from polyglance.study import StudyConfig
from polyglance.study.grid.job_state import begin_job, finish_job
from polyglance.study.grid.jobs import Job, list_jobs

TOML = """
title = "on the way"
out = "{out}"

[data.world]

[coverage]
caption = ["en"]
translation = ["en", "fr"]

[mixture]
batch_size = 8

[[families]]
name = "scratch"
widths = [8, 16]
samples = [400, 800]

[prediction]
targets = ["UC_prefix"]
"""
SMALL, LONG, WIDE, LARGEST = (f"scratch-{name}-seed0" for name in ("d8-s400", "d8-s800", "d16-s400", "d16-s800"))


def write_config(folder: Path, text: str = TOML) -> Path:
    path = folder / "way.toml"
    path.write_text(text.format(out=folder / "out"))
    return path


def load_study(folder: Path) -> StudyConfig:
    return load(StudyConfig, write_config(folder))


def find_job(config: StudyConfig, name: str) -> Job:
    return next(job for job in list_jobs(config) if job.id == name)


def begin(config: StudyConfig, name: str, *rows: tuple[int, float, float]) -> Path:
    """Begin a run, and write its log: (step, loss, samples per second)."""
    folder = begin_job(config.out, find_job(config, name))
    keys = ("step", "loss_nats", "samples_per_s")
    lines = "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines)
    return folder


def finish(config: StudyConfig, name: str, loss: float) -> None:
    """Write losses.json and mark the run as done."""
    values = {"samples": 4, "tokens": 40, "bytes": 90, "nats": 40 * loss, "mean_nats": loss, "first_nats": loss}
    losses = {variant: CellLoss(**values) for variant in ("plain", "prefix")}
    cells = {Cell("caption", "fr"): CellRecord(split="UC", losses=losses)}
    job = find_job(config, name)
    LossRecord(run=name, cells=cells, initial=cells).write(config.out / job.folder / "losses.json")
    finish_job(config.out, job)


def predict(config: StudyConfig, value: float) -> None:
    """Write the prediction of the largest run."""
    job = find_job(config, "prediction")
    folder = begin_job(config.out, job)
    ends = {"low": value - 0.1, "high": value + 0.1}
    made = RunPrediction(run=LARGEST, target="UC_prefix", value=value, **ends, num_runs=3, form="product(P, S)")
    RunPredictions(confidence=0.95, predictions=(made,)).write(folder / "predictions.json")
    finish_job(config.out, job)
