"""A model's predictions for a benchmark: resumable, batched, by one process or several, the same by any number.

    prediction = predict(PredictConfig(
        model=ModelConfig(model="out"), task="caption", benchmark="xm3600", language="th",
        root=Path("eval_datasets"), out=Path("eval"),
    ))

Its folder holds predictions.jsonl and, written last, prediction.json with everything they depend on. The folder's name
ends in a fingerprint of that, so that predictions of another model, prompt or setting are never taken for these.
"""

import json
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from polyglance.config import fingerprint
from polyglance.data.benchmarks import benchmark
from polyglance.data.benchmarks.benchmark import EvaluationTask, Example
from polyglance.engines.evaluated import Failure, TextLoss
from polyglance.engines.open import EvaluatedModel, ModelConfig, Picture, check_capability, open_model
from polyglance.evaluate.parts import PREDICTIONS, Part, keep_whole_batches, merge, num_lines, read_rows
from polyglance.files import locked, write_atomically
from polyglance.processes import parent_is_alive
from polyglance.progress import track_progress

__all__ = ["SIDECAR", "PredictConfig", "Prediction", "load_examples", "predict"]

SIDECAR = "prediction.json"
_FORMAT = 1
"""Raised where rows come to mean something else."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """What is predicted, by which model, and how."""

    model: ModelConfig
    task: EvaluationTask
    benchmark: str
    """Its name (`polyglance eval list`)."""
    root: Path
    """Folder of all benchmarks; of the data sets for the project's own shards."""
    out: Path
    """Folder that gets a folder for the predictions."""
    language: str
    split: str | None = None
    """None: the benchmark's first."""
    batch_size: int = 8
    """Rows at a time. Another one can move a prediction by rounding, so it is part of the fingerprint."""
    limit: int | None = None
    """Only so many examples, the first; None: all."""
    num_processes: int = 1
    """Each takes every n-th batch; on `cuda`, the devices in turn."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "limit", "num_processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Finished predictions."""

    folder: Path
    sidecar: Mapping[str, Any]
    """What prediction.json holds."""
    examples: Sequence[Example]
    """The benchmark's, without images."""
    rows: Sequence[Mapping[str, Any]]
    """What predictions.jsonl holds: `id` and `text`, or `correct` and `incorrect` (mean nats per token) and numbers of
    tokens; and `error` where there is none (`text` is then empty)."""

    @property
    def errors(self) -> dict[str, int]:
        """Reason -> rows that failed for it."""
        counts: dict[str, int] = {}
        for row in self.rows:
            if "error" in row:
                counts[row["error"]] = counts.get(row["error"], 0) + 1
        return counts


def predict(config: PredictConfig, model: EvaluatedModel | None = None) -> Prediction:
    """Make the predictions, or go on with them; those that are whole are read.

    Args:
        model: `open_model(config.model)`, where several benchmarks or languages share it; None: it is opened.

    Raises:
        ValueError: an unknown benchmark or model, files that are missing, a task or language that is not the model's or
            the benchmark's, or a server that cannot be reached. Rows that fail are counted instead.
    """
    work = _Work(config, model or open_model(config.model))
    with locked(work.folder, "polyglance eval"):
        if not work.is_done():
            done = keep_whole_batches(work.folder, work.batches)
            left = [number for number in range(len(work.batches)) if number not in done]
            _run(work, left)
            rows = merge(work.folder, [name for ids in work.batches for name in ids])
            write_atomically(work.folder / SIDECAR, _json(work.sidecar(rows)))
        rows = list(read_rows(work.folder / PREDICTIONS).values())
        sidecar = json.loads((work.folder / SIDECAR).read_text(encoding="utf-8"))
    return Prediction(folder=work.folder, sidecar=sidecar, examples=work.examples, rows=rows)


def load_examples(config: PredictConfig, *, images: bool) -> Sequence[Example]:
    """The examples that a configuration is about.

    Raises:
        ValueError: an unknown benchmark, split or language, files that are missing, or no examples.
    """
    chosen = benchmark(config.benchmark)
    split = config.split or chosen.splits[0]
    found = chosen.load(config.root, split=split, language=config.language, images=images)
    if not found:
        raise ValueError(f"{config.benchmark} {split} {config.language}: holds no examples")
    return found if config.limit is None else found[: config.limit]


