"""Losses on held-out data are the same for one process, replicas and shards."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from polyglance.config import save
from polyglance.coverage import Coverage
from polyglance.distributed import RuntimeConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.train.config import EvaluationConfig, RunConfig, StartConfig
from polyglance.train.optim import OptimConfig
from tests.study.measuring import measure_and_train
from tests.train.runs import write_checkpoint, write_tokenizer


@pytest.fixture(scope="module")
def config(world: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Seven samples of each cell, which two processes cannot share evenly, and steps as in test_distributed.py."""
    folder = tmp_path_factory.mktemp("start")
    return RunConfig(
        out=folder / "unused",
        data=world / "train",
        test=world / "test",
        evaluation=EvaluationConfig(samples_per_cell=7, captions_per_cell=3, max_new_tokens=4),
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


def assert_same(found: Any, expected: Any, *, rel: float) -> None:
    """Compare nested values: counts and texts for equality, other numbers to the relative precision `rel`."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value, rel=rel)
    else:
        assert found == (pytest.approx(expected, rel=rel) if isinstance(expected, float) else expected)


@pytest.fixture(scope="module")
def folder(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same run by one process, and by two as replicas and as shards."""
    folder = tmp_path_factory.mktemp("measured")
    save(config, folder / "run.toml")
    measure_and_train(config, folder / "single")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "tests.study.measuring", str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


def record(run: Path) -> dict[str, Any]:
    """Read the losses of a run before, during and after training, and the scores of its captions."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = json.loads((run / "losses.json").read_text())
    validation = {str(row["step"]): row["validation"] for row in rows if "validation" in row}
    assert list(validation) == ["2", "4"]
    return {"initial": json.loads((run / "initial.json").read_text()), "trained": trained, "validation": validation}


@pytest.mark.slow
@pytest.mark.parametrize("run", ["ddp", "fsdp"])
def test_two_processes_measure_the_same_as_one(folder: Path, run: str) -> None:
    assert_same(record(folder / run), record(folder / "single"), rel=1e-6)
    captions = (folder / run / "captions.jsonl").read_text()
    assert captions == (folder / "single" / "captions.jsonl").read_text()
    assert len(captions.splitlines()) > 4
    best = [load_file(folder / name / "checkpoints" / "best" / "model.safetensors") for name in (run, "single")]
    for name, tensor in best[1].items():
        torch.testing.assert_close(best[0][name], tensor, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_measuring_shards_does_not_change_the_weights(folder: Path) -> None:
    measured, other = (
        load_file(folder / name / "checkpoints" / "final" / "model.safetensors")
        for name in ("fsdp", "fsdp-not-measured")
    )
    assert all(torch.equal(measured[name], tensor) for name, tensor in other.items())


@pytest.mark.slow
def test_shards_in_bf16_are_measured_to_the_precision_of_bf16(folder: Path) -> None:
    found, expected = record(folder / "fsdp-bf16")["validation"], record(folder / "single")["validation"]
    assert_same(found, expected, rel=2e-2)
    assert found != expected
