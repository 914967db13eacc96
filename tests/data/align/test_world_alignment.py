"""Bitext matched to images of the world by a dual encoder that is trained here: share of right sentences."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from polyglance.data.align import AlignConfig, Embeddings, search
from polyglance.data.world import Scene, describe, render, sample_scene
from polyglance.engines import EngineConfig, open_embedder

SIDE, NUM_TEST, BATCH_SIZE, PEAK_LR = 32, 200, 64, 2e-3


def scenes(split: str, num_scenes: int) -> list[Scene]:
    """Scenes that all differ in content; those of `test` are of contents that `train` does not have."""
    found: dict[object, Scene] = {}
    index = 0
    while len(found) < num_scenes:
        scene = sample_scene("pairs", 0, index, split)  # type: ignore[arg-type]
        found.setdefault(scene.content, scene)
        index += 1
    return list(found.values())


def png(scene: Scene) -> bytes:
    file = io.BytesIO()
    Image.fromarray(render(scene, SIDE)).save(file, "PNG")
    return file.getvalue()


def word_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    specials = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=[*specials.values()]))
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, **specials)


def train_clip(folder: Path, *, num_scenes: int, num_steps: int) -> Path:
    """A CLIP of two small towers, trained with its own loss on captions of the world, as a checkpoint folder."""
    train = scenes("train", num_scenes)
    captions = [describe(scene, "en") for scene in train]
    images = CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    processor = CLIPProcessor(images, word_tokenizer(captions))
    pixels = images([Image.fromarray(render(scene, SIDE)) for scene in train], return_tensors="pt")["pixel_values"]
    words = processor.tokenizer(captions, padding=True, return_tensors="pt")
    tower = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"vocab_size": len(processor.tokenizer), "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = CLIPConfig(
        text_config={**tower, **ids, "max_position_embeddings": 32},
        vision_config={**tower, "image_size": SIDE, "patch_size": 8},
        projection_dim=64,
    )
    torch.manual_seed(0)
    model = CLIPModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=num_steps, pct_start=0.1)
    for _ in range(num_steps):
        drawn = torch.randint(len(train), (BATCH_SIZE,))
        batch = {name: words[name][drawn] for name in ("input_ids", "attention_mask")}
        optimizer.zero_grad()
        model(**batch, pixel_values=pixels[drawn], return_loss=True).loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def aligned_share(folder: Path) -> float:
    """Share of held-out images whose best sentence, of the bitext of all of them, has the image's own translation."""
    embedder = open_embedder(EngineConfig(kind="clip", path=folder))
    test = scenes("test", NUM_TEST)
    bitext = [(describe(scene, "en"), describe(scene, "de")) for scene in test]
    np.save(folder / "images.npy", embedder.embed_images([png(scene) for scene in test]))
    np.save(folder / "sentences.npy", embedder.embed_texts([source for source, _ in bitext]))
    result = search(Embeddings(folder / "images.npy"), Embeddings(folder / "sentences.npy"), AlignConfig(top_n=1))
    assert result.image_index.tolist() == list(range(NUM_TEST))
    best = [bitext[sentence][1] for sentence in result.sentence_id]
    return sum(text == target for text, (_, target) in zip(best, bitext, strict=True)) / NUM_TEST


def test_the_right_sentence_wins(tmp_path: Path) -> None:
    """Measured: recall@1 0.11 after 60 steps, 0.25 after 200, 0.38 after 600; chance is 0.005."""
    recall = aligned_share(train_clip(tmp_path / "clip", num_scenes=2000, num_steps=200))
    print(f"alignment recall@1 on {NUM_TEST} held-out scenes: {recall:.3f}")
    assert recall >= 0.15
