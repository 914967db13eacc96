"""A small layer between the program and its disk, which records what is written and lets calls fail.

    with FaultyDisk(folder) as disk:                 # records
        write_json(folder / "a.json", {"x": 1})
    for state in disk.crash_states(tmp_path):        # folders as a loss of power may leave them, at every moment
        ...
    with FaultyDisk(folder, fail_at=3, error=errno.ENOSPC): ...   # the third call fails

`SlowDisk` lets each call seem to take long, and `FailingReads` lets the reads of a file fail.

The model is that of POSIX: the content of a file is on the disk after its fsync, and a name (a rename, a removal, a new
file) after the fsync of its folder. What was not synced may be there or not: the content may be lost though the name is
there, and of several changes of names any may be lost.
"""

import builtins
import errno
import io
import itertools
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

_MAX_STATES = 400


class FaultyDisk:
    """Record, and let fail, the calls of `open`, `os.fsync`, `os.replace`, `os.rename`, `os.unlink` and `os.rmdir`.

    Args:
        fail_at: number, from 1, of the call that fails; None: none does.
        error: its errno.
    """

    def __init__(self, folder: Path, *, fail_at: int | None = None, error: int = 0) -> None:
        self.folder, self._fail_at, self._error = folder, fail_at, error
        self.num_calls = 0
        self.moments: list[tuple[dict[str, bytes], list[dict[str, bytes]]]] = []
        """After each call: the content that is safe, and the contents that a loss of power may leave."""
        self._durable = self._look()
        self._synced = {p.stat().st_ino: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self._patches: list[Any] = []

    def __enter__(self) -> "FaultyDisk":
        for module, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (os, "unlink"), (os, "rmdir")):
            self._patch(module, name)
        self._patch(builtins, "open")
        self._patch(__import__("io"), "open")
        return self

    def __exit__(self, *error: object) -> None:
        for patch in self._patches:
            patch.stop()

    def _patch(self, module: Any, name: str) -> None:
        true = getattr(module, name)

        def call(*args: Any, **options: Any) -> Any:
            if not self._concerns(name, args, options):
                return true(*args, **options)
            self.num_calls += 1
            if self.num_calls == self._fail_at:
                raise OSError(self._error, os.strerror(self._error), str(args[0]))
            result = true(*args, **options)
            self._note(name, args)
            return result

        patch = mock.patch.object(module, name, call)
        patch.start()
        self._patches.append(patch)

    def _concerns(self, name: str, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
        if name == "fsync":
            return self._is_inside(Path(f"/proc/self/fd/{args[0]}").readlink())
        if name == "open":
            mode = args[1] if len(args) > 1 else options.get("mode", "r")
            return isinstance(mode, str) and set(mode) & set("wax+") != set() and self._is_inside(args[0])
        return self._is_inside(args[0]) or options.get("dir_fd") is not None

    def _is_inside(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and str(path).startswith(str(self.folder))

    def _note(self, name: str, args: tuple[Any, ...]) -> None:
        if name == "fsync":
            path = Path(f"/proc/self/fd/{args[0]}").readlink()
            if path.is_dir():
                self._sync_names(path)
            else:
                self._synced[path.stat().st_ino] = path.read_bytes()
        self.moments.append((dict(self._durable), self._possible()))

    def _sync_names(self, folder: Path) -> None:
        """The names in a folder are safe from now on, each with the content that was synced."""
        prefix = str(folder.relative_to(self.folder)) + "/" if folder != self.folder else ""
        for name in [name for name in self._durable if name.startswith(prefix)]:
            del self._durable[name]
        for path in folder.rglob("*"):
            if path.is_file():
                self._durable[str(path.relative_to(self.folder))] = self._synced.get(path.stat().st_ino, b"")

    def _look(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}

    def _possible(self) -> list[dict[str, bytes]]:
        """Return what may be on the disk now: of each entry of the folder what is safe, or what is there at present, of
        its files either all content or what of it was synced. The files of a folder come under its new name together.
        """
        now = {str(p.relative_to(self.folder)): p for p in self.folder.rglob("*") if p.is_file()}
        choices: list[list[dict[str, bytes]]] = []
        for entry in sorted({name.split("/")[0] for name in (*now, *self._durable)}):
            present = {name: path for name, path in now.items() if name.split("/")[0] == entry}
            contents = [(p.read_bytes(), self._synced.get(p.stat().st_ino, b"")) for p in present.values()]
            options = [{n: c for n, c in self._durable.items() if n.split("/")[0] == entry}]
            options += [dict(zip(present, chosen, strict=True)) for chosen in itertools.product(*contents)]
            choices.append(options)
        states = itertools.islice(itertools.product(*choices), _MAX_STATES)
        return [{name: content for entry in state for name, content in entry.items()} for state in states]

    def crash_states(self, where: Path) -> Iterator[Path]:
        """Yield folders with every state that a loss of power may leave, each once."""
        seen = set()
        for _, states in self.moments:
            for state in states:
                key = tuple(sorted(state.items()))
                if key in seen:
                    continue
                seen.add(key)
                shutil.rmtree(where, ignore_errors=True)
                where.mkdir(parents=True)
                for name, content in state.items():
                    (where / name).parent.mkdir(parents=True, exist_ok=True)
                    (where / name).write_bytes(content)
                yield where


class SlowDisk:
    """Let the clocks of the program say that each call of the disk took long, without sleeping.

    Args:
        delay_s: seconds that each `open`, `os.fsync`, `os.replace` and `os.rename` in the folder seems to take.
    """

    def __init__(self, folder: Path, *, delay_s: float) -> None:
        self.folder, self._delay_s = str(folder), delay_s
        self.num_calls: Counter[str] = Counter()
        self._stack = ExitStack()

    @property
    def waited_s(self) -> float:
        """Seconds that the calls seem to have taken so far."""
        return self.num_calls.total() * self._delay_s

    def __enter__(self) -> "SlowDisk":
        for module, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (builtins, "open"), (io, "open")):
            self._stack.enter_context(mock.patch.object(module, name, self._delay(getattr(module, name), name)))
        for name in ("monotonic", "perf_counter", "time"):
            true = getattr(time, name)
            self._stack.enter_context(mock.patch.object(time, name, lambda true=true: true() + self.waited_s))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _delay(self, true: Any, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            where = f"/proc/self/fd/{args[0]}" if name == "fsync" else args[0]
            path = os.path.realpath(where) if isinstance(where, (str, os.PathLike)) else ""
            self.num_calls[name] += path.startswith(self.folder)
            return true(*args, **options)

        return call


class FailingReads:
    """Let the reads of one file that is opened in a folder fail, as those of a broken disk do.

    Args:
        fail_at: number, from 1, of the opened file whose reads fail; None: none do.
    """

    def __init__(self, folder: Path, *, fail_at: int | None = None, error: int = errno.EIO) -> None:
        self.folder, self._fail_at, self._error = str(folder), fail_at, error
        self.num_opened = 0
        self._stack = ExitStack()

    def __enter__(self) -> "FailingReads":
        true = io.open

        def open_file(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            opened = true(file, mode, *args, **options)
            if (
                isinstance(file, (str, os.PathLike))
                and str(file).startswith(self.folder)
                and not set(mode) & set("wax+")
            ):
                self.num_opened += 1
                if self.num_opened == self._fail_at:
                    return self._break(opened)
            return opened

        for module in (builtins, io):
            self._stack.enter_context(mock.patch.object(module, "open", open_file))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _break(self, opened: Any) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise OSError(self._error, os.strerror(self._error), str(opened.name))

        broken = mock.MagicMock(wraps=opened)
        broken.__enter__.return_value = broken
        broken.__exit__.side_effect = lambda *_: opened.close()
        broken.__iter__.side_effect = fail
        for name in ("read", "readinto", "readline", "readlines", "read1", "readall"):
            setattr(broken, name, mock.Mock(side_effect=fail))
        return broken
