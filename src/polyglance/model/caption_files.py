"""Captions of many image files, in the order of the files, the same for any number of processes.

Several processes are workers of this one, or those that torchrun has started, on one machine or many. Files are divided
into groups that a process captions together, so that batches do not depend on the number of processes.
"""

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import groupby, islice
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from polyglance.distributed import choose_local_device, count_launched, join_for_messages, take_device_in_turn
from polyglance.model.caption_request import CaptionRequest
from polyglance.model.generate import IMAGES_PER_BATCH_SIZE, Generated
from polyglance.processes import end_with_parent, num_cores, number_workers, open_worker_context
from polyglance.progress import track_progress
from polyglance.settings import UnusedSettingError

__all__ = ["caption_files", "divide_into_groups", "repeat_for_files"]


def caption_files(
    files: Sequence[str | Path], request: CaptionRequest, *, processes: int = 1, show_progress: bool = False
) -> Iterator[Generated]:
    """Yield a result for each file and language, in this order, as they come. Under torchrun the first process yields
    all of them, the others nothing.

    Args:
        processes: workers, each with its own copy of the model; GPUs are assigned to them in turn.

    Raises:
        ValueError: as `PolyglanceCaptioner.load` and its `caption`, or a worker that was killed.
    """
    if processes < 1:
        raise ValueError(f"`processes` is {processes}; expected at least 1")
    if count_launched() > 1 and processes > 1:
        raise UnusedSettingError("`processes` has no effect under torchrun, which has started the processes")
    names = [str(file) for file in files]
    groups = divide_into_groups(names, request)
    results = _show(_caption_groups(groups, request, processes), len(set(names)), show_progress and len(groups) > 1)
    yield from repeat_for_files(names, results)


def divide_into_groups(names: Sequence[str], request: CaptionRequest) -> list[list[str]]:
    """Return the groups of files that are captioned together. Each file is in one, however often it is named."""
    unique = iter(dict.fromkeys(names))
    size = IMAGES_PER_BATCH_SIZE * request.config.batch_size
    return list(iter(lambda: list(islice(unique, size)), []))


def repeat_for_files(names: Sequence[str], results: Iterator[Generated]) -> Iterator[Generated]:
    """Yield the results of each file, in the order of the files, as they come.

    Args:
        results: those of each file once, in the order in which the files are first named.
    """
    if len(set(names)) == len(names):
        yield from results
        return
    by_name: dict[str, list[Generated]] = {}
    groups_of_file = ((name, list(group)) for name, group in groupby(results, key=lambda result: result.image))
    for name in names:
        if name not in by_name:
            by_name.update(islice(groups_of_file, 1))
        yield from by_name.get(name, ())


def _caption_groups(groups: Sequence[list[str]], request: CaptionRequest, processes: int) -> Iterator[Generated]:
    if count_launched() > 1:
        yield from _caption_together(groups, request)
    elif min(processes, len(groups)) > 1:
        yield from _caption_in_workers(groups, request, min(processes, len(groups)))
    else:
        captioner = request.load()
        for group in groups:
            yield from request.caption(captioner, group)


def _show(results: Iterator[Generated], num_files: int, show_progress: bool) -> Iterator[Generated]:
    """Show the number of files that are done, with rate and time left."""
    seen: set[str] = set()
    with track_progress(show=show_progress) as show:
        show("images", 0, num_files)
        for result in results:
            if result.image not in seen:
                seen.add(result.image)
                show("images", len(seen), num_files)
            yield result


def _caption_together(groups: Sequence[list[str]], request: CaptionRequest) -> Iterator[Generated]:
    """Caption a group in each of torchrun's processes at a time; the first one yields all, after each round."""
    with join_for_messages() as runtime:
        own = replace(request, device=choose_local_device(request.device))
        captioner = own.load()
        for first in range(0, len(groups), runtime.world_size):
            group = groups[first + runtime.rank : first + runtime.rank + 1]
            made = [result for files in group for result in own.caption(captioner, files)]
            for results in runtime.gather_in_main(made):
                yield from results


def _caption_in_workers(groups: Sequence[list[str]], request: CaptionRequest, processes: int) -> Iterator[Generated]:
    context = open_worker_context()
    settings = (request, number_workers(context, processes), processes)
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker, initargs=settings) as pool:
        try:
            for results in pool.map(_caption_group, groups):
                yield from results
        except BrokenProcessPool:
            raise ValueError("a worker process was killed (was memory too small?)") from None
        finally:
            pool.shutdown(cancel_futures=True)


_worker: dict[str, Any] = {}
"""Request and captioner of a worker process."""


def _start_worker(request: CaptionRequest, numbers: "SimpleQueue[int]", processes: int) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the main process, which ends this one
    torch.set_num_threads(max(1, num_cores() // processes))
    number = numbers.get()
    _worker["request"] = replace(request, device=take_device_in_turn(request.device, number))


def _caption_group(group: list[str]) -> list[Generated]:
    """Caption a group in a worker, which loads its model for the first one."""
    request: CaptionRequest = _worker["request"]
    if "captioner" not in _worker:
        _worker["captioner"] = request.load()
    return request.caption(_worker["captioner"], group)
