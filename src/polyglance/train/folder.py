"""The folder of a run: what is written into it at the start, what must agree at a restart, and the finished model.

A run leaves `config.toml`, `settings.json`, `env.json`, `samples.json`, `metrics.jsonl` and `checkpoints/{final,
best}`; `final` and `best` are folders that `from_pretrained` reads, with the processor and `training.json`, which holds
the settings they were trained with. The folder can be moved at any time: inputs are compared by content, not by place.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors import SafetensorError

from polyglance.config import flatten, from_dict, parse_toml, to_dict
from polyglance.distributed import Runtime
from polyglance.environment import describe_environment
from polyglance.error_text import first_line
from polyglance.files import (
    read_digests,
    read_record,
    replacing_folder,
    seal_files,
    unlist_files,
    write_atomically,
    write_json,
    write_record,
)
from polyglance.model.processor import Processor
from polyglance.run_records import INITIAL_NAME
from polyglance.train.checkpoint import Checkpoints
from polyglance.train.config import LoopConfig, may_change
from polyglance.train.identity import RunIdentity
from polyglance.train.parallel import gather_full

__all__ = ["RunFolder"]


_CONFIG, _SETTINGS = "config.toml", "settings.json"
_RECORDS = (_CONFIG, _SETTINGS, "env.json", "samples.json", "metrics.jsonl")
"""Files of a run beside its checkpoints, as `train` leaves them."""


@dataclass(frozen=True, kw_only=True)
class SettingsRecord:
    """Content of settings.json."""

    settings: str
    """Fingerprint of the settings that the weights depend on."""
    inputs: Mapping[str, str]
    """Dotted name of a setting -> digest of the file or folder that it names."""


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; it need not exist yet.
        config: the run's configuration.
        identity: what the weights depend on (`identify_run`).
    """

    def __init__(self, path: Path, config: LoopConfig, identity: RunIdentity) -> None:
        self.path = path
        self.config = config
        self.identity = identity

    @property
    def final(self) -> Path:
        """Folder of the trained model."""
        return self.path / "checkpoints" / "final"

    def check_settings(self) -> None:
        """Refuse a folder with checkpoints of other settings, before anything in it is overwritten.

        Raises:
            ValueError: names the settings that differ.
        """
        if not (self.path / _CONFIG).exists() or not any(self.path.glob("checkpoints/*")):
            return
        there = self._read_settings()
        if there is not None and there.settings == self.identity.settings:
            return
        differences = [*self._compare_values(there), *self._compare_inputs(there)]
        if differences:
            more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise ValueError(
                f"{self.path} holds a run with other settings ({', '.join(differences[:3])}{more}): go on with its "
                "own, or give another folder"
            )

    def _read_settings(self) -> SettingsRecord | None:
        """Return settings.json; None if an older version has written the folder, or the file is damaged."""
        path = self.path / _SETTINGS
        if not path.exists():
            return None
        try:
            return from_dict(SettingsRecord, read_record(path))
        except ValueError as error:
            print(f"{error}; settings are compared with {_CONFIG} instead", file=sys.stderr, flush=True)
            return None

    def _compare_values(self, there: SettingsRecord | None) -> Iterator[str]:
        """Say which values of config.toml differ; inputs are compared by their content if that is noted."""
        path = self.path / _CONFIG
        try:
            values = parse_toml(path.read_text(encoding="utf-8"), path.name)
        except ValueError as error:
            raise ValueError(f"{path}: damaged ({error}); the run's settings cannot be compared with it") from None
        old, new, given = (flatten(v) for v in (values, self._settings_to_write(), to_dict(self.config)))
        inputs = self.identity.inputs if there is not None else {}
        for key in sorted({*old, *new}):
            if old.get(key) not in (new.get(key), given.get(key)) and not may_change(key) and key not in inputs:
                yield f"{key} is {old.get(key, 'not set')} there and {given.get(key, 'not set')} now"

    def _compare_inputs(self, there: SettingsRecord | None) -> Iterator[str]:
        for key, digest in self.identity.inputs.items() if there is not None else ():
            if there is not None and there.inputs.get(key) != digest:
                yield f"{key} has other content: {_get(to_dict(self.config), key.split('.'))}"

    def is_trained(self) -> bool:
        """Tell whether the run is finished. A process that was killed after that need not train again.

        Raises:
            ValueError: the note of it is damaged.
        """
        path = self.final / "training.json"
        return path.exists() and self.identity.is_of(str(read_record(path).get("settings")))

    def describe(self) -> None:
        """Write config.toml, settings.json and env.json (versions, machine and GPUs)."""
        written_again = [name for name in read_digests(self.path) if name != INITIAL_NAME]
        unlist_files(self.path, written_again)
        write_atomically(self.path / _CONFIG, tomli_w.dumps(self._settings_to_write()))
        record = SettingsRecord(settings=self.identity.settings, inputs=self.identity.inputs)
        write_record(self.path / _SETTINGS, asdict(record))
        write_json(self.path / "env.json", describe_environment())

    def _settings_to_write(self) -> dict[str, Any]:
        """Return the configuration as plain values. Paths of inputs in the run's folder are relative to it."""
        values, folder = to_dict(self.config), self.path.resolve()
        for key in self.identity.inputs:
            *parents, last = key.split(".")
            table = _get(values, parents)
            if (path := Path(table[last]).resolve()).is_relative_to(folder):
                table[last] = str(path.relative_to(folder))
        return values

    def seal(self) -> None:
        """List the files beside the checkpoints with their digests, once the run is finished."""
        tokenizers = [path.name for path in self.path.glob("tokenizer-*.json")]
        seal_files(self.path, [name for name in (*_RECORDS, *tokenizers) if (self.path / name).exists()])

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
            checkpoints.remove_all(except_step=self.config.num_steps if self.config.is_trunk else None)
            self.seal()
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
                write_record(partial / "training.json", {"settings": self.identity.settings})
                seal_files(partial, [path.name for path in partial.iterdir()])
        except (OSError, SafetensorError) as error:
            reason = first_line(error)
            raise ValueError(f"{folder}: the model cannot be written ({reason}); its last checkpoint is kept") from None


def _get(values: Any, names: Sequence[str]) -> Any:
    """Return the value at the end of a path of keys."""
    for name in names:
        values = values[name]
    return values
