"""Checkpoints are whole or not used, and a checkpoint on the disk is not lost for one that cannot be written."""

import math
import os
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from safetensors.torch import load_file

from polyglance.train.config import TrainConfig
from polyglance.train.loop import Hooks
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from tests.train.runs import assert_same_tensors, read_weights, small_run, stop_after

DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture(scope="module")
def config(world: Path, tokenizer_path: Path) -> TrainConfig:
    return small_run(world, tokenizer_path, save_every_steps=2, num_samples=8 * 8)


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    train(config, run := tmp_path_factory.mktemp("whole"))
    return run


def train_until(config: TrainConfig, run: Path, step: int) -> list[int]:
    """Stop a new run after `step`; return the steps that have checkpoints."""
    with pytest.raises(Stopped):
        train(config, run, hooks=stop_after(step))
    return sorted(int(path.name[-8:]) for path in (run / "checkpoints").glob("step-*"))


def assert_goes_on_from(config: TrainConfig, run: Path, whole: Path, step: int) -> None:
    """The run begins with the checkpoint of `step` and ends as one that never stopped."""
    calls = count()
    train(config, run, hooks=Hooks(should_stop=lambda: next(calls) < 0))
    assert next(calls) == config.num_steps - step
    assert_same_tensors(read_weights(run), read_weights(whole))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", "flipped"),
        ("optimizer.safetensors", "cut"),
        ("optimizer.safetensors", "removed"),
        ("checkpoint.json", "cut"),
        ("checkpoint.json", "removed"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    config: TrainConfig, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], file: str, damage: str
) -> None:
    assert train_until(config, tmp_path, 6) == [4, 6]
    path = tmp_path / "checkpoints" / "step-00000006" / file
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    else:
        content[len(content) // 2] ^= 0x55
        path.write_bytes(content[: len(content) // 3] if damage == "cut" else content)
    assert_goes_on_from(config, tmp_path, whole, 4)
    assert file in capfd.readouterr().err


def test_a_run_with_damaged_checkpoints_only_does_not_begin_again(config: TrainConfig, tmp_path: Path) -> None:
    train_until(config, tmp_path, 2)
    (tmp_path / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="every checkpoint is damaged"):
        train(config, tmp_path)


def test_a_half_written_checkpoint_is_not_used(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    train_until(config, tmp_path, 4)
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "step-00000004", folder / "step-00000006.partial")
    assert_goes_on_from(config, tmp_path, whole, 4)
    assert [path.name for path in folder.iterdir()] == ["final"]


def test_the_last_and_the_best_are_kept(config: TrainConfig, tmp_path: Path) -> None:
    """Validation losses fall, then rise: the step with the lowest is kept, and becomes a model of its own."""
    losses = iter([math.nan, 1.0, 2.0, 2.5])
    hooks = replace(stop_after(7), validate=lambda model, runtime: {"UC": next(losses)})
    with pytest.raises(Stopped):
        train(replace(config, best="UC", keep_last=1), tmp_path, hooks=hooks)
    assert {p.name for p in (tmp_path / "checkpoints").glob("step-*")} == {"step-00000004", "step-00000007"}
    train_until(config, tmp_path / "until-4", 4)
    train(replace(config, best="UC"), tmp_path, hooks=Hooks(validate=lambda model, runtime: {"UC": 9.0}))
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"best", "final"}
    best = load_file(tmp_path / "checkpoints" / "best" / "model.safetensors")
    trained = load_file(tmp_path / "until-4" / "checkpoints" / "step-00000004" / "model.safetensors")
    assert_same_tensors({name: best[name.removeprefix("model.")] for name in trained}, trained)


def test_other_settings_are_refused_and_another_division_is_not(config: TrainConfig, tmp_path: Path) -> None:
    train_until(config, tmp_path, 4)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        train(replace(config, optim=OptimConfig(lr=1e-4)), tmp_path)
    train(replace(config, engine=replace(config.engine, micro_batch_size=2), keep_last=5), tmp_path)


def test_a_lack_of_space_is_noticed_before_writing(
    config: TrainConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The older checkpoint stays and the run goes on with a message; a run that must stop ends with a message."""
    assert train_until(config, tmp_path, 2) == [2]
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10**9, 10**9, 1000))
        with pytest.raises(ValueError, match=r"cannot be saved: .*the checkpoint needs 0\.02 GB and the disk"):
            train(config, tmp_path, hooks=stop_after(5))
    assert capfd.readouterr().err.count("no checkpoint:") == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert_goes_on_from(config, tmp_path, whole, 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, if this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr!r}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_becomes_full_while_writing(
    config: TrainConfig,
    whole: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10**12, 0, 10**12))
    assert train_until(config, small_disk, 2) == [2]
    filler = small_disk / "filler"
    free = os.statvfs(small_disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 100_000))
    with pytest.raises(ValueError, match=r"No space left on device.*its last checkpoint is kept"):
        train(config, small_disk)
    assert "No space left on device" in capfd.readouterr().err
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["step-00000002"]
    filler.unlink()
    assert_goes_on_from(config, small_disk, whole, 2)
