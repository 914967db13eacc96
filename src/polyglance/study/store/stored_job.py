"""A job in the store: its marks, and its files as they are when it has saved its state, and when it is done.

    marks/<job>/<fingerprint>/claim-1.json, beat-1.txt     its owners (`claims.py`); those of a training are the run's
    marks/<job>/<fingerprint>/saved-1.json                 files that the first owner has uploaded, up to a checkpoint
    marks/<job>/<fingerprint>/failed.json                  why it has failed
    marks/<job>/<fingerprint>/done.json                    its files; created once, after all of them are there
    files/<folder>/<fingerprint>/<owner>-<n>/<name>        a file, as of the n-th time that its owner has saved

Each record of files has their digests and is put after them, so that nothing half is taken for whole. An owner writes
under its own number alone: what a slow one still writes after another has taken over is read by nobody.
"""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polyglance.config import from_dict, to_dict
from polyglance.files import DIGESTS_NAME, file_sha256, format_record, parse_json, replacing_folder, unseal
from polyglance.object_store import ObjectStore, StoreError
from polyglance.study.grid.job_state import MARKS, begin_job, finish_job
from polyglance.study.grid.jobs import Job

__all__ = ["MARKS_PREFIX", "Snapshot", "StoredFile", "StoredJob", "is_checkpoint", "list_job_files"]

