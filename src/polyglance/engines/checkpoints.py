"""Checkpoint folders of transformers: single tensors, and whole models. Nothing is read from a network.

source = Checkpoint("gemma-2-2b")
source["model.norm.weight"]
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoProcessor, AutoTokenizer

from polyglance.coverage import EvaluationTask
from polyglance.engines.config import EngineConfig, ModelConfig
from polyglance.engines.devices import choose_compute
from polyglance.engines.folders import folder_digest, model_type, weights_version
from polyglance.engines.loading import load_pretrained, loading, read_model_config
from polyglance.engines.prompts import PromptedModel
from polyglance.engines.protocol import TextLoss
from polyglance.error_text import first_line
from polyglance.files import read_json

__all__ = [
    "INDEX_FILE",
    "Checkpoint",
    "CheckpointModel",
    "WritingCheckpoint",
    "load_checkpoint_tokenizer",
    "load_processor",
    "pad_ids",
    "text_losses",
]

INDEX_FILE = "model.safetensors.index.json"
"""File that says which shard holds which tensor."""
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "init_state_dict.pt")
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.spm")
"""Files that hold a tokenizer's vocabulary. Without them transformers loads some tokenizers with an empty one."""


class Checkpoint(Mapping[str, Tensor]):
    """Tensors of a checkpoint folder by name. A tensor is read, and checked for NaN, when it is asked for.

    Only the tensor asked for is held in memory, however many and large the shards are.

    Args:
        unsafe_pickle: also read pickle files (`weights_only`: tensors, never code).

    Raises:
        ValueError: no such folder, a shard that is missing or truncated, a pickle without `unsafe_pickle`, and, on
            access, a tensor that is missing or not finite.
    """

    def __init__(self, folder: str | Path, *, unsafe_pickle: bool = False) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
        self._pickled: dict[str, Tensor] = {}
        self._files = self._locate(unsafe_pickle)

    def config(self) -> dict[str, Any]:
        """Return the content of config.json."""
        return read_model_config(self.folder)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._files:
            raise ValueError(f"{self.folder}: the tensor {name!r} is missing")
        if name in self._pickled:
            tensor = self._pickled[name]
        else:
            try:
                with safe_open(self._files[name], framework="pt") as file:
                    tensor = file.get_tensor(name).clone()  # a view would keep the file's pages in memory
            except (SafetensorError, OSError, RuntimeError, TypeError) as error:
                where = f"{self._files[name]}: the tensor {name!r}"
                raise ValueError(f"{where} cannot be read ({first_line(error)})") from None
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{self._files[name]}: the tensor {name!r} holds values that are not finite")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, without reading it."""
        if name in self._pickled:
            return tuple(self._pickled[name].shape)
        with safe_open(self._files[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def _locate(self, unsafe_pickle: bool) -> dict[str, Path]:
        """Map the name of each tensor to its file."""
        if (self.folder / INDEX_FILE).exists():
            return self._locate_in_shards(_read_weight_map(self.folder / INDEX_FILE))
        if (self.folder / "model.safetensors").exists():
            path = self.folder / "model.safetensors"
            return dict.fromkeys(_tensor_names(path), path)
        for name in _PICKLES:
            if (self.folder / name).exists():
                if not unsafe_pickle:
                    raise ValueError(
                        f"{self.folder / name}: a pickle can run code when it is loaded; convert it to safetensors, or "
                        "give --unsafe-pickle to `polyglance model convert` to read its tensors"
                    )
                return self._load_pickles(self.folder / name)
        raise ValueError(f"{self.folder}: no weights; expected model.safetensors or {INDEX_FILE}")

    def _locate_in_shards(self, weight_map: Mapping[str, str]) -> dict[str, Path]:
        shards = {name: self.folder / Path(name).name for name in set(weight_map.values())}
        held = {}
        for name, path in shards.items():
            if not path.exists():
                raise ValueError(f"{self.folder}: the shard {' '.join(name.split())} is missing; {INDEX_FILE} names it")
            held[name] = set(_tensor_names(path))
        for tensor, shard in weight_map.items():
            if tensor not in held[shard]:
                raise ValueError(f"{shards[shard]}: the tensor {tensor!r} is missing; {INDEX_FILE} says it is there")
        return {tensor: shards[shard] for tensor, shard in weight_map.items()}

    def _load_pickles(self, path: Path) -> dict[str, Path]:
        paths = [path]
        if path.suffix == ".json":
            paths = [self.folder / Path(name).name for name in sorted(set(_read_weight_map(path).values()))]
        files: dict[str, Path] = {}
        for shard in paths:
            state = _load_pickle(shard)
            self._pickled |= state
            files |= dict.fromkeys(state, shard)
        return files


class CheckpointModel:
    """A model of transformers in a checkpoint folder. Processor and weights are read when they are first used.

    Raises:
        ValueError: no such folder or device, or not a model saved by transformers; on first use, a file that is missing
            or damaged.
    """

    model_class: ClassVar[Any]
    """Class of transformers that loads the model."""

    def __init__(self, folder: Path, config: EngineConfig | ModelConfig) -> None:
        self.model_type = model_type(folder)
        self.name = folder.resolve().name
        self.folder, self.config = folder, choose_compute(config)

    @classmethod
    def for_recipe(cls, config: EngineConfig) -> "CheckpointModel":
        """Load the engine of a recipe."""
        assert config.path is not None, "a kind with a checkpoint has a path"
        engine = cls(config.path, config)
        engine.load()
        return engine

    def load(self) -> None:
        """Read everything now, so that a damaged folder is refused before the work begins."""
        _ = self.processor, self.model

    @property
    def recipe(self) -> EngineConfig:
        """Settings of a recipe's engine."""
        assert isinstance(self.config, EngineConfig)
        return self.config

    @cached_property
    def version(self) -> str:
        """Digest of the weights."""
        return weights_version(self.folder)

    @cached_property
    def digest(self) -> str:
        """Digest of all files that the answers depend on."""
        return folder_digest(self.folder)

    @cached_property
    def processor(self) -> Any:
        """Tokenizer and image transform."""
        return load_processor(self.folder)

    @cached_property
    def model(self) -> Any:
        """The model on its device."""
        return _load_model(self.model_class, self.folder, self.config)

    def to_device(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Move tensors to the model's device, pixels in its precision."""
        dtype = getattr(torch, self.config.dtype)
        return {
            name: tensor.to(self.config.device, dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
        }


class WritingCheckpoint(CheckpointModel, PromptedModel):
    """A checkpoint that writes texts."""

    num_beams: ClassVar[int] = 4
    """Beams where the settings leave them open (official code section 4.3)."""
    max_new_tokens: ClassVar[int] = 128
    """Longest text of a model under evaluation, in tokens, where the settings leave it open (as above)."""

    @classmethod
    def for_evaluation(cls, where: str, config: ModelConfig) -> "WritingCheckpoint":
        """Open the model in the folder `where`."""
        return cls(Path(where), config)

    @cached_property
    def generation(self) -> dict[str, Any]:
        """Arguments of transformers' `generate`."""
        config = self.config
        if isinstance(config, EngineConfig):
            beams, max_new_tokens = config.num_beams, config.max_new_tokens
            options: dict[str, Any] = {"length_penalty": config.length_penalty}
        else:
            beams, max_new_tokens = config.beams, config.max_new_tokens or self.max_new_tokens
            options = {}
        return {"do_sample": False, "num_beams": beams or self.num_beams, "max_new_tokens": max_new_tokens, **options}

    def settings(self, task: EvaluationTask) -> dict[str, Any]:
        settings: dict[str, Any] = {"weights": self.digest, "dtype": self.config.dtype}
        if task != "disambiguation":
            settings["beams"] = self.generation["num_beams"]
            settings["max_new_tokens"] = self.generation["max_new_tokens"]
        return settings

    def process(self, images: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, Any]:
        """Return the model's inputs for one image and one text per row."""
        return self.to_device(self.processor(images=list(images), text=list(texts), return_tensors="pt", padding=True))

    def decode(self, ids: Int[Tensor, "B T"]) -> list[str]:
        """Return the texts of generated ids."""
        return [text.strip() for text in self.processor.batch_decode(ids, skip_special_tokens=True)]


def load_checkpoint_tokenizer(folder: Path) -> Any:
    """Load the tokenizer in a folder.

    Raises:
        ValueError: there is none, or one that cannot be used here.
    """
    return _load_pretrained(AutoTokenizer, folder, "tokenizer")


def load_processor(folder: Path) -> Any:
    """Load tokenizer and image transform; images by Pillow, so that pixels are the same on every machine.

    Raises:
        ValueError: there is none, or one that cannot be used here.
    """
    processor = _load_pretrained(AutoProcessor, folder, "processor", backend="pil")
    if not hasattr(processor, "image_processor"):
        raise ValueError(f"{folder}: has no image processor")
    return processor


def pad_ids(rows: Sequence[Sequence[int]], value: int) -> Int[Tensor, "B T"]:
    """Stack rows of ids, padded on the right with `value`."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def text_losses(logits: Float[Tensor, "B T V"], rows: Sequence[Sequence[int]]) -> list[TextLoss]:
    """Return the loss of each row of token ids. `logits[row, t]` predict `rows[row][t]`; the rest is padding."""
    labels = pad_ids(rows, -100).to(logits.device)  # torch ignores this label
    losses = F.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none")
    sums = losses.double().sum(dim=1).tolist()
    return [TextLoss(nats=nats, num_tokens=len(row)) for nats, row in zip(sums, rows, strict=True)]


def _load_model(cls: Any, folder: Path, config: EngineConfig | ModelConfig) -> Any:
    """Load a folder's model as transformers' class `cls` on its device.

    Raises:
        ValueError: weights that are missing, not safetensors, or do not fit.
    """
    Checkpoint(folder)  # refuses pickles and broken shards
    model = load_pretrained(cls, folder, dtype=getattr(torch, config.dtype))
    return model.to(config.device).eval()


def _load_pretrained(cls: Any, folder: Path, what: str, **options: Any) -> Any:
    if not any(any(folder.glob(pattern)) for pattern in _VOCABULARIES):
        raise ValueError(f"{folder}: no tokenizer in it ({' or '.join(_VOCABULARIES)})")
    if (folder / "config.json").exists():
        read_model_config(folder)
    with loading(folder, what):
        return cls.from_pretrained(folder, local_files_only=True, **options)


def _read_weight_map(path: Path) -> dict[str, str]:
    """Return tensor -> file, as an index says."""
    values = read_json(path)
    weight_map = values.get("weight_map") if isinstance(values, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) and name for name in weight_map.values()):
        raise ValueError(f"{path}: no weight_map of tensors to files")
    return weight_map


def _tensor_names(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: truncated, or not a safetensors file ({error})") from None


def _load_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: the shard is missing") from None
    except Exception as error:  # noqa: BLE001 - torch raises anything at a damaged file
        raise ValueError(f"{path}: not a pickle of tensors ({first_line(error)})") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: expected a dictionary of tensors")
    return state
