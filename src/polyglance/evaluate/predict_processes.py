"""Predictions by several processes, each with its own model. The predictions are the same for any number of them."""

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from polyglance.engines.open import open_model
from polyglance.evaluate.predict_batches import write_batches
from polyglance.evaluate.prediction_job import PredictConfig, PredictionJob
from polyglance.processes import end_with_parent

__all__ = ["write_batches_in_processes"]


def write_batches_in_processes(
    config: PredictConfig, batches: Sequence[int], num_processes: int, show_progress: Callable[[], None]
) -> None:
    """Predict batches in processes that put them on the disk.

    Args:
        batches: numbers of the batches.
        show_progress: called every second, and when a process ends.

    Raises:
        ValueError: a process failed; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, SpawnProcess] = {}
    try:
        for number in range(num_processes):
            receiver, sender = context.Pipe(duplex=False)
            share = list(batches[number::num_processes])
            running[receiver] = context.Process(target=_run, args=(config, share, number, num_processes, sender))
            running[receiver].start()
            sender.close()
        while running:
            for ended in wait(list(running), timeout=1.0):
                assert isinstance(ended, Connection)
                _check_end(ended, running.pop(ended))
            show_progress()
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _check_end(receiver: Connection, process: SpawnProcess) -> None:
    """Receive the last message of a process: None, or its mistake. A process that was killed sends none."""
    try:
        problem = receiver.recv()
    except EOFError:
        process.join()
        raise ValueError(
            f"a process ended with code {process.exitcode} (was there too little memory?); "
            "the same command goes on from here"
        ) from None
    process.join()
    if problem is not None:
        raise ValueError(problem)


def _run(config: PredictConfig, batches: list[int], number: int, num_processes: int, sender: Connection) -> None:
    """Predict batches in a process of its own."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the main process, which ends this one
    torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    try:
        config = _choose_device(config, number)
        for _ in write_batches(PredictionJob(config, open_model(config.model)), batches, process=number):
            pass
    except ValueError as error:
        sender.send(str(error))
    else:
        sender.send(None)


def _choose_device(config: PredictConfig, number: int) -> PredictConfig:
    """Give each process one of the GPUs, in turn."""
    if config.model.device != "cuda":
        return config
    device = f"cuda:{number % max(1, torch.cuda.device_count())}"
    return replace(config, model=replace(config.model, device=device))
