"""`polyglance eval --on ray | slurm` and `caption --on ...`: rows that are made by jobs of a cluster, and joined here.

    results = evaluate_on_cluster(config, ["th"], ScoringConfig(), EvaluationPlace(on="ray", shards=16))
    lines = caption_on_cluster(["a.jpg", "b.jpg"], request, Path("/shared/captions"), EvaluationPlace(on="slurm"))
    record = measure_on_cluster(
        LossConfig(model=model, data=data), Path("/shared/losses.json"), EvaluationPlace(on="ray")
    )

The rows, and so scores, captions and losses, are those of one process. What is there already is not made again.
"""

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from polyglance.config import fingerprint, save
from polyglance.data.benchmarks import find_benchmark
from polyglance.distributed import count_launched
from polyglance.evaluate.config import LossConfig, PredictConfig, ScoringConfig
from polyglance.evaluate.prediction_set import PREDICTIONS_NAME, PredictionSet
from polyglance.files import check_output_folder, locked
from polyglance.language_tags import find_codes
from polyglance.model.caption_request import CaptionRequest
from polyglance.progress import track_progress
from polyglance.run_records import LossRecord
from polyglance.settings import UnusedSettingError
from polyglance.study.evaluation_place import EvaluationPlace
from polyglance.study.places.clusters import ClusterPlace, open_cluster
from polyglance.study.places.schedulers import run_jobs
from polyglance.study.work.evaluation_jobs import (
    EVALUATION_NAME,
    ShardedEvaluation,
    list_evaluation_jobs,
    read_description,
    write_images,
)

if TYPE_CHECKING:
    from polyglance.evaluate.described_rows import DescribedRows
    from polyglance.evaluate.prediction_job import DescribedJob
    from polyglance.evaluate.run import LanguageResult
    from polyglance.model.generate import Generated

__all__ = ["caption_on_cluster", "evaluate_on_cluster", "measure_on_cluster"]

_LOOK_S = 2.0
"""Seconds between two looks at the rows that are there."""
_Described = Mapping[str, "DescribedRows"]
"""Name of rows -> their description."""


def evaluate_on_cluster(
    config: PredictConfig, languages: Sequence[str], scoring: ScoringConfig, place: EvaluationPlace
) -> "list[LanguageResult]":
    """Predict and score a benchmark in these languages, as `evaluate_benchmark` does. A job that dies is tried again
    (`cluster.retries`) and goes on after its last whole batch; the next call goes on from what is there.

    Raises:
        ValueError: as `evaluate_benchmark`, there is no such place, or a job failed.
    """
    from polyglance.evaluate.run import score_language

    _refuse_processes(config.processes)
    scoring.check_task(config.task)
    codes = tuple(find_codes(languages))
    evaluation = ShardedEvaluation(
        predict=config,
        languages=codes,
        rows=config.out,
        mark=fingerprint(config, codes),
        shards=place.shards,
        cluster=place.cluster,
    )
    results = []
    with _made(evaluation, place, config.benchmark) as described:
        for code, one in described.items():
            of_language = replace(config, language=code)
            predictions = _join_predictions(of_language, cast("DescribedJob", one))
            results.append(score_language(predictions, of_language, scoring))
    return results


def caption_on_cluster(
    images: Sequence[str | Path], request: CaptionRequest, out: Path, place: EvaluationPlace
) -> "list[Generated]":
    """Return the captions of image files, in the order of the files, then of the languages, as `caption_files` does.
    Jobs that die, and the next call, go on as in `evaluate_on_cluster`. If a file has changed, all are captioned again.

    Args:
        out: folder of the rows, which all nodes see.

    Raises:
        ValueError: as `caption_files`, there is no such place, or a job failed.
    """
    from polyglance.model.caption_files import repeat_for_files

    _refuse_processes()
    names = [str(image) for image in images]
    unique = list(dict.fromkeys(names))
    evaluation = ShardedEvaluation(
        captions=request, rows=out, mark=fingerprint(request, unique), shards=place.shards, cluster=place.cluster
    )
    write_images(evaluation, unique)
    with _made(evaluation, place, "images") as described:
        work = evaluation.open_captions()
        (one,) = described.values()
        _join(one, work.groups, work.rows_name)
        return list(repeat_for_files(names, work.read(Path(one.folder))))


def measure_on_cluster(config: LossConfig, out: Path, place: EvaluationPlace) -> LossRecord:
    """Measure the losses of a model, as `measure_folder` does: the batches are the same, and the losses of their
    samples are added in the same order. Jobs that die, and the next call, go on as in `evaluate_on_cluster`.

    Args:
        out: file that gets the record; its folder, which all nodes see, gets the rows.

    Raises:
        ValueError: as `measure_folder`, there is no such place, or a job failed.
    """
    from polyglance.evaluate.folder_loss import note_precision

    _refuse_processes()
    evaluation = ShardedEvaluation(
        losses=config,
        rows=out.parent / f"{out.stem}-rows",
        mark=fingerprint(config),
        shards=place.shards,
        cluster=place.cluster,
    )
    with _made(evaluation, place, "batches") as described:
        work = evaluation.open_losses()
        for role, one in described.items():
            note_precision(config, one.model, one.facts["dtype"])
            ids = [name for of_cell in work.list_ids(role).values() for name in of_cell]
            _join(one, [[name] for name in ids], work.rows_name)
        record = work.read({role: Path(one.folder) for role, one in described.items()})
        record.write(out, summary=True)
        return record


