"""Predictions batch by batch: the model's answers become rows, and each batch of rows is written to the disk."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from polyglance.coverage import EvaluationTask
from polyglance.data.benchmarks import BenchmarkExample
from polyglance.engines import EvaluatedModel, Failure, Picture
from polyglance.engines.protocol import TextLoss
from polyglance.evaluate.prediction_job import PredictionJob
from polyglance.evaluate.prediction_set import PREDICTIONS_NAME, PredictionRow
from polyglance.evaluate.row_files import RowFile

__all__ = ["predict_batch", "write_batches"]


def write_batches(job: PredictionJob, batches: Sequence[int], *, process: int) -> Iterator[int]:
    """Predict batches and put each on the disk; yield its number of rows when it is written.

    Args:
        batches: numbers of the batches.
        process: number of this process, for the name of its file.
    """
    examples, size = job.load_examples_for_model(), job.config.batch_size
    with RowFile(job.folder, process, PREDICTIONS_NAME) as file:
        for number in batches:
            batch = examples[number * size : (number + 1) * size]
            file.append(predict_batch(job.model, batch, job.config.task, job.config.language))
            yield len(batch)


def predict_batch(
    model: EvaluatedModel, examples: Sequence[BenchmarkExample], task: EvaluationTask, language: str
) -> list[PredictionRow]:
    """Ask the model about examples. One whose image cannot be read becomes a row with an error instead.

    Raises:
        ValueError: the examples are too many for the device's memory.
    """
    answers: dict[str, Any] = {}
    pictures: list[Picture] = []
    readable: list[BenchmarkExample] = []
    for example in examples:
        try:
            if model.reads_images:
                assert example.image is not None
                pictures.append(Picture.read(example.image))
            readable.append(example)
        except ValueError as error:
            answers[example.id] = Failure(str(error))
    if readable:
        try:
            given = _ask(model, pictures, readable, task, language)
        except torch.OutOfMemoryError:
            raise ValueError(f"{len(readable)} examples at a time are too many for the device's memory") from None
        answers |= dict(zip([example.id for example in readable], given, strict=True))
    return [_make_row(task, example.id, answers[example.id]) for example in examples]


def _ask(
    model: EvaluatedModel,
    pictures: Sequence[Picture],
    examples: Sequence[BenchmarkExample],
    task: EvaluationTask,
    language: str,
) -> Sequence[Any]:
    if task == "caption":
        return model.write_captions(pictures, language)
    sources = [example.source or "" for example in examples]
    if task == "translation":
        return model.write_translations(pictures, sources, language)
    candidates = [(example.references[0], example.incorrect or "") for example in examples]
    return model.measure_losses(pictures, sources, candidates, language)


def _make_row(task: EvaluationTask, name: str, answer: str | Failure | Sequence[TextLoss]) -> PredictionRow:
    if isinstance(answer, Failure):
        return PredictionRow(id=name, text=None if task == "disambiguation" else "", error=answer.reason)
    if isinstance(answer, str):
        # An endpoint may send half a character, which UTF-8 cannot hold.
        return PredictionRow(id=name, text=answer.encode(errors="replace").decode())
    correct, incorrect = answer
    means = correct.nats / correct.num_tokens, incorrect.nats / incorrect.num_tokens
    if not all(map(math.isfinite, means)):
        return PredictionRow(id=name, error="the loss is not a finite number")
    return PredictionRow(
        id=name,
        correct=means[0],
        incorrect=means[1],
        correct_tokens=correct.num_tokens,
        incorrect_tokens=incorrect.num_tokens,
    )
