"""A run that is measured before its first step and after its last: what a study's runs and `polyglance train` share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polyglance.config import write_atomically
from polyglance.coverage import SPLITS
from polyglance.data.shard import read_manifest
from polyglance.evaluate.evaluator import Evaluator
from polyglance.languages import LANGUAGES
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.study.config import EvaluationConfig
from polyglance.train.config import TrainConfig
from polyglance.train.run import processor_for, train

__all__ = ["RunConfig", "evaluator_for", "measured_run", "prefixes_for", "split_losses"]

_SIZES = ("samples_per_cell", "captions_per_cell", "examples", "max_new_tokens")


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """A training run, where it is kept and how it is measured: the TOML file of `polyglance train`."""

    out: Path
    """The run's folder."""
    test: Path | None = None
    """Held-out data set, for `evaluation`."""
    evaluation: EvaluationConfig | None = None
    """What is measured before the first step (T) and after the last; None: nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.test is None) != (self.evaluation is None):
            raise ValueError("test (a held-out data set) and evaluation go together: give both or neither")

    @property
    def training(self) -> TrainConfig:
        """The run alone."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})


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
    is_main: bool = True,
    **options: Any,
) -> Polyglance:
    """Measure the untrained model, train it, measure it again; leaves initial.json, losses.json and captions.jsonl
    beside what `train` leaves.

    Args:
        evaluator: makes the evaluator, in the process that measures.
        run_id: what the record calls the run.
        is_main: whether this process measures, where there are several.
        options: passed to `train`.
    """
    initial = folder / "initial.json"

    def measure_untrained(model: Polyglance) -> None:
        if not initial.exists():
            write_atomically(initial, json.dumps(evaluator().initial_losses(model)) + "\n")

    model = train(settings, folder, before_first_step=measure_untrained, **options)
    if is_main:
        on_gpu = settings.engine.device != "cpu" and torch.cuda.is_available()
        _measure_trained(model.to("cuda" if on_gpu else "cpu"), evaluator(), folder, run_id)
    return model


def split_losses(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """UC, ST and SC of a model, the mean of their cells' losses, from what `Evaluator.losses` gives."""
    found = {
        split: [cell["losses"]["plain"]["mean_nats"] for cell in cells.values() if cell["split"] == split]
        for split in SPLITS
    }
    return {split: float(np.mean(values)) for split, values in found.items() if values}


def _measure_trained(model: Polyglance, evaluator: Evaluator, folder: Path, run_id: str) -> None:
    losses = evaluator.losses(model)
    captions, scores = evaluator.captions(model)
    for cell, score in scores.items():
        losses[cell]["generation"] = score
    untrained = json.loads((folder / "initial.json").read_text())
    record = {"format": 1, "run": run_id, "cells": losses, "initial": untrained}
    write_atomically(folder / "losses.json", json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    lines = [json.dumps(asdict(caption), ensure_ascii=False) + "\n" for caption in captions]
    write_atomically(folder / "captions.jsonl", "".join(lines))
