"""What a run tells others is what metrics.jsonl says; each sink is tried where it is installed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polyglance.config import save
from polyglance.train.config import TrainConfig, VisionCacheConfig
from polyglance.train.sinks import Sink, Sinks, TrackingConfig
from tests.train.runs import small_run, write_tokenizer
from tests.train.tracked import main

SCRIPT = Path(__file__).with_name("tracked.py")


def prepared(world: Path, folder: Path, sink: Sink) -> TrainConfig:
    """A run with a row every two steps, as a file in `folder`; skips where the sink is not installed."""
    pytest.importorskip(sink)
    config = small_run(
        world,
        write_tokenizer(world, folder),
        tracking=TrackingConfig(sinks=(sink,), project="tests"),
        vision_cache=VisionCacheConfig(use="never"),
        log_every_steps=2,
    )
    save(config, folder / "run.toml")
    return config


def tracked(folder: Path, **environment: str) -> None:
    """In a process of its own: these sinks start others, and threads that outlive a run."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def column(folder: Path, *names: str) -> dict[int, float]:
    """Step -> value of a column of metrics.jsonl, which may be inside another."""
    found: dict[int, Any] = {}
    for line in (folder / "run" / "metrics.jsonl").read_text().splitlines():
        row = value = json.loads(line)
        for name in names:
            value = value[name]
        found[row["step"]] = value
    assert list(found) == [2, 4, 6, 8, 10, 12]
    return found


def test_tensorboard_has_every_row(world: Path, tmp_path: Path) -> None:
    prepared(world, tmp_path, "tensorboard")
    main(tmp_path)
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for names in (("loss_nats",), ("lr",), ("cells", "caption-en")):
        found = {event.step: event.value for event in events.Scalars("/".join(names))}
        assert found == pytest.approx(column(tmp_path, *names), rel=1e-6)
    assert "step" not in events.Tags()["scalars"]


def test_trackio_has_every_row(world: Path, tmp_path: Path) -> None:
    config = prepared(world, tmp_path, "trackio")
    env = {"TRACKIO_DIR": str(tmp_path / "trackio")}
    tracked(tmp_path, **env)
    command = [sys.executable, "-c", "from trackio.cli import main; main()", "get", "metric", "--project", "tests"]
    command += ["--run", f"run-{config.settings}", "--metric", "cells/caption-en", "--json"]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=True)
    found = {entry["step"]: entry["value"] for entry in json.loads(done.stdout)["values"]}
    assert found == column(tmp_path, "cells", "caption-en")


def test_wandb_has_every_row(world: Path, tmp_path: Path) -> None:
    """Its files are its own: what is looked for in them is the text of the values."""
    config = prepared(world, tmp_path, "wandb")
    tracked(tmp_path, WANDB_MODE="offline")
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))
    assert [path.name for path in files] == [f"run-run-{config.settings}.wandb"] * 2
    content = b"".join(path.read_bytes() for path in files)
    for value in column(tmp_path, "cells", "caption-en").values():
        assert str(value).encode() in content


def test_a_sink_that_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))  # where it would find that somebody is logged in
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with pytest.raises(ValueError, match="tracking by wandb: No API key configured") as caught:
        Sinks(TrackingConfig(sinks=("wandb",)), tmp_path, name="x", settings={})
    assert "\n" not in str(caught.value)


def test_a_sink_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"tracking by wandb: .*; pip install wandb"):
        Sinks(TrackingConfig(sinks=("wandb",)), tmp_path, name="x", settings={})


def test_a_sink_that_fails_on_the_way_is_left_and_the_run_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prepared(world, tmp_path, "tensorboard")
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "add_scalar", no_room)
    main(tmp_path)
    assert len(column(tmp_path, "loss_nats")) == 6
    assert capfd.readouterr().err.count("tracking by tensorboard has ended") == 2  # once in each start
