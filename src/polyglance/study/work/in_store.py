"""A job whose files are in an object store: done in the machine's scratch folder by the same code as elsewhere.

What it needs is fetched first, and its own last checkpoint if there is one. Each checkpoint is uploaded when it is
whole, while training goes on. The mark that makes the job count as done is put last, once all of its files are there.
"""

import errno
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from polyglance.object_store import SilentStoreError, StoreError, open_store
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import held, is_done, read_state
from polyglance.study.grid.jobs import Job, parts_of
from polyglance.study.store.claims import Claim, LostClaimError, claim
from polyglance.study.store.scratch import fetch_needs, open_scratch
from polyglance.study.store.stored_job import Snapshot, StoredFile, StoredJob, list_job_files
from polyglance.study.work.ending import DiedError
from polyglance.study.work.launch import find_last_step
from polyglance.train.signals import Stopped
from polyglance.train.watch import NotFiniteError

__all__ = ["do_stored_job"]

_LOOK_S = 1.0
"""Seconds between two looks for a new checkpoint."""
_PATIENCE_S = 600.0
"""Seconds for which a store that does not answer is asked again to take a result."""
_RETRY_S = 10.0
"""Seconds between two of these tries."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def do_stored_job(config: StudyConfig, job: Job, should_stop: Callable[[], bool], do_job: Callable[..., None]) -> None:
    """Do a job, unless the store has it as done. One process of all machines at a time does it; the others wait.

    Args:
        should_stop: asked after each step; the job then saves its state, uploads it and ends.
        do_job: does the job in a folder (`polyglance.study.work.do_job`).

    Raises:
        DiedError: as `do_job`; or the store does not answer, or another machine has taken the job over.
        NotFiniteError, Stopped, ValueError: as `do_job`.
    """
    try:
        _do(config, job, should_stop, do_job)
    except SilentStoreError as error:
        raise DiedError(str(error)) from None
    except LostClaimError as error:
        raise DiedError(f"{socket.gethostname()}: {error}") from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        folder = error.filename or config.cluster.scratch
        raise ValueError(
            f"{job.id}: {folder} on {socket.gethostname()}: {error.strerror}; make room in cluster.scratch, and run "
            "again: what is saved is kept"
        ) from None


def _do(config: StudyConfig, job: Job, should_stop: Callable[[], bool], do_job: Callable[..., None]) -> None:
    store = open_store(config.cluster.store)
    stored, parts = StoredJob(store, job), [StoredJob(store, part) for part in parts_of(job)]
    whole = parts[-1]  # the run of a training: both work in one folder, under one claim

    def is_over() -> bool:
        return stored.is_done() or (job.kind == "training" and whole.is_done())

    if is_over():
        return
    with claim(store, whole.prefix, is_over=is_over, should_stop=should_stop, name=job.id) as owner:
        if is_over():
            return
        if owner is None:
            raise Stopped(0)
        for part in parts:
            part.unfail()
        local = open_scratch(config, store)
        folder = local.out / job.folder
        fetch_needs(local, job, store)
        with held(local.out, job):
            _fetch_saved(local, job, parts)
        trained = parts[0].read_done() if job.kind == "run" else None
        with _Uploads(stored, folder, owner, trained.files if trained else ()) as uploads:
            try:
                do_job(local, job, lambda: should_stop() or owner.is_lost)
            except NotFiniteError as error:
                stored.fail(str(error))
                raise
            except Stopped:
                owner.check()
                uploads.save()
                raise
        uploads.finish()
        if job.kind == "run" and trained is None:
            with suppress(StoreError):  # saved by a training as a job of its own, which nobody continues
                parts[0].remove_saved()
        if job.kind in ("run", "training"):  # a job that reads it fetches it again
            shutil.rmtree(folder, ignore_errors=True)


def _fetch_saved(config: StudyConfig, job: Job, parts: Sequence[StoredJob]) -> None:
    """Fetch the last state that was uploaded, unless this machine has the same or a later one, or the run is trained.

    Args:
        parts: the jobs that may have saved it, as `parts_of` returns them.
    """
    if any(is_done(config.out, part) for part in (job, parts[0].job)):
        return
    saved = [(part, last[1]) for part in parts if (last := part.read_saved()) is not None]
    if not saved:
        return
    part, snapshot = max(saved, key=lambda one: one[1].step)
    is_here = read_state(config.out, job) in ("begun", "failed")
    if not is_here or find_last_step(config.out / job.folder) < snapshot.step:
        part.fetch_folder(config.out, snapshot, is_done=False)
        print(f"{job.id}: goes on from step {snapshot.step}, from {part.store.url}", file=sys.stderr, flush=True)


class _Uploads:
    """Uploads of a job's files by a thread, each time that a new checkpoint is whole.

    Args:
        folder: the job's folder in the scratch folder.
        trained: files of the run's training, which are in the store.
    """

    def __init__(self, stored: StoredJob, folder: Path, owner: Claim, trained: Sequence[StoredFile]) -> None:
        self._stored, self._folder, self._owner = stored, folder, owner
        self._trained = {file.name: file for file in trained}
        self._files: dict[str, StoredFile] = {}
        self._number = 0
        self._step = find_last_step(folder)
        self._said: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._save_until_ended, name="uploads", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the upload that is on its way."""
        self._stop()

    def _stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _save_until_ended(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self._save_new()

    def save(self) -> None:
        """Upload the last checkpoint, after the thread has ended."""
        self._stop()
        self._save_new()

    def _save_new(self) -> None:
        """Upload the last checkpoint if it is new. An error is said once, and the next one is tried again."""
        step = find_last_step(self._folder)
        if step <= self._step:
            return
        checkpoint = self._folder / "checkpoints" / f"step-{step:08d}"
        try:
            names = [path.relative_to(self._folder).as_posix() for path in sorted(checkpoint.iterdir())]
            files = self._upload([*list_job_files(self._folder), *names])
            self._owner.check()
            fingerprint = self._stored.job.fingerprint
            self._stored.save(self._owner.term, Snapshot(fingerprint=fingerprint, step=step, files=files))
        except FileNotFoundError:  # replaced by a later one meanwhile
            return
        except LostClaimError:
            return
        except (StoreError, OSError) as error:
            self._say(f"{self._stored.job.id}: step {step} is not uploaded ({error}); it is tried again")
            return
        kept = {file.key for file in files}
        old = [file for file in self._files.values() if file.key not in kept]
        self._files, self._step = {file.name: file for file in files}, step
        with suppress(StoreError):
            self._stored.remove_files(old)

    def _say(self, line: str) -> None:
        """Say a line once."""
        if line not in self._said:
            self._said.add(line)
            print(line, file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Upload all files of the finished job, and mark it as done. A store that does not answer is asked again for
        `_PATIENCE_S`: its files are on this machine alone.

        Raises:
            LostClaimError: another machine has taken it over.
            StoreError: the store does not take them.
        """
        job, begun_s = self._stored.job, time.monotonic()
        while True:
            try:
                files = self._upload(list_job_files(self._folder, is_trunk=job.kind == "trunk"))
                self._owner.check()
                return self._stored.finish(Snapshot(fingerprint=job.fingerprint, files=files))
            except SilentStoreError as error:
                if time.monotonic() - begun_s > _PATIENCE_S:
                    raise
                self._say(f"{job.id}: its result is not uploaded ({error}); it is tried again")
                time.sleep(_RETRY_S)

    def _upload(self, names: list[str]) -> tuple[StoredFile, ...]:
        self._number += 1
        label = f"{self._owner.term}-{self._number}"
        return self._stored.upload(self._folder, names, label, {**self._trained, **self._files})
