"""A run that goes on from a trunk has the weights, bit for bit, that it has without it; a trunk costs nothing else."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from polyglance.config import load, save
from polyglance.mixture.config import MixtureConfig
from polyglance.train.config import StartConfig, TrainConfig
from polyglance.train.loop import Loop
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from tests.train.runs import assert_same_tensors, read_rows, read_weights, small_run, stop_after, write_checkpoint

CONSTANT = OptimConfig(lr=3e-3, warmup_steps=2, cooldown_share=0.0)


def cooled(config: TrainConfig, num_steps: int, *, trunk: Path | None = None, share: float = 0.25) -> TrainConfig:
    """A run of this length that ends with a cooldown."""
    return replace(config, num_samples=8 * num_steps, optim=replace(CONSTANT, cooldown_share=share), trunk=trunk)


def constant(config: TrainConfig, num_steps: int, *, trunk: Path | None = None) -> TrainConfig:
    return replace(config, num_samples=8 * num_steps, optim=CONSTANT, trunk=trunk)


@pytest.fixture(scope="module")
def config(world: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """With dropout, which depends on the step."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("start") / "model", tokenizer_path, vocab_size=1024)
    return small_run(world, None, tokenizer=None, start=StartConfig(checkpoint=checkpoint), log_every_steps=4)


@pytest.fixture(scope="module")
def trunk(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished trunk of nine steps."""
    path = tmp_path_factory.mktemp("trunk") / "run"
    train(constant(config, 9), path)
    return path


def test_the_schedule_rises_stays_and_falls() -> None:
    optim = replace(CONSTANT, cooldown_share=0.25, final_share=0.1)
    optimizer = optim.build(nn.Linear(1, 1))
    shares = [optim.set_lr(optimizer, step, 16) for step in range(16)]
    assert shares == pytest.approx([0.5, *[1.0] * 12, 0.55, 0.1 + 0.9 * (1 - 0.5**0.5), 0.1 + 0.9 * (1 - 0.75**0.5)])
    assert [optim.first_cooldown_step(n) for n in (16, 100, 3, 1)] == [12, 75, 2, 0]
    assert [CONSTANT.set_lr(optimizer, step, 5) for step in range(5)] == [0.5, 1, 1, 1, 1]


def test_a_branch_is_the_run_of_its_own(config: TrainConfig, trunk: Path, tmp_path: Path) -> None:
    """Its cooldown begins after the trunk's end, and it is stopped on the way."""
    before = {path: path.read_bytes() for path in trunk.rglob("*") if path.is_file()}
    branch = cooled(config, 16, trunk=trunk)  # the trunk ends after step 9, the cooldown begins after step 12
    with pytest.raises(Stopped):
        train(branch, tmp_path / "branch", hooks=stop_after(2))
    train(branch, tmp_path / "branch")
    train(cooled(config, 16), tmp_path / "whole")
    assert_same_tensors(read_weights(tmp_path / "branch"), read_weights(tmp_path / "whole"))
    assert [row["step"] for row in read_rows(tmp_path / "branch")] == [12, 16], "its own rows alone"
    samples = [json.loads((tmp_path / name / "samples.json").read_text()) for name in ("branch", "whole")]
    assert samples[0] == samples[1], "S counts what the trunk has seen"
    assert {path: path.read_bytes() for path in before} == before, "a trunk is only read"


def test_a_trunk_is_extended_by_the_difference(
    config: TrainConfig, trunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    run_step = Loop.run_step
    monkeypatch.setattr(Loop, "run_step", lambda loop, step, *rest: (steps.append(step), run_step(loop, step, *rest)))
    train(constant(config, 14, trunk=trunk), tmp_path / "longer")
    assert steps == [*range(9, 14)]
    train(cooled(config, 19, trunk=tmp_path / "longer"), tmp_path / "branch")
    assert steps[5:] == [*range(14, 19)]
    train(cooled(config, 19), tmp_path / "whole")
    assert_same_tensors(read_weights(tmp_path / "branch"), read_weights(tmp_path / "whole"))


def test_a_trunk_that_is_stopped_after_its_last_step_is_finished(
    config: TrainConfig, trunk: Path, tmp_path: Path
) -> None:
    """As if it were killed between its last checkpoint and its model."""
    shutil.copytree(trunk, tmp_path / "trunk")
    shutil.rmtree(tmp_path / "trunk" / "checkpoints" / "final")
    train(constant(config, 9), tmp_path / "trunk")
    assert_same_tensors(read_weights(tmp_path / "trunk"), read_weights(trunk))
    assert sorted(path.name for path in (tmp_path / "trunk" / "checkpoints").iterdir()) == ["final", "step-00000009"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 5}, "holds a run with other settings (seed is 0 there and 5 now)"),
        ({"mixture": MixtureConfig(batch_size=8, balance="task")}, "mixture.balance is"),
        ({"optim": replace(CONSTANT, lr=1e-3, cooldown_share=0.25)}, "optim.lr is 0.003 there and 0.001 now"),
        ({"num_samples": 8 * 10}, "seen 72 samples, but the cooldown of a run of 80 begins after 64"),
        ({"trunk": Path("nowhere")}, "trunk nowhere: there is no run to go on from"),
    ],
)
def test_another_trunk_is_refused(
    config: TrainConfig, trunk: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    branch = replace(cooled(config, 16, trunk=trunk), **changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=re.escape(message)):
        train(branch, tmp_path / "branch")
    assert not (tmp_path / "branch").exists()


def test_a_run_with_a_cooldown_and_an_unfinished_trunk_are_no_trunks(config: TrainConfig, tmp_path: Path) -> None:
    train(cooled(config, 9), tmp_path / "cooled")
    with pytest.raises(ValueError, match=r"optim.cooldown_share is 0.25 there and 0.0 now"):
        train(cooled(config, 16, trunk=tmp_path / "cooled"), tmp_path / "branch")
    with pytest.raises(Stopped):
        train(constant(config, 9), tmp_path / "stopped", hooks=stop_after(3))
    with pytest.raises(ValueError, match="the run is not finished"):
        train(cooled(config, 16, trunk=tmp_path / "stopped"), tmp_path / "branch")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optim": replace(CONSTANT, cooldown_share=0.9)},
            "2 steps of warm-up and 11 of cooldown are more than the 12",
        ),
        ({"trunk": Path("x")}, "needs optim.warmup_steps and optim.cooldown_share"),
        (
            {"trunk": Path("x"), "optim": OptimConfig(cooldown_share=0.2)},
            "needs optim.warmup_steps and optim.cooldown_share",
        ),
    ],
)
def test_a_mistake_in_the_settings_is_one_line(
    world: Path, tokenizer_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(small_run(world, tokenizer_path), **changes)  # type: ignore[arg-type]


def test_shares_that_mean_nothing_are_refused() -> None:
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"cooldown_share is .*; expected a share between 0 and 1"):
            OptimConfig(cooldown_share=share)
    with pytest.raises(ValueError, match="final_share has no effect without a cooldown"):
        OptimConfig(cooldown_share=0.0, final_share=0.1)


def test_runs_of_older_versions_keep_their_fingerprint(config: TrainConfig, tmp_path: Path) -> None:
    """What is not given is not in the fingerprint, so that their folders are still theirs."""
    save(replace(config, optim=OptimConfig()), tmp_path / "run.toml")
    text = (tmp_path / "run.toml").read_text()
    assert "cooldown_share" not in text
    assert "trunk" not in text
    assert load(TrainConfig, tmp_path / "run.toml").settings == replace(config, optim=OptimConfig()).settings
