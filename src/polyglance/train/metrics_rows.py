"""Rows of metrics.jsonl: what the training loop writes, and a reader for files that still grow. Importing this loads no
torch."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["MetricsReader", "MetricsRow", "ReadRow"]


@dataclass(frozen=True, kw_only=True)
class MetricsRow:
    """A row of metrics.jsonl about training. Losses, rates and bad samples are those since the row before, of all
    processes."""

    step: int
    """Optimiser steps done."""
    loss_nats: float
    """Mean loss per target token that counts, end tokens included."""
    lr: float
    """Learning rate of the last step."""
    grad_norm: float
    """Gradient norm of the last step over all parameters, before clipping."""
    cells: Mapping[str, float]
    """Cell -> mean loss per target token, in nats."""
    tokens_per_s: float
    """Target tokens per second."""
    samples_per_s: float
    num_bad_samples: int
    """Samples that could not be used and were replaced."""
    data_wait_share: float
    """Share of the time in which the first process waited for batches."""
    memory_bytes: int
    """Peak memory of the first process (`polyglance.train.metrics.measure_peak_bytes`)."""
    num_skipped: int
    """Steps since the start whose gradient was not finite."""
    num_spikes: int
    """Steps since the start with a loss far above the median."""
    mfu: float | None = None
    """Rate of the model's operations over the peak; None if no peak is configured."""
    gates: list[float] | None = None
    """tanh of each cross-attention gate; None if the model has none."""


class ReadRow(NamedTuple):
    """A row as it is read back: the fields of `MetricsRow` that progress is shown by. The others are not looked at."""

    step: int
    loss_nats: float
    """NaN where the loss was not finite."""
    samples_per_s: float
    """NaN where it is missing or not positive."""


class MetricsReader:
    """Read metrics.jsonl while a run writes it. A call reads what was added since the one before.

    A last line without its end is left for the next call. A line that is no row is counted. A run that goes on from a
    checkpoint writes its file anew, which is noticed.

    Args:
        path: the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    def _forget(self) -> None:
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self.rows: list[ReadRow] = []
        self.num_damaged = 0

    def read(self) -> list[ReadRow]:
        """Return all rows that are whole so far, in the order of their steps.

        Raises:
            OSError: the file is there and cannot be read.
        """
        try:
            with self._path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if (stat.st_dev, stat.st_ino) != self._file or stat.st_size < self._offset:
                    self._forget()
                    self._file = (stat.st_dev, stat.st_ino)
                file.seek(self._offset)
                added = file.read()
        except (FileNotFoundError, NotADirectoryError):
            self._forget()
            return []
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._add(line)
        return self.rows

    def _add(self, line: bytes) -> None:
        row = _parse(line)
        if row is None:
            self.num_damaged += 1
            return
        while self.rows and self.rows[-1].step >= row.step:  # a file that was written anew in its place
            self.rows.pop()
        self.rows.append(row)


def _parse(line: bytes) -> ReadRow | None:
    """Return the row of a line; None if it is none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = values.get("step") if isinstance(values, dict) else None
    if not isinstance(step, int) or isinstance(step, bool) or not 0 < step < 2**53:
        return None
    rate = _number(values, "samples_per_s")
    return ReadRow(step, _number(values, "loss_nats"), rate if rate > 0 else math.nan)


def _number(values: Mapping[str, Any], name: str) -> float:
    value = values.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < _MAX_NUMBER:
        return math.nan
    return float(value)


_MAX_NUMBER = 1e30
"""Bound on losses and rates; none comes near it."""
