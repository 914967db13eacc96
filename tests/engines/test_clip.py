"""Embeddings of CLIP-like checkpoints, tiny and random."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    AltCLIPProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from polyglance.engines.clip import ClipModel

TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXTS = ["a cat", "a dog sits on the bank on the bank on the bank", "cat"]


def words() -> PreTrainedTokenizerFast:
    names = ["<s>", "<pad>", "</s>", "<unk>", *["a", "cat", "dog", "sits", "on", "the", "bank"]]
    made = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def clip(folder: Path, kind: str) -> Path:
    torch.manual_seed(0)
    ids = {"vocab_size": 11, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    vision = {**TOWER, "image_size": 28, "patch_size": 14, "projection_dim": 8}
    text = {**TOWER, **ids, "max_position_embeddings": 8, "projection_dim": 8}
    made: dict[str, tuple[Any, Any, Any, Any]] = {
        "clip": (CLIPConfig, CLIPModel, CLIPProcessor, CLIPImageProcessorPil),
        "altclip": (AltCLIPConfig, AltCLIPModel, AltCLIPProcessor, CLIPImageProcessorPil),
        "siglip": (SiglipConfig, SiglipModel, SiglipProcessor, SiglipImageProcessorPil),
    }
    config, model, processor, pixels = made[kind]
    extra = {"project_dim": 8} if kind == "altclip" else {"projection_size": 16} if kind == "siglip" else {}
    tower = model(config(text_config={**text, **extra}, vision_config=vision, projection_dim=8)).eval()
    for parameter in tower.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
    tower.save_pretrained(folder)
    processor(pixels(size={"height": 28, "width": 28}, do_center_crop=False), words()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["clip", "altclip", "siglip"])
def test_cosines_are_the_models(kind: str, tmp_path: Path) -> None:
    """Each is what the model's own forward gives for the pair alone; the longest text is cut, not refused."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), dtype=np.uint8)
    images = [Image.fromarray(pixels) for pixels in noise]
    model = ClipModel(clip(tmp_path / kind, kind))
    together = model.cosines(images, TEXTS)
    alone = [float(model.cosines([image], [text])[0]) for image, text in zip(images, TEXTS, strict=True)]
    assert together.tolist() == pytest.approx(alone, abs=1e-5)
    assert len({round(value, 4) for value in alone}) == 3
    pixels = model._processor.image_processor(images[:1], return_tensors="pt")
    ids = [[0, 4, 5, 2]] if kind != "siglip" else [[0, 4, 5, 2, 1, 1, 1, 1]]
    with torch.no_grad():
        outputs = model._model(**pixels, input_ids=torch.tensor(ids))
    cosine = torch.nn.functional.cosine_similarity(outputs.image_embeds, outputs.text_embeds)
    assert alone[0] == pytest.approx(float(cosine), abs=1e-5)


def test_not_a_clip(tmp_path: Path, sources: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        ClipModel(tmp_path / "none")
    with pytest.raises(ValueError, match="it has no image processor"):
        ClipModel(sources[1]).cosines([Image.new("RGB", (8, 8))], ["a"])
