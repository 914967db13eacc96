"""How far long work is: a bar with rate and remaining time in a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["progress"]

_LINE_EVERY_S = 10


@contextmanager
def progress(title: str, total: int, *, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A function to call with how many of `total` are done.

    Args:
        done: what was done before; it does not count for the rate.
    """
    start_s = time.monotonic()

    def rate(now: int) -> float:
        return (now - done) / max(time.monotonic() - start_s, 1e-9)

    if not sys.stderr.isatty():
        yield _lines(title, total, rate)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[rate]:.1f}/s"), console=Console(stderr=True)) as shown:
        task = shown.add_task(title, total=total, completed=done, rate=0.0)
        yield lambda now: shown.update(task, completed=now, rate=rate(now))


def _lines(title: str, total: int, rate: Callable[[int], float]) -> Callable[[int], None]:
    last_s = time.monotonic()

    def show(now: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s < _LINE_EVERY_S:
            return
        last_s = time.monotonic()
        left_s = (total - now) / max(rate(now), 1e-9)
        print(f"{title}: {now}/{total}, {rate(now):.1f}/s, {left_s:.0f} s left", file=sys.stderr, flush=True)

    return show
