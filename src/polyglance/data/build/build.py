"""`polyglance data build`: from a recipe to data sets, step by step, each step part by part."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.config import save
from polyglance.data.align import FaissConfig
from polyglance.data.build.describe import DescribeStep, TranslateStep
from polyglance.data.build.executors import Executor, InProcess
from polyglance.data.build.finish import AnnotateStep, write_data_sets
from polyglance.data.build.ingest import BitextStep, ImagesStep, PairsStep, SelectStep
from polyglance.data.build.match import (
    CandidatesStep,
    CaptionVectorsStep,
    ImageVectorsStep,
    IndexStep,
    MatchConfig,
    MatchesStep,
    TextVectorsStep,
    TuneStep,
)
from polyglance.data.build.parts import PartId, PartReport, merge_drops
from polyglance.data.build.pieces import BitextPiecesStep, ImagePiecesStep
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.step import DamagedFilesError, Step, check_files, digest_part_inputs, order_steps
from polyglance.data.sources.bitext import BitextSource
from polyglance.data.sources.captioned import CaptionedSource
from polyglance.data.sources.images import ImagesSource
from polyglance.files import check_output_folder, locked
from polyglance.processes import refuse_in_imported_script
from polyglance.progress import Show

__all__ = ["BuildResult", "StepResult", "build", "do_step", "make_steps"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Result of a step, summed over all its parts."""

    name: str
    unit: str
    num_parts: int
    num_in: int
    num_out: int
    num_failed: int
    """Records for which an engine failed; `--retry-failed` tries them again."""
    drops: dict[str, Any]
    """Reason -> count and first places."""
    seconds: float
    """Wall time of all parts, one after the other."""
    engine_s: float
    """Seconds inside engines, of `seconds`."""


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """Result of a build."""

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
    """Build the data sets of a recipe. After a kill at any moment, the next call continues the work.

    Args:
        executor: does the parts; this process if not given.
        retry_failed: try records again for which an engine failed, and whatever depends on them.

    Raises:
        ValueError: a source that cannot be read, an engine that cannot be loaded, or another build in the same folder.
    """
    refuse_in_imported_script()
    check_output_folder(recipe.out, "`out`")
    with locked(recipe.out, "polyglance data build"):
        save(recipe, recipe.out / "recipe.toml")
        whole: set[tuple[str, PartId]] = set()
        while True:
            try:
                return _build(
                    recipe, executor or InProcess(), whole, retry_failed=retry_failed, on_progress=on_progress
                )
            except DamagedFilesError as error:  # they are removed, so that their parts are due again
                _log.warning("%s", error)


def _build(recipe: Recipe, executor: Executor, whole: set[tuple[str, PartId]], **options: Any) -> BuildResult:
    """Do all steps, and write the data sets.

    Args:
        whole: as in `do_step`; what is found whole is added.

    Raises:
        DamagedFilesError: files of earlier calls are damaged; they are removed.
    """
    last = make_steps(recipe)
    files: dict[str, dict[PartId, str]] = {}
    results = []
    for step in order_steps(last):
        reports = do_step(step, files, executor, whole=whole, **options)
        files[step.name] = step.folder.digests(reports.values())
        results.append(_sum_up(step, reports))
    sources: Sequence[ImagesSource | CaptionedSource | BitextSource]
    sources = (*recipe.images, *recipe.captioned, *recipe.bitext)
    images = write_data_sets(
        last,
        recipe.out,
        output=recipe.output,
        source=_list_distinct(str(source.path) for source in sources),
        licence=_list_distinct(source.licence for source in sources),
        drops=merge_drops(result.drops for result in results),
        check=lambda: check_files(last, list(files[last.name]), files, whole),
    )
    return BuildResult(out=recipe.out, images=images, steps=tuple(results))


