"""A run that was killed, however often, or asked to stop, is the run that never was, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from polyglance.config import save
from polyglance.mixture.config import MixtureConfig
from polyglance.train.config import StartConfig, VisionCacheConfig
from polyglance.train.run import train
from tests.train.runs import small_run, weights, write_checkpoint, write_tokenizer

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}
CLOCK = ("tokens_per_s", "samples_per_s", "data_wait_share", "memory_bytes")
"""Columns of metrics.jsonl that tell of the machine."""


def rows(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


def assert_identical(run: Path, other: Path) -> None:
    found, expected = weights(run), weights(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert rows(run) == rows(other)


@pytest.mark.parametrize(("num_kills", "num_steps"), [(2, 24), pytest.param(20, 120, marks=pytest.mark.slow)])
def test_killed_at_random_moments(world: Path, tmp_path: Path, num_kills: int, num_steps: int) -> None:
    """With dropout, and rows that span several checkpoints."""
    checkpoint = write_checkpoint(tmp_path / "model", write_tokenizer(world, tmp_path))
    config = small_run(
        world,
        None,
        tokenizer=None,
        start=StartConfig(checkpoint=checkpoint),
        mixture=MixtureConfig(batch_size=4),
        num_samples=4 * num_steps,
        save_every_steps=3,
        log_every_steps=1,
    )
    save(config, tmp_path / "run.toml")
    script = Path(__file__).with_name("killed.py")
    command = [sys.executable, str(script), str(tmp_path), str(num_kills), str(num_kills)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    train(config, tmp_path / "whole")
    assert_identical(tmp_path / "killed", tmp_path / "whole")


def test_sigterm_saves_and_exits_with_zero(world: Path, tmp_path: Path) -> None:
    """As Slurm's preemption asks for it; the same command then goes on, in the middle of a row."""
    config = small_run(
        world,
        write_tokenizer(world, tmp_path),
        num_samples=8 * 400,
        save_every_steps=1000,
        log_every_steps=7,
        vision_cache=VisionCacheConfig(use="never"),
    )
    save(config, tmp_path / "run.toml")
    command = [sys.executable, "-m", "polyglance", "train", str(tmp_path / "run.toml"), "--set"]
    command.append(f"out={tmp_path / 'stopped'}")
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 0, error
    assert "the same command goes on from there" in error
    (folder,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    manifest = json.loads((folder / "checkpoint.json").read_text())
    assert f"stopped after step {manifest['step']}," in error
    assert set(load_file(folder / "optimizer.safetensors"))
    subprocess.run(command, env=ENV, check=True, capture_output=True, timeout=120)
    train(config, tmp_path / "whole")
    assert_identical(tmp_path / "stopped", tmp_path / "whole")
