"""Checkpoint folders in Hugging Face's layout, read and written one tensor at a time.

source = Checkpoint("gemma-2-2b")
with new_folder("out") as folder:
    write_weights(folder, ((name, source[name]) for name in source))
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from polyglance.engines.checkpoints import INDEX_FILE, Checkpoint
from polyglance.files import replacing_folder, write_json

__all__ = ["Checkpoint", "find_folder", "new_folder", "write_weights"]


def find_folder(name: str | Path, **options: Any) -> Path:
    """Return the folder or, for a name on the Hugging Face hub, its downloaded copy.

    Args:
        options: of `huggingface_hub.snapshot_download`: `revision`, `cache_dir`, `local_files_only`, ...

    Raises:
        ValueError: neither a folder nor a model that the hub gives out.
    """
    if Path(name).is_dir():
        return Path(name)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(name)):
        raise ValueError(f"{name}: no such folder, and not a name on the hub, which is owner/name")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.model", "*.txt"]
        return Path(snapshot_download(str(name), allow_patterns=patterns, **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{name}: no such folder, and the hub does not give it out ({reason})") from None


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """Give a folder to write into, which becomes `out` when the block ends well; before that, `out` does not exist.

    Raises:
        ValueError: `out` is there already and not empty.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists already and is not an empty folder")
    with replacing_folder(out) as partial:
        yield partial


def write_weights(folder: Path, tensors: Iterable[tuple[str, Tensor]], *, max_shard_bytes: int = 2 * 10**9) -> None:
    """Write tensors as model.safetensors, or as numbered shards with an index if they exceed the size of a shard.

    One shard is in memory at a time. A tensor larger than a shard gets one for itself.
    """
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    pending_bytes = total_bytes = 0
    for name, tensor in tensors:
        if pending and pending_bytes + tensor.nbytes > max_shard_bytes:
            _flush(folder, pending, shards)
            pending_bytes = 0
        pending[name] = tensor
        pending_bytes += tensor.nbytes
        total_bytes += tensor.nbytes
    _flush(folder, pending, shards)
    if len(shards) == 1:
        _shard(folder, 0).rename(folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards):
        path = folder / f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        _shard(folder, number).rename(path)
        weight_map |= dict.fromkeys(names, path.name)
    index = {"metadata": {"total_size": total_bytes}, "weight_map": weight_map}
    write_json(folder / INDEX_FILE, index, indent=2)


def _flush(folder: Path, pending: dict[str, Tensor], shards: list[list[str]]) -> None:
    save_file({name: t.contiguous() for name, t in pending.items()}, _shard(folder, len(shards)), {"format": "pt"})
    shards.append(list(pending))
    pending.clear()


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number}.partial"
