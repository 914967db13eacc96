"""The record of a run, metrics.jsonl: loss per cell, rates, MFU, memory, gradient norm and gates."""

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyglance.distributed import Runtime
from polyglance.files import parse_json, write_atomically
from polyglance.mixture.collate import IGNORED, Batch
from polyglance.model.architecture import Polyglance
from polyglance.model.component_names import COMPONENTS
from polyglance.model.components import find_component
from polyglance.model.flops import build_on_meta, count_macs, count_training_macs
from polyglance.train.parallel import gather_full

__all__ = ["Meter", "MetricsLog", "Mfu", "Totals", "gate_openings", "make_mfu", "measure_peak_bytes"]


class MetricsLog:
    """The file metrics.jsonl. Rows after the step that a run goes on from are removed.

    Args:
        state: result of `state` when the checkpoint of that step was made; None if there is none.

    Raises:
        ValueError: the rows up to that step differ from what was written.
    """

    def __init__(self, run_dir: Path, *, from_step: int, state: Mapping[str, Any] | None = None) -> None:
        self.path = run_dir / "metrics.jsonl"
        content = self.path.read_bytes() if self.path.exists() else b""
        if state is not None and self.path.exists():
            if hashlib.sha256(content[: state["bytes"]]).hexdigest() != state["sha256"]:
                raise ValueError(
                    f"{self.path}: damaged or changed: its rows up to step {from_step} differ from what was written; "
                    "restore it, or remove it to go on without them"
                )
            content = content[: state["bytes"]]
        elif state is not None and state["bytes"]:
            print(f"{self.path}: missing; its rows up to step {from_step} are lost", file=sys.stderr, flush=True)
        else:
            content = _keep_rows(content, from_step, self.path)
        write_atomically(self.path, content)

    def state(self) -> dict[str, Any]:
        """Return size and digest of the rows so far, as JSON."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row. A row that cannot be written is named on standard error and does not end the run."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            print(f"{self.path}: the row of step {row['step']} is lost: {error.strerror}", file=sys.stderr, flush=True)


def _keep_rows(content: bytes, last_step: int, path: Path) -> bytes:
    """Return the whole rows up to a step."""
    rows = []
    for number, line in enumerate(content.decode(errors="replace").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            continue
        row = parse_json(line, f"{path}:{number}")
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ValueError(f"{path}:{number}: damaged (no step); remove the file to go on without its rows")
        if row["step"] <= last_step:
            rows.append(line)
    return "".join(rows).encode()


class Totals(NamedTuple):
    """Sums over all processes since the last row, by cell, and the seconds that they took."""

    nats: Float[np.ndarray, "C"]
    tokens: Float[np.ndarray, "C"]
    samples: Float[np.ndarray, "C"]
    source_tokens: Float[np.ndarray, "C"]
    bad_samples: Float[np.ndarray, "C"]
    """All bad samples are counted in the first place."""
    seconds: float


class Meter:
    """Add up nats, tokens and samples by cell, prompt tokens and time since the last row.

    Args:
        num_cells: number of cells that `Batch.cell` counts.
        state: result of `state` when a checkpoint was made, to go on in the middle of a row.
    """

    def __init__(self, num_cells: int, device: torch.device, state: Mapping[str, Any] | None = None) -> None:
        self._num_cells = num_cells
        self._nats = torch.zeros(num_cells, dtype=torch.float64, device=device)
        self._counts = np.zeros((4, num_cells))  # the other arrays of `Totals`
        self._since_s = time.monotonic()
        if state is not None:
            self._nats += torch.tensor(state["nats"], dtype=torch.float64, device=device)
            self._counts += np.array(state["counts"])
            self._since_s -= state["seconds"]

    def add(self, batch: Batch, nats: Float[Tensor, " B"]) -> None:
        """Count a micro-batch, given in main memory, and its samples' sums of cross-entropies, on the device."""
        cell = torch.from_numpy(batch.cell)
        self._nats.index_add_(0, cell.to(nats.device, non_blocking=True), nats.double())
        target_tokens = (batch.labels != IGNORED).sum(1).numpy()
        prompt_tokens = batch.attention_mask.sum(1).numpy()
        for row, weights in enumerate((target_tokens, None, prompt_tokens)):
            self._counts[row] += np.bincount(batch.cell, weights=weights, minlength=self._num_cells)
        self._counts[3, 0] += len(batch.bad)

    def state(self, runtime: Runtime) -> dict[str, Any]:
        """Return the sums of all processes, as JSON."""
        nats, *counts = self._all_sum(runtime).tolist()
        return {"nats": nats, "counts": counts, "seconds": time.monotonic() - self._since_s}

    def take(self, runtime: Runtime) -> Totals:
        """Return the sums of all processes since the last call, and begin anew."""
        nats, tokens, samples, source_tokens, bad_samples = self._all_sum(runtime)
        now_s = time.monotonic()
        totals = Totals(nats, tokens, samples, source_tokens, bad_samples, now_s - self._since_s)
        self._nats.zero_()
        self._counts[:] = 0
        self._since_s = now_s
        return totals

    def _all_sum(self, runtime: Runtime) -> Float[np.ndarray, "5 C"]:
        return runtime.all_sum(np.vstack([self._nats.cpu().numpy(), self._counts]))


