"""One process, two, sharded or not, in one pass or in several: the same steps to the precision of float32.

AdamW divides a gradient by its own size, so that a rounding error in an entry that is nearly zero moves a weight by as
much as a real gradient would. The runs here have an eps that is larger than such entries; then weights are as
comparable as losses.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from polyglance.config import save
from polyglance.distributed import RuntimeConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.model.architecture import Polyglance
from polyglance.train.config import StartConfig, VisionCacheConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.run import TrainConfig, train
from polyglance.train.signals import Stopped
from tests.train.runs import small_run, weights, write_checkpoint, write_tokenizer

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def config(world: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run from a checkpoint with dropout and a large vocabulary, vision frozen, in four parts of two samples."""
    folder = tmp_path_factory.mktemp("start")
    checkpoint = write_checkpoint(folder / "model", write_tokenizer(world, folder))
    return small_run(
        world,
        None,
        tokenizer=None,
        start=StartConfig(checkpoint=checkpoint, trained="published"),
        mixture=MixtureConfig(batch_size=8),
        optim=OptimConfig(eps=1e-2, lr=1e-2),
        engine=RuntimeConfig(device="cpu", micro_batch_size=2),
        vision_cache=VisionCacheConfig(use="never"),
        log_every_steps=1,
    )


@pytest.fixture(scope="module")
def folder(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes, and the same of one."""
    folder = tmp_path_factory.mktemp("runs")
    save(config, folder / "run.toml")
    train(config, folder / "single")
    asked = count()
    with pytest.raises(Stopped):
        train(config, folder / "single-stopped", should_stop=lambda: next(asked) == 3)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*torchrun, str(SCRIPT), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def losses(run: Path) -> torch.Tensor:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    return torch.tensor([[row["loss_nats"], *row["cells"].values()] for row in rows], dtype=torch.float64)


def norms(run: Path) -> list[float]:
    return [json.loads(line)["grad_norm"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same(config: TrainConfig, run: Path, other: Path) -> None:
    """Losses of each step and cell to 1e-6; weights to 1e-5 of how far any has moved: there are some, such as the
    biases of keys, whose gradient is nothing but rounding. Norms to 1e-4: the library adds up 320,000 squares in
    float32, and of a half of them more exactly."""
    torch.testing.assert_close(losses(run), losses(other), rtol=1e-6, atol=0)
    assert norms(run) == pytest.approx(norms(other), rel=1e-4)
    assert config.start.checkpoint is not None
    start = Polyglance.from_pretrained(config.start.checkpoint).state_dict()
    found, expected = weights(run), weights(other)
    furthest = max(float((tensor - start[name]).abs().max()) for name, tensor in expected.items())
    assert furthest > 1e-3
    for name, tensor in expected.items():
        assert float((found[name] - tensor).abs().max()) <= 1e-5 * furthest, name


@pytest.mark.slow
@pytest.mark.parametrize("run", ["ddp", "fsdp", "recomputed", "single-stopped"])
def test_two_processes_are_one(config: TrainConfig, folder: Path, run: str) -> None:
    """Replicas, shards, shards that recompute, and shards that go on with what one process has begun."""
    assert_same(config, folder / run, folder / "single")


@pytest.mark.slow
def test_what_is_frozen_stays_and_the_rest_moves(config: TrainConfig, folder: Path) -> None:
    assert config.start.checkpoint is not None
    before = Polyglance.from_pretrained(config.start.checkpoint).state_dict()
    after = weights(folder / "fsdp")
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == name.startswith(("vision_tower", "projector")), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_two_processes_are_gone_on_with_by_one(config: TrainConfig, folder: Path, name: str) -> None:
    """From a replica's checkpoint and from a sharded one; dropout too is that of the step and the part."""
    stopped = folder / f"{name}-stopped"
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["step-00000004"]
    train(config, stopped)
    assert_same(config, stopped, folder / "single")


def test_in_one_pass_or_in_four(config: TrainConfig, world: Path, tmp_path: Path) -> None:
    """The loss is over the valid tokens of the step, however the step is divided. Without dropout, which differs."""
    checkpoint = write_checkpoint(tmp_path / "model", write_tokenizer(world, tmp_path), dropout=0.0)
    config = replace(config, start=StartConfig(checkpoint=checkpoint, trained="published"))
    train(config, tmp_path / "four")
    train(replace(config, engine=RuntimeConfig(device="cpu")), tmp_path / "one")
    assert_same(config, tmp_path / "four", tmp_path / "one")


@pytest.mark.slow
def test_bf16_shards_learn_the_same_to_its_precision(folder: Path) -> None:
    found, expected = losses(folder / "bf16")[:, 0], losses(folder / "single")[:, 0]
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=0)
    assert not torch.equal(found, expected)
