"""What is done and what is not, read from the study's folder. A job is done when its folder says so, last of all."""

import json
import shutil
from pathlib import Path

from polyglance.files import write_atomically
from polyglance.study.grid import Job

__all__ = ["begin", "finish", "is_done", "state"]

_BEGUN, _DONE = "begun.json", "done.json"


def is_done(study_dir: Path, job: Job) -> bool:
    """Whether the job is finished, with the settings it has now."""
    return _mark(study_dir / job.folder / _DONE) == job.fingerprint


def state(study_dir: Path, job: Job) -> str:
    """`done`, `begun` (it will go on from where it is) or `to do`."""
    if is_done(study_dir, job):
        return "done"
    return "begun" if _mark(study_dir / job.folder / _BEGUN) == job.fingerprint else "to do"


def begin(study_dir: Path, job: Job) -> Path:
    """The job's folder, ready to be worked in. What was made there with other settings is removed."""
    folder = study_dir / job.folder
    if _mark(folder / _BEGUN) != job.fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        write_atomically(folder / _BEGUN, json.dumps({"fingerprint": job.fingerprint}) + "\n")
    return folder


def finish(study_dir: Path, job: Job) -> None:
    """Say that the job is done."""
    write_atomically(study_dir / job.folder / _DONE, json.dumps({"fingerprint": job.fingerprint}) + "\n")


def _mark(path: Path) -> str | None:
    try:
        return json.loads(path.read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no marker, or a damaged one, which marks nothing: the job is done again
