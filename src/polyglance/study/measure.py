"""A run that is measured before its first step and after its last: what a study's runs and `polyglance train` share."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader, read_manifest
from polyglance.distributed import Runtime, join_processes
from polyglance.evaluate.evaluator import Evaluator
from polyglance.files import read_json, write_atomically, write_json
from polyglance.languages import LANGUAGES
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import load_tokenizer, train_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.records import Annotation
from polyglance.run_records import LossRecord, cells_from_json, cells_to_json, write_captions
from polyglance.train.config import TrainConfig
from polyglance.train.evaluation_config import EvaluationConfig
from polyglance.train.run import processor_for, train
from polyglance.train.run_config import RunConfig

__all__ = [
    "choose_prefixes",
    "make_evaluator",
    "make_tokenizer",
    "texts_of",
    "train_and_measure",
    "training_annotations",
]


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


def choose_prefixes(test_dir: Path, evaluation: EvaluationConfig) -> dict[str, str]:
    """Return language code -> prefix: the configuration's, else the data set's, else the language's."""
    usual = {code: entry.prefix for code, entry in LANGUAGES.items()}
    return {**usual, **read_manifest(test_dir).prefixes, **evaluation.prefixes}


def make_evaluator(settings: TrainConfig, evaluation: EvaluationConfig, test_dir: Path) -> Evaluator:
    """Make the evaluator of a run's models. It cuts texts to the same lengths as the run's training."""
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
        prefixes=choose_prefixes(test_dir, evaluation),
        max_source_tokens=settings.mixture.max_source_tokens,
        max_target_tokens=settings.mixture.max_target_tokens,
        samples_per_cell=evaluation.samples_per_cell,
        captions_per_cell=evaluation.captions_per_cell,
        examples=evaluation.examples,
        max_new_tokens=evaluation.max_new_tokens,
    )


def train_and_measure(
    settings: TrainConfig,
    folder: Path,
    evaluator: Callable[[], Evaluator],
    *,
    run_id: str,
    **options: Any,
) -> LossRecord | None:
    """Measure the untrained model, train it, and measure it again.

    Writes initial.json, losses.json and captions.jsonl beside the files that `train` writes. Several processes each
    measure a share of the losses, with the undivided model; the first one generates the captions.

    Args:
        evaluator: makes the evaluator, in every process.
        run_id: id of the run in losses.json.
        options: keyword arguments of `train`.

    Returns:
        The content of losses.json in the first process, None in the others.
    """
    initial = folder / "initial.json"

    def measure_untrained(model: Polyglance, runtime: Runtime) -> None:
        if runtime.from_main(initial.exists()):
            return
        cells = evaluator().measure_initial(model, runtime)
        if runtime.is_main:
            write_json(initial, cells_to_json(cells), indent=None)

    with join_processes(settings.engine) as runtime:  # they stay together until the trained model is measured
        model = train(settings, folder, before_first_step=measure_untrained, **options).to(runtime.device)
        cells = evaluator().measure(model, runtime)
    if not runtime.is_main:
        return None
    captions, scores = evaluator().caption(model)
    record = LossRecord(
        run=run_id,
        cells={cell: replace(losses, generation=scores.get(cell, {})) for cell, losses in cells.items()},
        initial=cells_from_json(read_json(initial), str(initial)),
    )
    write_captions(folder / "captions.jsonl", captions)
    record.write(folder / "losses.json")
    return record
