"""The study's folder on the machine of a call, where its files are in a store: a copy of the records, made anew as they
come. `study run` makes data, tokenizer, table, laws and report in it, and uploads them.

    with hold_study(config, "polyglance study run") as upload:     # one at a time, on all machines
        refresh_copy(config)              # marks and records of all jobs
        upload_jobs(config)               # jobs that were made here
        upload()                          # table, laws and report

Where the study has no store, all of these do nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from polyglance.files import format_record, lock, locked, parse_json, unseal, write_atomically
from polyglance.object_store import ObjectStore, StoreError, check_exclusive, open_store
from polyglance.study.config import StudyConfig
from polyglance.study.grid.inputs import INPUTS_NAME
from polyglance.study.grid.job_state import (
    begin_job,
    fail_job,
    finish_job,
    forget_job,
    is_done,
    is_in_part,
    read_problem,
    read_state,
)
from polyglance.study.grid.jobs import Job, list_jobs, parts_of, training_of
from polyglance.study.store.claims import LostClaimError, claim
from polyglance.study.store.scratch import STUDY_NAME
from polyglance.study.store.stored_job import MARKS_PREFIX, Snapshot, StoredJob, is_checkpoint, list_job_files

__all__ = [
    "fail_stored_job",
    "hold_study",
    "refresh_copy",
    "refresh_to_look",
    "upload_jobs",
    "upload_results",
    "upload_study",
]

_WHOLE = ("data", "tokenizer", "prediction")
"""Kinds of jobs that are copied whole where results are made: `study run` makes them itself."""
_SMALL = ("tower", "language_model", "start", "trunk", "training", "run", "prediction")
"""Kinds of jobs whose records are copied for everybody who looks."""
_RESULTS = ("runs.csv", "polyglance-digests.json", "costs.json", "laws/*", "report/**/*", STUDY_NAME, "conclusion.json")
_RESULTS_NAME = "results-digests.json"
"""Name of the record with the digests of the results."""


@contextmanager
def hold_study(config: StudyConfig, verb: str) -> Iterator[Callable[[], None]]:
    """Hold the study for this process, among all machines, and check that the store keeps writers apart.

    Args:
        verb: the command that holds it, for the error message.

    Yields:
        A function that uploads the results. It raises `StoreError` if another machine has taken the study over.

    Raises:
        ValueError: another process works on it, or the store cannot be used.
    """
    if not config.cluster.store:
        yield lambda: None
        return
    store = open_store(config.cluster.store)
    check_exclusive(store)
    refusal = f"{store.url}: another `{verb}` works on it; wait, or stop it"
    with claim(store, "claims/study", refusal=refusal, name=store.url) as held:
        assert held is not None, "nothing ends the waiting but a refusal"

        def upload() -> None:
            try:
                held.check()
            except LostClaimError:
                raise StoreError(
                    f"{store.url}: another `{verb}` has taken the study over, as this one was silent for too long"
                ) from None
            upload_results(config)

        yield upload


def refresh_copy(config: StudyConfig, *, whole: bool = False, results: bool = False) -> None:
    """Copy the marks and records of the store into the study's folder: those of finished jobs, and of those at work as
    of their last checkpoint. The store is right: what the folder has of another opinion is forgotten, but for jobs that
    were made in it, which `upload_jobs` uploads.

    Args:
        whole: copy data, tokenizer and predictions too, and compare all copies with their digests.
        results: copy table, laws and report too, which this process is not about to write.

    Raises:
        ValueError: the store does not answer, or a file is missing or damaged in it.
    """
    if config.cluster.store:
        with locked(config.out / "locks", "polyglance study", wait=True):  # several calls may look at a study
            _refresh(config, open_store(config.cluster.store), whole=whole, results=results)


def refresh_to_look(config: StudyConfig) -> None:
    """Copy marks, records and results for one who only looks. Results are left alone where `study run` or `report`
    works in the same folder: it has them first.

    Raises:
        ValueError: as `refresh_copy`.
    """
    if not config.cluster.store:
        return
    config.out.mkdir(parents=True, exist_ok=True)
    is_free = True
    with (config.out / ".lock").open("w") as file:
        try:
            lock(file, wait=False)
        except BlockingIOError:
            is_free = False
    refresh_copy(config, results=is_free)


def _refresh(config: StudyConfig, store: ObjectStore, *, whole: bool, results: bool) -> None:
    if not (config.out / INPUTS_NAME).is_file() and (inputs := store.read(INPUTS_NAME)) is not None:
        write_atomically(config.out / INPUTS_NAME, inputs)
    marks: dict[str, set[str]] = defaultdict(set)
    for name in store.list(MARKS_PREFIX):
        marks[name.rpartition("/")[0]].add(name.rpartition("/")[2])
    if results:
        _fetch_results(config, store)
    for job in list_jobs(config):
        parts = [StoredJob(store, part) for part in parts_of(job)]
        _refresh_job(config, [(part, marks[part.prefix]) for part in parts], whole=whole)


def _refresh_job(config: StudyConfig, parts: Sequence[tuple[StoredJob, set[str]]], *, whole: bool) -> None:
    """Copy what the store has of a job.

    Args:
        parts: as `parts_of` returns them, with their marks.
    """
    out = config.out
    for part, marks in reversed(parts):
        is_known = is_done(out, part.job)
        if "done.json" in marks:
            if is_known and not whole:
                break
            if (snapshot := part.read_done()) is not None:
                _copy(config, part, snapshot, is_whole=whole and part.job.kind in _WHOLE)
                break
        if is_known and is_in_part(out, part.job):
            forget_job(out, part.job, goes_on=False)
    job = parts[-1][0].job
    if is_done(out, job):
        return
    failed = [part for part, marks in parts if "failed.json" in marks]
    if failed:
        problem = failed[-1].read_problem() or ""
        if read_state(out, job) != "failed" or read_problem(out, job) != problem:
            fail_job(out, job, problem)
    elif read_state(out, job) == "failed":
        (out / job.folder / "failed.json").unlink(missing_ok=True)
    if not is_done(out, parts[0][0].job):  # a finished job has later records than its saved state
        _copy_saved(config, parts, is_failed=bool(failed))
    if any(name.startswith("claim-") for _, marks in parts for name in marks) and read_state(out, job) == "to do":
        begin_job(out, job)


def _copy_saved(config: StudyConfig, parts: Sequence[tuple[StoredJob, set[str]]], *, is_failed: bool) -> None:
    """Copy the records of a job at work as of the last checkpoint that one of its parts has uploaded."""
    with_saved = [part for part, marks in parts if any(name.startswith("saved-") for name in marks)]
    found = [(part, last[1]) for part in with_saved if (last := part.read_saved()) is not None]
    if found:
        part, snapshot = max(found, key=lambda one: one[1].step)
        folder = config.out / part.job.folder if is_failed else begin_job(config.out, part.job)
        part.fetch(folder, [file for file in snapshot.files if not is_checkpoint(file.name)])


def _copy(config: StudyConfig, stored: StoredJob, snapshot: Snapshot, *, is_whole: bool) -> None:
    """Copy the records of a finished job, or all of its files, and mark it as done."""
    job, out = stored.job, config.out
    here = is_done(out, job) and not is_in_part(out, job)
    folder = begin_job(out, job)
    if is_whole or here:
        stored.fetch(folder, snapshot.files)
    elif job.kind in _SMALL:
        stored.fetch(folder, [file for file in snapshot.files if not is_checkpoint(file.name)])
    finish_job(out, job, in_part=not (is_whole or here))


def upload_jobs(config: StudyConfig) -> None:
    """Upload the jobs that are done in the study's folder and not in the store.

    Raises:
        ValueError: the store does not take them.
    """
    if not config.cluster.store:
        return
    store = open_store(config.cluster.store)
    jobs = list_jobs(config)
    trainings = [training_of(job) for job in jobs if job.kind == "run" and not is_done(config.out, job)]
    for job in (*jobs, *trainings):
        if not is_done(config.out, job) or is_in_part(config.out, job):
            continue
        stored, folder = StoredJob(store, job), config.out / job.folder
        if not stored.is_done():
            files = stored.upload(folder, list_job_files(folder, is_trunk=job.kind == "trunk"), "0-1", {})
            stored.finish(Snapshot(fingerprint=job.fingerprint, files=files))


def upload_study(config: StudyConfig) -> None:
    """Upload what every node reads first: the study's settings, and the digests of its inputs."""
    if config.cluster.store:
        store = open_store(config.cluster.store)
        for name in (INPUTS_NAME, STUDY_NAME):
            store.write(name, (config.out / name).read_bytes())


