"""State of a study's jobs, kept as marker files in their folders. The marker of a finished job is written last."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyglance.files import DIGESTS_NAME, lock, parse_json, unseal, write_record
from polyglance.study.grid.jobs import Job, find_not_needed

__all__ = [
    "MARKS",
    "begin_job",
    "end_waiting",
    "fail_job",
    "finish_job",
    "forget_job",
    "held",
    "is_done",
    "is_in_part",
    "note_waiting",
    "read_problem",
    "read_state",
    "read_states",
]

_BEGUN, _DONE, _FAILED = "begun.json", "done.json", "failed.json"
_TRAINED = "trained.json"
"""Marker of a run whose training is done; it is measured by another job."""
MARKS = (_BEGUN, _TRAINED, _DONE, _FAILED)
"""Names of the markers."""
_WAITING = "waiting.json"
"""Marker of a run that is begun and whose processes wait for room on the cluster."""


def is_done(study_dir: Path, job: Job) -> bool:
    """Tell whether the job is finished, with the settings that it has now."""
    folder = study_dir / job.folder
    return _has_mark(folder / _DONE, job) or (job.kind == "training" and _has_mark(folder / _TRAINED, job))


def read_state(study_dir: Path, job: Job) -> str:
    """Return `done`, `failed` (the next call tries again), `waiting` (for room for all its processes), `begun` (goes on
    from its last checkpoint) or `to do`."""
    if is_done(study_dir, job):
        return "done"
    for state, name in (("failed", _FAILED), ("waiting", _WAITING), ("begun", _BEGUN)):
        if _has_mark(study_dir / job.folder / name, job):
            return state
    return "to do"


def read_states(study_dir: Path, jobs: Sequence[Job]) -> dict[str, str]:
    """Return job id -> `read_state` or, for a trunk or start that no job waits for, `not needed`."""
    states = {job.id: read_state(study_dir, job) for job in jobs}
    needless = find_not_needed(jobs, {name for name, state in states.items() if state == "done"})
    return states | {name: "not needed" for name in needless if states[name] != "failed"}


def read_problem(study_dir: Path, job: Job) -> str:
    """Return why a job has failed, in one line; empty if it has not."""
    path = study_dir / job.folder / _FAILED
    return str(_read_mark(path).get("problem", "")) if _has_mark(path, job) else ""


@contextmanager
def held(study_dir: Path, job: Job) -> Iterator[int]:
    """Lock a job for this process, so that it has one writer among all machines. If another process holds it, wait: its
    scheduler was lost, and it ends soon or finishes the job. The lock ends with the process; no clock is read.

    Yields:
        Descriptor of the lock's file. A program that inherits it holds the job too.

    Raises:
        ValueError: the file system has no locks.
    """
    path = study_dir / "locks" / f"{job.folder.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            try:
                lock(file, wait=False)
            except BlockingIOError:
                print(f"{job.id}: another process works on it; waiting for its end", file=sys.stderr, flush=True)
                lock(file)
        except OSError as error:
            raise ValueError(
                f"{path}: the file system gives no lock ({error.strerror}); mount it with flock, or move the study"
            ) from None
        yield file.fileno()


def begin_job(study_dir: Path, job: Job) -> Path:
    """Return the job's folder, ready to work in. Files that were made with other settings are removed."""
    folder = study_dir / job.folder
    if not _has_mark(folder / _BEGUN, job):
        shutil.rmtree(folder, ignore_errors=True)
        _write_mark(folder / _BEGUN, job)
    (folder / _FAILED).unlink(missing_ok=True)
    end_waiting(folder)
    return folder


def note_waiting(folder: Path, fingerprint: str) -> None:
    """Mark the begun job of this folder and fingerprint as waiting for room on the cluster."""
    write_record(folder / _WAITING, {"fingerprint": fingerprint}, indent=None)


def end_waiting(folder: Path) -> None:
    """Remove that mark, if there is one."""
    (folder / _WAITING).unlink(missing_ok=True)


def finish_job(study_dir: Path, job: Job, *, in_part: bool = False) -> None:
    """Mark the job as done.

    Args:
        in_part: its folder has copies of its records alone; models and data are in the study's store.
    """
    name = _TRAINED if job.kind == "training" else _DONE
    _write_mark(study_dir / job.folder / name, job, **({"copy": "part"} if in_part else {}))


def is_in_part(study_dir: Path, job: Job) -> bool:
    """Tell whether the folder of a finished job has copies of its records alone (`finish_job`)."""
    names = (_DONE, _TRAINED) if job.kind == "training" else (_DONE,)
    paths = [study_dir / job.folder / name for name in names]
    return any(_has_mark(path, job) and "copy" in _read_mark(path) for path in paths)


def fail_job(study_dir: Path, job: Job, problem: str) -> None:
    """Mark the job as failed.

    Args:
        problem: why, in one line.
    """
    _write_mark(study_dir / job.folder / _FAILED, job, problem=problem)


def forget_job(study_dir: Path, job: Job, *, goes_on: bool) -> None:
    """Remove the marks of a finished job, so that it is done again.

    Args:
        goes_on: it continues from what is in its folder and lists its files again; otherwise it begins from scratch.
    """
    for name in (_DONE, DIGESTS_NAME) if goes_on else (_DONE, _TRAINED, _BEGUN):
        (study_dir / job.folder / name).unlink(missing_ok=True)


def _write_mark(path: Path, job: Job, **details: str) -> None:
    write_record(path, {"fingerprint": job.fingerprint, **details}, indent=None)


def _has_mark(path: Path, job: Job) -> bool:
    """Tell whether a marker is that of the job as it is now. A damaged one counts as missing: the job is done again."""
    try:
        return job.is_of(_read_mark(path).get("fingerprint"))
    except (OSError, ValueError):
        return False


def _read_mark(path: Path) -> dict[str, Any]:
    """Read a marker. Only its seal is checked: a damaged list of the other files does not undo a job."""
    return unseal(parse_json(path.read_text(encoding="utf-8"), str(path)), str(path))
