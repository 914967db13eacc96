"""The record of a run, metrics.jsonl: loss per cell, rates, memory, gradient norm and gates."""

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from polyglance.config import to_dict
from polyglance.distributed import Runtime
from polyglance.files import write_atomically
from polyglance.mixture.collate import IGNORED, Batch
from polyglance.train.parallel import gather_full

__all__ = ["Meter", "MetricsLog", "MetricsRow", "Totals", "gate_openings", "memory_bytes"]


@dataclass(frozen=True, kw_only=True)
class MetricsRow:
    """One row of metrics.jsonl about training. Losses, rates and bad samples are those since the last row."""

    step: int
    """Optimiser steps done."""
    loss_nats: float
    """Mean loss per target token that counts, end tokens included."""
    lr: float
    """Learning rate of the last step."""
    grad_norm: float
    """Gradient norm of the last step over all parameters and processes, before clipping."""
    cells: Mapping[str, float]
    """Cell -> mean loss per target token, in nats."""
    tokens_per_s: float
    """Target tokens per second, all processes."""
    samples_per_s: float
    """Samples per second, all processes."""
    num_bad_samples: int
    """Samples that could not be used and were replaced."""
    data_wait_share: float
    """Share of the time in which the first process waited for batches."""
    memory_bytes: int
    """Peak memory (`memory_bytes`)."""
    num_skipped: int
    """Steps since the start whose gradient was not finite."""
    num_spikes: int
    """Steps since the start with a loss far above the median."""
    mfu: float | None = None
    """Model operations per second over the peak; None if no peak is configured."""
    gates: tuple[float, ...] | None = None
    """tanh of each cross-attention gate; None if the model has none."""

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON; what is None is left out."""
        return to_dict(self)


class MetricsLog:
    """The file metrics.jsonl. Rows after the step that a run goes on from are removed."""

    def __init__(self, run_dir: Path, *, from_step: int) -> None:
        self.path = run_dir / "metrics.jsonl"
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        complete = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= from_step]
        write_atomically(self.path, "".join(complete))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row. A row that cannot be written is named on standard error and does not end the run."""
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            print(f"{self.path}: the row of step {row['step']} is lost: {error.strerror}", file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums since the last row, over all processes. C cells."""

    nats: Float[np.ndarray, "C"]
    """Sum of the cross-entropies."""
    tokens: Float[np.ndarray, "C"]
    """Target tokens that count."""
    samples: Float[np.ndarray, "C"]
    """Samples."""
    source_tokens: Float[np.ndarray, "C"]
    """Prompt tokens."""
    num_bad: int
    """Samples that were replaced."""
    seconds: float
    """Time of this process."""

    @property
    def loss_nats(self) -> float:
        """Mean loss per token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def samples_per_s(self) -> float:
        """Samples per second."""
        return float(self.samples.sum() / self.seconds)

    @property
    def mean_tokens(self) -> tuple[float, float]:
        """Mean prompt and target tokens of a sample."""
        num_samples = self.samples.sum()
        return float(self.source_tokens.sum() / num_samples), float(self.tokens.sum() / num_samples)

    def cell_losses(self, cells: Sequence[str]) -> dict[str, float]:
        """Return cell -> mean loss per token, for the cells that had a sample."""
        return {c: float(n / t) for c, n, t in zip(cells, self.nats, self.tokens, strict=True) if t}


class Meter:
    """Add up nats, tokens and samples by cell, prompt tokens and time since the last row.

    Args:
        num_cells: number of cells that `Batch.cell` counts.
        state: result of `state` when a checkpoint was made, to go on in the middle of a row.
    """

    def __init__(self, num_cells: int, device: torch.device, state: Mapping[str, Any] | None = None) -> None:
        self._num_cells = num_cells
        self._nats = torch.zeros(num_cells, dtype=torch.float64, device=device)
        self._counts = np.zeros((4, num_cells))
        """Tokens, samples, prompt tokens; and in the first place of the last row, bad samples."""
        self._since_s = time.monotonic()
        if state is not None:
            self._nats += torch.tensor(state["nats"], dtype=torch.float64, device=device)
            self._counts += np.array(state["counts"])
            self._since_s -= state["seconds"]

    def add(self, batch: Batch, nats: Float[Tensor, " B"]) -> None:
        """Count a micro-batch.

        Args:
            batch: the micro-batch in main memory.
            nats: each sample's sum of cross-entropies, on the device.
        """
        cell = torch.from_numpy(batch.cell)
        self._nats.index_add_(0, cell.to(nats.device, non_blocking=True), nats.double())
        target_tokens = (batch.labels != IGNORED).sum(1).numpy()
        prompt_tokens = batch.attention_mask.sum(1).numpy()
        for row, weights in enumerate((target_tokens, None, prompt_tokens)):
            self._counts[row] += np.bincount(batch.cell, weights=weights, minlength=self._num_cells)
        self._counts[3, 0] += len(batch.bad)

    def state(self, runtime: Runtime) -> dict[str, Any]:
        """Return the sums of all processes, as JSON."""
        nats, *counts = self._sum_over_processes(runtime).tolist()
        return {"nats": nats, "counts": counts, "seconds": time.monotonic() - self._since_s}

    def take(self, runtime: Runtime) -> Totals:
        """Return the sums of all processes since the last call, and begin anew."""
        nats, tokens, samples, source_tokens, bad = self._sum_over_processes(runtime)
        now_s = time.monotonic()
        totals = Totals(
            nats=nats,
            tokens=tokens,
            samples=samples,
            source_tokens=source_tokens,
            num_bad=int(bad[0]),
            seconds=now_s - self._since_s,
        )
        self._nats.zero_()
        self._counts[:] = 0
        self._since_s = now_s
        return totals

    def _sum_over_processes(self, runtime: Runtime) -> Float[np.ndarray, "5 C"]:
        return runtime.all_sum(np.vstack([self._nats.cpu().numpy(), self._counts]))


def gate_openings(model: nn.Module) -> tuple[float, ...]:
    """Return tanh of each cross-attention gate, layer by layer: how much of the image the decoder takes in. All
    processes must call this together."""
    gates = [p for name, p in model.named_parameters() if name.endswith("encoder_attn_gate")]
    return tuple(float(gather_full(gate).tanh()) for gate in gates)


def memory_bytes(device: torch.device) -> int:
    """Return the peak memory of the GPU's tensors or, on a CPU, of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
