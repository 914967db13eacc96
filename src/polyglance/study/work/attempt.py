"""One try at a job, in the process that does it. This code is the same for local workers, Ray and Slurm.

A job is sent to another machine as strings, not as a pickled object, which another version of Python could not read:
the path of the study's `study.toml`, the job's id and its mark (`try_named_job`). Jobs of an evaluation are sent
in the same way, with its `evaluation.toml`.
"""

import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict

from polyglance import __version__
from polyglance.config import load
from polyglance.object_store import SilentStoreError
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import is_done
from polyglance.study.grid.jobs import Job, list_work
from polyglance.study.store.copy import refresh_copy
from polyglance.study.store.scratch import STUDY_NAME, read_stored_study
from polyglance.study.work.ending import DiedError, EndedJob, GivenUpError
from polyglance.study.work.evaluation_jobs import (
    EVALUATION_NAME,
    ShardedEvaluation,
    do_evaluation_job,
    list_evaluation_jobs,
)

__all__ = [
    "LIGHT_KINDS",
    "NamedJob",
    "Work",
    "measure_clock_offset",
    "name_job",
    "prepare_worker",
    "try_job",
    "try_named_job",
]

Work = StudyConfig | ShardedEvaluation
"""Owner of the jobs. Its folder `out` holds its TOML file, and its table `cluster` says what a job asks for."""

LIGHT_KINDS = ("data", "tokenizer", "prediction")
"""Kinds of jobs without an accelerator and a queue: `study run` does them itself."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""Numbers of the errors of a full store."""


class NamedJob(TypedDict):
    """A job as it is sent to another machine."""

    folder: str
    """Working directory, which relative paths of the study start from."""
    study: str
    """The study's `study.toml`, which may be that of a store (a URL), or an evaluation's `evaluation.toml`."""
    job: str
    """Id."""
    mark: str
    version: str
    """Version of polyglance."""


def name_job(config: Work, job: Job) -> NamedJob:
    """Return a job as it is sent to another machine."""
    study = str(config.out / (EVALUATION_NAME if isinstance(config, ShardedEvaluation) else STUDY_NAME))
    if isinstance(config, StudyConfig) and config.cluster.store:
        study = f"{config.cluster.store.rstrip('/')}/{STUDY_NAME}"
    return {
        "folder": str(Path.cwd()),
        "study": study,
        "job": job.id,
        "mark": job.mark,
        "version": __version__,
    }


