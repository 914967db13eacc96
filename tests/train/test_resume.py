"""A run that is killed or asked to stop, and started again, gives the result of an uninterrupted run, bit for bit."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from polyglance.cli import main
from polyglance.config import save
from polyglance.mixture.config import MixtureConfig
from polyglance.train.config import StartConfig, VisionCacheConfig
from polyglance.train.metrics import MetricsLog
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from polyglance.train.watch import WatchConfig
from tests.faulty_disk import SlowDisk
from tests.train.runs import assert_identical, read_rows, small_run, stop_after, write_checkpoint

DAY_S = 86_400


@pytest.mark.parametrize("in_background", [False, True])
def test_a_run_killed_at_random_moments(world: Path, tokenizer_path: Path, tmp_path: Path, in_background: bool) -> None:
    """With dropout, and rows between the checkpoints."""
    checkpoint = write_checkpoint(tmp_path / "model", tokenizer_path, vocab_size=1024)
    config = small_run(
        world,
        None,
        tokenizer=None,
        start=StartConfig(checkpoint=checkpoint),
        mixture=MixtureConfig(batch_size=4),
        num_samples=4 * 40,
        save_every_steps=3,
        save_in_background=in_background,
        log_every_steps=1,
    )
    save(config, tmp_path / "run.toml")
    command = [sys.executable, str(Path(__file__).with_name("killed.py")), str(tmp_path), "8"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    train(config, tmp_path / "whole")
    assert_identical(tmp_path / "killed", tmp_path / "whole")


def test_sigterm_saves_the_step_and_the_same_command_goes_on(
    world: Path,
    tokenizer_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Slurm's preemption, in the middle of a row. The losses scatter and do not fall, so that there are spikes before
    the stop and soon after it: the watch goes on with the losses it knows."""
    config = small_run(
        world,
        tokenizer_path,
        num_samples=8 * 40,
        save_every_steps=1000,
        log_every_steps=4,
        optim=OptimConfig(lr=1e-6),
        watch=WatchConfig(spike_factor=1.001),
        vision_cache=VisionCacheConfig(use="never"),
    )
    save(config, tmp_path / "run.toml")
    command = ["train", str(tmp_path / "run.toml"), "--set", f"out={tmp_path / 'stopped'}"]
    write = MetricsLog.write

    def write_and_stop(log: MetricsLog, row: Mapping[str, Any]) -> None:
        write(log, row)
        if row["step"] == 28:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", write_and_stop)
        main(command)
    assert "stopped after step 29, which is saved; the same command goes on from there" in capsys.readouterr().err
    (folder,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    assert json.loads((folder / "checkpoint.json").read_text())["step"] == 29
    num_spikes = read_rows(tmp_path / "stopped")[-1]["num_spikes"]
    main(command)
    assert 0 < num_spikes < read_rows(tmp_path / "stopped")[-1]["num_spikes"]
    train(config, tmp_path / "whole")
    assert_identical(tmp_path / "stopped", tmp_path / "whole")


def test_the_wall_clock_may_jump_by_days(
    world: Path,
    tokenizer_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Every reading is three days after the true time or before it; half a day without a step would be a stall."""
    config = small_run(
        world,
        tokenizer_path,
        vision_cache=VisionCacheConfig(use="never"),
        watch=WatchConfig(stall_s=DAY_S / 2),
        log_every_steps=1,
    )
    days, true_time = itertools.cycle((3, -3, -3, 3, 3)), time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: true_time() + next(days) * DAY_S)
        patch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
        with pytest.raises(Stopped):
            train(config, tmp_path / "jumping", hooks=stop_after(6))
        train(config, tmp_path / "jumping")
    for row in read_rows(tmp_path / "jumping"):
        assert row["tokens_per_s"] > row["samples_per_s"] > 1e-3
        assert 0 <= row["data_wait_share"] <= 1
    assert "no progress" not in capfd.readouterr().err
    train(config, tmp_path / "steady")
    assert_identical(tmp_path / "jumping", tmp_path / "steady")


def test_a_slow_disk_changes_nothing(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """Each call of the disk seems to take ten minutes. A checkpoint takes a fixed number of them, and so does a row."""
    config = small_run(world, tokenizer_path, save_every_steps=3, log_every_steps=1)
    with SlowDisk(tmp_path, delay_s=600.0) as disk:
        with pytest.raises(Stopped):
            train(config, tmp_path / "slow", hooks=stop_after(7))
        before = disk.num_calls.copy()
        train(config, tmp_path / "slow")
    for row in read_rows(tmp_path / "slow"):
        assert row["tokens_per_s"] > 0
        assert 0 <= row["data_wait_share"] <= 1
    num_checkpoints, num_rows = 3, 7  # of the first call: two at their steps, one when it was stopped
    assert disk.waited_s > 3600
    assert before["fsync"] <= 20 + 12 * num_checkpoints
    assert before["open"] <= 40 + 12 * num_checkpoints + 2 * num_rows
    train(config, tmp_path / "fast")
    assert_identical(tmp_path / "slow", tmp_path / "fast")
