"""Tiny random checkpoints of engines, saved as transformers does, with tokenizers of a few words."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    MetaClip2Config,
    MetaClip2Model,
    NllbTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

_TEXT = "a the cat dog bank river money sits in on Die Bank der Fluss 银行 河 ( ) ### photo of and two"
WORDS = tuple(_TEXT.split())
SPECIALS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
LETTERS = tuple(chr(code) for code in range(33, 127))
SIDE = 28


def noise(seed: int, kind: str = "PNG") -> bytes:
    """An image file of noise."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def lively(model: Any, *, seed: int = 0, std: float = 0.4) -> Any:
    """Weights large enough that what goes in shows in what comes out."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model.eval()


def word_tokenizer(extra: list[str], *, ending: bool = False) -> PreTrainedTokenizerFast:
    """Words and characters; texts end with `</s>` where `ending`."""
    names = [*SPECIALS.values(), *extra, *WORDS, *LETTERS]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if ending:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=made, additional_special_tokens=extra, **SPECIALS)


def pieces() -> list[str]:
    return list(dict.fromkeys(["▁", *(f"▁{word}" for word in WORDS), *LETTERS]))


def nllb(folder: Path) -> Path:
    names = [*SPECIALS.values(), *pieces()]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    words = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=["eng_Latn", "deu_Latn", "zho_Hans"])
    words.model_max_length = 64
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 128}
    config = M2M100Config(vocab_size=len(words), d_model=16, **sizes, **heads)
    lively(M2M100ForConditionalGeneration(config), std=1.5).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def madlad(folder: Path) -> Path:
    names = ["<unk>", "<s>", "</s>", "<2en>", "<2de>", "<2zh>", *pieces()]
    words = T5Tokenizer(vocab=[(name, -float(number)) for number, name in enumerate(names)], extra_ids=0)
    config = T5Config(
        vocab_size=len(words),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
    )
    lively(T5ForConditionalGeneration(config), std=0.6).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def marian(folder: Path, *, target: str | None = "de", tokens: tuple[str, ...] = ()) -> Path:
    """A Marian for one target language, or for those of `tokens` (`>>deu<<`)."""
    folder.mkdir(parents=True)
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))))
    for side in ("source", "target"):
        SentencePieceTrainer.train(
            input=str(text), model_prefix=str(folder / side), vocab_size=60, hard_vocab_limit=False, minloglevel=2
        )
    learned = [line.split("\t")[0] for line in (folder / "source.vocab").read_text().splitlines()]
    names = ["</s>", "<unk>", *tokens, *learned, "<pad>"]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    words = MarianTokenizer(
        source_spm=str(folder / "source.model"),
        target_spm=str(folder / "target.model"),
        vocab=str(folder / "vocab.json"),
        source_lang="en",
        target_lang=target,
    )
    pad = vocabulary["<pad>"]
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 128}
    config = MarianConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        **sizes,
        **heads,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=None,
    )
    model = lively(MarianMTModel(config), std=1.0)
    with torch.no_grad():
        model.model.shared.weight[pad] = 0  # as in published ones, whose decoder starts from nothing
    model.generation_config.bad_words_ids = [[pad]]
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def florence2(folder: Path) -> Path:
    words = word_tokenizer(["<image>"])
    words._set_model_specific_special_tokens({"image_token": "<image>"})
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 512}
    text = BartConfig(vocab_size=160, d_model=32, **sizes, **heads, forced_eos_token_id=None)
    towers = {"embed_dim": (16, 32, 48, 64), "num_heads": (2, 4, 6, 8), "num_groups": (2, 4, 6, 8)}
    vision = Florence2VisionConfig(**towers, depths=(1, 1, 1, 1), window_size=4, projection_dim=32)
    config = Florence2Config(
        vision_config=vision, text_config=text, image_token_id=words.convert_tokens_to_ids("<image>")
    )
    lively(Florence2ForConditionalGeneration(config)).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    images.image_seq_length = 5
    Florence2Processor(images, words).save_pretrained(folder)
    return folder


_TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def llava(folder: Path) -> Path:
    words = word_tokenizer(["<image>", "USER:", "ASSISTANT:"])
    vision = {"model_type": "clip_vision_model", **_TOWER, "image_size": SIDE, "patch_size": 14}
    text = {"model_type": "llama", **_TOWER, "vocab_size": 160, "max_position_embeddings": 256}
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    lively(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    template = (
        "{% for m in messages %}USER: {% for c in m.content %}{% if c.type == 'image' %}<image> {% else %}"
        "{{ c.text }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )
    images = CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    LlavaProcessor(
        images,
        words,
        chat_template=template,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    ).save_pretrained(folder)
    return folder


def clip(folder: Path, kind: str = "clip") -> Path:
    """`clip`, `siglip` or `metaclip_2`."""
    words = word_tokenizer([], ending=True)
    text = {**_TOWER, "vocab_size": 160, "max_position_embeddings": 20}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    vision = {**_TOWER, "image_size": SIDE, "patch_size": 14}
    if kind == "siglip":
        model = SiglipModel(SiglipConfig(text_config={**text, **ids}, vision_config=vision))
        images = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
        processor = SiglipProcessor(images, words)
    else:
        config, cls = (CLIPConfig, CLIPModel) if kind == "clip" else (MetaClip2Config, MetaClip2Model)
        model = cls(config(text_config={**text, **ids}, vision_config=vision, projection_dim=12))
        images = CLIPImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
        processor = CLIPProcessor(images, words)
    lively(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
