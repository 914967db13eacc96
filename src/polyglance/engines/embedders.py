"""Vectors of images and texts by dual encoders of transformers: CLIP, SigLIP, SigLIP 2, MetaCLIP 2 and their like."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from transformers import AutoModel

from polyglance.engines.batches import by_length, in_batches
from polyglance.engines.config import EngineConfig
from polyglance.engines.loading import load_model, load_processor, placed
from polyglance.engines.weights import check_folder, model_type, weights_version
from polyglance.images import to_rgb

__all__ = ["TransformersEmbedder"]

_FULL_LENGTH = ("siglip", "siglip2")
"""Kinds that were trained on texts padded to their full length, without a mask, and are wrong on others."""


class TransformersEmbedder:
    """A checkpoint whose two towers put images and texts into one space.

    Texts are cut to what the text tower reads (77 tokens with CLIP, 64 with SigLIP).

    Raises:
        ValueError: the folder's model does not embed both, or cannot be used.
    """

    def __init__(self, config: EngineConfig) -> None:
        folder = check_folder(config.path)
        self.name, self.version = folder.resolve().name, weights_version(folder)
        self._config, self._kind = config, model_type(folder)
        self._processor = load_processor(folder)
        self._model = load_model(AutoModel, config)
        if not (hasattr(self._model, "get_image_features") and hasattr(self._model, "get_text_features")):
            raise ValueError(f"{folder}: a {self._kind} model does not embed images and texts")
        self.dim = self.embed_texts(["a"]).shape[1]

    def embed_images(self, images: Sequence[bytes]) -> Float[np.ndarray, "N D"]:
        """float32, each row of unit length.

        Raises:
            ImageError: a file that is not an image.
        """
        return self._stacked(in_batches(images, self._image_batch, batch_size=self._config.batch_size))

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """float32, each row of unit length."""
        return self._stacked(by_length(texts, self._text_batch, batch_size=self._config.batch_size))

    @torch.no_grad()
    def _image_batch(self, images: list[bytes]) -> list[Float[np.ndarray, " D"]]:
        inputs = self._processor.image_processor([to_rgb(image) for image in images], return_tensors="pt")
        return _unit(self._model.get_image_features(**placed(inputs, self._config)))

    @torch.no_grad()
    def _text_batch(self, texts: list[str]) -> list[Float[np.ndarray, " D"]]:
        full = self._kind in _FULL_LENGTH
        encoded = self._processor.tokenizer(
            texts,
            padding="max_length" if full else True,
            truncation=True,
            max_length=self._max_tokens(),
            return_tensors="pt",
        )
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")[: 1 if full else 2]}
        return _unit(self._model.get_text_features(**placed(inputs, self._config)))

    def _max_tokens(self) -> int:
        return int(self._model.config.text_config.max_position_embeddings)

    def _stacked(self, rows: Sequence[Float[np.ndarray, " D"]]) -> Float[np.ndarray, "N D"]:
        return np.stack(rows) if rows else np.empty((0, self.dim), dtype=np.float32)


def _unit(output: Any) -> list[Float[np.ndarray, " D"]]:
    """Features, as such or inside an output of their own, divided by their length."""
    features = (output if isinstance(output, torch.Tensor) else output.pooler_output).float()
    return list(torch.nn.functional.normalize(features, dim=-1).cpu().numpy())
