"""`polyglance data build`: from a recipe to data sets, step by step, each step part by part."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.config import save
from polyglance.data.build.describe import DescribeStep, TranslateStep
from polyglance.data.build.executors import Executor, InProcess
from polyglance.data.build.finish import AnnotateStep, write_data_sets
from polyglance.data.build.ingest import BitextStep, ImagesStep, PairsStep, SelectStep
from polyglance.data.build.match import AlignStep, HubsStep, ImageVectorsStep, IndexStep, TextVectorsStep, TuneStep
from polyglance.data.build.plan import PlanStep, Source
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.tasks import (
    Report,
    Step,
    finished_parts,
    merged_drops,
    open_step,
    read_report,
    remove_other_parts,
)
from polyglance.files import locked
from polyglance.progress import Show

__all__ = ["BuildResult", "StepResult", "build", "steps_of"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What a step came to, over all its parts."""

    name: str
    unit: str
    num_parts: int
    num_in: int
    num_out: int
    num_failed: int
    """Records that an engine could not do; `--retry-failed` tries them again."""
    drops: dict[str, Any]
    """Reason -> count and first places."""
    seconds: float
    """Of all its tasks, one after the other."""
    engine_s: float
    """Of that inside engines."""


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What was built."""

    out: Path
    images: dict[str, int]
    """Data set -> images."""
    steps: tuple[StepResult, ...]


def build(
    recipe: Recipe,
    executor: Executor | None = None,
    *,
    retry_failed: bool = False,
    on_progress: Show | None = None,
) -> BuildResult:
    """Build what the recipe describes. Killed at any moment, it goes on where it was when it is called again.

    Args:
        executor: where tasks run; in this process if not given.
        retry_failed: try records that an engine could not do again, and whatever depends on them.

    Raises:
        ValueError: a source that cannot be read, an engine that cannot be loaded, or another build in the same folder.
    """
    with locked(recipe.out, "polyglance data build"):
        save(recipe, recipe.out / "recipe.toml")
        steps = steps_of(recipe)
        _do_steps(steps, recipe.out / "work", executor or InProcess(), retry_failed, on_progress)
        results = tuple(_result(step, recipe.out / "work" / step.name, step.parts()) for step in steps)
        return BuildResult(out=recipe.out, images=_write(recipe, steps[-1], results), steps=results)


def _do_steps(
    steps: Sequence[Step], work_dir: Path, executor: Executor, retry_failed: bool, on_progress: Show | None
) -> None:
    for step in steps:
        folder = work_dir / step.name
        open_step(step, folder)
        parts = step.parts()
        remove_other_parts(folder, parts)
        done = finished_parts(folder, parts)
        todo = [part for part in parts if part not in done or _is_due_again(step, folder, part, retry_failed)]
        num_done, num_records, started_s = len(parts) - len(todo), 0, time.monotonic()
        for _, report in executor.run(step, folder, todo):
            if report.warning:
                _log.warning("%s: %s", step.name, report.warning)
            num_done, num_records = num_done + 1, num_records + report.num_in
            rate = num_records / max(time.monotonic() - started_s, 1e-9)
            if on_progress is not None:
                on_progress(step.name, num_done, len(parts), f"{rate:,.0f} {step.unit}/s")


def _is_due_again(step: Step, folder: Path, part: str, retry_failed: bool) -> bool:
    """Whether a finished part has failed records to try again, or what it was made of has changed."""
    report = read_report(folder, part)
    return (retry_failed and report.num_failed > 0) or report.inputs != step.inputs(part)


def _write(recipe: Recipe, annotate: Step, results: Sequence[StepResult]) -> dict[str, int]:
    assert isinstance(annotate, AnnotateStep)
    return write_data_sets(
        annotate,
        recipe.out,
        test_fraction=recipe.output.test_fraction,
        rows_per_shard=recipe.output.rows_per_shard,
        source=_listed(str(source.path) for source in _sources(recipe)),
        licence=_listed(source.licence for source in _sources(recipe)),
        drops=merged_drops([Report(num_in=0, num_out=0, drops=result.drops) for result in results]),
    )


def steps_of(recipe: Recipe) -> list[Step]:
    """The recipe's steps, each after those it reads; annotations come last."""
    work_dir = recipe.out / "work"
    plan = PlanStep(
        work_dir=work_dir,
        sources=_sources(recipe),
        images_per_part=recipe.images_per_part,
        pairs_per_part=recipe.pairs_per_part,
    )
    images = ImagesStep(work_dir=work_dir, plan=plan)
    select = SelectStep(work_dir=work_dir, images=images, config=recipe.duplicates)
    describe = DescribeStep(work_dir=work_dir, select=select, config=recipe.recaption)
    steps: list[Step] = [plan, images, select, describe]
    translate = hubs = None
    if recipe.translate is not None:
        translate = TranslateStep(work_dir=work_dir, describe=describe, config=recipe.translate)
        steps.append(translate)
    if recipe.match is not None:
        pairs = PairsStep(work_dir=work_dir, plan=plan)
        bitext = BitextStep(work_dir=work_dir, pairs=pairs)
        image_vectors = ImageVectorsStep(work_dir=work_dir, select=select, engine=recipe.match.engine)
        text_vectors = TextVectorsStep(work_dir=work_dir, bitext=bitext, engine=recipe.match.engine)
        index = IndexStep(work_dir=work_dir, texts=text_vectors, config=recipe.match.align)
        tune = TuneStep(work_dir=work_dir, images=image_vectors, index=index, config=recipe.match.align)
        align = AlignStep(work_dir=work_dir, tune=tune)
        hubs = HubsStep(work_dir=work_dir, align=align)
        steps += [pairs, bitext, image_vectors, text_vectors, index, tune, align, hubs]
    annotate = AnnotateStep(
        work_dir=work_dir,
        describe=describe,
        translate=translate,
        match=hubs,
        config=recipe.annotate,
        seed=recipe.seed,
    )
    return [*steps, annotate]


def _result(step: Step, folder: Path, parts: Sequence[str]) -> StepResult:
    reports = [read_report(folder, part) for part in parts]
    return StepResult(
        name=step.name,
        unit=step.unit,
        num_parts=len(parts),
        drops=merged_drops(reports).to_dict(),
        **{name: sum(getattr(report, name) for report in reports) for name in _SUMMED},
    )


_SUMMED = ("num_in", "num_out", "num_failed", "seconds", "engine_s")


def _sources(recipe: Recipe) -> tuple[Source, ...]:
    return (*recipe.images, *recipe.captioned, *recipe.bitext)


def _listed(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))
