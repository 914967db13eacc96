"""Florence-2 checkpoints as transformers saves them, and as Microsoft published them, under our names."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from transformers import BartConfig
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from polyglance.model.checkpoint import Checkpoint
from polyglance.model.convert import encoder_from_published, key_from_published, vision_from_published

__all__ = ["SHARED", "Florence"]

SHARED = "shared.weight"
"""Our name for the one embedding table of a Florence-2, which both sides and the head use."""

_NATIVE = (
    (r"^(model\.)?vision_tower\.", "vision_tower."),
    (r"^(model\.)?multi_modal_projector\.", "projector."),
    (r"^(model\.)?language_model\.(model\.)?", ""),
)
_COPIES_OF_SHARED = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


class Florence(Mapping[str, Tensor]):
    """The tensors of a Florence-2 under our names, read one at a time.

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
        self.vision_config = _native_vision(vision) if self._is_native else vision_from_published(vision)
        self.max_image_grid: int = self.vision_config.max_position_embeddings
        names = {self._our_name(name): name for name in checkpoint}
        self._names = {name: source for name, source in names.items() if name not in _COPIES_OF_SHARED}
        if SHARED not in self._names:
            raise ValueError(f"{checkpoint.folder}: the shared embedding of a Florence-2 is missing")

    def text_config(self) -> BartConfig:
        """Its encoder's configuration, with the vocabulary of the checkpoint."""
        return encoder_from_published(self._text, vocab_size=self._checkpoint.shape(self._names[SHARED])[0])

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise ValueError(f"{self._checkpoint.folder}: no tensor for {name!r} of the model")
        tensor = self._checkpoint[self._names[name]]
        return tensor.T.contiguous() if self._names[name] == "image_projection" else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _our_name(self, name: str) -> str:
        if not self._is_native:
            return key_from_published(name).removeprefix("language_model.").removeprefix("model.")
        for pattern, replacement in _NATIVE:
            name = re.sub(pattern, replacement, name)
        return name


def _native_vision(values: Mapping[str, Any]) -> Florence2VisionConfig:
    return Florence2VisionConfig(**{key: value for key, value in values.items() if key != "model_type"})
