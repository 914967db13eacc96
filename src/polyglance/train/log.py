"""The record of a run: metrics.jsonl, and a progress bar for whoever watches."""

import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from polyglance.config import write_atomically

__all__ = ["MetricsLog", "environment", "progress_bar"]


class MetricsLog:
    """metrics.jsonl: one row every so many steps. Rows after the step a run goes on from are cut off."""

    def __init__(self, run_dir: Path, *, from_step: int) -> None:
        self.path = run_dir / "metrics.jsonl"
        rows = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        whole = [row for row in rows if row.endswith("\n") and json.loads(row)["step"] <= from_step]
        write_atomically(self.path, "".join(whole))

    def write(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def environment() -> dict[str, Any]:
    """What a run was made with: versions and machine."""
    packages = ("polyglance", "torch", "transformers", "tokenizers", "numpy", "pyarrow")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "machine": platform.machine(),
        "system": platform.platform(),
    }


@contextmanager
def progress_bar(title: str, total: int, *, show: bool) -> Iterator[Callable[[int, str], None]]:
    """A function to call with (steps done, text): a bar in a terminal, a line every ten seconds elsewhere."""
    if not show:
        yield _no_bar
        return
    if not sys.stderr.isatty():
        yield _plain_lines(title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, text="")
        yield lambda done, text: progress.update(task, completed=done, text=text)


def _no_bar(done: int, text: str) -> None:
    """Show nothing."""


def _plain_lines(title: str, total: int) -> Callable[[int, str], None]:
    start_s = last_s = time.monotonic()

    def show(done: int, text: str) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= 10 or done == total:
            last_s = now_s
            left_s = (now_s - start_s) / max(done, 1) * (total - done)
            print(f"{title}: {done}/{total}, {left_s:.0f} s left, {text}", file=sys.stderr, flush=True)

    return show
