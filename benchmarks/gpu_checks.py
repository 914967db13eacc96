"""Checks of benchmarks/gpu.py: golden outputs, resume after a kill, processes under torchrun, half precision.

Each function is the work of a process of its own and returns (whether the check passed, what was seen).
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from gpu_data import CHECK_STEPS
from polyglance.config import load
from polyglance.distributed import Precision
from polyglance.mixture.collate import IGNORED, Batch, find_places
from polyglance.model.architecture import Polyglance
from polyglance.model.components import set_train_mode
from polyglance.model.convert import convert_from_published
from polyglance.model.decoding import decode_ids
from polyglance.model.loss import capped_logits, token_nats
from polyglance.model.micro import MicroConfig
from polyglance.train.compiled import CompiledLayers
from polyglance.train.config import RunConfig
from polyglance.train.late_values import LateValues
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.step import CaptionObjective

Checked = tuple[bool, str]

_START_IDS = {"greedy": [1, 2], "beam4": [1, 2], "prefix_greedy": [1, 2, 17, 33]}
_LARGEST_LOGIT_ERROR = 1e-5
_COMPILED_ERROR = 1e-4
_DECODERS: tuple[Literal["bart", "gemma2"], ...] = ("bart", "gemma2")


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
    """Train the small run in `check/<name>`; go on from its checkpoints. The one that is killed writes them in the
    background."""
    use_exact_numbers()
    os.chdir(folder / "check")
    config = load(RunConfig, Path("run.toml"))
    engine = replace(config.engine, precision=precision, deterministic=True)
    train(replace(config.training, engine=engine, save_in_background=name == "killed"), name)


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
    alone = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}  # the machine may have no other network
    environment = {**alone, **os.environ, "OMP_NUM_THREADS": "1", "NVIDIA_TF32_OVERRIDE": "0"}
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


def compare_compiled() -> Checked:
    """Compare loss and gradients of compiled layers with those of the same layers as they are, in float32. On a CPU
    they are traced, and not compiled, which takes long there and is tested elsewhere."""
    use_exact_numbers()
    backend = "inductor" if torch.cuda.is_available() else "aot_eager"
    largest = 0.0
    for kind in _DECODERS:
        objective = CaptionObjective(_make_model(kind))
        batch = _make_batch()
        expected = _differentiate(objective, batch)
        CompiledLayers(objective.model, backend=backend)
        found = _differentiate(objective, batch)
        largest = max(largest, *(_relative_error(a, b) for a, b in zip(found, expected, strict=True)))
    return largest <= _COMPILED_ERROR, f"loss and gradients within {largest:.1e} (bound {_COMPILED_ERROR:.0e})"


def compare_loss_head() -> Checked:
    """Compare nats and gradients of the loss head of accelerators with those of all logits in float64: in float32, and
    of states in bf16 to weights in float32."""
    use_exact_numbers()
    seen, passed = [], True
    for dtype, bound in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        largest = 0.0
        for softcap in (None, 30.0):
            torch.manual_seed(0)
            states = torch.randn(300, 256, device=device_name(), dtype=dtype).requires_grad_()
            head = (torch.randn(40_000, 256, device=device_name()) * 0.1).requires_grad_()
            labels = torch.randint(40_000, (300,), device=device_name())
            labels[::7] = IGNORED
            nats = token_nats(states, head, labels, softcap=softcap, backend="blocked")
            found = (nats, *torch.autograd.grad(nats.sum() / 300, (states, head)))
            exact = [tensor.detach().double().requires_grad_() for tensor in (states, head)]
            logits = capped_logits(exact[0] @ exact[1].T, softcap)
            nats = torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
            expected = (nats, *torch.autograd.grad(nats.sum() / 300, exact))
            largest = max(largest, *(_relative_error(a, b) for a, b in zip(found, expected, strict=True)))
        passed &= largest <= bound
        seen.append(f"{str(dtype).removeprefix('torch.')} within {largest:.1e} (bound {bound:.0e})")
    return passed, ", ".join(seen)


def check_waits() -> Checked:
    """Make steps, compiled and in bf16, in which torch refuses whatever waits for the GPU."""
    is_gpu = torch.cuda.is_available()
    for kind in _DECODERS:
        model = _make_model(kind)
        objective, batch = CaptionObjective(model), _make_batch()
        if is_gpu:
            CompiledLayers(model)
        optimizer = OptimConfig().build(model)
        parameters = [p for p in model.parameters() if p.requires_grad]
        for step in range(3):
            if is_gpu and step == 2:
                torch.cuda.set_sync_debug_mode("error")
            torch.manual_seed(step)
            with torch.autocast(device_name(), dtype=torch.bfloat16):
                loss, _ = objective(batch, 32.0)
                with torch.autocast(device_name(), enabled=False):
                    loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.found_inf = norm.isfinite().logical_not().float()  # type: ignore[attr-defined]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            late = LateValues(norm[None])
        if is_gpu:
            torch.cuda.set_sync_debug_mode("default")
        if not math.isfinite(late.read()[0]):
            return False, f"{kind}: the gradient is not finite"
    return True, "no operator of a compiled step in bf16 waited" if is_gpu else "steps were made; a CPU has no waits"


def _make_model(kind: Literal["bart", "gemma2"]) -> Polyglance:
    torch.manual_seed(0)
    with torch.device(device_name()):
        model = Polyglance(MicroConfig(decoder=kind, width=64, layers=2).build(20_000))
    set_train_mode(model)
    return model


def _make_batch() -> Batch:
    with torch.device(device_name()):
        mask = torch.ones(4, 8, dtype=torch.long)
        mask[1, 5:] = 0
        labels = torch.randint(5, 20_000, (4, 16))
        labels[2, 9:] = IGNORED
        return Batch(
            images=torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8),
            input_ids=torch.randint(5, 20_000, (4, 8)),
            attention_mask=mask,
            labels=labels,
            cell=np.zeros(4, dtype=np.int64),
            places=find_places(labels),
        )


def _differentiate(objective: CaptionObjective, batch: Batch) -> list[Tensor]:
    """Return the loss and its gradients."""
    loss, _ = objective(batch, 32.0)
    loss.backward()
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    objective.zero_grad(set_to_none=True)
    return [loss.detach(), *gradients]


def _relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest entry; what is rounding alone counts little."""
    difference = (found.detach().double() - expected.detach().double()).abs().max()
    return float(difference / expected.detach().abs().max().clamp(min=1e-4))


def _read_weights(folder: Path, name: str) -> dict[str, Any]:
    return load_file(folder / "check" / name / "checkpoints" / "final" / "model.safetensors")


def _read_losses(folder: Path, name: str) -> dict[int, float]:
    lines = (folder / "check" / name / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row["loss_nats"] for row in map(json.loads, lines) if "loss_nats" in row}
