"""Checkpoint folders in Hugging Face's layout, read and written one tensor at a time.

source = Checkpoint("gemma-2-2b")
with new_folder("out") as folder:
    write_weights(folder, ((name, source[name]) for name in source))
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from polyglance.engines.checkpoints import INDEX_FILE, Checkpoint
from polyglance.files import check_output_folder, replacing_folder, seal_files, write_json

__all__ = ["Checkpoint", "new_folder", "write_weights"]


@contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """Give a folder to write into, which becomes `out` when the block ends without an error; before that, `out` does
    not exist. A list of its files with digests is added.

    Raises:
        ValueError: `out` exists and is not empty, or cannot be made.
    """
    out = Path(out)
    check_output_folder(out, "`out`")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists already and is not an empty folder")
    with replacing_folder(out) as partial:
        yield partial
        seal_files(partial, [path.name for path in partial.iterdir()])


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
