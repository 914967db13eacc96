"""Checks of benchmarks/gpu.py: golden outputs, resume after a kill, processes under torchrun, half precision.

Each function is the work of a process of its own and returns (whether the check passed, what was seen).
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gpu_data import CHECK_STEPS
from polyglance.config import load
from polyglance.distributed import Precision
from polyglance.model.convert import convert_from_published
from polyglance.model.decoding import decode_ids
from polyglance.train.config import RunConfig
from polyglance.train.run import train

Checked = tuple[bool, str]

_START_IDS = {"greedy": [1, 2], "beam4": [1, 2], "prefix_greedy": [1, 2, 17, 33]}
_LARGEST_LOGIT_ERROR = 1e-5


def device_name() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def use_exact_numbers() -> None:
    """Turn off what rounds float32 products (TF32), and choose algorithms that give the same bits every time."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.set_num_threads(1 if device_name() == "cpu" else torch.get_num_threads())
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True)


@torch.no_grad()
def check_golden(folder: Path) -> Checked:
    """Compare logits and generated ids with those of the published code, in float32."""
    use_exact_numbers()
    largest, same, total = 0.0, 0, 0
    for path in sorted((folder / "golden").iterdir()):
        model = convert_from_published(path)
        assert model is not None
        model = model.to(device_name())
        io = {name: tensor.to(device_name()) for name, tensor in load_file(path / "io.safetensors").items()}
        inputs = (io["pixel_values"], io["input_ids"], io["attention_mask"])
        logits = model(*inputs, io["decoder_input_ids"], io["decoder_attention_mask"]).logits
        largest = max(largest, float((logits - io["logits"]).abs().max()))
        for name, start in _START_IDS.items():
            states, mask = model.encode(*inputs)
            beams = 4 if name == "beam4" else 1
            start_ids = torch.tensor([start] * len(states), device=states.device)
            ids = decode_ids(model, states, mask, start_ids, max_new_tokens=12, num_beams=beams)
            expected = io[f"generate_{name}"]
            total += len(expected)
            same += (
                sum(torch.equal(a, b) for a, b in zip(ids, expected, strict=True)) if ids.shape == expected.shape else 0
            )
    return (
        largest <= _LARGEST_LOGIT_ERROR and same == total,
        f"logits within {largest:.1e} (bound {_LARGEST_LOGIT_ERROR:.0e}), {same} of {total} texts identical",
    )


def train_check_run(folder: Path, name: str, precision: Precision = "fp32") -> None:
    """Train the small run in `check/<name>`; go on from its checkpoints."""
    use_exact_numbers()
    os.chdir(folder / "check")
    config = load(RunConfig, Path("run.toml"))
    engine = replace(config.engine, precision=precision)
    train(replace(config.training, engine=engine), name)


def kill_after(process: BaseProcess, folder: Path, *, rows: int, limit_s: float = 120) -> int:
    """Kill the process when its run has logged this many steps; return the number that it had logged then."""
    path, end_s = folder / "check" / "killed" / "metrics.jsonl", time.monotonic() + limit_s
    while time.monotonic() < end_s and process.is_alive():
        logged = path.read_bytes().count(b"\n") if path.exists() else 0
        if logged >= rows:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            return logged
        time.sleep(0.002)
    raise ValueError("the run ended, or stood still, before it was killed")


def compare_resumed(folder: Path, logged: int) -> Checked:
    """Compare the weights of the killed run with those of the uninterrupted one, bit for bit."""
    expected, found = (_read_weights(folder, name) for name in ("whole", "killed"))
    differing = [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]
    largest = max(float((found[name] - tensor).abs().max()) for name, tensor in expected.items())
    seen = f"killed after step {logged}; " + (
        "all weights identical" if not differing else f"{len(differing)} tensors differ, by at most {largest:.1e}"
    )
    return not differing and logged < CHECK_STEPS, seen  # killed after the last step would prove nothing


def train_under_torchrun(folder: Path, strategy: str) -> None:
    """Train the small run by the command line, in one process that torchrun starts.

    Raises:
        ValueError: the command failed.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    settings = [f"out={strategy}", f"engine.strategy={strategy}"]
    options = [word for setting in settings for word in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NVIDIA_TF32_OVERRIDE": "0"}
    command = [*torchrun, "-m", "polyglance", "train", "run.toml", *options]
    done = subprocess.run(command, cwd=folder / "check", env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1][:300])


def compare_losses(folder: Path, name: str, *, bound: float) -> Checked:
    """Compare the losses of every step with those of the uninterrupted run."""
    expected, found = (_read_losses(folder, run) for run in ("whole", name))
    if found.keys() != expected.keys():
        return False, f"{len(found)} of {len(expected)} steps logged"
    largest = max(abs(found[step] / loss - 1) for step, loss in expected.items())
    return largest <= bound, f"losses of {len(expected)} steps within {largest:.1e} (bound {bound:.0e})"


def _read_weights(folder: Path, name: str) -> dict[str, Any]:
    return load_file(folder / "check" / name / "checkpoints" / "final" / "model.safetensors")


def _read_losses(folder: Path, name: str) -> dict[int, float]:
    lines = (folder / "check" / name / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row["loss_nats"] for row in map(json.loads, lines) if "loss_nats" in row}
