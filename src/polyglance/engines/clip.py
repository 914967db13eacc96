"""Image and text embeddings of CLIP-like checkpoints: CLIP, SigLIP, SigLIP 2, AltCLIP and others of transformers."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import AutoModel

from polyglance.engines.evaluated import ModelConfig
from polyglance.engines.library import folder_digest, load_library_model, model_type
from polyglance.engines.loading import check_device, load_processor, placed

__all__ = ["ClipModel"]

_FULL_LENGTH = ("siglip", "siglip2")
"""Kinds that were trained on texts padded to 64 tokens, without a mask, and are wrong on others."""


class ClipModel:
    """A checkpoint folder whose model embeds images and texts in one space.

    Args:
        folder: weights, configuration, tokenizer and image processor as transformers saves them.

    Raises:
        ValueError: no such folder.
    """

    def __init__(
        self, folder: Path, *, device: str = "cpu", dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    ) -> None:
        self.kind = model_type(folder)
        check_device(device)
        self._folder = folder
        self._config = ModelConfig(model=str(folder), device=device, dtype=dtype)

    @cached_property
    def digest(self) -> str:
        """Of the folder's files."""
        return folder_digest(self._folder)

    @torch.no_grad()
    def cosines(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Float[Tensor, " B"]:
        """Cosine of each image and the text of the same place. Texts are cut to what the text tower reads."""
        pixels = self._processor.image_processor(list(images), return_tensors="pt")
        image = self._model.get_image_features(**placed(pixels, self._config))
        words = self._processor.tokenizer(
            list(texts),
            padding="max_length" if self.kind in _FULL_LENGTH else True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        names = ("input_ids",) if self.kind in _FULL_LENGTH else ("input_ids", "attention_mask")
        kept = {name: words[name] for name in names}
        text = self._model.get_text_features(**placed(kept, self._config))
        return F.cosine_similarity(_pooled(image).float(), _pooled(text).float()).cpu()

    @property
    def _max_tokens(self) -> int:
        config = self._model.config.text_config
        reserved = config.pad_token_id + 1 if config.model_type in ("xlm-roberta", "altclip_text_model") else 0
        return int(config.max_position_embeddings) - reserved  # RoBERTa's positions begin after the padding id

    @cached_property
    def _processor(self) -> Any:
        return load_processor(self._folder)

    @cached_property
    def _model(self) -> Any:
        model = load_library_model(AutoModel, self._folder, self._config)
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise ValueError(f"{self._folder}: a model of type {self.kind!r} does not embed images and texts")
        return model


def _pooled(output: Any) -> Float[Tensor, "B D"]:
    """Features as such, or where they come inside an output of their own."""
    return output if isinstance(output, Tensor) else output.pooler_output
