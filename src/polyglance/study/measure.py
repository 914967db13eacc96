"""A run that is measured before its first step and after its last: what a study's runs and `polyglance train` share."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from polyglance.config import write_atomically
from polyglance.coverage import SPLITS, Coverage
from polyglance.data.shard import ShardReader, read_manifest
from polyglance.evaluate.evaluator import Evaluator
from polyglance.languages import LANGUAGES
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import load_tokenizer, train_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.records import Annotation
from polyglance.study.config import EvaluationConfig
from polyglance.train.config import TrainConfig
from polyglance.train.run import processor_for, train
from polyglance.train.runtime import Runtime, runtime

__all__ = [
    "RunConfig",
    "evaluator_for",
    "make_tokenizer",
    "measured_run",
    "prefixes_for",
    "split_losses",
    "texts_of",
    "training_annotations",
]

_SIZES = ("samples_per_cell", "captions_per_cell", "examples", "max_new_tokens")


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """A training run, where it is kept and how it is measured: the TOML file of `polyglance train`."""

    out: Path
    """The run's folder."""
    vocab_size: int = 1024
    """Entries, at most, of the tokenizer that a micro model gets where it is given none."""
    test: Path | None = None
    """Held-out data set that the model is measured on before the first step (T) and after the last; None: it is not."""
    evaluation: EvaluationConfig | None = None
    """How it is measured there."""

    def __post_init__(self) -> None:
        if self.tokenizer is None and self.start.checkpoint is None:
            object.__setattr__(self, "tokenizer", self._own_tokenizer)
        if self.test is not None and self.evaluation is None:
            object.__setattr__(self, "evaluation", EvaluationConfig())
        super().__post_init__()
        if self.evaluation is not None and self.test is None:
            raise ValueError("evaluation needs test, the held-out data set that it measures on")

    @property
    def _own_tokenizer(self) -> Path:
        """Its name tells its size, so that a run with another one is another run."""
        return self.out / f"tokenizer-{self.vocab_size}.json"

    @property
    def makes_tokenizer(self) -> bool:
        """Whether the run has a tokenizer of its own, and none of its weights depends on it yet."""
        return self.tokenizer == self._own_tokenizer and not any(self.out.glob("checkpoints/*"))

    @property
    def training(self) -> TrainConfig:
        """The run alone."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})


def make_tokenizer(settings: RunConfig) -> None:
    """Train the tokenizer in the run's folder from the data as it is now, until a checkpoint depends on it.

    Raises:
        ValueError: it is not there, and there are several processes, which would not wait for it.
    """
    path = settings.tokenizer
    if path is None or not settings.makes_tokenizer:
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        annotations = training_annotations(settings.data, settings.coverage)
        made = train_tokenizer(texts_of(annotations), vocab_size=settings.vocab_size)
        write_atomically(path, made.to_str(pretty=True))
    elif not path.exists():
        raise ValueError(f"{path} is not there yet: make it with one process first (polyglance train ... --dry-run)")


def training_annotations(data: Path, coverage: Coverage) -> list[Annotation]:
    """All annotations of a data set in the languages of the coverage."""
    languages = set(coverage.languages)
    return [a for of_image in ShardReader(data).annotations() for a in of_image if a.language in languages]


def texts_of(annotations: Iterable[Annotation]) -> Iterator[str]:
    """What a tokenizer is trained on: targets and prompts."""
    return (text for annotation in annotations for text in (annotation.text, prompt_of(annotation)))


def prefixes_for(test_dir: Path, evaluation: EvaluationConfig) -> dict[str, str]:
    """Language code -> prefix: the configuration's, else the data set's own, else the language's."""
    usual = {code: entry.prefix for code, entry in LANGUAGES.items()}
    return {**usual, **read_manifest(test_dir).prefixes, **evaluation.prefixes}


def evaluator_for(settings: TrainConfig, evaluation: EvaluationConfig, test_dir: Path) -> Evaluator:
    """What measures the models of a run, on texts cut as in its training."""
    if (folder := settings.start.checkpoint_folder()) is not None:
        model = PolyglanceConfig.from_pretrained(folder)
    else:
        assert settings.tokenizer is not None
        model = settings.start.model.build(load_tokenizer(settings.tokenizer).get_vocab_size())
    return Evaluator(
        settings.coverage,
        test_dir,
        settings.data,
        processor_for(settings, model),
        prefixes=prefixes_for(test_dir, evaluation),
        max_source_tokens=settings.mixture.max_source_tokens,
        max_target_tokens=settings.mixture.max_target_tokens,
        **{name: getattr(evaluation, name) for name in _SIZES},
    )


def measured_run(
    settings: TrainConfig,
    folder: Path,
    evaluator: Callable[[], Evaluator],
    *,
    run_id: str,
    **options: Any,
) -> Polyglance:
    """Measure the untrained model, train it, measure it again; leaves initial.json, losses.json and captions.jsonl
    beside what `train` leaves. Where there are several processes each measures its share of the losses, with the
    undivided model; captions are generated by the first.

    Args:
        evaluator: makes the evaluator, in every process.
        run_id: what the record calls the run.
        options: passed to `train`.
    """
    initial = folder / "initial.json"

    def measure_untrained(model: Polyglance, here: Runtime) -> None:
        if here.from_main(initial.exists()):
            return
        losses = evaluator().initial_losses(model, here)
        if here.is_main:
            write_atomically(initial, json.dumps(losses) + "\n")

    with runtime(settings.engine) as here:  # the processes stay together when `train` has ended
        model = train(settings, folder, before_first_step=measure_untrained, **options).to(here.device)
        losses = evaluator().losses(model, here)
    if here.is_main:
        _record_trained(model, losses, evaluator(), folder, run_id)
    return model


def split_losses(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """UC, ST and SC of a model, the mean of their cells' losses, from what an `Evaluator` gives."""
    found = {
        split: [cell["losses"]["plain"]["mean_nats"] for cell in cells.values() if cell["split"] == split]
        for split in SPLITS
    }
    return {split: float(np.mean(values)) for split, values in found.items() if values}


def _record_trained(model: Polyglance, losses: dict[str, Any], evaluator: Evaluator, folder: Path, run_id: str) -> None:
    captions, scores = evaluator.captions(model)
    for cell, score in scores.items():
        losses[cell]["generation"] = score
    untrained = json.loads((folder / "initial.json").read_text())
    record = {"format": 1, "run": run_id, "cells": losses, "initial": untrained}
    write_atomically(folder / "losses.json", json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    lines = [json.dumps(asdict(caption), ensure_ascii=False) + "\n" for caption in captions]
    write_atomically(folder / "captions.jsonl", "".join(lines))