class _Work:
    """A configuration with what it stands for: model, examples, folder."""

    def __init__(self, config: PredictConfig, model: EvaluatedModel) -> None:
        self.config, self.model = config, model
        chosen = benchmark(config.benchmark)
        if chosen.task != config.task:
            raise ValueError(f"{config.benchmark} is a benchmark of {chosen.task}, not of {config.task}")
        self.split = config.split or chosen.splits[0]
        check_capability(model, config.task, config.language)
        self.examples = load_examples(config, images=False)

    @cached_property
    def facts(self) -> dict[str, Any]:
        return dict(self.model.facts(self.config.task, self.config.language))

    @property
    def batches(self) -> list[list[str]]:
        """The ids of each batch."""
        ids, size = [example.id for example in self.examples], self.config.batch_size
        return [ids[first : first + size] for first in range(0, len(ids), size)]

    @cached_property
    def folder(self) -> Path:
        """`xm3600-all-th-prefix-beams4-768px-first100-1a2b3c4d`."""
        limit = self.config.limit
        parts = [
            self.config.benchmark,
            self.split,
            self.config.language,
            "prefix" if self.facts.get("prefix") else "",
            f"beams{self.facts['beams']}" if "beams" in self.facts else "",
            f"{self.facts['resolution']}px" if "resolution" in self.facts else "",
            f"first{limit}" if limit else "",
            self.fingerprint[:8],
        ]
        return self.config.out / "-".join(part for part in parts if part)

    @cached_property
    def fingerprint(self) -> str:
        scored = self.config.task == "disambiguation"  # of other tasks the model does not see the references
        texts = [(one.id, one.source, one.incorrect, one.references if scored else ()) for one in self.examples]
        config = self.config
        where = (config.benchmark, self.split, config.language, config.task)
        return fingerprint(_FORMAT, where, config.limit, config.batch_size, self.facts, texts)

    def is_done(self) -> bool:
        try:
            sidecar = json.loads((self.folder / SIDECAR).read_bytes())
        except (OSError, ValueError):
            return False
        return sidecar.get("fingerprint") == self.fingerprint and (self.folder / PREDICTIONS).exists()

    def examples_to_ask(self) -> Sequence[Example]:
        """With images, where the model looks at them."""
        return load_examples(self.config, images=True) if self.model.reads_images else self.examples

    def sidecar(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        config = self.config
        return {
            "benchmark": config.benchmark,
            "split": self.split,
            "language": config.language,
            "task": config.task,
            "model": self.model.name,
            "prefix": self.facts.get("prefix", ""),
            "limit": config.limit,
            "batch_size": config.batch_size,
            "settings": asdict(config.model),
            "facts": self.facts,
            "fingerprint": self.fingerprint,
            "num_rows": len(rows),
            "num_errors": sum("error" in row for row in rows),
            "versions": {name: version(name) for name in ("polyglance", "torch", "transformers", "tokenizers")},
        }


def _run(work: _Work, batches: Sequence[int]) -> None:
    """Make these batches, here or in processes of their own."""
    num_processes = min(work.config.num_processes, len(batches))
    done = num_lines(work.folder)
    with track_progress() as show:

        def say(num_done: int) -> None:
            show(f"{work.config.benchmark} {work.config.language}", num_done, len(work.examples))

        say(done)
        if num_processes > 1:
            _run_processes(work, batches, num_processes, lambda: say(num_lines(work.folder)))
        else:
            for rows in _make(work, work.folder, batches, process=0):
                done += len(rows)
                say(done)


def _make(work: _Work, folder: Path, batches: Sequence[int], *, process: int) -> Iterator[list[dict[str, Any]]]:
    """Make batches and put them on the disk, one after the other. Ends early where the main process has ended."""
    if not batches:
        return
    examples, size = work.examples_to_ask(), work.config.batch_size
    with Part(folder, process) as part:
        for number in batches:
            rows = _ask(work, examples[number * size : (number + 1) * size])
            if not parent_is_alive():
                return
            part.append(rows)
            yield rows


def _run_processes(work: _Work, batches: Sequence[int], num_processes: int, show: Callable[[], None]) -> None:
    """Make batches in processes of their own, each with its model.

    Raises:
        ValueError: one of them failed; the others are stopped.
    """
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, SpawnProcess] = {}
    try:
        for process in range(num_processes):
            ours, theirs = context.Pipe(duplex=False)
            share = batches[process::num_processes]
            arguments = (work.config, work.folder, list(share), process, num_processes, theirs)
            running[ours] = context.Process(target=_work_in_process, args=arguments)
            running[ours].start()
            theirs.close()
        while running:
            for pipe in wait(list(running), timeout=1.0):
                assert isinstance(pipe, Connection)
                _check_end(pipe, running.pop(pipe))
            show()
    finally:
        for other in running.values():
            other.terminate()
            other.join()


