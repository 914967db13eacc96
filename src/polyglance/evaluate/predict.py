"""A model's predictions for a benchmark: resumable, in batches, the same for any number of processes.

Several processes are those of `PredictConfig.processes`, on one machine, or those that torchrun has started, on any
number of machines that share the folder. Each takes every n-th batch and writes a file; the first joins the rows by id.

    predictions = predict_benchmark(PredictConfig(
        model=ModelConfig(model="out"), task="caption", benchmark="xm3600", language="th",
        root=Path("eval_datasets"), out=Path("eval"),
    ))

Their folder holds predictions.jsonl and, written last, prediction.json with everything they depend on.
"""

import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from polyglance.data.benchmarks import BenchmarkExample
from polyglance.distributed import Runtime, choose_local_device, join_for_messages, take_device_in_turn
from polyglance.engines import EvaluatedModel, open_model
from polyglance.evaluate.config import PredictConfig
from polyglance.evaluate.predict_batches import write_batches
from polyglance.evaluate.prediction_job import PredictionJob
from polyglance.evaluate.prediction_set import PREDICTIONS_NAME, PredictionInfo, PredictionSet, read_prediction_rows
from polyglance.evaluate.row_files import count_rows, has_row_file, join_row_files, keep_whole_batches
from polyglance.files import locked
from polyglance.processes import end_with_parent, open_worker_context
from polyglance.progress import track_progress

__all__ = ["open_local_model", "predict_benchmark", "read_predictions"]


def predict_benchmark(config: PredictConfig, model: EvaluatedModel | None = None) -> PredictionSet:
    """Make the predictions, or continue them. If they are finished they are only read.

    Args:
        model: `open_model(config.model)`, where several benchmarks or languages share it; None: it is opened.

    Raises:
        ValueError: an unknown benchmark or model, files that are missing or damaged, a task or language that the model
            or the benchmark does not have, a server that cannot be reached, or a machine that does not see the folder.
            Rows that fail raise nothing; they are counted.
    """
    job = PredictionJob(config, model or open_local_model(config))
    ids = [example.id for example in job.examples]
    with join_for_messages() as runtime, _locked_by_first(job, runtime):
        if not runtime.from_main(job.is_done()):
            kept = keep_whole_batches(job.folder, job.batches, PREDICTIONS_NAME) if runtime.is_main else None
            done = runtime.from_main(kept)
            _check_folder(job, runtime)
            left = [number for number in range(len(job.batches)) if number not in done]
            _write_batches(job, left[runtime.rank :: runtime.world_size], runtime)
            runtime.barrier()
            if runtime.is_main:
                join_row_files(job.folder, ids, PREDICTIONS_NAME)
                job.describe().make_info(config, read_prediction_rows(job.folder)).write(job.folder)
            runtime.barrier()
        return read_predictions(job.folder, job.examples)


def read_predictions(folder: Path, examples: Sequence[BenchmarkExample]) -> PredictionSet:
    """Read finished predictions.

    Raises:
        ValueError: files that are missing or damaged, or rows of other examples.
    """
    rows = read_prediction_rows(folder)
    if [row.id for row in rows] != [example.id for example in examples]:
        raise ValueError(f"{folder}: its rows are not those of the benchmark; delete the folder")
    return PredictionSet(folder=folder, info=PredictionInfo.read(folder), examples=examples, rows=rows)


def open_local_model(config: PredictConfig) -> EvaluatedModel:
    """Open the model, under torchrun on the GPU of this process."""
    return open_model(replace(config.model, device=choose_local_device(config.model.device)))


def _locked_by_first(job: PredictionJob, runtime: Runtime) -> AbstractContextManager[None]:
    """Hold the folder for the processes of this call; the first one does it for all."""
    return locked(job.folder, "polyglance eval") if runtime.is_main else nullcontext()


def _check_folder(job: PredictionJob, runtime: Runtime) -> None:
    """Refuse, before any work, processes that do not see what the first one has written.

    Raises:
        ValueError: in all processes.
    """
    blind = [rank for rank, sees in enumerate(runtime.gather(has_row_file(job.folder, PREDICTIONS_NAME))) if not sees]
    if blind:
        raise ValueError(
            f"{job.folder}: not the same folder for all processes ({len(blind)} of {runtime.world_size} do not see "
            "the first one's files); give an --out that all machines share"
        )


def _write_batches(job: PredictionJob, batches: Sequence[int], runtime: Runtime) -> None:
    """Predict these batches, in this process or in several, and show the progress of all."""
    num_processes = min(job.config.processes, len(batches))
    done = count_rows(job.folder, PREDICTIONS_NAME)
    with track_progress(show=runtime.is_main) as show:

        def show_done(num_done: int) -> None:
            show(f"{job.config.benchmark} {job.config.language}", num_done, len(job.examples))

        def show_counted() -> None:
            show_done(count_rows(job.folder, PREDICTIONS_NAME))

        show_done(done)
        if num_processes > 1:
            _write_in_processes(job.config, batches, num_processes, show_counted)
        elif batches:
            for num_rows in write_batches(job, batches, process=runtime.rank):
                done = min(done + num_rows * runtime.world_size, len(job.examples))  # the others are about as fast
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
    """Receive the last message of a process: None, or its error. A process that was killed sends no message."""
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
        config = replace(config, model=replace(config.model, device=take_device_in_turn(config.model.device, number)))
        for _ in write_batches(PredictionJob(config, open_model(config.model)), batches, process=number):
            pass
    except ValueError as error:
        sender.send(str(error))
    else:
        sender.send(None)
