"""The folder of a run: what is written into it at the start, what must agree at a restart, and the finished model.

A run leaves `config.toml`, `env.json`, `samples.json`, `metrics.jsonl` and `checkpoints/{final, best}`; `final` and
`best` are folders that `from_pretrained` reads, with the processor and `training.json`, the settings they were trained
with.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from polyglance.config import save, to_dict
from polyglance.distributed import Runtime
from polyglance.environment import describe_environment
from polyglance.files import read_json, replacing_folder, write_json
from polyglance.model.processor import Processor
from polyglance.train.checkpoint import Checkpoints
from polyglance.train.config import LoopConfig, may_change
from polyglance.train.parallel import gather_full

__all__ = ["RunFolder"]


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; it need not exist yet.
        config: the run's configuration.
    """

    def __init__(self, path: Path, config: LoopConfig) -> None:
        self.path = path
        self.config = config

    @property
    def final(self) -> Path:
        """Folder of the trained model."""
        return self.path / "checkpoints" / "final"

    def check_settings(self) -> None:
        """Refuse a folder with checkpoints of other settings, before anything in it is overwritten.

        Raises:
            ValueError: names the settings that differ.
        """
        path = self.path / "config.toml"
        if not path.exists() or not any(self.path.glob("checkpoints/*")):
            return
        there, now = (dict(_flatten(values)) for values in (tomllib.loads(path.read_text()), to_dict(self.config)))
        keys = [key for key in sorted({*there, *now}) if there.get(key) != now.get(key) and not may_change(key)]
        if keys:
            differences = ", ".join(
                f"{key} is {there.get(key, 'not set')} there and {now.get(key, 'not set')} now" for key in keys[:3]
            )
            more = f", and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ValueError(
                f"{self.path} holds a run with other settings ({differences}{more}): go on with its own, or give "
                "another folder"
            )

    def is_trained(self) -> bool:
        """Tell whether the run is finished. A process that was killed after that need not train again."""
        path = self.final / "training.json"
        return path.exists() and read_json(path)["settings"] == self.config.settings

    def describe(self) -> None:
        """Write config.toml and env.json (versions, machine and GPUs)."""
        save(self.config, self.path / "config.toml")
        write_json(self.path / "env.json", describe_environment())

    def write_samples(self, samples_per_cell: Mapping[str, int]) -> None:
        """Write samples.json: cell -> S."""
        write_json(self.path / "samples.json", samples_per_cell)

    def save_final(self, model: Any, runtime: Runtime, processor: Processor | None = None) -> None:
        """Save the trained model, the best one before it if there is one, and remove the checkpoints of steps.

        Args:
            model: a model of transformers, on the run's devices.
        """
        checkpoints = Checkpoints(self.path, runtime)
        best = checkpoints.best()
        if best is not None:
            last_weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
            checkpoints.load_weights(best.step, model)
            self._save_model(self.final.with_name("best"), model, runtime, processor)
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if name in last_weights:
                        parameter.copy_(last_weights[name])
        self._save_model(self.final, model, runtime, processor)
        runtime.barrier()
        if runtime.is_main:
            checkpoints.remove_all()
        runtime.barrier()

    def _save_model(self, folder: Path, model: Any, runtime: Runtime, processor: Processor | None) -> None:
        """Write a model whole or not at all. Sharded parameters are gathered one at a time."""
        state = None
        if runtime.strategy == "fsdp":
            state = {}
            for name, tensor in model.state_dict().items():
                full = gather_full(tensor)
                if runtime.is_main:
                    state[name] = full.cpu()
        if not runtime.is_main:
            return
        try:
            with replacing_folder(folder) as partial:
                model.save_pretrained(partial, state_dict=state)
                if processor is not None:
                    processor.save(partial)
                write_json(partial / "training.json", {"settings": self.config.settings})
        except (OSError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{folder}: the model cannot be written ({reason}); its last checkpoint is kept") from None


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
