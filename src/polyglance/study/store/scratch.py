"""A node's scratch folder: the part of a study that its jobs need, fetched from the store."""

import getpass
import hashlib
import os
import socket
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from polyglance.config import from_dict, parse_toml
from polyglance.files import replacing
from polyglance.object_store import ObjectStore, open_store
from polyglance.study.cluster import StudyClusterConfig
from polyglance.study.config import StudyConfig
from polyglance.study.grid.inputs import INPUTS_NAME
from polyglance.study.grid.job_state import held, is_done, is_in_part
from polyglance.study.grid.jobs import Job, list_jobs, list_work, parts_of
from polyglance.study.store.stored_job import StoredJob

__all__ = ["STUDY_NAME", "fetch_needs", "open_scratch", "read_stored_study"]

STUDY_NAME = "study.toml"


def open_scratch(config: StudyConfig, store: ObjectStore) -> StudyConfig:
    """Return the study with this machine's scratch folder in place of `out`.

    Raises:
        ValueError: the folder cannot be written to, or names a variable that is not set here.
    """
    folder = _find_folder(config.cluster)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(0, "no permission")
        _write_if_other(folder / INPUTS_NAME, store.read(INPUTS_NAME))
    except OSError as error:
        raise ValueError(
            f"{folder}: {error.strerror}: cluster.scratch has to be a folder that {socket.gethostname()} can write to"
        ) from None
    return replace(config, out=folder)


def read_stored_study(url: str) -> tuple[StudyConfig, dict[str, Job]]:
    """Read a study and its jobs by id from its store.

    Args:
        url: of its study.toml.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    root = url.removesuffix(f"/{STUDY_NAME}")
    store = open_store(root)
    content = store.read(STUDY_NAME)
    if content is None:
        raise ValueError(f"{root}: no {STUDY_NAME}")
    return _read_study(url, content, store.read(INPUTS_NAME))


@lru_cache(maxsize=1)
def _read_study(url: str, content: bytes, inputs: bytes | None) -> tuple[StudyConfig, dict[str, Job]]:  # noqa: ARG001 - other inputs, other jobs
    """Read a study and its jobs once for the many jobs that a process does."""
    config = from_dict(StudyConfig, parse_toml(content.decode(), url))
    config = open_scratch(config, open_store(config.cluster.store))
    return config, {job.id: job for job in list_work(config)}


def fetch_needs(config: StudyConfig, job: Job, store: ObjectStore) -> None:
    """Fetch the files of the finished jobs that a job needs, and of those that these need, unless they are there; of a
    run also its training, if that was a job of its own. Of two processes on one machine one does it.

    Raises:
        ValueError: one is not finished, or its files are missing or damaged in the store.
    """
    jobs = {part.id: part for other in list_jobs(config) for part in parts_of(other)}
    names, found = [*job.needs, job.trunk], dict[str, Job]()
    names += [part.id for part in parts_of(job)[:-1] if job.kind == "run"]
    while names:
        name = names.pop()
        if name and name not in found:
            found[name] = jobs[name]
            names += jobs[name].needs
    for name, need in found.items():
        if is_done(config.out, need) and not is_in_part(config.out, need):
            continue
        with held(config.out, need):
            if is_done(config.out, need) and not is_in_part(config.out, need):
                continue
            stored = StoredJob(store, need)
            snapshot = stored.read_done()
            if snapshot is not None:
                stored.fetch_folder(config.out, snapshot, is_done=True)
            elif name in job.needs and need.kind != "trunk":
                raise ValueError(f"{store.url} has no finished {name}, which {job.id} needs; run `study run` again")


def _find_folder(cluster: StudyClusterConfig) -> Path:
    given = os.path.expandvars(cluster.scratch)
    if "$" in given:
        raise ValueError(f"cluster.scratch is {cluster.scratch!r}, and {socket.gethostname()} has no such variable")
    url = cluster.store.rstrip("/")
    name = f"{url.rpartition('/')[2]}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    base = Path(given).expanduser() if given else Path(tempfile.gettempdir()) / f"polyglance-{getpass.getuser()}"
    return base / name


def _write_if_other(path: Path, content: bytes | None) -> None:
    """Write a file that several processes may write at once, if its content is another."""
    if content is None or (path.is_file() and path.read_bytes() == content):
        return
    with replacing(path, several_writers=True) as partial:
        partial.write_bytes(content)
