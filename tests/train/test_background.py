"""Checkpoints written while training goes on: those of their step, whole or not there, and nothing is lost silently."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polyglance.config import save
from polyglance.distributed import Runtime
from polyglance.train.checkpoint import BestCheckpoint, Checkpoints
from polyglance.train.config import StartConfig, TrainConfig
from polyglance.train.loop import Hooks
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from tests.train.runs import assert_identical, small_run, stop_after, write_checkpoint


@pytest.fixture(scope="module")
def config(world: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """With dropout; a checkpoint every five of twelve steps."""
    start = write_checkpoint(tmp_path_factory.mktemp("start"), tokenizer_path, vocab_size=1024)
    return small_run(
        world,
        None,
        tokenizer=None,
        start=StartConfig(checkpoint=start),
        save_in_background=True,
        keep_last=9,
        log_every_steps=1,
        best="loss_nats",
    )


def find_best(run: Path) -> BestCheckpoint | None:
    return Checkpoints(run, Runtime.single()).best()


def find_steps(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("checkpoints/step-*"))


def test_training_goes_on_while_the_checkpoint_of_a_step_is_written(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writing of step 5 waits for step 9. Its files are those of a run that writes them at once, byte for byte."""
    with pytest.raises(Stopped):
        train(replace(config, save_in_background=False), tmp_path / "at-once", hooks=stop_after(11))
    reached, write, threads, seen = threading.Event(), Checkpoints._write_tensors, [], []

    def write_late(self: Checkpoints, *args: Any) -> None:
        threads.append(threading.current_thread())
        assert threads[-1] is threading.main_thread() or reached.wait(60)
        write(self, *args)

    def on_row(row: Mapping[str, Any]) -> None:
        if row["step"] == 9:
            seen.extend(find_steps(tmp_path / "run"))
            reached.set()

    hooks = replace(stop_after(11), on_row=on_row)
    monkeypatch.setattr(Checkpoints, "_write_tensors", write_late)
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", hooks=hooks)
    assert seen == ["step-00000005.partial"]
    assert [thread is threading.main_thread() for thread in threads] == [False, False, True]
    assert find_steps(tmp_path / "run") == ["step-00000005", "step-00000010", "step-00000011"]
    for path in tmp_path.glob("run/checkpoints/*/*.safetensors"):
        assert path.read_bytes() == (tmp_path / "at-once" / path.relative_to(tmp_path / "run")).read_bytes(), path
    assert find_best(tmp_path / "run") == find_best(tmp_path / "at-once")


_KILLED = """
import os, sys
from pathlib import Path
from polyglance.config import load
from polyglance.train.checkpoint import Checkpoints
from polyglance.train.config import TrainConfig
from polyglance.train.run import train

write = Checkpoints._write_manifest
def kill(self, folder, step, state):
    if step == 10:
        os._exit(9)
    write(self, folder, step, state)
Checkpoints._write_manifest = kill
train(load(TrainConfig, Path(sys.argv[1]) / "run.toml"), Path(sys.argv[1]) / "run")
"""


def test_a_process_that_ends_in_the_middle_of_writing_leaves_the_checkpoint_before(
    config: TrainConfig, tmp_path: Path
) -> None:
    save(config, tmp_path / "run.toml")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], env=environment, check=False, timeout=300)
    assert done.returncode == 9
    assert find_steps(tmp_path / "run") == ["step-00000005", "step-00000010.partial"]
    train(config, tmp_path / "run")
    train(replace(config, save_in_background=False), tmp_path / "whole")
    assert_identical(tmp_path / "run", tmp_path / "whole")


def test_a_checkpoint_that_could_not_be_written_is_reported(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A full disk at step 5: the run says so, and goes on. What is no fault of the disk ends it."""
    usage, calls = shutil.disk_usage, []

    def disk_usage(path: Any) -> Any:
        calls.append(path)
        return usage(path)._replace(free=1000) if len(calls) == 1 else usage(path)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    train(config, tmp_path / "full")
    assert capfd.readouterr().err.count("no checkpoint:") == 1

    def fail(self: Checkpoints, *args: Any) -> None:
        raise TypeError("a fault of the program")

    monkeypatch.setattr(Checkpoints, "_write_tensors", fail)
    with pytest.raises(TypeError, match="a fault of the program"):
        train(config, tmp_path / "faulty", hooks=Hooks())
