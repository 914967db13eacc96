"""Losses on held-out data are the same whoever measures them: one process, replicas or shards."""

import copy
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from polyglance.config import save
from polyglance.coverage import Coverage
from polyglance.distributed import RuntimeConfig
from polyglance.evaluate.loss import ALONE
from polyglance.mixture.config import MixtureConfig
from polyglance.model.architecture import Polyglance
from polyglance.study.config import EvaluationConfig
from polyglance.train.config import RunConfig, StartConfig
from polyglance.train.optim import OptimConfig
from tests.study.measuring import evaluator_of, measure_and_train
from tests.train.runs import write_checkpoint, write_tokenizer


@pytest.fixture(scope="module")
def config(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Seven samples of each cell, which two processes cannot share evenly, and steps as in test_distributed.py."""
    folder = tmp_path_factory.mktemp("start")
    return RunConfig(
        out=folder / "unused",
        data=world / "train",
        test=world / "test",
        evaluation=EvaluationConfig(samples_per_cell=7, captions_per_cell=2, max_new_tokens=4),
        coverage=Coverage(caption=("en",), translation=("fr", "zh")),
        start=StartConfig(checkpoint=write_checkpoint(folder / "model", write_tokenizer(world, folder))),
        mixture=MixtureConfig(batch_size=4),
        optim=OptimConfig(eps=1e-2, lr=1e-2),
        engine=RuntimeConfig(device="cpu", micro_batch_size=2),
        num_samples=4 * 6,
        save_every_steps=2,
        log_every_steps=1,
        best="UC",
    )


@dataclass
class Team:
    """Processes that share work, as threads."""

    world_size: int
    barrier: threading.Barrier = field(init=False)
    values: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.barrier, self.values = threading.Barrier(self.world_size, timeout=60), [None] * self.world_size

    def run(self, work: Callable[[Any], Any]) -> list[Any]:
        with ThreadPoolExecutor(self.world_size) as pool:
            return list(pool.map(work, [Member(self, rank) for rank in range(self.world_size)]))


@dataclass
class Member:
    team: Team
    rank: int

    @property
    def world_size(self) -> int:
        return self.team.world_size

    def gather(self, value: Any) -> list[Any]:
        self.team.values[self.rank] = value
        self.team.barrier.wait()
        values = list(self.team.values)
        self.team.barrier.wait()
        return values


@pytest.mark.parametrize("world_size", [2, 3, 9])
def test_processes_share_the_work_and_all_know_the_result(config: RunConfig, world_size: int) -> None:
    """Of nine processes two have no sample of their own in any cell of seven; all pass equally often."""
    assert config.start.checkpoint is not None
    evaluator = evaluator_of(config)
    model = Polyglance.from_pretrained(config.start.checkpoint).eval()
    calls: dict[int, list[int]] = {}

    def measured(processes: Any) -> Any:
        own, sizes = copy.deepcopy(model), calls.setdefault(processes.rank, [])
        own.decoder.register_forward_hook(lambda module, args, output: sizes.append(len(output[0])))
        return evaluator.losses(own, processes)

    expected = measured(ALONE)
    whole = calls.pop(0)
    found = Team(world_size).run(measured)
    assert all(losses == found[0] for losses in found)
    assert_same(found[0], expected, rel=1e-6)
    assert {len(sizes) for sizes in calls.values()} == {len(whole)}
    assert max(size for sizes in calls.values() for size in sizes) == -(-7 // world_size)


def assert_same(found: Any, expected: Any, *, rel: float) -> None:
    """Counts and texts are equal, other numbers to `rel`, whatever they are in."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value, rel=rel)
    else:
        assert found == (pytest.approx(expected, rel=rel) if isinstance(expected, float) else expected)


@pytest.fixture(scope="module")
def folder(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes, and the same of one."""
    folder = tmp_path_factory.mktemp("measured")
    save(config, folder / "run.toml")
    measure_and_train(config, folder / "single")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tests.study.measuring", str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def record(run: Path) -> dict[str, Any]:
    """What was measured of a run before, while and after it was trained; without the captions' scores."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = json.loads((run / "losses.json").read_text())
    for cell in trained["cells"].values():
        cell.pop("generation", None)
    validation = {str(row["step"]): row["validation"] for row in rows if "validation" in row}
    assert list(validation) == ["2", "4"]
    return {"initial": json.loads((run / "initial.json").read_text()), "trained": trained, "validation": validation}


@pytest.mark.slow
@pytest.mark.parametrize("run", ["ddp", "fsdp"])
def test_two_processes_measure_what_one_does(folder: Path, run: str) -> None:
    assert_same(record(folder / run), record(folder / "single"), rel=1e-6)
    best = [load_file(folder / name / "checkpoints" / "best" / "model.safetensors") for name in (run, "single")]
    for name, tensor in best[1].items():
        torch.testing.assert_close(best[0][name], tensor, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_measuring_shards_changes_nothing_in_what_they_learn(folder: Path) -> None:
    measured, other = (
        load_file(folder / name / "checkpoints" / "final" / "model.safetensors")
        for name in ("fsdp", "fsdp-not-measured")
    )
    assert all(torch.equal(measured[name], tensor) for name, tensor in other.items())


@pytest.mark.slow
def test_shards_in_bf16_are_measured_to_its_precision(folder: Path) -> None:
    found, expected = record(folder / "fsdp-bf16")["validation"], record(folder / "single")["validation"]
    assert_same(found, expected, rel=2e-2)
    assert found != expected
