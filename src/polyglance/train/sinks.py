"""Experiment trackers that the rows of metrics.jsonl are sent to: trackio, wandb, TensorBoard.

Each adapter opens a run in a tracker and gives a function `write(step, values)`; it imports the tracker's library only
then.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Sink", "TrackingConfig", "open_sinks"]

Sink = Literal["trackio", "wandb", "tensorboard"]
Write = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Experiment trackers of a run. metrics.jsonl is the record and is written in any case."""

    sinks: tuple[Sink, ...] = ()
    """Trackers: any of `trackio`, `wandb`, `tensorboard`."""
    project: str = "polyglance"
    """Project name in the tracker. The run's name there is that of its folder, a hyphen, and the fingerprint of its
    settings."""


@contextmanager
def open_sinks(
    config: TrackingConfig, folder: Path, *, name: str, settings: Mapping[str, Any]
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Open the trackers and give a function that sends them a row of metrics.jsonl.

    Tables in a row become columns such as `cells/caption-de`. A tracker that fails is left with a line on standard
    error, and the run goes on.

    Args:
        name: name of the run. A tracker adds to what it has under this name, as for a run that goes on.
        settings: the run's configuration, shown beside its curves.

    Raises:
        ValueError: a tracker that is not installed, or that does not start.
    """
    writers: dict[Sink, Write] = {}

    def send(row: Mapping[str, Any]) -> None:
        values = dict(_flatten(row))
        for sink, write in list(writers.items()):
            try:
                write(row["step"], values)
            except Exception as error:  # noqa: BLE001 - whatever happens to a tracker, the run goes on
                del writers[sink]
                print(f"tracking by {sink} has ended, metrics.jsonl goes on: {error!r}", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        for sink in config.sinks:
            try:
                writers[sink] = _ADAPTERS[sink](stack, folder, project=config.project, name=name, config=dict(settings))
            except ImportError as error:
                raise ValueError(f"tracking by {sink}: {error}; pip install {sink}") from None
        yield send


def _open_trackio(stack: ExitStack, folder: Path, **run: Any) -> Write:  # noqa: ARG001
    import trackio

    trackio.init(**run, resume="allow")
    stack.callback(trackio.finish)
    return lambda step, values: trackio.log(values, step=step)


def _open_wandb(stack: ExitStack, folder: Path, **run: Any) -> Write:
    import wandb

    try:
        wandb.init(**run, id=run["name"], dir=str(folder), resume="allow")
    except wandb.Error as error:  # nobody is logged in, or there is no network
        raise ValueError(f"tracking by wandb: {error}") from None
    stack.callback(wandb.finish)
    return lambda step, values: wandb.log(values, step=step)


def _open_tensorboard(stack: ExitStack, folder: Path, **run: Any) -> Write:  # noqa: ARG001
    from torch.utils.tensorboard import SummaryWriter

    writer = stack.enter_context(SummaryWriter(folder / "tensorboard"))

    def write(step: int, values: dict[str, float]) -> None:
        for column, value in values.items():
            writer.add_scalar(column, value, step)

    return write


_ADAPTERS: dict[Sink, Callable[..., Write]] = {
    "trackio": _open_trackio,
    "wandb": _open_wandb,
    "tensorboard": _open_tensorboard,
}


def _flatten(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield (column, number) of a row and of the tables and lists in it, without the step."""
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            yield from _flatten({str(i): item for i, item in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "step":
            yield f"{prefix}{name}", float(value)
