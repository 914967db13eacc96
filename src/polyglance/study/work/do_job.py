"""The work of each kind of job. An interrupted job is continued from its last checkpoint when it is done again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from polyglance.data.importer import import_data
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import ShardReader
from polyglance.data.world import generate
from polyglance.evaluate.cells import choose_cells
from polyglance.files import seal_files, write_atomically
from polyglance.mixture.tokenizer import read_training_texts, train_tokenizer
from polyglance.study.config import StudyConfig
from polyglance.study.grid.inputs import check_data_source
from polyglance.study.grid.job_configs import make_language_model_config, make_train_config
from polyglance.study.grid.job_state import begin_job, fail_job, finish_job, held, is_done
from polyglance.study.grid.jobs import Job, list_jobs
from polyglance.study.grid.models import count_mean_lengths
from polyglance.study.results.predictions import predict_held_out_runs
from polyglance.study.work.launch import launch_run
from polyglance.study.work.measure import make_evaluator, measure_start, train_and_measure
from polyglance.train.language_model import train_language_model
from polyglance.train.loop import Hooks
from polyglance.train.run import train
from polyglance.train.watch import NotFiniteError

__all__ = ["do_job"]


def do_job(config: StudyConfig, job: Job, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Do a job, unless it is done. One process at a time does it.

    Args:
        should_stop: asked after each step; the job then saves its state and ends.

    Raises:
        NotFiniteError: losses or weights are not finite; noted in the job's folder.
        Stopped: it was asked to stop, and goes on from here with the next call.
        DiedError: a program that it has started was killed, or broke down.
        ValueError: the user has to change something; one line that names the job.
    """
    if is_done(config.out, job):
        return
    with held(config.out, job) as lock:
        if is_done(config.out, job):
            return
        if job.kind == "data":
            check_data_source(config)
        folder = begin_job(config.out, job)
        try:
            _make(config, job, folder, should_stop, lock)
        except NotFiniteError as error:
            fail_job(config.out, job, str(error))
            raise NotFiniteError(f"{job.id}: {error}") from None
        except ValueError as error:
            raise ValueError(f"{job.id}: {error}") from None
        finish_job(config.out, job)


def _make(config: StudyConfig, job: Job, folder: Path, should_stop: Callable[[], bool], lock: int) -> None:
    """Make what a job is for, in its folder.

    Args:
        lock: descriptor of the job's lock, for programs that are started.
    """
    hooks = Hooks(should_stop=should_stop)
    match job.kind:
        case "data":
            _make_data(config, folder)
        case "tokenizer":
            _make_tokenizer(config, folder)
        case "tower":
            train(make_train_config(config, job), folder, hooks=hooks)
        case "language_model":
            train_language_model(make_language_model_config(config, job), folder, hooks=hooks)
        case "prediction":
            predict_held_out_runs(config, folder)
        case "start":
            settings = make_train_config(config, replace(job, samples=max(config.family(job.family).samples)))
            measure_start(settings, folder, make_evaluator(settings, config.evaluation, config.test_dir))
        case "trunk" | "training" if config.is_micro:
            train(make_train_config(config, job, _find_trunk(config, job)), folder, hooks=hooks)
        case "run" if config.is_micro:
            settings = make_train_config(config, job, _find_trunk(config, job))
            evaluator = make_evaluator(settings, config.evaluation, config.test_dir)
            train_and_measure(settings, folder, lambda: evaluator, run_id=job.id, hooks=hooks)
        case "trunk" | "training" | "run":
            launch_run(config, job, _find_trunk(config, job), should_stop, lock)


def _find_trunk(config: StudyConfig, job: Job) -> Path | None:
    """Return the folder of the trunk that a run or trunk goes on from; None where there is none, or it is not made."""
    if not job.trunk:
        return None
    trunks = [other for other in list_jobs(config) if other.id == job.trunk and is_done(config.out, other)]
    return config.out / trunks[0].folder if trunks else None


def _make_data(config: StudyConfig, folder: Path) -> None:
    """Generate or import the data, and check that it has the cells of the coverage."""
    if config.data.world is not None:
        generate(config.data.world, folder)
    elif config.data.table is not None:
        import_data(config.data.table.import_config(folder))
    rows = read_manifest(config.train_dir).rows_per_cell
    if missing := [str(cell) for cell in config.coverage.cells if not rows.get(str(cell))]:
        raise ValueError(f"{config.train_dir} has no {', '.join(missing)}, which the coverage trains")
    try:
        choose_cells(config.coverage, read_manifest(config.test_dir).rows_per_cell)
    except ValueError as error:
        raise ValueError(f"{config.test_dir}: {error}") from None


def _make_tokenizer(config: StudyConfig, folder: Path) -> None:
    """Train the tokenizer, and write the mean lengths of prompts and targets with it."""
    texts = read_training_texts(config.train_dir, set(config.coverage.languages))
    asked = {*config.coverage.languages, *((config.tower.language,) if config.tower else ())}
    tokens = asked if config.language_tokens else ()
    tokenizer = train_tokenizer(texts, vocab_size=config.vocab_size, language_tokens=tokens)
    write_atomically(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    annotations = (annotation for of_image in ShardReader(config.train_dir).annotations() for annotation in of_image)
    count_mean_lengths(config, tokenizer, annotations).write(folder / "lengths.json")
    seal_files(folder, ["tokenizer.json", "lengths.json"])
