"""Where else the rows of metrics.jsonl go: trackio, wandb, TensorBoard. Loaded only when asked for."""

import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Sink", "Sinks", "TrackingConfig"]

Sink = Literal["trackio", "wandb", "tensorboard"]
_MODULES: dict[Sink, str] = {
    "trackio": "trackio",
    "wandb": "wandb",
    "tensorboard": "torch.utils.tensorboard",
}


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Who else is told of a run. metrics.jsonl is the record and is written in any case."""

    sinks: tuple[Sink, ...] = ()
    """`trackio`, `wandb`, `tensorboard`: any of them."""
    project: str = "polyglance"
    """Name of the project there; the run is called as its folder, followed by what stands for its settings."""


class Sinks(AbstractContextManager["Sinks"]):
    """Passes rows on.

    Args:
        name: of the run. A sink adds to what it has under this name already, as for a run that goes on.
        settings: the run's configuration, which is shown beside its curves.

    Raises:
        ValueError: a sink that is not installed, or does not want to begin.
    """

    def __init__(self, config: TrackingConfig, run_dir: Path, *, name: str, settings: Mapping[str, Any]) -> None:
        self._writers: dict[Sink, Callable[[int, dict[str, float]], None]] = {}
        self._closers = ExitStack()
        for sink in config.sinks:
            self._writers[sink] = self._open(sink, _module(sink), run_dir, config.project, name, dict(settings))

    def write(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl; tables within it become `cells/caption-de`."""
        values = dict(_flat(row))
        for sink, write in list(self._writers.items()):
            try:
                write(row["step"], values)
            except Exception as error:  # noqa: BLE001 - whatever happens to a tracker, the run goes on
                del self._writers[sink]
                print(f"tracking by {sink} has ended, metrics.jsonl goes on: {error!r}", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        self._closers.close()

    def _open(
        self, sink: Sink, module: Any, run_dir: Path, project: str, name: str, settings: dict[str, Any]
    ) -> Callable[[int, dict[str, float]], None]:
        if sink == "tensorboard":
            writer = self._closers.enter_context(module.SummaryWriter(run_dir / "tensorboard"))

            def write(step: int, values: dict[str, float]) -> None:
                for column, value in values.items():
                    writer.add_scalar(column, value, step)

            return write
        more = {} if sink == "trackio" else {"id": name, "dir": str(run_dir)}
        try:
            module.init(project=project, name=name, config=settings, resume="allow", **more)
        except getattr(module, "Error", ()) as error:  # wandb's: nobody is logged in, or the network is away
            raise ValueError(f"tracking by {sink}: {error}") from None
        self._closers.callback(module.finish)
        return lambda step, values: module.log(values, step=step)


def _module(sink: Sink) -> Any:
    try:
        return importlib.import_module(_MODULES[sink])
    except ImportError as error:
        raise ValueError(f"tracking by {sink}: {error}; pip install {sink}") from None


def _flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    values: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            values += _flat(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            values += _flat({str(i): item for i, item in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "step":
            values.append((f"{prefix}{name}", float(value)))
    return values
