"""Checkpoints written while training goes on."""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from polyglance.error_text import first_line
from polyglance.train.checkpoint import Checkpoints, collect_tensors

__all__ = ["BackgroundSaves"]


def _make_stager(*, is_pinned: bool) -> DefaultStager:
    """Make what copies tensors to main memory, with or without page-locked memory there."""
    return DefaultStager(
        StagingOptions(
            use_pinned_memory=is_pinned,
            use_shared_memory=False,
            use_async_staging=False,
            use_non_blocking_copy=is_pinned,
        )
    )


class BackgroundSaves:
    """Saves of checkpoints in a thread of each process, one checkpoint at a time.

    The caller waits while the tensors are copied to main memory. The copy takes as many bytes as the checkpoint
    (replicas: in the first process alone; shards: in each process its own). What is written, and how, is the same as
    without a thread, so that a process that ends in between leaves the earlier checkpoints whole. The threads exchange
    messages in a group of their own, because training goes on to use its group.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        runtime = checkpoints.runtime
        self._group = dist.new_group(backend="gloo") if runtime.world_size > 1 else None
        self._checkpoints = checkpoints.with_runtime(replace(runtime, group=self._group))
        self._holds_tensors = runtime.is_main or runtime.strategy == "fsdp"
        self._is_pinned = runtime.device.type == "cuda"
        self._stager = _make_stager(is_pinned=self._is_pinned)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[str | None] | None = None

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: Mapping[str, Any],
        *,
        then: Callable[[], None],
    ) -> str | None:
        """Begin to write the checkpoint after `step` optimiser steps, once the one before it is written.

        Args:
            state: state of the loop beside the tensors, as JSON.
            then: called in the thread once the checkpoint is whole.

        Returns:
            None; or why the checkpoint before could not be written.
        """
        problem = self.finish()
        tensors: dict[str, Tensor] = {}
        if self._holds_tensors:
            tensors = self._copy(collect_tensors(model, optimizer))
        self._pending = self._thread.submit(partial(self._write, step, tensors, state, then))
        return problem

    def _copy(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copy tensors to main memory: to page-locked memory, if the system grants so much of it."""
        try:
            return self._stager.stage(tensors)  # type: ignore[return-value]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self._is_pinned:
                raise
            reason = first_line(error)
            print(f"checkpoints are copied more slowly, without page-locked memory: {reason}", file=sys.stderr)
            self._stager.close()
            self._is_pinned = False
            self._stager = _make_stager(is_pinned=False)
            return self._stager.stage(tensors)  # type: ignore[return-value]

    def _write(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], then: Callable[[], None]
    ) -> str | None:
        problem = self._checkpoints.write(step, tensors, state)
        if problem is None:
            then()
        return problem

    def finish(self) -> str | None:
        """Wait for the checkpoint that is being written; return why it could not be written, None if all is well."""
        pending, self._pending = self._pending, None
        return None if pending is None else pending.result()

    def close(self) -> None:
        """Wait for the thread, and free the memory."""
        self._thread.shutdown()
        self._stager.close()
        if self._group is not None:
            dist.destroy_process_group(self._group)
