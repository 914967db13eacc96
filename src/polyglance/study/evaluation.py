"""`polyglance eval --on ray | slurm`: predictions by jobs of a cluster, joined by id and scored here.

results = evaluate_on_cluster(config, ["th"], ScoringConfig(), EvaluationPlace(on="ray", shards=16))

The rows, and so the scores, are those of one process. What is there already is not made again.
"""

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from polyglance.config import save
from polyglance.data.benchmarks import find_benchmark
from polyglance.distributed import count_launched
from polyglance.evaluate.config import PredictConfig, ScoringConfig
from polyglance.evaluate.prediction_set import PredictionSet
from polyglance.files import locked
from polyglance.language_tags import find_codes
from polyglance.progress import track_progress
from polyglance.settings import UnusedSettingError
from polyglance.study.evaluation_place import EvaluationPlace
from polyglance.study.places.clusters import ClusterPlace, open_cluster
from polyglance.study.places.schedulers import run_jobs
from polyglance.study.work.evaluation_jobs import (
    EVALUATION_NAME,
    ShardedEvaluation,
    list_evaluation_jobs,
    read_description,
)

if TYPE_CHECKING:
    from polyglance.evaluate.prediction_job import DescribedJob
    from polyglance.evaluate.run import LanguageResult

__all__ = ["evaluate_on_cluster"]

_VERB = "polyglance eval"
_LOOK_S = 2.0
"""Seconds between two looks at the rows that are there."""


def evaluate_on_cluster(
    config: PredictConfig, languages: Sequence[str], scoring: ScoringConfig, place: EvaluationPlace
) -> "list[LanguageResult]":
    """Predict and score a benchmark in these languages, as `evaluate_benchmark` does. A job that dies is tried again
    (`cluster.retries`) and goes on after its last whole batch; the next call goes on from what is there.

    Raises:
        ValueError: as `evaluate_benchmark`, there is no such place, or a job failed.
    """
    from polyglance.evaluate.run import score_language

    if count_launched() > 1:
        raise UnusedSettingError("`on` has no effect under torchrun, which has started the processes")
    if config.processes > 1:
        raise UnusedSettingError("`processes` has no effect on a cluster: `shards` is the number of its jobs")
    scoring.check_task(config.task)
    evaluation = ShardedEvaluation(
        predict=config, languages=tuple(find_codes(languages)), shards=place.shards, cluster=place.cluster
    )
    with locked(evaluation.out, _VERB):
        save(evaluation, evaluation.out / EVALUATION_NAME)
        with open_cluster(evaluation, place.on, place.find_needs(config.model.device)) as scheduler:
            _do_jobs(evaluation, scheduler, "description")
            described = read_description(evaluation)
            _name_left_out(evaluation, described)
            with ExitStack() as stack:
                for one in described.values():
                    stack.enter_context(locked(Path(one.folder), _VERB))
                if not all(one.is_done() for one in described.values()):
                    with _shown(evaluation, described):
                        _do_jobs(evaluation, scheduler, "shard")
                configs = {code: replace(config, language=code) for code in described}
                return [
                    score_language(_join(configs[code], one), configs[code], scoring) for code, one in described.items()
                ]


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


def _name_left_out(evaluation: ShardedEvaluation, described: "Mapping[str, DescribedJob]") -> None:
    """Name the benchmark's languages that the model does not know, where none was asked for."""
    languages = find_benchmark(evaluation.predict.benchmark).languages(evaluation.predict.used_split)
    unknown = [code for code in languages if code not in described]
    if unknown and not evaluation.languages:
        _say(f"{next(iter(described.values())).model} does not know {', '.join(unknown)}: left out")


@contextmanager
def _shown(evaluation: ShardedEvaluation, described: "Mapping[str, DescribedJob]") -> Iterator[None]:
    """Show the number of rows that are there, with rate and time left, while jobs are at work."""
    from polyglance.evaluate.prediction_job import load_examples
    from polyglance.evaluate.row_files import count_rows

    config, ended = evaluation.predict, threading.Event()
    left = {code: Path(one.folder) for code, one in described.items() if not one.is_done()}
    totals = {code: len(load_examples(replace(config, language=code), images=False)) for code in left}

    def look() -> None:
        done = sum(min(count_rows(folder), totals[code]) for code, folder in left.items())
        show(config.benchmark, done, sum(totals.values()))

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


def _join(config: PredictConfig, described: "DescribedJob") -> PredictionSet:
    """Join the rows by id, unless that is done, and read them.

    Raises:
        ValueError: rows are missing.
    """
    from polyglance.evaluate.predict import read_predictions
    from polyglance.evaluate.prediction_job import divide_into_batches, load_examples
    from polyglance.evaluate.row_files import find_done_batches, join_row_files

    folder, examples = Path(described.folder), load_examples(config, images=False)
    if not described.is_done():
        batches = divide_into_batches(examples, config.batch_size)
        if num_left := len(batches) - len(find_done_batches(folder, batches)):
            raise ValueError(f"{folder}: {num_left} of {len(batches)} batches are missing; the same command makes them")
        described.make_info(config, join_row_files(folder, [one.id for one in examples])).write(folder)
    return read_predictions(folder, examples)