def _refuse_processes(processes: int = 1) -> None:
    """Refuse other ways to divide the work.

    Raises:
        UnusedSettingError: there is one.
    """
    if count_launched() > 1:
        raise UnusedSettingError("`on` has no effect under torchrun, which has started the processes")
    if processes > 1:
        raise UnusedSettingError("`processes` has no effect on a cluster: `shards` is the number of its jobs")


@contextmanager
def _made(evaluation: ShardedEvaluation, place: EvaluationPlace, name: str) -> Iterator[_Described]:
    """Let jobs make all rows, hold their folders, and give their descriptions.

    Args:
        name: name of the work where its progress is shown.

    Raises:
        ValueError: there is no such place, or a job failed.
    """
    verb = "polyglance caption" if evaluation.captions else "polyglance eval"
    needs, takes_gpu = place.find_needs(evaluation.device), place.takes_gpu_if_there(evaluation.device)
    check_output_folder(evaluation.out, "`out`")
    with locked(evaluation.out, verb):
        save(evaluation, evaluation.out / EVALUATION_NAME)
        with (
            open_cluster(evaluation, place.on, needs, takes_gpu_if_there=takes_gpu) as scheduler,
            ExitStack() as stack,
        ):
            if takes_gpu:
                _say(f"device auto: each job asks for {scheduler.needs}")
            _do_jobs(evaluation, scheduler, "description")
            described = read_description(evaluation)
            _name_left_out(evaluation, described)
            for one in described.values():
                stack.enter_context(locked(Path(one.folder), verb))
            if not all(one.is_done() for one in described.values()):
                with _shown(described, name, _find_rows_name(evaluation)):
                    _do_jobs(evaluation, scheduler, "shard")
            yield described


def _find_rows_name(evaluation: ShardedEvaluation) -> str:
    from polyglance.evaluate.described_rows import NAMED_ROWS

    return NAMED_ROWS if evaluation.predict is None else PREDICTIONS_NAME


def _do_jobs(evaluation: ShardedEvaluation, scheduler: ClusterPlace, kind: str) -> None:
    """Do the jobs of a kind.

    Raises:
        ValueError: one failed.
    """
    jobs = list_evaluation_jobs(evaluation)
    failed = run_jobs(
        jobs,
        scheduler,
        done={job.id for job in jobs if job.kind != kind},
        seconds=dict.fromkeys((job.id for job in jobs), 1.0),
        retries=evaluation.cluster.retries,
        on_retry=_say,
        on_failed=lambda _, problem: _say(problem),
        on_refused=_say,
    )
    if failed:
        raise ValueError(f"{next(iter(failed.values()))}; the same command goes on from what is there")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _name_left_out(evaluation: ShardedEvaluation, described: _Described) -> None:
    """Name the benchmark's languages that the model does not know, where none was asked for."""
    config = evaluation.predict
    if config is None or evaluation.languages:
        return
    languages = find_benchmark(config.benchmark).languages(config.used_split)
    if unknown := [code for code in languages if code not in described]:
        _say(f"{next(iter(described.values())).model} does not know {', '.join(unknown)}: left out")


@contextmanager
def _shown(described: _Described, name: str, rows_name: str) -> Iterator[None]:
    """Show the number of rows that are there, with rate and time left, while jobs are at work."""
    from polyglance.evaluate.row_files import count_rows

    ended = threading.Event()
    left = [one for one in described.values() if not one.is_done()]

    def look() -> None:
        done = sum(min(count_rows(Path(one.folder), rows_name), one.num_rows) for one in left)
        show(name, done, sum(one.num_rows for one in left))

    def look_until_ended() -> None:
        while not ended.wait(_LOOK_S):
            look()

    with track_progress() as show:
        look()
        thread = threading.Thread(target=look_until_ended, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            look()


def _join_predictions(config: PredictConfig, described: "DescribedJob") -> PredictionSet:
    """Join the predictions of a language by id, unless that is done, and read them.

    Raises:
        ValueError: rows are missing.
    """
    from polyglance.evaluate.predict import read_predictions
    from polyglance.evaluate.prediction_job import divide_into_batches, load_examples
    from polyglance.evaluate.prediction_set import read_prediction_rows

    folder, examples = Path(described.folder), load_examples(config, images=False)
    if not described.is_done():
        _join(described, divide_into_batches(examples, config.batch_size), PREDICTIONS_NAME)
        described.make_info(config, read_prediction_rows(folder)).write(folder)
    return read_predictions(folder, examples)


def _join(described: "DescribedRows", batches: Sequence[Sequence[str]], rows_name: str) -> None:
    """Join rows by id, unless that is done.

    Raises:
        ValueError: rows are missing.
    """
    from polyglance.evaluate.row_files import find_done_batches, join_row_files

    if described.is_done():
        return
    folder = Path(described.folder)
    if num_left := len(batches) - len(find_done_batches(folder, batches, rows_name)):
        raise ValueError(f"{folder}: {num_left} of {len(batches)} batches are missing; the same command makes them")
    join_row_files(folder, [one for batch in batches for one in batch], rows_name)
