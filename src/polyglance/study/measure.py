"""A run that is measured before its first step and after its last: what a study's runs and `polyglance train` share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from polyglance.data.manifest import read_manifest
from polyglance.distributed import Runtime, join_processes
from polyglance.evaluate.evaluator import Evaluator
from polyglance.files import read_json, write_json
from polyglance.languages import LANGUAGES
from polyglance.model.architecture import Polyglance
from polyglance.run_records import LossRecord, cells_from_json, cells_to_json, write_captions
from polyglance.train.config import EvaluationConfig, TrainConfig
from polyglance.train.loop import Hooks
from polyglance.train.run import train
from polyglance.train.start import make_model_config, make_processor

__all__ = ["choose_prefixes", "make_evaluator", "train_and_measure"]


def choose_prefixes(test_dir: Path, evaluation: EvaluationConfig) -> dict[str, str]:
    """Return language code -> prefix: the configuration's, else the data set's, else the language's."""
    usual = {code: entry.prefix for code, entry in LANGUAGES.items()}
    return {**usual, **read_manifest(test_dir).prefixes, **evaluation.prefixes}


def make_evaluator(settings: TrainConfig, evaluation: EvaluationConfig, test_dir: Path) -> Evaluator:
    """Make the evaluator of a run's models. It cuts texts to the same lengths as the run's training."""
    return Evaluator(
        settings.coverage,
        test_dir,
        settings.data,
        make_processor(settings, make_model_config(settings)),
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
    hooks: Hooks = Hooks(),  # noqa: B008  frozen
    show_progress: bool = False,
) -> LossRecord | None:
    """Measure the untrained model, train it, and measure it again.

    Writes initial.json, losses.json and captions.jsonl beside the files that `train` writes. Several processes each
    measure a share of the losses, with the undivided model; the first one generates the captions.

    Args:
        evaluator: makes the evaluator, in every process.
        run_id: id of the run in losses.json.
        hooks, show_progress: passed to `train`; the hook before the first step is taken.

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
        hooks = replace(hooks, before_first_step=measure_untrained)
        model = train(settings, folder, hooks=hooks, show_progress=show_progress).to(runtime.device)
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
