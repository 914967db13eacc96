"""Experiment trackers that the rows of metrics.jsonl are sent to: trackio, wandb, TensorBoard.

Each adapter is a context manager that opens a run and gives a function `write(step, values)`. A tracker's library is
imported only if it is asked for.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Sink", "TrackingConfig", "open_sinks"]

Sink = Literal["trackio", "wandb", "tensorboard"]
Write = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Experiment trackers of a run. metrics.jsonl is the record and is written in any case."""

    sinks: tuple[Sink, ...] = ()
    """Trackers: any of `trackio`, `wandb`, `tensorboard`."""
    project: str = "polyglance"
    """Project name in the tracker. The run's name there is that of its folder, a hyphen, and the fingerprint of its
    settings."""


@dataclass(frozen=True, kw_only=True)
class _TrackedRun:
    """A run as trackers know it."""

    project: str
    name: str
    folder: Path
    settings: Mapping[str, Any]


@contextmanager
def open_sinks(
    config: TrackingConfig, folder: Path, *, name: str, settings: Mapping[str, Any]
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Open the trackers and give a function that sends them a row of metrics.jsonl.

    Tables in a row become columns such as `cells/caption-de`. A tracker that fails is closed with a line on standard
    error, and the run goes on.

    Args:
        name: name of the run. A tracker adds to what it has under this name, as for a run that goes on.
        settings: the run's configuration, shown beside its curves.

    Raises:
        ValueError: a tracker that is not installed, or that does not start.
    """
    run = _TrackedRun(project=config.project, name=name, folder=folder, settings=dict(settings))
    writers: dict[Sink, Write] = {}
    with ExitStack() as stack:
        for sink in config.sinks:
            try:
                writers[sink] = stack.enter_context(_ADAPTERS[sink](run))
            except ImportError as error:
                raise ValueError(f"tracking by {sink}: {error}; pip install {sink}") from None

        def send(row: Mapping[str, Any]) -> None:
            values = dict(_flatten(row))
            for sink, write in list(writers.items()):
                try:
                    write(row["step"], values)
                except Exception as error:  # noqa: BLE001 - whatever happens to a tracker, the run goes on
                    del writers[sink]
                    print(
                        f"tracking by {sink} has ended, metrics.jsonl goes on: {error!r}", file=sys.stderr, flush=True
                    )

        yield send


@contextmanager
def _open_trackio(run: _TrackedRun) -> Iterator[Write]:
    import trackio

    trackio.init(project=run.project, name=run.name, config=run.settings, resume="allow")
    try:
        yield lambda step, values: trackio.log(values, step=step)
    finally:
        trackio.finish()


@contextmanager
def _open_wandb(run: _TrackedRun) -> Iterator[Write]:
    import wandb

    try:
        wandb.init(
            project=run.project, name=run.name, id=run.name, dir=str(run.folder), config=run.settings, resume="allow"
        )
    except wandb.Error as error:  # nobody is logged in, or there is no network
        raise ValueError(f"tracking by wandb: {error}") from None
    try:
        yield lambda step, values: wandb.log(values, step=step)
    finally:
        wandb.finish()


@contextmanager
def _open_tensorboard(run: _TrackedRun) -> Iterator[Write]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(run.folder / "tensorboard") as writer:

        def write(step: int, values: Mapping[str, float]) -> None:
            for column, value in values.items():
                writer.add_scalar(column, value, step)

        yield write


_ADAPTERS: dict[Sink, Callable[[_TrackedRun], AbstractContextManager[Write]]] = {
    "trackio": _open_trackio,
    "wandb": _open_wandb,
    "tensorboard": _open_tensorboard,
}


def _flatten(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield (column, number) of a row and of the tables and lists in it, without the step."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        elif isinstance(value, (list, tuple)):
            yield from _flatten({str(i): item for i, item in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "step":
            yield f"{prefix}{name}", float(value)
