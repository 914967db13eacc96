"""Tiny random checkpoints of other people's models, saved as transformers does, with tokenizers of a few words."""

from pathlib import Path
from typing import Any

import torch
from small_models import tiny_bart, tiny_vision
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

_WORDS = """
a the cat dog bank river money sits in on Die Bank der Fluss 银行 河 # ( ) ### photo of caption English German
simplified
"""
WORDS = tuple(_WORDS.split())
SQUARE = {"height": 28, "width": 28}
NLLB_LANGUAGES = ["eng_Latn", "deu_Latn", "zho_Hans"]


def tokenizer(specials: dict[str, str], extra: list[str]) -> PreTrainedTokenizerFast:
    """Words and characters, no more; ids in the order special tokens, extra special tokens, the rest."""
    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    names = [*specials.values(), *extra, *WORDS, *characters]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=specials["unk_token"]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=extra, **specials)


def lively(model: Any, *, seed: int = 0, std: float = 0.4) -> Any:
    """Weights large enough that what goes in shows in what comes out."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model.eval()


def siglip_vision() -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, **sizes}


def gemma_text(kind: str, **changes: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "head_dim": 8, "vocab_size": 160}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    return {"model_type": kind, **sizes, **heads, **ids, **changes}


def florence2(folder: Path) -> Path:
    words = tokenizer(
        {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, ["<image>"]
    )
    words._set_model_specific_special_tokens({"image_token": "<image>"})
    text = tiny_bart(vocab_size=160, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    config = Florence2Config(
        vision_config=tiny_vision(), text_config=text, image_token_id=words.convert_tokens_to_ids("<image>")
    )
    lively(Florence2ForConditionalGeneration(config)).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    Florence2Processor(images, words).save_pretrained(folder)
    return folder


def paligemma(folder: Path) -> Path:
    words = tokenizer(
        {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}, ["<image>"]
    )
    config = PaliGemmaConfig(
        vision_config={**siglip_vision(), "projection_dim": 16},
        text_config=gemma_text("gemma"),
        projection_dim=16,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    lively(PaliGemmaForConditionalGeneration(config)).save_pretrained(folder)
    images = SiglipImageProcessorPil(size=SQUARE)
    images.image_seq_length = 4
    PaliGemmaProcessor(images, words).save_pretrained(folder)
    return folder


def gemma3(folder: Path) -> Path:
    chat = ["<start_of_turn>", "<end_of_turn>", "<image>", "<boi>", "<eoi>", "user", "model"]
    words = tokenizer({"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}, chat)
    for name, token in (("image_token", "<image>"), ("boi_token", "<boi>"), ("eoi_token", "<eoi>")):
        words._set_model_specific_special_tokens({name: token})
    end = words.convert_tokens_to_ids("<end_of_turn>")
    config = Gemma3Config(
        vision_config=siglip_vision(),
        text_config=gemma_text(
            "gemma3_text", sliding_window=6, layer_types=["sliding_attention", "full_attention"] * 2
        ),
        mm_tokens_per_image=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        boi_token_index=words.convert_tokens_to_ids("<boi>"),
        eoi_token_index=words.convert_tokens_to_ids("<eoi>"),
    )
    model = lively(Gemma3ForConditionalGeneration(config), std=0.2)
    model.generation_config.eos_token_id = [1, end]
    model.save_pretrained(folder)
    template = (
        "<bos>{% for m in messages %}<start_of_turn>user {% for c in m.content %}"
        "{% if c.type == 'image' %}<boi>{% else %}{{ c.text }}{% endif %}{% endfor %}<end_of_turn>{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model {% endif %}"
    )
    images = Gemma3ImageProcessorPil(size=SQUARE)
    Gemma3Processor(images, words, chat_template=template, image_seq_length=4).save_pretrained(folder)
    return folder


def blip2(folder: Path) -> Path:
    words = tokenizer(
        {"bos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}, ["<image>"]
    )
    text = {"model_type": "opt", "vocab_size": 160, "hidden_size": 16, "ffn_dim": 32, "word_embed_proj_dim": 16}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256}
    text |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 0}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config={**sizes, "image_size": 28, "patch_size": 14},
        qformer_config={**sizes, "encoder_hidden_size": 16, "vocab_size": 20, "cross_attention_frequency": 1},
        text_config=text,
        num_query_tokens=3,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    lively(Blip2ForConditionalGeneration(config), seed=3, std=0.8).save_pretrained(folder)
    Blip2Processor(BlipImageProcessorPil(size=SQUARE), words, num_query_tokens=3).save_pretrained(folder)
    return folder


def nllb(folder: Path) -> Path:
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = ["▁", *(f"▁{word}" for word in WORDS), *(chr(code) for code in range(33, 127))]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys([*specials, *pieces]))}
    words = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=NLLB_LANGUAGES)
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=256,
    )
    lively(M2M100ForConditionalGeneration(config), std=1.5).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
