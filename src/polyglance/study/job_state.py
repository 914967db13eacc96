"""State of a study's jobs, kept as marker files in their folders. The marker of a finished job is written last."""

import shutil
from pathlib import Path

from polyglance.files import read_json, write_json
from polyglance.study.jobs import Job

__all__ = ["begin_job", "finish_job", "is_done", "read_state"]

_BEGUN, _DONE = "begun.json", "done.json"


def is_done(study_dir: Path, job: Job) -> bool:
    """Whether the job is finished, with the settings that it has now."""
    return _read_mark(study_dir / job.folder / _DONE) == job.fingerprint


def read_state(study_dir: Path, job: Job) -> str:
    """Return `done`, `begun` (it goes on from its last checkpoint) or `to do`."""
    if is_done(study_dir, job):
        return "done"
    return "begun" if _read_mark(study_dir / job.folder / _BEGUN) == job.fingerprint else "to do"


def begin_job(study_dir: Path, job: Job) -> Path:
    """Return the job's folder, ready to work in. Files that were made with other settings are removed."""
    folder = study_dir / job.folder
    if _read_mark(folder / _BEGUN) != job.fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        _write_mark(folder / _BEGUN, job)
    return folder


def finish_job(study_dir: Path, job: Job) -> None:
    """Mark the job as done."""
    _write_mark(study_dir / job.folder / _DONE, job)


def _write_mark(path: Path, job: Job) -> None:
    write_json(path, {"fingerprint": job.fingerprint}, indent=None)


def _read_mark(path: Path) -> str | None:
    """Return the fingerprint in a marker. A damaged marker counts as none: the job is done again."""
    try:
        return read_json(path)["fingerprint"]
    except (ValueError, KeyError, TypeError):
        return None
