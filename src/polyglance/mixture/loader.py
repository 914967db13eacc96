"""Batches made ahead of their use, by processes of their own: images are read and decoded there.

    with Loader(mixture, first_step=0, num_steps=500, indices=[0, 1], num=2, num_workers=4) as batches:
        for step, index, batch in batches: ...

A batch is a function of (step, index, num), so the number of processes changes nothing but the speed, and where one of
them dies others make the same batches.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from types import TracebackType
from typing import Any

from torch.utils.data import DataLoader, Dataset

from polyglance.mixture.collate import Batch
from polyglance.mixture.dataset import Mixture
from polyglance.records import Drops

__all__ = ["Loader"]

_MAX_DEATHS = 3
"""Times that the processes may die at one and the same batch."""
_LEAST_SAMPLES = 1000
"""The limit on bad samples is of at least so many, so that a first bad one does not stop a run."""


@dataclass(frozen=True)
class _Failure:
    """What a process reports in place of a batch: a `ValueError` would arrive with its traceback as its message."""

    message: str


class _Parts(Dataset[Batch | _Failure]):
    """The batches to be made, from one position on."""

    def __init__(self, mixture: Mixture, keys: Sequence[tuple[int, int]], num: int) -> None:
        self._mixture, self._keys, self._num = mixture, keys, num

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, position: int) -> Batch | _Failure:
        step, index = self._keys[position]
        try:
            return self._mixture.micro_batch(step, index, self._num)
        except ValueError as error:
            return _Failure(str(error))


class Loader:
    """Batches of steps `first_step` to `num_steps` - 1, and in each step those of `indices`, in this order.

    Args:
        mixture: makes the batches.
        indices: which of the `num` parts of each step: those of this rank.
        num: parts that a step is divided into, over all ranks.
        num_workers: processes that make batches; 0: this one does. Where `mixture.in_memory`, each process would hold
            a copy of all images, so that 0 is right.
        prefetch_batches: batches that are made ahead, by all processes together (at least one by each).
        pin_memory: batches come in page-locked memory, as `Batch.pin` makes them.

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
        indices: Sequence[int],
        num: int,
        num_workers: int,
        prefetch_batches: int = 4,
        pin_memory: bool = False,
    ) -> None:
        if num_workers < 0 or prefetch_batches < 1:
            raise ValueError("num_workers must be 0 or more, prefetch_batches 1 or more")
        self.bad_samples = Drops()
        self._mixture, self._num = mixture, num
        self._first_step, self._num_steps, self._indices = first_step, num_steps, tuple(indices)
        self._num_workers, self._prefetch_batches, self._pin_memory = num_workers, prefetch_batches, pin_memory
        self._num_samples = 0
        self._answers: Iterator[Batch | _Failure] | None = None

    def __enter__(self) -> "Loader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers = None  # ends the processes

    def __len__(self) -> int:
        """Number of batches."""
        return max(0, self._num_steps - self._first_step) * len(self._indices)

    def __iter__(self) -> Iterator[tuple[int, int, Batch]]:
        for position in range(len(self)):
            step, place = divmod(position, len(self._indices))
            yield self._first_step + step, self._indices[place], self._checked(self._next(position))
        self._answers = None

    def _next(self, position: int) -> Batch | _Failure:
        for _ in range(_MAX_DEATHS):
            if self._answers is None:
                self._answers = self._start(position)
            try:
                return next(self._answers)
            except (RuntimeError, OSError, EOFError) as error:
                # A dead process is reported by torch, or shows in what it leaves half sent.
                if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker (pid"):
                    raise
                self._answers, reason = None, str(error).partition("\n")[0]
        raise ValueError(
            f"loader processes died {_MAX_DEATHS} times at the same batch ({reason}); "
            "is there enough memory? Fewer of them need less"
        )

    def _start(self, position: int) -> Iterator[Batch | _Failure]:
        steps = range(self._first_step, self._num_steps)
        parts = _Parts(
            self._mixture, [(step, index) for step in steps for index in self._indices][position:], self._num
        )
        if not self._num_workers:
            batches = (parts[i] for i in range(len(parts)))
            return (batch.pin() if self._pin_memory and isinstance(batch, Batch) else batch for batch in batches)
        # Forking this process could copy locks that its threads hold; a server forks from a process without any.
        context = get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This DataLoader will create")  # that is the user's choice
            loader: DataLoader[Any] = DataLoader(
                parts,
                batch_size=None,
                collate_fn=_unchanged,
                num_workers=self._num_workers,
                prefetch_factor=-(-self._prefetch_batches // self._num_workers),
                pin_memory=self._pin_memory,
                worker_init_fn=_begin,
                multiprocessing_context=context,
            )
            return iter(loader)

    def _checked(self, answer: Batch | _Failure) -> Batch:
        if isinstance(answer, _Failure):
            raise ValueError(answer.message)
        self._num_samples += len(answer.cell)
        for bad in answer.bad:
            self.bad_samples.add(bad.reason, bad.where)
        num_bad, limit = self.bad_samples.counts.total(), self._mixture.config.max_bad_share
        if num_bad > limit * max(self._num_samples, _LEAST_SAMPLES):
            reasons = "; ".join(
                f"{reason}: {count}, first {self.bad_samples.examples[reason][0]}" for reason, count in self.bad_samples
            )
            raise ValueError(
                f"{num_bad} of {self._num_samples} samples could not be used; max_bad_share is {limit} ({reasons})"
            )
        return answer


def _unchanged(answer: Any) -> Any:
    return answer


def _begin(worker: int) -> None:  # noqa: ARG001  torch passes the number
    # The processes are as many as are to work at the same time; none starts threads of its own.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
