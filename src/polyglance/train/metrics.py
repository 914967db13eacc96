"""The record of a run, metrics.jsonl: loss per cell, rates, memory, what the gradient and the gates do."""

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyglance.distributed import Runtime
from polyglance.files import write_atomically
from polyglance.mixture.collate import IGNORED, Batch
from polyglance.train.parallel import whole

__all__ = ["Meter", "MetricsLog", "gate_openings", "measured_peak_tflops", "memory_bytes", "tokens_per_cell"]


class MetricsLog:
    """metrics.jsonl: one row every so many steps. Rows after the step a run goes on from are cut off."""

    def __init__(self, run_dir: Path, *, from_step: int) -> None:
        self.path = run_dir / "metrics.jsonl"
        rows = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        whole_rows = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= from_step]
        write_atomically(self.path, "".join(whole_rows))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row. One that cannot be written is named on standard error: it is not worth a run."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            print(f"{self.path}: the row of step {row['step']} is lost: {error.strerror}", file=sys.stderr, flush=True)


def tokens_per_cell(batch: Batch, num_cells: int) -> np.ndarray:
    """Tokens that count in the loss, by cell; float64, as sums over processes travel."""
    counts = (batch.labels != IGNORED).sum(1).numpy()
    return np.bincount(batch.cell, weights=counts, minlength=num_cells)


class Meter:
    """Sums since the last row: nats, tokens and samples by cell, prompt tokens, time.

    Args:
        state: what `state` gave when a checkpoint was made, to go on in the middle of a row.
    """

    def __init__(self, cells: Sequence[str], device: torch.device, state: Mapping[str, Any] | None = None) -> None:
        self.cells = cells
        self._nats = torch.zeros(len(cells), dtype=torch.float64, device=device)
        self._counts = np.zeros((4, len(cells)))
        self.since_s = time.monotonic()
        if state is not None:
            self._nats += torch.tensor(state["nats"], dtype=torch.float64, device=device)
            self._counts += np.array(state["counts"])
            self.since_s -= state["seconds"]

    def add(self, batch: Batch, nats: Float[Tensor, " B"]) -> None:
        """Count a micro-batch, given on the host, and its samples' nats, on the device."""
        cell = torch.from_numpy(batch.cell)
        self._nats.index_add_(0, cell.to(nats.device, non_blocking=True), nats.double())
        self._counts[0] += tokens_per_cell(batch, len(self.cells))
        self._counts[1] += np.bincount(batch.cell, minlength=len(self.cells))
        prompts = batch.attention_mask.sum(1).numpy()
        self._counts[2] += np.bincount(batch.cell, weights=prompts, minlength=len(self.cells))
        self._counts[3, 0] += len(batch.bad)

    def state(self, runtime: Runtime) -> dict[str, Any]:
        """The sums of all processes, as JSON."""
        sums = self._sums(runtime)
        return {"nats": sums[0].tolist(), "counts": sums[1:].tolist(), "seconds": time.monotonic() - self.since_s}

    def row(self, runtime: Runtime) -> tuple[dict[str, Any], dict[str, float]]:
        """Losses and rates since the last row, over all processes, and mean lengths; the sums begin again.

        Returns:
            loss_nats, the same per cell, tokens_per_s, samples_per_s, num_bad_samples; and samples, seconds, mean
            source_tokens and target_tokens per sample.
        """
        nats, tokens, samples, prompts, bad = self._sums(runtime)
        now_s = time.monotonic()
        seconds = now_s - self.since_s
        row = {
            "loss_nats": float(nats.sum() / tokens.sum()),
            "cells": {c: float(n / t) for c, n, t in zip(self.cells, nats, tokens, strict=True) if t},
            "tokens_per_s": float(tokens.sum() / seconds),
            "samples_per_s": float(samples.sum() / seconds),
            "num_bad_samples": int(bad[0]),
        }
        means = {
            "samples": float(samples.sum()),
            "seconds": seconds,
            "source_tokens": float(prompts.sum() / samples.sum()),
            "target_tokens": float(tokens.sum() / samples.sum()),
        }
        self._nats.zero_()
        self._counts[:] = 0
        self.since_s = now_s
        return row, means

    def _sums(self, runtime: Runtime) -> np.ndarray:
        return runtime.all_sum(np.vstack([self._nats.cpu().numpy(), self._counts]))


def gate_openings(model: nn.Module) -> list[float]:
    """tanh of each cross-attention gate, layer by layer: how far the decoder listens to the image. All processes have
    to ask together."""
    gates = [p for name, p in model.named_parameters() if name.endswith("encoder_attn_gate")]
    return [float(whole(gate).tanh()) for gate in gates]


def memory_bytes(device: torch.device) -> int:
    """Peak memory: of the device's tensors, or of the process where it computes on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measured_peak_tflops(runtime: Runtime, *, size: int = 0) -> float:
    """What a plain matrix product reaches on this device in the run's precision, in 10^12 FLOP/s: the best of three.

    Args:
        size: rows and columns; 0: 8192 on a GPU, 2048 on a CPU.
    """
    size = size or (8192 if runtime.device.type == "cuda" else 2048)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[runtime.precision]
    left, right = (torch.ones(size, size, dtype=dtype, device=runtime.device) for _ in range(2))
    best_s = float("inf")
    for _ in range(4):  # the first warms up
        runtime.synchronise()
        since_s = time.perf_counter()
        left @ right
        runtime.synchronise()
        best_s = min(best_s, time.perf_counter() - since_s)
    return 2 * size**3 / best_s / 1e12
