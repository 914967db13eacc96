"""Checkpoint folders in Hugging Face's layout, read and written one tensor at a time.

source = Checkpoint("gemma-2-2b")
with new_folder("out") as folder:
    write_weights(folder, ((name, source[name]) for name in source))
"""

import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polyglance.files import read_json, replacing_folder, write_json

__all__ = ["Checkpoint", "find_folder", "new_folder", "write_weights"]

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "init_state_dict.pt")
_INDEX = "model.safetensors.index.json"


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a checkpoint folder by name; a tensor is read, and checked for NaN, when it is asked for.

    No more than the tensor asked for is held in memory, however many and large the shards are.

    Args:
        unsafe_pickle: also read pickle files (`weights_only`: tensors, never code).

    Raises:
        ValueError: no such folder, a shard that is missing or cut short, a pickle without `unsafe_pickle`, and, on
            access, a tensor that is not there or not finite.
    """

    def __init__(self, folder: str | Path, *, unsafe_pickle: bool = False) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
        self._pickled: dict[str, Tensor] = {}
        self._files = self._find(unsafe_pickle)

    def config(self) -> dict[str, Any]:
        """The contents of config.json."""
        return read_json(self.folder / "config.json")

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._files:
            raise ValueError(f"{self.folder}: the tensor {name!r} is missing")
        if name in self._pickled:
            tensor = self._pickled[name]
        else:
            with safe_open(self._files[name], framework="pt") as file:
                tensor = file.get_tensor(name).clone()  # a view would keep the file's pages in memory
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{self._files[name]}: the tensor {name!r} holds values that are not finite")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        if name in self._pickled:
            return tuple(self._pickled[name].shape)
        with safe_open(self._files[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def _find(self, unsafe_pickle: bool) -> dict[str, Path]:
        if (self.folder / _INDEX).exists():
            return self._sharded(read_json(self.folder / _INDEX).get("weight_map", {}))
        if (self.folder / "model.safetensors").exists():
            path = self.folder / "model.safetensors"
            return dict.fromkeys(_names(path), path)
        for name in _PICKLES:
            if (self.folder / name).exists():
                if not unsafe_pickle:
                    raise ValueError(
                        f"{self.folder / name}: a pickle can run code when it is loaded; "
                        "give --unsafe-pickle to read its tensors, or convert it to safetensors"
                    )
                return self._load_pickles(self.folder / name)
        raise ValueError(f"{self.folder}: no weights; expected model.safetensors or {_INDEX}")

    def _sharded(self, weight_map: Mapping[str, str]) -> dict[str, Path]:
        shards = {name: self.folder / Path(name).name for name in set(weight_map.values())}
        held = {}
        for name, path in shards.items():
            if not path.exists():
                raise ValueError(f"{self.folder}: the shard {name} is missing; {_INDEX} names it")
            held[name] = set(_names(path))
        for tensor, shard in weight_map.items():
            if tensor not in held[shard]:
                raise ValueError(f"{shards[shard]}: the tensor {tensor!r} is missing; {_INDEX} says it is there")
        return {tensor: shards[shard] for tensor, shard in weight_map.items()}

    def _load_pickles(self, path: Path) -> dict[str, Path]:
        paths = [path]
        if path.suffix == ".json":
            paths = [self.folder / Path(name).name for name in sorted(set(read_json(path)["weight_map"].values()))]
        files: dict[str, Path] = {}
        for shard in paths:
            state = _load_pickle(shard)
            self._pickled |= state
            files |= dict.fromkeys(state, shard)
        return files


def find_folder(name: str | Path) -> Path:
    """Return the folder or, for a name on the Hugging Face hub, its downloaded copy.

    Raises:
        ValueError: neither a folder nor a model that the hub gives out.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
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
    write_json(folder / _INDEX, index, indent=2)


def _flush(folder: Path, pending: dict[str, Tensor], shards: list[list[str]]) -> None:
    save_file({name: t.contiguous() for name, t in pending.items()}, _shard(folder, len(shards)), {"format": "pt"})
    shards.append(list(pending))
    pending.clear()


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number}.partial"


def _names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cut short or not a safetensors file ({error})") from None


def _load_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: the shard is missing") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path}: not a pickle of tensors ({str(error).splitlines()[0]})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a dictionary of tensors")
    return state
