"""Dual encoders of transformers, whose two towers embed images and texts in one space: CLIP and its like."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import AutoModel

from polyglance.engines.batches import by_length, in_batches
from polyglance.engines.checkpoints import CheckpointModel
from polyglance.engines.protocol import Picture
from polyglance.images import to_rgb

__all__ = ["DualEncoder"]

_FULL_LENGTH = ("siglip", "siglip2")
"""Types of models that were trained on texts padded to full length without a mask; others give wrong results."""
_POSITIONS_AFTER_PADDING = ("altclip_text_model", "camembert", "roberta", "xlm-roberta", "xlm-roberta-xl")
"""Types of text towers whose positions begin after the padding id, so that they have room for fewer tokens."""


class DualEncoder(CheckpointModel):
    """CLIP, SigLIP, SigLIP 2, MetaCLIP 2, AltCLIP and others, as embedder and as scorer.

    Texts are cut to what the text tower reads (77 tokens with CLIP, 64 with SigLIP).

    Raises:
        ValueError: on first use, a model that does not embed images and texts, or that cannot be used.
    """

    model_class = AutoModel

    @cached_property
    def model(self) -> Any:
        model = super().model
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise ValueError(f"{self.folder}: a {self.model_type} model does not embed images and texts")
        return model

    @cached_property
    def dim(self) -> int:
        """Width of the space."""
        return self._text_features(["a"]).shape[1]

    def embed_images(self, images: Sequence[bytes]) -> Float[np.ndarray, "N D"]:
        """Embed encoded images: float32, each row of unit length.

        Raises:
            ImageError: a file that is not an image.
        """
        rows = in_batches(
            images,
            lambda batch: _unit_rows(self._image_features([to_rgb(image) for image in batch])),
            batch_size=self.recipe.batch_size,
        )
        return self._stack(rows)

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Embed texts: float32, each row of unit length."""
        rows = by_length(texts, lambda batch: _unit_rows(self._text_features(batch)), batch_size=self.recipe.batch_size)
        return self._stack(rows)

    def cosines(self, images: Sequence[Picture], texts: Sequence[str]) -> list[float]:
        """Return the cosine of each image and the text at the same place, as one batch."""
        image = self._image_features([picture.rgb for picture in images])
        return F.cosine_similarity(image, self._text_features(texts)).tolist()

    @torch.no_grad()
    def _image_features(self, images: Sequence[Image.Image]) -> Float[Tensor, "B D"]:
        pixels = self.processor.image_processor(list(images), return_tensors="pt")
        return _features(self.model.get_image_features(**self.to_device(pixels)))

    @torch.no_grad()
    def _text_features(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        full = self.model_type in _FULL_LENGTH
        encoded = self.processor.tokenizer(
            list(texts),
            padding="max_length" if full else True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")[: 1 if full else 2]}
        return _features(self.model.get_text_features(**self.to_device(inputs)))

    @property
    def _max_tokens(self) -> int:
        config = self.model.config.text_config
        reserved = config.pad_token_id + 1 if config.model_type in _POSITIONS_AFTER_PADDING else 0
        return int(config.max_position_embeddings) - reserved

    def _stack(self, rows: Sequence[Float[np.ndarray, " D"]]) -> Float[np.ndarray, "N D"]:
        return np.stack(rows) if rows else np.empty((0, self.dim), dtype=np.float32)


def _features(output: Any) -> Float[Tensor, "B D"]:
    """Return float32 features, which some models wrap in an output."""
    return (output if isinstance(output, Tensor) else output.pooler_output).float()


def _unit_rows(features: Float[Tensor, "B D"]) -> list[Float[np.ndarray, " D"]]:
    return list(F.normalize(features, dim=-1).cpu().numpy())