def prepare_worker() -> None:
    """Prepare this process for jobs: one thread, as for every micro model."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # transformers shows a bar for every small file that it saves
    import torch

    torch.set_num_threads(1)


def try_named_job(
    named: NamedJob, should_stop: Callable[[], bool] = lambda: False, *, is_first: bool = True
) -> dict[str, Any]:
    """Do a job on a machine of a cluster, and report how it has ended (`EndedJob.report`).

    Args:
        should_stop: as for `try_job`.
        is_first: this is the first or only node of the job; the other nodes take part in its run.
    """
    host = socket.gethostname()
    if named["version"] != __version__:
        problem = f"{host} has polyglance {__version__}, and `study run` {named['version']}: install the same"
        return {"ending": "refused", "problem": problem}
    is_stored = "://" in named["study"]
    try:
        with suppress(OSError) if is_stored else nullcontext():  # a study in a store needs no folder of the call
            os.chdir(named["folder"])
        config, jobs = _read_work(named["study"])
    except (OSError, ValueError) as error:
        advice = "" if is_stored else ": put its folder on a file system that all nodes see"
        problem = f"{host} does not see the study ({error}){advice}"
        return {"ending": "died" if isinstance(error, SilentStoreError) else "refused", "problem": problem}
    job = jobs.get(named["job"])
    if job is None or job.mark != named["mark"]:
        _read_study.cache_clear()
        problem = f"{named['job']}: {named['study']} or its inputs differ on {host}; run `study run` again to continue"
        return {"ending": "refused", "problem": problem}
    if not is_first and isinstance(config, StudyConfig):  # one of the further nodes of a run or trunk
        from polyglance.study.work.launch import join_run

        try:
            join_run(config, job, should_stop)
        except DiedError as error:
            return EndedJob(job=job, ending="died", problem=f"{job.id} on {host}: {error}", host=host).report()
        return EndedJob(job=job, host=host).report()
    if not _is_done(config, job):
        prepare_worker()
    ended = try_job(config, job, should_stop)
    offset_s = 0.0 if is_stored else measure_clock_offset(config.out)
    return replace(ended, host=host, clock_offset_s=offset_s).report()


def _is_done(config: Work, job: Job) -> bool:
    """Tell whether a job is done in the folder that all machines share. A scratch folder may be ahead of the store."""
    if not isinstance(config, StudyConfig) or (config.cluster.store and job.kind not in LIGHT_KINDS):
        return False
    return is_done(config.out, job)


def _read_work(path: str) -> tuple[Work, dict[str, Job]]:
    """Read a study or an evaluation, and its jobs by id."""
    if Path(path).name == EVALUATION_NAME:
        config = load(ShardedEvaluation, path)
        return config, {job.id: job for job in list_evaluation_jobs(config)}
    if "://" in path:
        return read_stored_study(path)
    return _read_study(path, Path(path).stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read_study(path: str, changed_ns: int) -> tuple[StudyConfig, dict[str, Job]]:  # noqa: ARG001 - read again when the file changes
    """Read a study and its jobs by id, once for the many jobs that a process does."""
    config = load(StudyConfig, path)
    return config, {job.id: job for job in list_work(config)}


def measure_clock_offset(folder: Path) -> float:
    """Return the seconds that this machine's clock is ahead of that of a folder's file server; 0 if no file can be
    written."""
    path = folder / "locks" / f"clock-{socket.gethostname()}-{os.getpid()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before_s = time.time()
        path.write_text("x")
        offset_s = (before_s + time.time()) / 2 - path.stat().st_mtime
        path.unlink()
    except OSError:
        return 0.0
    return offset_s


def try_job(config: Work, job: Job, should_stop: Callable[[], bool] = lambda: False) -> EndedJob:
    """Do a job in this process, and say how it has ended. Faults of the program itself are raised.

    Args:
        should_stop: asked after each step; the job then saves its state and ends.
    """
    if _is_done(config, job):
        return EndedJob(job=job)  # torch is not loaded for it
    from polyglance.study.work.do_job import do_job
    from polyglance.study.work.in_store import do_stored_job
    from polyglance.train.signals import Stopped
    from polyglance.train.watch import NotFiniteError

    started_s = time.monotonic()
    try:
        if isinstance(config, ShardedEvaluation):
            do_evaluation_job(config, job, should_stop)
        elif config.cluster.store and job.kind not in LIGHT_KINDS:
            do_stored_job(config, job, should_stop, do_job)
        else:
            if job.kind == "prediction":  # it is made from the records of the runs and starts before it
                refresh_copy(config)
            do_job(config, job, should_stop)
    except NotFiniteError as error:
        return EndedJob(job=job, ending="failed", problem=str(error))
    except GivenUpError as error:
        return EndedJob(job=job, ending="failed", problem=f"{job.id}: {error}")
    except Stopped as stopped:
        what = "batch" if job.kind == "shard" else "step"
        problem = f"{job.id}: stopped after {what} {stopped.step}"
        return EndedJob(job=job, ending="stopped", problem=problem, step=stopped.step)
    except (DiedError, SilentStoreError) as error:
        return EndedJob(job=job, ending="died", problem=f"{job.id}: {error}")
    except ValueError as error:
        return EndedJob(job=job, ending="refused", problem=str(error))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = f" ({error.filename})" if error.filename else ""
        problem = f"{job.id}: {config.out}: {error.strerror}{where}; make room, and run again: what is saved is kept"
        return EndedJob(job=job, ending="refused", problem=problem)
    return EndedJob(job=job, seconds=time.monotonic() - started_s)
