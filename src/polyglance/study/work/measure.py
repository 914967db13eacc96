"""Training of a run with measurements before the first step and after the last, for studies and `polyglance train`."""

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from polyglance.coverage import Cell
from polyglance.data.manifest import choose_prefixes
from polyglance.distributed import Runtime, is_main_process, join_processes
from polyglance.evaluate.evaluator import Evaluator
from polyglance.files import check_output_folder, locked, seal_files
from polyglance.model.architecture import Polyglance
from polyglance.run_records import (
    INITIAL_NAME,
    CellRecord,
    LossRecord,
    average_splits,
    read_initial,
    write_captions,
    write_initial,
)
from polyglance.train.config import EvaluationConfig, RunConfig, TrainConfig
from polyglance.train.loop import Hooks
from polyglance.train.run import train
from polyglance.train.start import make_model, make_model_config, make_processor, make_tokenizer
from polyglance.train.watch import NotFiniteError

__all__ = ["RunResult", "make_evaluator", "measure_start", "train_and_measure", "train_run"]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Result of `polyglance train`."""

    run: Path
    """Folder of the run."""
    model: Path
    """Folder of the trained model."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Split (UC, ST, SC) -> mean loss in nats per token; empty where the run has no held-out data."""


def train_run(config: RunConfig, should_stop: Callable[[], bool], *, waits: bool = False) -> RunResult:
    """Train the model of a run file, and measure it if the file names held-out data.

    Under torchrun every process calls this function. The first one locks the folder of the run.

    Args:
        should_stop: asked after each step; the run then saves and raises `Stopped`.
        waits: wait for a process that works in the folder, which is about to end, instead of raising.

    Raises:
        ValueError: data, coverage and configuration do not fit each other, or another process writes to the folder.
        Stopped: the run was asked to stop, and goes on from here with the next call.
    """
    check_output_folder(config.out, "`out`")
    with (
        locked(config.out, "polyglance train", wait=waits) if is_main_process() else nullcontext(),
        join_processes(config.engine) as runtime,
    ):
        make_tokenizer(config, runtime)
        return RunResult(
            run=config.out, model=config.out / "checkpoints" / "final", losses=_train_and_average(config, should_stop)
        )


def _train_and_average(config: RunConfig, should_stop: Callable[[], bool]) -> dict[str, float]:
    """Train, and return the losses of the splits if they are measured."""
    hooks = Hooks(should_stop=should_stop)
    if config.evaluation is None or config.test is None:
        train(config.training, config.out, hooks=hooks, show_progress=True)
        return {}
    evaluation, test = config.evaluation, config.test

    @cache
    def evaluator() -> Evaluator:
        return make_evaluator(config.training, evaluation, test, num_shares=config.measured_as)

    def validate(model: Polyglance, runtime: Runtime) -> dict[str, float]:
        return average_splits(evaluator().measure_plain(model, runtime).values())

    if config.best in ("UC", "ST", "SC"):
        hooks = replace(hooks, validate=validate)
    record = train_and_measure(
        config.training, config.out, evaluator, run_id=config.out.name, hooks=hooks, show_progress=True
    )
    return {} if record is None else average_splits(record.cells.values())


def make_evaluator(
    settings: TrainConfig, evaluation: EvaluationConfig, test_dir: Path, *, num_shares: int | None = None
) -> Evaluator:
    """Make the evaluator of a run's models. It cuts texts to the same lengths as the run's training.

    Args:
        num_shares: as for `Evaluator`.
    """
    return Evaluator(
        settings.coverage,
        test_dir,
        settings.data,
        make_processor(settings, make_model_config(settings)),
        prefixes=choose_prefixes(test_dir, evaluation.prefixes),
        max_source_tokens=settings.mixture.max_source_tokens,
        max_target_tokens=settings.mixture.max_target_tokens,
        samples_per_cell=evaluation.samples_per_cell,
        captions_per_cell=evaluation.captions_per_cell,
        translations_per_cell=evaluation.translations_per_cell,
        ambiguous_per_cell=evaluation.ambiguous_per_cell,
        examples=evaluation.examples,
        max_new_tokens=evaluation.max_new_tokens,
        num_shares=num_shares,
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
    """Measure the untrained model, train it, and measure it again. A model that is trained already is only measured.

    Writes initial.json, losses.json and captions.jsonl beside the files that `train` writes. Under torchrun each
    process measures a share of the losses and generates a share of the captions, with the undivided model.

    Args:
        evaluator: makes the evaluator, in every process.
        run_id: id of the run in losses.json.
        hooks, show_progress: passed to `train`; the hook before the first step is taken.

    Returns:
        The content of losses.json in the first process, None in the others.
    """

    def measure_untrained(model: Polyglance, runtime: Runtime) -> None:
        if runtime.from_main(_is_measured(folder)):
            return
        cells = evaluator().measure_initial(model, runtime)
        if runtime.is_main:
            write_initial(folder, cells)

    with join_processes(settings.engine) as runtime:  # they stay together until the trained model is measured
        hooks = replace(hooks, before_first_step=measure_untrained)
        model = train(settings, folder, hooks=hooks, show_progress=show_progress)
        if not runtime.from_main((folder / INITIAL_NAME).exists()):  # it was trained by a job that does not measure
            measure_untrained(make_model(settings).to(runtime.device).eval(), runtime)
        model.to(runtime.device)
        cells = evaluator().measure(model, runtime)
        _check_losses(cells, folder)
        if runtime.device.type == "cuda":  # the model is used for nothing after this
            model.to(runtime.dtype)
        captions, scores = evaluator().generate(model, runtime)
        settled = evaluator().disambiguate(model) if runtime.is_main else {}
    if not runtime.is_main:
        return None
    record = LossRecord(
        run=run_id,
        cells={
            cell: replace(losses, generation=scores.get(cell, {}), disambiguation=settled.get(cell))
            for cell, losses in cells.items()
        },
        initial=read_initial(folder),
    )
    write_captions(folder / "captions.jsonl", captions)
    record.write(folder / "losses.json")
    seal_files(folder, ["captions.jsonl", "losses.json"])
    return record


def measure_start(settings: TrainConfig, folder: Path, evaluator: Evaluator) -> None:
    """Measure the untrained model of a run that has not started, as `train_and_measure` does before the first step, and
    write initial.json into a folder."""
    with join_processes(settings.engine) as runtime:
        model = make_model(settings).to(runtime.device).eval()
        cells = evaluator.measure_initial(model, runtime)
        if runtime.is_main:
            write_initial(folder, cells)


def _is_measured(folder: Path) -> bool:
    """Tell whether the untrained model is measured. A damaged record is reported and counts as missing."""
    try:
        read_initial(folder)
    except ValueError as error:
        if (folder / INITIAL_NAME).exists():
            print(f"{error}; the untrained model is measured again", file=sys.stderr, flush=True)
        return False
    return True


def _check_losses(cells: Mapping[Cell, CellRecord], folder: Path) -> None:
    """Refuse losses on held-out data that are not finite, before they are written.

    Raises:
        NotFiniteError: names the first such cell.
    """
    for cell, record in cells.items():
        for variant, loss in record.losses.items():
            if not math.isfinite(loss.nats) or not math.isfinite(loss.mean_nats):
                raise NotFiniteError(
                    f"{folder}: the loss of {cell} ({variant}) on held-out data is not finite ({loss.mean_nats}): try "
                    "a lower lr, or bf16 or fp32 in place of fp16"
                )
