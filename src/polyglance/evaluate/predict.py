"""A model's predictions for a benchmark: resumable, in batches, the same ones by one process or several.

    predictions = predict_benchmark(PredictConfig(
        model=ModelConfig(model="out"), task="caption", benchmark="xm3600", language="th",
        root=Path("eval_datasets"), out=Path("eval"),
    ))

Their folder holds predictions.jsonl and, written last, prediction.json with everything they depend on.
"""

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from polyglance.engines import EvaluatedModel, open_model
from polyglance.engines.devices import choose_device
from polyglance.evaluate.config import PredictConfig
from polyglance.evaluate.predict_batches import write_batches
from polyglance.evaluate.prediction_job import PredictionJob
from polyglance.evaluate.prediction_set import PredictionInfo, PredictionSet, read_prediction_rows
from polyglance.evaluate.row_files import count_rows, join_row_files, keep_whole_batches
from polyglance.files import locked
from polyglance.processes import end_with_parent, open_worker_context
from polyglance.progress import track_progress

__all__ = ["predict_benchmark"]


def predict_benchmark(config: PredictConfig, model: EvaluatedModel | None = None) -> PredictionSet:
    """Make the predictions, or continue them. Those that are whole are read.

    Args:
        model: `open_model(config.model)`, where several benchmarks or languages share it; None: it is opened.

    Raises:
        ValueError: an unknown benchmark or model, files that are missing or damaged, a task or language that is not the
            model's or the benchmark's, or a server that cannot be reached. Rows that fail are counted instead.
    """
    job = PredictionJob(config, model or open_model(config.model))
    ids = [example.id for example in job.examples]
    with locked(job.folder, "polyglance eval"):
        if not job.is_done():
            done = keep_whole_batches(job.folder, job.batches)
            _write_batches(job, [number for number in range(len(job.batches)) if number not in done])
            job.describe(join_row_files(job.folder, ids)).write(job.folder)
        rows = read_prediction_rows(job.folder)
        info = PredictionInfo.read(job.folder)
    if [row.id for row in rows] != ids:
        raise ValueError(f"{job.folder}: its rows are not those of the benchmark; delete the folder")
    return PredictionSet(folder=job.folder, info=info, examples=job.examples, rows=rows)


def _write_batches(job: PredictionJob, batches: Sequence[int]) -> None:
    """Predict these batches, in this process or in several."""
    num_processes = min(job.config.processes, len(batches))
    done = count_rows(job.folder)
    with track_progress() as show:

        def show_done(num_done: int) -> None:
            show(f"{job.config.benchmark} {job.config.language}", num_done, len(job.examples))

        show_done(done)
        if num_processes > 1:
            _write_in_processes(job.config, batches, num_processes, lambda: show_done(count_rows(job.folder)))
        elif batches:
            for num_rows in write_batches(job, batches):
                done += num_rows
                show_done(done)


def _write_in_processes(
    config: PredictConfig, batches: Sequence[int], num_processes: int, show_progress: Callable[[], None]
) -> None:
    """Predict batches in processes that put them on the disk.

    Args:
        batches: numbers of the batches.
        show_progress: called every second, and when a process ends.

    Raises:
        ValueError: a process failed; the others are stopped.
    """
    context = open_worker_context()
    running: dict[Connection, SpawnProcess] = {}
    try:
        for number in range(num_processes):
            receiver, sender = context.Pipe(duplex=False)
            share = list(batches[number::num_processes])
            process = context.Process(target=_run_process, args=(config, share, number, num_processes, sender))
            process.start()
            running[receiver] = process
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


def _run_process(
    config: PredictConfig, batches: list[int], number: int, num_processes: int, sender: Connection
) -> None:
    """Predict batches in a process of its own, with its own model."""
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
    if choose_device(config.model.device) != "cuda":
        return config
    device = f"cuda:{number % max(1, torch.cuda.device_count())}"
    return replace(config, model=replace(config.model, device=device))