MARKS_PREFIX = "marks/"
_IN_MEMORY_BYTES = 2**26
"""Largest file that is read into memory, so that the digest is that of the very bytes that are uploaded."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of a job in the store."""

    name: str
    """Name in the job's folder, with slashes."""
    key: str
    """Name of the object."""
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        path = Path(self.name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{self.name!r} is not a name in a job's folder")

    def is_at(self, path: Path) -> bool:
        """Tell whether a file of this machine is the same."""
        return path.is_file() and path.stat().st_size == self.bytes and file_sha256(path) == self.sha256


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Files of a job at one time: the content of a saved-*.json or done.json."""

    fingerprint: str
    """Fingerprint of the job."""
    step: int = 0
    """Last step that is saved; 0 once the job is done."""
    files: tuple[StoredFile, ...]


class StoredJob:
    """Marks and files of a job in the store."""

    def __init__(self, store: ObjectStore, job: Job) -> None:
        self.store, self.job = store, job
        self.prefix = f"{MARKS_PREFIX}{job.id}/{job.fingerprint}"
        part = "t" if job.kind == "training" else ""  # the run has the same folder and fingerprint
        self._files = f"files/{job.folder.as_posix()}/{job.fingerprint}{part}"

    def is_done(self) -> bool:
        """Tell whether the job is finished."""
        return self.read_done() is not None

    def read_done(self) -> Snapshot | None:
        """Return the files of the finished job; None if it is not finished, or the record of it is damaged."""
        return self._read(f"{self.prefix}/done.json")

    def read_saved(self) -> tuple[int, Snapshot] | None:
        """Return the number of the last owner that has saved its state, and its files."""
        names = (name.rpartition("/")[2] for name in self.store.list(f"{self.prefix}/"))
        terms = [int(name[6:-5]) for name in names if name.startswith("saved-") and name[6:-5].isdecimal()]
        for term in sorted(terms, reverse=True):
            if (snapshot := self._read(f"{self.prefix}/saved-{term}.json")) is not None:
                return term, snapshot
        return None

    def save(self, term: int, snapshot: Snapshot) -> None:
        """Note the files from which the job goes on."""
        self.store.write(f"{self.prefix}/saved-{term}.json", _seal(snapshot))

    def finish(self, snapshot: Snapshot) -> None:
        """Mark the job as done with these files, unless another owner has, and remove the other files."""
        name = f"{self.prefix}/done.json"
        if not self.store.create(name, _seal(snapshot)):
            if (there := self.read_done()) is not None:
                snapshot = there
            else:  # a damaged record counts as none
                self.store.write(name, _seal(snapshot))
        with suppress(StoreError):  # what is left takes room, and is read by nobody
            self.unfail()
            self.remove_saved(kept=snapshot.files)

    def remove_saved(self, kept: Iterable[StoredFile] = ()) -> None:
        """Remove what was saved on the way.

        Args:
            kept: files of the finished job.
        """
        keys = {file.key for file in kept}
        saved = [name for name in self.store.list(f"{self.prefix}/") if "/saved-" in name]
        for name in (*saved, *(key for key in self.store.list(f"{self._files}/") if key not in keys)):
            self.store.remove(name)

    def forget(self) -> None:
        """Remove the mark of the finished job, so that it is done again."""
        self.store.remove(f"{self.prefix}/done.json")

    def fail(self, problem: str) -> None:
        """Mark the job as failed."""
        self.store.write(f"{self.prefix}/failed.json", format_record({"problem": problem}).encode())

    def unfail(self) -> None:
        """Remove the mark of a failure: the job is tried again."""
        self.store.remove(f"{self.prefix}/failed.json")

    def read_problem(self) -> str | None:
        """Return why the job has failed; None if it has not."""
        values = self._read_record(f"{self.prefix}/failed.json")
        return None if values is None else str(values.get("problem", ""))

    def upload(
        self, folder: Path, names: Iterable[str], label: str, before: Mapping[str, StoredFile]
    ) -> tuple[StoredFile, ...]:
        """Upload files of a folder, without those that are there already.

        Args:
            label: number of the owner, and of this time.
            before: name -> file that is in the store, of the same owner or of a finished job.

        Raises:
            FileNotFoundError: a file was removed meanwhile.
            StoreError: the store does not take them.
        """
        return tuple(self._upload(folder, name, label, before.get(name)) for name in names)

    def _upload(self, folder: Path, name: str, label: str, there: StoredFile | None) -> StoredFile:
        path, key = folder / name, f"{self._files}/{label}/{name}"
        num_bytes = path.stat().st_size
        content = path.read_bytes() if num_bytes <= _IN_MEMORY_BYTES else None
        sha256 = file_sha256(path) if content is None else hashlib.sha256(content).hexdigest()
        if there is not None and there.sha256 == sha256:
            return there
        if content is None:
            self.store.upload(key, path)
        else:
            self.store.write(key, content)
        return StoredFile(name=name, key=key, bytes=num_bytes if content is None else len(content), sha256=sha256)

    def remove_files(self, files: Iterable[StoredFile]) -> None:
        """Remove files that no record names any more."""
        for file in files:
            self.store.remove(file.key)

    def fetch_folder(self, study_dir: Path, snapshot: Snapshot, *, is_done: bool) -> None:
        """Put the job's folder in place, whole or not at all, with its mark.

        Raises:
            StoreError: a file is missing or damaged.
            OSError: the folder cannot be written.
        """
        with replacing_folder(study_dir / self.job.folder) as partial:
            here = replace(self.job, folder=Path())
            begin_job(partial, here)
            self.fetch(partial, snapshot.files)
            if is_done:
                finish_job(partial, here)

    def fetch(self, folder: Path, files: Iterable[StoredFile]) -> None:
        """Download the files that a folder does not have, each whole or not at all; the list of digests last.

        Raises:
            StoreError: a file is missing or damaged.
            OSError: one cannot be written.
        """
        for file in sorted(files, key=lambda file: file.name.endswith(DIGESTS_NAME)):
            path = folder / file.name
            if file.is_at(path):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.partial")
            try:
                is_there = self.store.download(file.key, partial)
                if not is_there or not file.is_at(partial):
                    problem = "damaged (its SHA-256 differs)" if is_there else "missing"
                    raise StoreError(
                        f"{self.store.url}/{file.key}: {problem}; remove {self.store.url}/{self.prefix}/done.json to "
                        f"make {self.job.id} again"
                    )
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def _read(self, name: str) -> Snapshot | None:
        values = self._read_record(name)
        if values is None:
            return None
        with suppress(ValueError):
            snapshot = from_dict(Snapshot, values)
            return snapshot if self.job.is_of(snapshot.fingerprint) else None
        return None

    def _read_record(self, name: str) -> dict[str, Any] | None:
        """Return the content of a record; None if there is none, or it is damaged."""
        content = self.store.read(name)
        if content is None:
            return None
        try:
            return unseal(parse_json(content.decode(errors="replace"), name), name)
        except ValueError:
            return None


def list_job_files(folder: Path, *, is_trunk: bool = False) -> list[str]:
    """List the files of a job's folder, without its marks, files that are being written, and checkpoints of steps.

    Args:
        is_trunk: list the last checkpoint too, from which others go on.
    """
    last = max(folder.glob("checkpoints/step-*[0-9]"), default=None) if is_trunk else None
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        name
        for name in names
        if name not in MARKS and not any(part.endswith((".partial", ".lock")) for part in Path(name).parts)
        if not name.startswith("checkpoints/step-") or (last is not None and last.name in Path(name).parts)
    ]


def is_checkpoint(name: str) -> bool:
    """Tell whether a file of a job is in a checkpoint, or in the trained model: only who goes on from it needs it."""
    return name.startswith("checkpoints/")


def _seal(snapshot: Snapshot) -> bytes:
    return format_record(to_dict(snapshot)).encode()
