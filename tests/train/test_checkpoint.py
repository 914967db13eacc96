"""Checkpoints are whole, or they are not checkpoints; and what is on the disk is never lost for what is not."""

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
import torch
from safetensors.torch import load_file

from polyglance.train.config import TrainConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from tests.train.runs import small_run, weights, write_tokenizer


@pytest.fixture(scope="module")
def config(world: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return small_run(world, write_tokenizer(world, tmp_path_factory.mktemp("tokenizer")), save_every_steps=2)


@pytest.fixture(scope="module")
def whole(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    train(config, run := tmp_path_factory.mktemp("whole"))
    return run


def stop_after(config: TrainConfig, run: Path, step: int) -> list[int]:
    """Run, stop, and say of which steps there are checkpoints."""
    asked = count(1)
    with pytest.raises(Stopped):
        train(config, run, should_stop=lambda: next(asked) == step)
    return sorted(int(path.name[-8:]) for path in (run / "checkpoints").glob("step-*"))


def assert_goes_on_from(config: TrainConfig, run: Path, whole: Path, step: int) -> None:
    """The run ends as the one that never stopped, and begins with the checkpoint of `step`."""
    asked = count()
    train(config, run, should_stop=lambda: next(asked) < 0)
    assert next(asked) == config.num_steps - step
    found, expected = weights(run), weights(whole)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", "flipped"),
        ("optimizer.safetensors", "cut"),
        ("optimizer.safetensors", "removed"),
        ("checkpoint.json", "cut"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    config: TrainConfig, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], file: str, damage: str
) -> None:
    assert stop_after(config, tmp_path, 6) == [4, 6]
    path = tmp_path / "checkpoints" / "step-00000006" / file
    content = bytearray(path.read_bytes())
    if damage == "removed":
        path.unlink()
    else:
        content[len(content) // 2] ^= 0x55
        path.write_bytes(content[: len(content) // 3] if damage == "cut" else content)
    assert_goes_on_from(config, tmp_path, whole, 4)
    assert file in capfd.readouterr().err


def test_all_damaged_is_said_and_nothing_is_begun_again(config: TrainConfig, tmp_path: Path) -> None:
    stop_after(config, tmp_path, 2)
    (tmp_path / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="every checkpoint is damaged"):
        train(config, tmp_path)


def test_a_half_written_one_is_not_a_checkpoint(config: TrainConfig, whole: Path, tmp_path: Path) -> None:
    stop_after(config, tmp_path, 4)
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "step-00000004", folder / "step-00000006.partial")
    assert_goes_on_from(config, tmp_path, whole, 4)


def test_the_last_and_the_best_are_kept(config: TrainConfig, tmp_path: Path) -> None:
    """Validation losses fall, then rise: the step with the lowest is kept, and becomes a model of its own."""
    losses = iter([math.nan, 1.0, 2.0, 2.5, 2.2])
    config = replace(config, best="UC", keep_last=1)
    asked = count(1)

    def validate(model: object, runtime: object) -> dict[str, float]:
        return {"UC": next(losses)}

    with pytest.raises(Stopped):
        train(config, tmp_path, should_stop=lambda: next(asked) == 9, validate=validate)
    assert {p.name for p in (tmp_path / "checkpoints").glob("step-*")} == {"step-00000004", "step-00000009"}
    asked = count(1)
    with pytest.raises(Stopped):
        train(replace(config, best=None), tmp_path / "until-4", should_stop=lambda: next(asked) == 4)
    train(config, tmp_path, validate=lambda model, runtime: {"UC": 9.0})
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"best", "final"}
    best = load_file(tmp_path / "checkpoints" / "best" / "model.safetensors")
    there = load_file(tmp_path / "until-4" / "checkpoints" / "step-00000004" / "model.safetensors")
    assert all(torch.equal(best[name.removeprefix("model.")], tensor) for name, tensor in there.items())


def test_other_settings_are_refused_and_another_division_is_not(config: TrainConfig, tmp_path: Path) -> None:
    stop_after(config, tmp_path, 4)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        train(replace(config, optim=OptimConfig(lr=1e-4)), tmp_path)
    train(replace(config, engine=replace(config.engine, micro_batch_size=2), keep_last=5), tmp_path)


def test_no_space_is_found_out_before_writing(
    config: TrainConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint that was there is still there, the run goes on, and says so; one that has to stop says so too."""
    assert stop_after(config, tmp_path, 2) == [2]
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
        asked = count(3)
        with pytest.raises(ValueError, match=r"cannot be saved: .*step 7 needs 0\.02 GB and the disk"):
            train(config, tmp_path, should_stop=lambda: next(asked) == 7)
    assert capfd.readouterr().err.count("no checkpoint:") == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert_goes_on_from(config, tmp_path, whole, 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr!r}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_while_writing(
    config: TrainConfig,
    whole: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Somebody else fills the disk between the look at it and the writing."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 10**12))
    assert stop_after(config, small_disk, 2) == [2]
    filler = small_disk / "filler"
    free = os.statvfs(small_disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 100_000))
    with pytest.raises(ValueError, match=r"No space left on device.*its last checkpoint is kept"):
        train(config, small_disk)
    assert "No space left on device" in capfd.readouterr().err
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["step-00000002"]
    filler.unlink()
    assert_goes_on_from(config, small_disk, whole, 2)
