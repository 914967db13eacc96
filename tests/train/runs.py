"""Small training runs, for tests and for the processes that tests start."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from polyglance.coverage import Coverage
from polyglance.distributed import RuntimeConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.tokenizer import load_tokenizer, read_training_texts, train_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.train.config import EvaluationConfig, RunConfig, StartConfig, TrainConfig
from polyglance.train.loop import Hooks

LARGE_VOCABULARY = 20_000
"""Entries from which on the loss is computed in chunks."""
MACHINE_COLUMNS = ("tokens_per_s", "samples_per_s", "data_wait_share", "memory_bytes")
"""Columns of metrics.jsonl that depend on the machine."""


def call_torchrun(num_processes: int, *program: str, fails: bool = False) -> None:
    """Run a program in several processes to its end, well or, if it `fails`, not."""
    with start_torchrun("--standalone", f"--nproc-per-node={num_processes}", *program) as process:
        try:
            said = process.communicate(timeout=300)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert (process.returncode != 0) == fails, said[-3000:]


def start_torchrun(*arguments: str) -> subprocess.Popen[str]:
    """Start torchrun, whose processes have one thread each."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-m", "torch.distributed.run", *arguments]
    return subprocess.Popen(
        command, env=environment, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def write_tokenizer(world: Path, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    train_tokenizer(read_training_texts(world / "train", {"en", "fr", "zh"}), vocab_size=1024).save(str(path))
    return path


def write_checkpoint(
    folder: Path, tokenizer_path: Path, *, dropout: float = 0.1, vocab_size: int = LARGE_VOCABULARY
) -> Path:
    """Write a model to start from, with dropout in all of the library's layers."""
    config = MicroConfig(width=16).build(vocab_size)
    for side in (config.encoder_config, config.decoder_config):
        side.dropout = side.attention_dropout = side.activation_dropout = dropout
    torch.manual_seed(3)
    Polyglance(config).save_pretrained(folder)
    Processor.for_model(config, load_tokenizer(tokenizer_path)).save(folder)
    return folder


def small_run(world: Path, tokenizer_path: Path | None, **settings: Any) -> TrainConfig:
    """Twelve steps of eight samples, with other settings where they are given."""
    config = TrainConfig(
        data=world / "train",
        tokenizer=tokenizer_path or Path("unused"),
        coverage=Coverage(caption=("en",), translation=("fr", "zh")),
        start=StartConfig(model=MicroConfig(width=16)),
        mixture=MixtureConfig(batch_size=8),
        engine=RuntimeConfig(device="cpu"),
        num_samples=8 * 12,
        save_every_steps=5,
    )
    return replace(config, **settings)


def measured_run(world: Path, out: Path, **settings: Any) -> RunConfig:
    """Make a run of some steps that is measured on held-out data."""
    defaults: dict[str, Any] = {
        "start": StartConfig(model=MicroConfig(width=16)),
        "mixture": MixtureConfig(batch_size=8),
        "engine": RuntimeConfig(device="cpu"),
        "num_samples": 8 * 9,
        "save_every_steps": 2,
        "log_every_steps": 1,
    }
    return RunConfig(
        out=out,
        data=world / "train",
        test=world / "test",
        evaluation=EvaluationConfig(samples_per_cell=4, captions_per_cell=2, max_new_tokens=2),
        coverage=Coverage(caption=("en",), translation=("fr", "zh")),
        **defaults | settings,
    )


def stop_after(num_steps: int) -> Hooks:
    """Ask a run to stop when it has made this many steps since its start."""
    calls = count(1)
    return Hooks(should_stop=lambda: next(calls) == num_steps)


def read_rows(run: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def read_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "final" / "model.safetensors")


def assert_identical(run: Path, other: Path) -> None:
    """Compare weights and rows of two finished runs, bit for bit."""
    assert_same_tensors(read_weights(run), read_weights(other))
    rows = [
        [{name: value for name, value in row.items() if name not in MACHINE_COLUMNS} for row in read_rows(folder)]
        for folder in (run, other)
    ]
    assert rows[0] == rows[1]


def assert_same_tensors(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in expected.items())
