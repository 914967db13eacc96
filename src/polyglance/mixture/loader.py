"""Micro-batches made in advance by worker processes, which read and decode the images.

    with Loader(
        mixture, first_step=0, num_steps=500, micro_batches=[0, 1], num_micro_batches=2, num_workers=4
    ) as loader:
        for step, index, batch in loader: ...

A micro-batch is a function of (step, index, num_micro_batches). So the number of processes changes only the speed, and
if one of them dies, others make the same batches.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from torch.utils.data import DataLoader, Dataset

from polyglance.error_text import first_line
from polyglance.mixture.collate import Batch
from polyglance.mixture.dataset import Mixture
from polyglance.records import Drops

__all__ = ["Loader"]

_MAX_DEATHS = 3
"""Number of times that processes may die at the same batch."""
_LEAST_SAMPLES = 1000
"""The share of bad samples is taken of at least this many samples, so that one bad sample at the start stops no run."""


@dataclass(frozen=True)
class _Error:
    """Message of a `ValueError` in a loader process. (torch itself would put the traceback into the message.)"""

    message: str


class _MicroBatches(Dataset[Batch | _Error]):
    """Micro-batches to be made, given as (step, index)."""

    def __init__(self, mixture: Mixture, keys: Sequence[tuple[int, int]], num_micro_batches: int) -> None:
        self._mixture, self._keys, self._num_micro_batches = mixture, keys, num_micro_batches

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, position: int) -> Batch | _Error:
        step, index = self._keys[position]
        try:
            return self._mixture.micro_batch(step, index, self._num_micro_batches)
        except ValueError as error:
            return _Error(str(error))


class Loader:
    """Micro-batches of steps `first_step` to `num_steps` - 1, and in each step those of `micro_batches`, in this order.

    Args:
        mixture: makes the batches.
        micro_batches: numbers, within each step, of the micro-batches of this rank.
        num_micro_batches: micro-batches that a step is divided into, over all ranks.
        num_workers: number of processes that make batches; 0: this process makes them. If `mixture.in_memory`, each
            process would hold a copy of all images, so use 0.
        prefetch_batches: number of batches made ahead by all processes together (at least one by each).
        pin_memory: copy batches to page-locked memory.

    Attributes:
        bad_samples: samples that were replaced so far, by reason.

    Raises:
        ValueError: while iterating: a batch cannot be made, more than `MixtureConfig.max_bad_share` of the samples
            (of at least 1,000) had to be replaced, or processes die again and again at the same batch.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        first_step: int,
        num_steps: int,
        micro_batches: Sequence[int],
        num_micro_batches: int,
        num_workers: int,
        prefetch_batches: int = 4,
        pin_memory: bool = False,
    ) -> None:
        if num_workers < 0 or prefetch_batches < 1:
            raise ValueError("num_workers must be 0 or more, prefetch_batches 1 or more")
        self.bad_samples = Drops()
        self._mixture, self._num_micro_batches = mixture, num_micro_batches
        self._keys = [(step, index) for step in range(first_step, num_steps) for index in micro_batches]
        self._num_workers, self._prefetch_batches, self._pin_memory = num_workers, prefetch_batches, pin_memory
        self._num_samples = 0
        self._results: Iterator[Batch | _Error] | None = None

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *error: object) -> None:
        self._results = None  # ends the processes

    def __len__(self) -> int:
        """Return the number of micro-batches."""
        return len(self._keys)

    def __iter__(self) -> Iterator[tuple[int, int, Batch]]:
        for position, (step, index) in enumerate(self._keys):
            yield step, index, self._check(self._next(position))
        self._results = None

    def _next(self, position: int) -> Batch | _Error:
        for _ in range(_MAX_DEATHS):
            if self._results is None:
                self._results = self._start(position)
            try:
                return next(self._results)
            except (RuntimeError, OSError, EOFError) as error:
                # A dead process is reported by torch, or shows in a truncated message.
                if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker (pid"):
                    raise
                self._results, reason = None, first_line(error)
        raise ValueError(
            f"loader processes died {_MAX_DEATHS} times at the same batch ({reason}); "
            "is there enough memory? Fewer of them need less"
        )

    def _start(self, position: int) -> Iterator[Batch | _Error]:
        """Start to make the micro-batches from a position on."""
        remaining = _MicroBatches(self._mixture, self._keys[position:], self._num_micro_batches)
        if not self._num_workers:
            batches = (remaining[i] for i in range(len(remaining)))
            return (batch.pin_memory() if self._pin_memory and isinstance(batch, Batch) else batch for batch in batches)
        # Forking this process could copy locks that its threads hold; the fork server has no threads.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This DataLoader will create")  # the number is the user's choice
            loader: DataLoader[Any] = DataLoader(
                remaining,
                batch_size=None,
                collate_fn=_return_unchanged,
                num_workers=self._num_workers,
                prefetch_factor=-(-self._prefetch_batches // self._num_workers),
                pin_memory=self._pin_memory,
                worker_init_fn=_start_worker,
                multiprocessing_context=context,
            )
            return iter(loader)

    def _check(self, result: Batch | _Error) -> Batch:
        """Return a batch and count its bad samples.

        Raises:
            ValueError: it could not be made, or too many samples are bad.
        """
        if isinstance(result, _Error):
            raise ValueError(result.message)
        self._num_samples += len(result.cell)
        for bad in result.bad:
            self.bad_samples.add(bad.reason, bad.where)
        num_bad, limit = self.bad_samples.counts.total(), self._mixture.config.max_bad_share
        if num_bad > limit * max(self._num_samples, _LEAST_SAMPLES):
            reasons = "; ".join(
                f"{reason}: {count}, first {self.bad_samples.examples[reason][0]}" for reason, count in self.bad_samples
            )
            raise ValueError(
                f"{num_bad} of {self._num_samples} samples could not be used; max_bad_share is {limit} ({reasons})"
            )
        return result


def _return_unchanged(result: Any) -> Any:
    return result


def _start_worker(number: int) -> None:  # noqa: ARG001  torch passes the number
    # There are as many processes as are to work at the same time; none of them starts threads.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
