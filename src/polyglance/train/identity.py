"""Identity of a run: the content that its weights depend on, wherever its files and its inputs lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.config import fingerprint, to_dict
from polyglance.data.manifest import read_manifest
from polyglance.engines.folders import folder_digest
from polyglance.files import file_sha256
from polyglance.train.config import LoopConfig

__all__ = ["RunIdentity", "identify_run"]


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Settings and inputs that the weights of a run depend on."""

    settings: str
    """Fingerprint of the settings, in which files and folders stand as digests of their content."""
    inputs: Mapping[str, str]
    """Dotted name of each setting that is a path -> digest of what is there."""
    by_path: str = ""
    """Fingerprint of the settings with paths as they are written: what older versions noted in their checkpoints."""

    def is_of(self, settings: str) -> bool:
        """Tell whether a fingerprint that a run has noted is the one of these settings."""
        return settings in (self.settings, self.by_path)


def identify_run(config: LoopConfig) -> RunIdentity:
    """Read the content of a run's inputs: of a data set and of a model folder the digests that they list, of other
    files the bytes.

    Raises:
        ValueError: there is no data set, or its manifest is damaged.
    """
    inputs: dict[str, str] = {}
    settings, *others = config.dependencies()
    values = to_dict(settings)
    for name, digest in _DIGESTS.items():
        *parents, last = name.split(".")
        table: Any = values
        for parent in parents:
            table = table.get(parent, {})
        if table.get(last) is not None:
            inputs[name] = table[last] = digest(Path(table[last]))
    return RunIdentity(settings=fingerprint(values, *others), inputs=inputs, by_path=config.settings)


def _digest_data(folder: Path) -> str:
    return fingerprint([shard.sha256 for shard in read_manifest(folder).shards])


def _digest_tokenizer(path: Path) -> str:
    return file_sha256(path) if path.is_file() else "missing"  # opening it reports what is wrong


_DIGESTS: dict[str, Callable[[Path], str]] = {
    "data": _digest_data,
    "tokenizer": _digest_tokenizer,
    "start.checkpoint": folder_digest,
    "start.language_model": folder_digest,
    "start.vision_tower": folder_digest,
}
"""Settings that are paths and that the weights depend on, and how their content is summed up."""
