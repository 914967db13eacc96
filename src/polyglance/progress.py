"""Progress of long work: bars with rate and remaining time in a terminal, otherwise a line every ten seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["Show", "track_progress"]

_LINE_EVERY_S = 10.0


class Show(Protocol):
    """Function that shows the progress of some work."""

    def __call__(self, name: str, done: int, total: int, text: str = "") -> None:
        """Show that `done` of `total` units of the work called `name` are done; `text` is shown beside it."""


@contextmanager
def track_progress(*, show: bool = True) -> Iterator[Show]:
    """Give a function that shows the progress of one or several pieces of work.

    The rate counts only work done after the first call with a name; earlier work was done before.

    Args:
        show: False shows nothing.
    """
    if not show:
        yield _show_nothing
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[text]}"), console=Console(stderr=True)) as bars:
            yield _Bars(bars)


def _show_nothing(name: str, done: int, total: int, text: str = "") -> None:
    """Show nothing."""


class _Rates:
    """Units per second, by name of the work."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, int]] = {}

    def __call__(self, name: str, done: int) -> float:
        first_s, first_done = self._first.setdefault(name, (time.monotonic(), done))
        return (done - first_done) / max(time.monotonic() - first_s, 1e-9)


class _Bars:
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._rate = _Rates()

    def __call__(self, name: str, done: int, total: int, text: str = "") -> None:
        rate = self._rate(name, done)
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, completed=done, text=text)
        self._bars.update(self._tasks[name], completed=done, text=text or f"{rate:.1f}/s")


class _Lines:
    def __init__(self) -> None:
        self._last_s = time.monotonic()
        self._rate = _Rates()

    def __call__(self, name: str, done: int, total: int, text: str = "") -> None:
        rate = self._rate(name, done)
        if time.monotonic() - self._last_s < _LINE_EVERY_S and done < total:
            return
        self._last_s = time.monotonic()
        remaining = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
        print(f"{name}: {done}/{total}, {text or f'{rate:.1f}/s'}{remaining}", file=sys.stderr, flush=True)
