"""Vectors and cosines of tiny random dual encoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor

from polyglance.engines import EngineConfig, Picture, open_embedder, open_scorer

TEXTS = ["a cat sits on the bank", "the dog", "a bank ### ( the river in a photo )", "money", "two the the cat"]
KINDS = ["clip", "siglip", "metaclip_2", "altclip", "vision-text-dual-encoder"]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_cosines_are_the_models(
    kind: str, checkpoint: Callable[[str], Path], pictures: list[Picture]
) -> None:
    """Each as if it was alone in its batch; a text that is longer than the tower reads is cut, not refused."""
    config = EngineConfig(kind="clip", path=checkpoint(kind), batch_size=2)
    embedder, scorer = open_embedder(config), open_scorer(config)
    model = AutoModel.from_pretrained(config.path)
    processor = AutoProcessor.from_pretrained(config.path, backend="pil")
    images = embedder.embed_images([picture.encoded for picture in pictures])
    texts = embedder.embed_texts(TEXTS)
    for vectors, wanted in (
        (texts, [_text_vector(model, processor, text) for text in TEXTS]),
        (images, [_image_vector(model, processor, picture) for picture in pictures]),
    ):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(wanted), embedder.dim)
        np.testing.assert_allclose(vectors, wanted, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert scorer.cosines(pictures, TEXTS[:3]) == pytest.approx((images * texts[:3]).sum(axis=1), abs=1e-6)
    long, cut = embedder.embed_texts(["a cat " * 100, "a cat " * 50])
    np.testing.assert_allclose(long, cut, atol=1e-6)
    assert len(scorer.cosines(pictures[:1], ["a cat " * 100])) == 1
    assert embedder.embed_images([]).shape == embedder.embed_texts([]).shape == (0, embedder.dim)
    with pytest.raises(ValueError, match="image"):
        embedder.embed_images([b"no image"])
    assert (scorer.model_type, len(scorer.digest)) == (kind, 64)


def _text_vector(model: Any, processor: Any, text: str) -> Any:
    padding = "max_length" if model.config.model_type == "siglip" else False
    inputs = processor.tokenizer([text], padding=padding, max_length=20, return_tensors="pt")
    with torch.no_grad():
        return _unit(model.get_text_features(input_ids=inputs["input_ids"]))


def _image_vector(model: Any, processor: Any, picture: Picture) -> Any:
    with torch.no_grad():
        return _unit(model.get_image_features(**processor.image_processor(picture.rgb, return_tensors="pt")))


def _unit(output: Any) -> Any:
    vector = output.pooler_output[0].numpy()
    return vector / np.linalg.norm(vector)
