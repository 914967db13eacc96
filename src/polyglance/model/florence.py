"""Florence-2 checkpoints, saved by transformers or published by Microsoft, with this project's names of tensors."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import BartConfig
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from polyglance.model.checkpoint import Checkpoint
from polyglance.model.convert import convert_encoder_config, convert_key_from_published, convert_vision_config

__all__ = ["SHARED", "Florence"]

SHARED = "shared.weight"
"""This project's name of the single embedding table of a Florence-2, shared by encoder, decoder and head."""

_NATIVE = (
    (r"^(model\.)?vision_tower\.", "vision_tower."),
    (r"^(model\.)?multi_modal_projector\.", "projector."),
    (r"^(model\.)?language_model\.(model\.)?", ""),
)
_HEAD = "lm_head.weight"
_COPIES_OF_SHARED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", _HEAD)
"""Other names of the table. A file may hold any of them, or several."""


class Florence(Mapping[str, Tensor]):
    """The tensors of a Florence-2 by this project's names, read one at a time.

    Raises:
        ValueError: a configuration that is not a Florence-2's.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        config = checkpoint.config()
        if not {"vision_config", "text_config"} <= set(config):
            raise ValueError(f"{checkpoint.folder / 'config.json'}: not a Florence-2 configuration")
        vision, self._text = config["vision_config"], config["text_config"]
        self._is_native = "embed_dim" in vision
        self.vision_config = _read_native_config(vision) if self._is_native else convert_vision_config(vision)
        self.max_image_grid: int = self.vision_config.max_position_embeddings
        names = {self._convert_key(name): name for name in checkpoint}
        tables = {name: names.pop(name) for name in (SHARED, *_COPIES_OF_SHARED) if name in names}
        if not tables:
            raise ValueError(f"{checkpoint.folder}: the shared embedding of a Florence-2 is missing")
        self._names = {**names, SHARED: next(iter(tables.values()))}
        self.untied_head = self._find_untied_head(tables)
        """Message about a head that differs from the shared embedding; empty if it does not."""

    def _find_untied_head(self, tables: Mapping[str, str]) -> str:
        """Compare the tables that the checkpoint holds under several names.

        Raises:
            ValueError: encoder and decoder have different tables.
        """
        if len(tables) == 1:
            return ""
        shared = self._checkpoint[self._names[SHARED]]
        for name, source in tables.items():
            if source == self._names[SHARED] or torch.equal(shared, self._checkpoint[source]):
                continue
            found = f"{self._checkpoint.folder}: {source} is not {self._names[SHARED]}"
            if name == _HEAD:
                return f"{found}: an untied head, which the assembled model does not have"
            raise ValueError(f"{found}; a Florence-2 has one table for encoder and decoder")
        return ""

    def text_config(self) -> BartConfig:
        """Return the encoder's configuration, with the vocabulary of the checkpoint."""
        return convert_encoder_config(self._text, vocab_size=self._checkpoint.shape(self._names[SHARED])[0])

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise ValueError(f"{self._checkpoint.folder}: no tensor for {name!r} of the model")
        tensor = self._checkpoint[self._names[name]]
        return tensor.T.contiguous() if self._names[name] == "image_projection" else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _convert_key(self, name: str) -> str:
        if not self._is_native:
            return convert_key_from_published(name).removeprefix("language_model.").removeprefix("model.")
        for pattern, replacement in _NATIVE:
            name = re.sub(pattern, replacement, name)
        return name


def _read_native_config(values: Mapping[str, Any]) -> Florence2VisionConfig:
    return Florence2VisionConfig(**{key: value for key, value in values.items() if key != "model_type"})
