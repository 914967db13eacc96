"""One writer of each job among machines that share nothing but an object store.

    with claim(store, "marks/run-1/5d0c", is_over=stored.is_done) as held:
        ...
        held.check()            # raises LostClaimError if another machine has taken over

The n-th owner creates the object `claim-n`, which fails if there is one, and raises a counter in `beat-n`. Those who
wait watch the counter by their own clock; no two clocks are compared. If it stands still for `_PATIENCE_S`, or the
owner's process is gone from this machine, one of them creates `claim-n+1`. An owner that was only slow sees that and
ends. Correctness does not depend on any of these times: each owner writes under names of its own, and the mark of a
finished job is created, so that the first one counts.
"""

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polyglance.object_store import ObjectStore, StoreError

__all__ = ["Claim", "LostClaimError", "claim"]

_BEAT_S = 10.0
"""Seconds between two beats."""
_PATIENCE_S = 60.0
"""Seconds without a beat after which an owner counts as lost."""
_LOOK_S = 3.0
"""Seconds between two looks at the beats of another owner."""
_CLAIM = re.compile(r"claim-(\d+)\.json")
_ENDED = b"ended"
_held: set[tuple[str, str, int]] = set()
"""Store, prefix and number of the claims that this process holds. One whose end could not be written, because the
store was silent, is not among them."""


class LostClaimError(Exception):
    """Another machine has taken a job over, because this one was silent for too long."""


class Claim:
    """A job that this process holds. A thread beats until `end`.

    Args:
        prefix: of the job's claims in the store.
        term: number of this claim.
    """

    def __init__(self, store: ObjectStore, prefix: str, term: int) -> None:
        self.term = term
        self.is_lost = False
        self._store, self._prefix = store, prefix
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_until_ended, name="beats", daemon=True)
        _held.add((store.url, prefix, term))
        self._thread.start()

    def check(self) -> None:
        """Check that no other machine has taken over.

        Raises:
            LostClaimError: one has.
            StoreError: the store does not say.
        """
        self.is_lost = self.is_lost or _last_term(self._store, self._prefix) != self.term
        if self.is_lost:
            raise LostClaimError("another machine has taken it over, as this one was silent for too long")

    def end(self) -> None:
        """Let others take the job at once."""
        self._ended.set()
        self._thread.join()
        _held.discard((self._store.url, self._prefix, self.term))
        with suppress(StoreError):
            self._store.write(_beat_name(self._prefix, self.term), _ENDED)

    def _beat_until_ended(self) -> None:
        number = 0
        while not self._ended.wait(_BEAT_S):
            number += 1
            with suppress(StoreError, LostClaimError):  # a store that is silent may answer the next beat
                self.check()
                self._store.write(_beat_name(self._prefix, self.term), str(number).encode())
            if self.is_lost:
                return


@contextmanager
def claim(
    store: ObjectStore,
    prefix: str,
    *,
    is_over: Callable[[], bool] = lambda: False,
    should_stop: Callable[[], bool] = lambda: False,
    refusal: str = "",
    name: str = "",
) -> Iterator[Claim | None]:
    """Hold a job, waiting for an owner that is alive.

    Args:
        prefix: of the job's claims.
        is_over: asked while another owner is waited for; if it returns True, nothing is held.
        should_stop: the same, for this process.
        refusal: error in place of waiting once the owner is seen to be alive.
        name: the job, for the line that says who is waited for.

    Yields:
        The claim; None if `is_over` or `should_stop`.

    Raises:
        StoreError: the store does not answer, or there is a live owner and a `refusal`.
    """
    watch = _Watch(store, prefix)
    is_said = False
    while True:
        term = _last_term(store, prefix)
        if watch.is_free(term):
            me = json.dumps({"host": socket.gethostname(), "process": _identify(str(os.getpid()))}).encode()
            if store.create(_claim_name(prefix, term + 1), me):
                break
            continue
        if is_over() or should_stop():
            yield None
            return
        if refusal and watch.is_alive:
            raise StoreError(refusal)
        if not is_said:
            is_said = True
            what = f"{name}: " if name else ""
            print(f"{what}{watch.owner} works on it, or was lost; waiting", file=sys.stderr, flush=True)
        time.sleep(_LOOK_S)
    held = Claim(store, prefix, term + 1)
    try:
        yield held
    finally:
        held.end()


class _Watch:
    """Beats of another owner, as this process sees them."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self._seen: tuple[int, bytes | None] = (0, None)
        self._since_s = 0.0
        self._process: dict[str, str] | None = None
        self.owner = ""
        self.is_alive = False
        """Whether a beat has come while it was watched, or its process is seen on this machine."""

    def is_free(self, term: int) -> bool:
        """Tell whether the owner of a term has ended, or is lost."""
        if term == 0:
            return True
        beat = self._store.read(_beat_name(self._prefix, term))
        if beat == _ENDED:
            return True
        if term != self._seen[0]:
            self._read_owner(term)
        if (term, beat) != self._seen:
            self.is_alive = term == self._seen[0]
            self._seen, self._since_s = (term, beat), time.monotonic()
        if self._process is not None:
            is_own = self._process["number"] == str(os.getpid())
            is_held = (self._store.url, self._prefix, term) in _held if is_own else True
            if not is_held or _identify(self._process["number"]) != self._process:
                return True
            self.is_alive = True
        return time.monotonic() - self._since_s > _PATIENCE_S

    def _read_owner(self, term: int) -> None:
        content = self._store.read(_claim_name(self._prefix, term)) or b""
        self.owner, self._process = "another machine", None
        with suppress(ValueError, KeyError, TypeError):
            values = json.loads(content)
            self.owner, process = str(values["host"]), values["process"]
            if process["machine"] and process["machine"] == _identify(str(os.getpid()))["machine"]:
                self._process = process


def _identify(number: str) -> dict[str, str]:
    """Describe a process of this machine: the boot and the namespace that its number is in, and when it began, because
    numbers are reused (`man 5 proc_pid_stat`). `begun` is empty if it is not there, or has ended unseen."""
    machine = begun = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
        fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
        begun = "" if fields[0] in "ZX" else fields[19]
    return {"machine": machine, "number": number, "begun": begun}


def _last_term(store: ObjectStore, prefix: str) -> int:
    names = (_CLAIM.fullmatch(name.rpartition("/")[2]) for name in store.list(f"{prefix}/"))
    return max((int(match[1]) for match in names if match), default=0)


def _claim_name(prefix: str, term: int) -> str:
    return f"{prefix}/claim-{term}.json"


def _beat_name(prefix: str, term: int) -> str:
    return f"{prefix}/beat-{term}.txt"
