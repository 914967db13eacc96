"""Checkpoint folders of transformers' own models: loaded without a network, told apart by what is in them."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from polyglance.engines.evaluated import Failure, ModelConfig, Picture, Task, TextLoss
from polyglance.engines.loading import check_device, load_processor, load_tokenizer, load_weights, placed
from polyglance.files import file_sha256, read_json
from polyglance.mixture.collate import IGNORED
from polyglance.model.checkpoint import Checkpoint

__all__ = [
    "LibraryModel",
    "folder_digest",
    "grouped",
    "load_library_model",
    "load_processor",
    "load_tokenizer",
    "model_type",
    "text_losses",
]

_COUNTED = (".json", ".jinja", ".model", ".safetensors", ".txt")
"""Files that make a model what it is: weights, configurations, vocabularies, chat templates."""


def model_type(folder: Path) -> str:
    """What kind of model a folder holds, as its config.json says.

    Raises:
        ValueError: no such folder, or no config.json that says it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    kind = read_json(folder / "config.json").get("model_type")
    if not isinstance(kind, str):
        raise ValueError(f"{folder / 'config.json'}: no model_type: not a model that transformers saved")
    return kind


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's files: another checkpoint, another digest."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _COUNTED and path.is_file():
            total.update(f"{path.name} {file_sha256(path)}\n".encode())
    return total.hexdigest()


def load_library_model(cls: Any, folder: Path, config: ModelConfig) -> Any:
    """A model of transformers' class `cls`, ready to be asked.

    Raises:
        ValueError: weights that are missing, not safetensors, or do not fit.
    """
    Checkpoint(folder)  # refuses pickles and broken shards
    return load_weights(cls, folder, config.dtype).to(config.device).eval()


class LibraryModel:
    """What baselines of one folder have in common: settings, facts, inputs, texts.

    Args:
        beams, max_new_tokens: as published for the model; the configuration's come first.

    Raises:
        ValueError: no such folder, or a setting that only models of this project have.
    """

    reads_images = True

    def __init__(self, folder: Path, config: ModelConfig, *, beams: int, max_new_tokens: int) -> None:
        model_type(folder)
        check_device(config.device)
        self.name = folder.resolve().name
        self.folder, self.config = folder, config
        for option, unset in (("prefix", "none"), ("resolution", None)):
            if getattr(config, option) != unset:
                raise ValueError(f"{self.name}: {option} is an option of this project's models only")
        self.generation = {
            "do_sample": False,
            "num_beams": config.beams or beams,
            "max_new_tokens": config.max_new_tokens or max_new_tokens,
        }

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:  # noqa: ARG002
        """What every task of such a model depends on."""
        facts: dict[str, Any] = {"weights": self._digest, "dtype": self.config.dtype}
        if task != "disambiguation":
            facts |= {"beams": self.generation["num_beams"], "max_new_tokens": self.generation["max_new_tokens"]}
        return facts

    def captions(self, images: Sequence[Picture], language: str) -> Sequence[str | Failure]:
        raise NotImplementedError

    def translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Sequence[str | Failure]:
        raise NotImplementedError

    def losses(
        self,
        images: Sequence[Picture],
        sources: Sequence[str],
        candidates: Sequence[Sequence[str]],
        language: str,
    ) -> Sequence[Sequence[TextLoss] | Failure]:
        raise NotImplementedError

    def inputs(self, images: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, Any]:
        """One image and one text per row as the model's processor makes tensors of them."""
        made = self._processor(images=list(images), text=list(texts), return_tensors="pt", padding=True)
        return self.placed(made)

    def placed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors on the model's device, pixels in its precision."""
        return placed(inputs, self.config)

    def decoded(self, ids: Int[Tensor, "B T"]) -> list[str]:
        """Texts of generated ids."""
        return [text.strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True)]

    @cached_property
    def _processor(self) -> Any:
        return load_processor(self.folder)

    @cached_property
    def _digest(self) -> str:
        return folder_digest(self.folder)


def text_losses(logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"]) -> list[TextLoss]:
    """Loss of each row's labels, those that are `IGNORED` left out. `logits[:, t]` predict `labels[:, t]`."""
    losses = F.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    counts = (labels != IGNORED).sum(dim=1)
    sums = losses.double().sum(dim=1)
    return [TextLoss(nats=nats, num_tokens=count) for nats, count in zip(sums.tolist(), counts.tolist(), strict=True)]


def grouped(losses: Sequence[TextLoss], sizes: Sequence[int]) -> list[tuple[TextLoss, ...]]:
    """A flat list of losses in groups of these sizes."""
    rest = iter(losses)
    return [tuple(next(rest) for _ in range(size)) for size in sizes]