def gate_openings(model: nn.Module) -> list[float]:
    """Return tanh of each cross-attention gate, layer by layer: how much of the image the decoder takes in. All
    processes must call this together."""
    gates = [p for name, p in model.named_parameters() if name.endswith("encoder_attn_gate")]
    return torch.cat([gather_full(gate) for gate in gates]).tanh().tolist() if gates else []


def measure_peak_bytes(device: torch.device) -> int:
    """Return the peak memory of the GPU's tensors or, on a CPU, of the process, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


Mfu = Callable[[float, float, float], float]
"""(samples/s of all processes, mean prompt tokens of a sample, mean target tokens) -> MFU."""


def make_mfu(model: Polyglance, runtime: Runtime, *, peak_tflops: float | str, image_size: int, is_cached: bool) -> Mfu:
    """Return a function that computes the MFU of a model in training.

    Recomputed activations and padding do not count as operations, nor does a vision tower whose features are cached.

    Args:
        peak_tflops: as in `RuntimeConfig`, but not None.
        image_size: side of the square images, in pixels.
        is_cached: the tower's features are cached.
    """
    per_device = _measure_peak_tflops(runtime) if peak_tflops == "measured" else float(peak_tflops)
    peak_flops_per_s = per_device * 1e12 * runtime.world_size
    names = {find_component(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
    trained = tuple(name for name in COMPONENTS if name in names)

    @lru_cache
    def count_sample_macs(source_tokens: int, target_tokens: int) -> int:
        sizes = {"image_size": image_size, "source_tokens": source_tokens, "target_tokens": target_tokens}
        total = count_training_macs(model.config, trained, **sizes)
        return total - (count_macs(build_on_meta(model.config), **sizes)["vision"] if is_cached else 0)

    return lambda samples_per_s, source, target: (
        2 * count_sample_macs(round(source), round(target)) * samples_per_s / peak_flops_per_s
    )


def _measure_peak_tflops(runtime: Runtime) -> float:
    """Measure the best rate of three large matrix products on this device in the run's precision, in 10^12 FLOP/s."""
    size = 8192 if runtime.device.type == "cuda" else 2048  # rows and columns
    left, right = (torch.ones(size, size, dtype=runtime.dtype, device=runtime.device) for _ in range(2))
    best_s = float("inf")
    for _ in range(4):  # the first warms up
        runtime.synchronise()
        since_s = time.perf_counter()
        left @ right
        runtime.synchronise()
        best_s = min(best_s, time.perf_counter() - since_s)
    return 2 * size**3 / best_s / 1e12