def do_step(
    step: Step,
    files: Mapping[str, Mapping[PartId, str]],
    executor: Executor,
    *,
    whole: set[tuple[str, PartId]] | None = None,
    retry_failed: bool = False,
    on_progress: Show | None = None,
) -> dict[PartId, PartReport]:
    """Do the parts of a step that are not finished, and return the reports of all parts, in the order of the parts.

    Args:
        files: name of each needed step, which is finished -> its files and their digests.
        whole: names of steps, and files of theirs, that were made or compared with their digests in this call; the
            others are compared before they are read. None: nothing is compared.

    Raises:
        DamagedFilesError: files that unfinished parts would read are damaged; they are removed.
    """
    step.folder.open(step.fingerprint)
    inputs = digest_part_inputs(step, files)
    reports, unfinished = step.folder.sort_out(inputs, retry_failed=retry_failed)
    if whole is not None:
        check_files(step, unfinished, files, whole)
    num_records, started_s = 0, time.monotonic()
    for part, report in executor.run(step, {part: inputs[part] for part in unfinished}):
        reports[part] = report
        if whole is not None:
            whole |= {(step.name, file) for file in step.folder.digests([report])}
        if report.warning:
            _log.warning("%s: %s", step.name, report.warning)
        num_records += report.num_in
        rate = num_records / max(time.monotonic() - started_s, 1e-9)
        if on_progress is not None:
            on_progress(step.name, len(reports), len(inputs), f"{rate:,.0f} {step.unit}/s")
    return {part: reports[part] for part in inputs}


def make_steps(recipe: Recipe) -> AnnotateStep:
    """Make the last step of a recipe; it needs all others (`order_steps`)."""
    work_dir = (recipe.out / "work").resolve()
    image_pieces = ImagePiecesStep(
        work_dir=work_dir,
        sources=(*recipe.images, *recipe.captioned),
        records_per_piece=recipe.images_per_part,
    )
    images = ImagesStep(work_dir=work_dir, pieces=image_pieces)
    select = SelectStep(work_dir=work_dir, images=images, config=recipe.duplicates)
    describe = DescribeStep(work_dir=work_dir, images=images, select=select, config=recipe.recaption)
    translate = bitext = matches = None
    if recipe.translate is not None:
        translate = TranslateStep(work_dir=work_dir, describe=describe, config=recipe.translate)
    if recipe.match is not None:
        bitext_pieces = BitextPiecesStep(
            work_dir=work_dir, sources=recipe.bitext, records_per_piece=recipe.pairs_per_part
        )
        bitext = BitextStep(work_dir=work_dir, pairs=PairsStep(work_dir=work_dir, pieces=bitext_pieces))
        matches = make_matches_step(describe, bitext, recipe.match)
    return AnnotateStep(
        work_dir=work_dir,
        images=images,
        select=select,
        describe=describe,
        translate=translate,
        bitext=bitext,
        matches=matches,
        config=recipe.annotate,
        seed=recipe.seed,
    )


def make_matches_step(describe: DescribeStep, bitext: BitextStep, config: MatchConfig) -> MatchesStep:
    """Make the step that matches bitext to images, with the steps that it needs."""
    select = describe.select
    work_dir, align = select.work_dir, config.align
    image_vectors = ImageVectorsStep(work_dir=work_dir, images=select.images, select=select, engine=config.engine)
    if config.engine.kind == "words":
        image_vectors = CaptionVectorsStep(
            work_dir=work_dir, images=select.images, select=select, engine=config.engine, describe=describe
        )
    text_vectors = TextVectorsStep(work_dir=work_dir, bitext=bitext, engine=config.engine)
    tune = None
    if align.method == "faiss":
        faiss = align.faiss
        sizes = FaissConfig(num_lists=faiss.num_lists, code_bytes=faiss.code_bytes, num_train=faiss.num_train)
        index = IndexStep(work_dir=work_dir, texts=text_vectors, sizes=sizes, seed=align.seed)
        tune = TuneStep(
            work_dir=work_dir, select=select, images=image_vectors, texts=text_vectors, index=index, config=align
        )
    candidates = CandidatesStep(
        work_dir=work_dir, select=select, images=image_vectors, texts=text_vectors, tune=tune, config=align
    )
    return MatchesStep(
        work_dir=work_dir,
        images=select.images,
        select=select,
        bitext=bitext,
        image_vectors=image_vectors,
        text_vectors=text_vectors,
        candidates=candidates,
        config=align,
    )


def _sum_up(step: Step, reports: Mapping[PartId, PartReport]) -> StepResult:
    sums = ("num_in", "num_out", "num_failed", "seconds", "engine_s")
    return StepResult(
        name=step.name,
        unit=step.unit,
        num_parts=len(reports),
        drops=merge_drops(report.drops for report in reports.values()).to_dict(),
        **{name: sum(getattr(report, name) for report in reports.values()) for name in sums},
    )


def _list_distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(value for value in values if value))
