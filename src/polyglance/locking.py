"""One process at a time in a folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked"]


@contextmanager
def locked(folder: Path, verb: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder for oneself; the lock goes with the process, however it ends.

    Args:
        verb: what works in such folders: `polyglance study run`.
        wait: until whoever holds it lets go, instead of giving up.

    Raises:
        ValueError: another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another `{verb}` works on it; wait, or stop it") from None
        yield