def _check_end(pipe: Connection, process: SpawnProcess) -> None:
    """What a process says at its end: nothing, or what was wrong. One that was killed says nothing at all."""
    try:
        problem = pipe.recv()
    except EOFError:
        process.join()
        raise ValueError(
            f"a process ended with code {process.exitcode} (was there too little memory?); "
            "the same command goes on from here"
        ) from None
    process.join()
    if problem is not None:
        raise ValueError(problem)


def _work_in_process(
    config: PredictConfig, folder: Path, batches: list[int], process: int, num_processes: int, pipe: Any
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process is interrupted, and ends this one
    torch.set_num_threads(max(1, torch.get_num_threads() // num_processes))
    try:
        own = _on_own_device(config, process)
        for _ in _make(_Work(own, open_model(own.model)), folder, batches, process=process):
            pass
    except ValueError as error:
        pipe.send(str(error))
    else:
        pipe.send(None)


def _on_own_device(config: PredictConfig, process: int) -> PredictConfig:
    if config.model.device != "cuda":
        return config
    device = f"cuda:{process % max(1, torch.cuda.device_count())}"
    return replace(config, model=replace(config.model, device=device))


def _ask(work: _Work, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """The rows of one batch. An image that cannot be read is a row with an error; the model is asked the others."""
    answers: dict[str, Any] = {}
    pictures: list[Picture] = []
    asked: list[Example] = []
    for example in examples:
        try:
            if work.model.reads_images:
                assert example.image is not None
                pictures.append(Picture.read(example.image))
            asked.append(example)
        except ValueError as error:
            answers[example.id] = Failure(str(error))
    if asked:
        try:
            found = _answers(work, pictures, asked)
        except torch.OutOfMemoryError:
            raise ValueError(f"{len(asked)} examples at a time are too many for the device's memory") from None
        answers |= dict(zip([example.id for example in asked], found, strict=True))
    return [_row(work.config.task, example.id, answers[example.id]) for example in examples]


def _answers(work: _Work, pictures: Sequence[Picture], examples: Sequence[Example]) -> Sequence[Any]:
    language = work.config.language
    if work.config.task == "caption":
        return work.model.captions(pictures, language)
    sources = [example.source or "" for example in examples]
    if work.config.task == "translation":
        return work.model.translations(pictures, sources, language)
    candidates = [(example.references[0], example.incorrect or "") for example in examples]
    return work.model.losses(pictures, sources, candidates, language)


def _row(task: EvaluationTask, name: str, answer: str | Failure | Sequence[TextLoss]) -> dict[str, Any]:
    if task == "disambiguation":
        return {"id": name, **_losses(answer)}
    if isinstance(answer, Failure):
        return {"id": name, "text": "", "error": answer.reason}
    assert isinstance(answer, str)
    return {"id": name, "text": answer.encode(errors="replace").decode()}  # an endpoint may send half a character


def _losses(answer: Any) -> dict[str, Any]:
    if isinstance(answer, Failure):
        return {"error": answer.reason}
    correct, incorrect = answer
    means = {
        "correct": correct.nats / correct.num_tokens,
        "incorrect": incorrect.nats / incorrect.num_tokens,
        "correct_tokens": correct.num_tokens,
        "incorrect_tokens": incorrect.num_tokens,
    }
    return means if all(map(math.isfinite, means.values())) else {"error": "the loss is not a finite number"}


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False, default=str) + "\n"
