"""Checkpoint folders in Hugging Face's layout, read and written one tensor at a time.

source = Checkpoint("gemma-2-2b")
with new_folder("out") as folder:
    write_weights(folder, ((name, source[name]) for name in source))
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from polyglance.config import parse_path
from polyglance.engines.checkpoints import INDEX_FILE, Checkpoint
from polyglance.error_text import first_line
from polyglance.files import check_output_folder, file_sha256, replacing_folder, seal_files, write_json

__all__ = ["MICRO_MODEL", "Checkpoint", "find_folder", "new_folder", "write_weights"]

MICRO_MODEL = Path(__file__).parent / "micro_model"
"""Folder of the trained model in the package, which is called `micro` (`benchmarks/ship_micro_model.py`)."""
_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")
_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt"]


def find_folder(name: str | Path) -> Path:
    """Return the folder; for `micro` that of the model in the package; for NAME@COMMIT its copy from the Hugging Face
    hub. The commit, 40 hexadecimal digits, fixes the content of every file. Large files are compared with the SHA-256
    that the hub states.

    Raises:
        ValueError: neither a folder nor an available model of the hub, a name without its commit, or a file that
            differs from what the hub states.
    """
    if parse_path(str(name)).is_dir():
        return Path(name)
    if str(name) == "micro":
        return MICRO_MODEL
    repository, _, commit = str(name).partition("@")
    if not _COMMIT.fullmatch(commit):
        raise ValueError(
            f"{name}: no such folder; a model of the hub is named with its commit, NAME@COMMIT (40 hexadecimal "
            "digits), because the content under a name can change"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=commit, allow_patterns=_PATTERNS))
        for path, sha256 in _list_stated(repository, commit, folder).items():
            if path.is_file() and file_sha256(path) != sha256:
                raise ValueError(f"{path}: differs from what the hub states; remove it and try again")
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise ValueError(f"{name}: no such folder, and not available on the hub ({reason})") from None


def _list_stated(repository: str, commit: str, folder: Path) -> dict[Path, str]:
    """Return large file -> SHA-256 that the hub states. Without a connection to the hub it is taken from the file's
    name in the hub's cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        files = HfApi().model_info(repository, revision=commit, files_metadata=True).siblings or []
    except (HfHubHTTPError, OSError):
        names = {path: path.resolve().name for path in folder.rglob("*")}
        return {path: name for path, name in names.items() if _SHA256.fullmatch(name)}
    return {folder / file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None}


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
