"""Tiny random checkpoints of other people's models, saved as transformers does, with tokenizers of a few words."""

import json
from pathlib import Path
from typing import Any

import torch
from sentencepiece import SentencePieceTrainer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    AltCLIPProcessor,
    BartConfig,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
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
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    RobertaConfig,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

_TEXT = """
a the cat dog bank river money sits in on Die Bank der Fluss 银行 河 # ( ) ### photo of and two caption English German
simplified
"""
WORDS = tuple(_TEXT.split())
LETTERS = tuple(chr(code) for code in range(33, 127))
SPECIALS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
GEMMA_SPECIALS = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
SQUARE = {"height": 28, "width": 28}
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SEQ2SEQ = {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
VOCAB_SIZE = 160


def lively(model: Any, *, seed: int = 0, std: float = 0.4) -> Any:
    """Draw weights large enough that what goes in shows in what comes out."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model.eval()


def word_tokenizer(
    extra: list[str],
    *,
    specials: dict[str, str] = SPECIALS,
    named: dict[str, str] | None = None,
    ending: bool = False,
) -> PreTrainedTokenizerFast:
    """Words and characters, ids in the order special tokens, `extra`, the rest; texts are framed where `ending`.

    Args:
        named: attributes of the tokenizer with tokens of `extra`, such as `image_token`.
    """
    names = dict.fromkeys([*specials.values(), *extra, *WORDS, *LETTERS])
    words = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=specials["unk_token"]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if ending:
        words.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, additional_special_tokens=extra, **specials)
    tokenizer._set_model_specific_special_tokens(named or {})
    return tokenizer


def clip_images(side: int = 28) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)


def florence2(folder: Path) -> Path:
    words = word_tokenizer(["<image>"], named={"image_token": "<image>"})
    images = clip_images(64)
    sizes = {"vocab_size": VOCAB_SIZE, "d_model": 32, "max_position_embeddings": 512}
    text = BartConfig(**sizes, **SEQ2SEQ, forced_eos_token_id=None)
    towers = {"embed_dim": (16, 32, 48, 64), "num_heads": (2, 4, 6, 8), "num_groups": (2, 4, 6, 8)}
    vision = Florence2VisionConfig(**towers, depths=(1, 1, 1, 1), window_size=4, projection_dim=32)
    image_token_id = words.convert_tokens_to_ids("<image>")
    config = Florence2Config(vision_config=vision, text_config=text, image_token_id=image_token_id)
    lively(Florence2ForConditionalGeneration(config)).save_pretrained(folder)
    images.image_seq_length = 5
    Florence2Processor(images, words).save_pretrained(folder)
    return folder


def llava(folder: Path) -> Path:
    words = word_tokenizer(["<image>", "USER:", "ASSISTANT:"])
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **TOWER, "image_size": 28, "patch_size": 14},
        text_config={"model_type": "llama", **TOWER, "vocab_size": VOCAB_SIZE, "max_position_embeddings": 256},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    lively(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    template = (
        "{% for m in messages %}USER: {% for c in m.content %}{% if c.type == 'image' %}<image> {% else %}"
        "{{ c.text }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
    )
    LlavaProcessor(
        clip_images(),
        words,
        chat_template=template,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    ).save_pretrained(folder)
    return folder


def siglip_vision(**changes: Any) -> dict[str, Any]:
    return {"model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14, **TOWER, **changes}


def gemma_text(kind: str, **changes: Any) -> dict[str, Any]:
    heads = {"num_hidden_layers": 4, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": VOCAB_SIZE}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    return {"model_type": kind, **TOWER, **heads, **ids, **changes}


def paligemma(folder: Path) -> Path:
    words = word_tokenizer(["<image>"], specials=GEMMA_SPECIALS)
    config = PaliGemmaConfig(
        vision_config=siglip_vision(projection_dim=16),
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
    named = {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    words = word_tokenizer(chat, specials=GEMMA_SPECIALS, named=named)
    layers = ["sliding_attention", "full_attention"] * 2
    config = Gemma3Config(
        vision_config=siglip_vision(),
        text_config=gemma_text("gemma3_text", sliding_window=6, layer_types=layers),
        mm_tokens_per_image=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        boi_token_index=words.convert_tokens_to_ids("<boi>"),
        eoi_token_index=words.convert_tokens_to_ids("<eoi>"),
    )
    model = lively(Gemma3ForConditionalGeneration(config), seed=12, std=0.2)
    model.generation_config.eos_token_id = [1, words.convert_tokens_to_ids("<end_of_turn>")]
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
    specials = {"bos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    words = word_tokenizer(["<image>"], specials=specials)
    text = {"model_type": "opt", "vocab_size": VOCAB_SIZE, "hidden_size": 16, "ffn_dim": 32, "word_embed_proj_dim": 16}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 256}
    text |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 0}
    config = Blip2Config(
        vision_config={**TOWER, "image_size": 28, "patch_size": 14},
        qformer_config={**TOWER, "encoder_hidden_size": 16, "vocab_size": 20, "cross_attention_frequency": 1},
        text_config=text,
        num_query_tokens=3,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    lively(Blip2ForConditionalGeneration(config), seed=3, std=0.8).save_pretrained(folder)
    Blip2Processor(BlipImageProcessorPil(size=SQUARE), words, num_query_tokens=3).save_pretrained(folder)
    return folder


def pieces() -> list[str]:
    return ["▁", *(f"▁{word}" for word in WORDS), *LETTERS]


def nllb(folder: Path) -> Path:
    names = dict.fromkeys([*SPECIALS.values(), *pieces()])
    vocabulary = {name: number for number, name in enumerate(names)}
    words = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=["eng_Latn", "deu_Latn", "zho_Hans"])
    words.model_max_length, words.src_lang = 64, "zho_Hans"  # not what is translated from
    config = M2M100Config(vocab_size=len(words), d_model=16, max_position_embeddings=256, **SEQ2SEQ)
    lively(M2M100ForConditionalGeneration(config), std=1.5).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def madlad(folder: Path) -> Path:
    names = dict.fromkeys(["<unk>", "<s>", "</s>", "<2en>", "<2de>", "<2zh>", *pieces()])
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
    """Make a Marian for one target language, or for those of `tokens` (`>>deu<<`)."""
    folder.mkdir(parents=True)
    text = folder / "text.txt"
    text.write_text("\n".join(" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))))
    for side in ("source", "target"):
        SentencePieceTrainer.train(
            input=str(text), model_prefix=str(folder / side), vocab_size=60, hard_vocab_limit=False, minloglevel=2
        )
    learned = [line.split("\t")[0] for line in (folder / "source.vocab").read_text().splitlines()]
    names = dict.fromkeys(["</s>", "<unk>", *tokens, *learned, "<pad>"])
    vocabulary = {name: number for number, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    words = MarianTokenizer(
        source_spm=str(folder / "source.model"),
        target_spm=str(folder / "target.model"),
        vocab=str(folder / "vocab.json"),
        source_lang="en",
        target_lang=target,
    )
    pad = vocabulary["<pad>"]
    config = MarianConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        max_position_embeddings=128,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        eos_token_id=0,
        forced_eos_token_id=None,
        **SEQ2SEQ,
    )
    model = lively(MarianMTModel(config), std=1.0)
    with torch.no_grad():
        model.model.shared.weight[pad] = 0  # as in published ones, whose decoder starts from nothing
    model.generation_config.bad_words_ids = [[pad]]
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def dual_encoder(folder: Path, kind: str) -> Path:
    """Make a model of this type. Its text tower reads 20 tokens, altclip and RoBERTa (the dual encoder) 18."""
    words, images = word_tokenizer([], ending=True), clip_images()
    ids = {"vocab_size": VOCAB_SIZE, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    text = {**TOWER, **ids, "max_position_embeddings": 20}
    vision = {**TOWER, "image_size": 28, "patch_size": 14}
    if kind == "siglip":
        model: Any = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        processor: Any = SiglipProcessor(SiglipImageProcessorPil(size=SQUARE), words)
    elif kind == "altclip":
        config = AltCLIPConfig(text_config={**text, "project_dim": 12}, vision_config=vision, projection_dim=12)
        model, processor = AltCLIPModel(config), AltCLIPProcessor(images, words)
    elif kind == "vision-text-dual-encoder":
        towers = (CLIPVisionConfig(**vision), RobertaConfig(**text))
        config = VisionTextDualEncoderConfig.from_vision_text_configs(*towers, projection_dim=12)
        model = VisionTextDualEncoderModel(config)
        processor = VisionTextDualEncoderProcessor(images, words)
    else:
        cls, settings = (CLIPModel, CLIPConfig) if kind == "clip" else (MetaClip2Model, MetaClip2Config)
        model = cls(settings(text_config=text, vision_config=vision, projection_dim=12))
        processor = CLIPProcessor(images, words)
    lively(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
