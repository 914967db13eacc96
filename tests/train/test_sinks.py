"""Trackers get what metrics.jsonl says; each is tested where it is installed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polyglance.config import save
from polyglance.train.config import TrainConfig, VisionCacheConfig
from polyglance.train.sinks import Sink, TrackingConfig, open_sinks
from tests.train.runs import read_rows, small_run
from tests.train.tracked import main

ROOT = Path(__file__).parents[2]


def prepare(world: Path, tokenizer_path: Path, folder: Path, sink: Sink) -> TrainConfig:
    """Write a run with a row every two steps; skip the test if the tracker is not installed."""
    pytest.importorskip(sink)
    config = small_run(
        world,
        tokenizer_path,
        tracking=TrackingConfig(sinks=(sink,), project="tests"),
        vision_cache=VisionCacheConfig(use="never"),
        log_every_steps=2,
    )
    save(config, folder / "run.toml")
    return config


def run_in_process(folder: Path, **environment: str) -> None:
    """Run in another process: these trackers start processes and threads that outlive a run."""
    paths = os.pathsep.join([str(ROOT), *sys.path])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **environment}
    command = [sys.executable, "-m", "tests.train.tracked", str(folder)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def expected_values(folder: Path, cell: str) -> dict[int, float]:
    values = {row["step"]: row["cells"][cell] for row in read_rows(folder / "run")}
    assert list(values) == [2, 4, 6, 8, 10, 12]
    return values


def test_tensorboard_has_every_row(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    prepare(world, tokenizer_path, tmp_path, "tensorboard")
    main(tmp_path)
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    values = {event.step: event.value for event in events.Scalars("cells/caption-en")}
    assert values == pytest.approx(expected_values(tmp_path, "caption-en"), rel=1e-6)
    assert {"loss_nats", "lr"} < set(events.Tags()["scalars"])
    assert "step" not in events.Tags()["scalars"]


def test_trackio_has_every_row(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    config = prepare(world, tokenizer_path, tmp_path, "trackio")
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    run_in_process(tmp_path, **environment)
    command = [sys.executable, "-c", "from trackio.cli import main; main()", "get", "metric", "--project", "tests"]
    command += ["--run", f"run-{config.settings}", "--metric", "cells/caption-en", "--json"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    values = {entry["step"]: entry["value"] for entry in json.loads(done.stdout)["values"]}
    assert values == expected_values(tmp_path, "caption-en")


def test_wandb_has_every_row(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """The files have a format of their own: the test looks for the text of the values in them."""
    config = prepare(world, tokenizer_path, tmp_path, "wandb")
    run_in_process(tmp_path, WANDB_MODE="offline")
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-run-{config.settings}.wandb"] * 2
    content = b"".join(path.read_bytes() for path in files)
    for value in expected_values(tmp_path, "caption-en").values():
        assert str(value).encode() in content


def test_a_tracker_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrackingConfig(sinks=("wandb",))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "wandb", None)
        with (
            pytest.raises(ValueError, match=r"tracking by wandb: .*; pip install wandb"),
            open_sinks(config, tmp_path, name="x", settings={}),
        ):
            pass
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))  # a login would be found there
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with (
        pytest.raises(ValueError, match="tracking by wandb: No API key configured") as caught,
        open_sinks(config, tmp_path, name="x", settings={}),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_tracker_that_fails_on_the_way_is_left_and_the_run_goes_on(
    world: Path,
    tokenizer_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    prepare(world, tokenizer_path, tmp_path, "tensorboard")
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "add_scalar", fail)
    main(tmp_path)
    assert len(expected_values(tmp_path, "caption-en")) == 6
    assert capfd.readouterr().err.count("tracking by tensorboard has ended") == 2  # once in each start