def fail_stored_job(config: StudyConfig, job: Job, problem: str) -> None:
    """Mark a job as failed in the store."""
    if config.cluster.store:
        StoredJob(open_store(config.cluster.store), job).fail(problem)


def upload_results(config: StudyConfig) -> None:
    """Upload table, laws and report under their own names, those that have changed, and then the list of them.

    Raises:
        ValueError: the store does not take them.
    """
    if not config.cluster.store:
        return
    store, listed = open_store(config.cluster.store), dict[str, str]()
    there = _read_results(store)
    for path in (path for pattern in _RESULTS for path in sorted(config.out.glob(pattern)) if path.is_file()):
        content, name = path.read_bytes(), path.relative_to(config.out).as_posix()
        listed[name] = hashlib.sha256(content).hexdigest()
        if there.get(name) != listed[name]:
            store.write(name, content)
    store.write(_RESULTS_NAME, format_record({"files": listed}).encode())
    for name in there.keys() - listed.keys():
        store.remove(name)


def _fetch_results(config: StudyConfig, store: ObjectStore) -> None:
    """Copy table, laws and report, unless they are being written."""
    for name, sha256 in _read_results(store).items():
        path = config.out / name
        if path.resolve().is_relative_to(config.out.resolve()) and not _has_content(path, sha256):
            content = store.read(name)
            if content is not None and hashlib.sha256(content).hexdigest() == sha256:
                write_atomically(path, content)


def _has_content(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _read_results(store: ObjectStore) -> Mapping[str, str]:
    """Return name -> SHA-256 of the results; empty if there are none, or the list is damaged."""
    content = store.read(_RESULTS_NAME) or b""
    with suppress(ValueError, KeyError):
        values = unseal(parse_json(content.decode(), _RESULTS_NAME), _RESULTS_NAME)["files"]
        return {str(name): str(sha256) for name, sha256 in values.items()}
    return {}
