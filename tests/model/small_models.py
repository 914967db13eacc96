"""Small random models, checkpoints and batches whose sizes all differ, so that a mix-up of two shows."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import BartConfig, Florence2Config, Florence2ForConditionalGeneration, Gemma2Config, Gemma2ForCausalLM
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from polyglance.model import Polyglance, PolyglanceConfig
from polyglance.model.assemble import assemble_model
from polyglance.model.config import AssembleConfig
from polyglance.model.generate import load_polyglance
from polyglance.model.micro import MicroConfig

IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
PREFIXES = [
    "The image shows",
    "La imagen muestra",
    "La photo montre",
    "图为",
    "une personne dans la rue avec un grand parapluie rouge et un petit chien et aussi",
]
TEXTS = ["a cat sits on the mat", "the dog runs", "eine Katze auf der Matte", "What does the image describe?"] * 5


def lively_model(decoder: str, *, vocab_size: int = 13, seed: int = 0, scale: float = 0.5, **sizes: Any) -> Polyglance:
    """A random micro model with weights large enough, and a vocabulary small enough, that texts end at will."""
    torch.manual_seed(seed)
    sizes = {"width": 32, "layers": 3, "max_tokens": 64, **sizes}
    model = Polyglance(MicroConfig(decoder=decoder, **sizes).build(vocab_size)).eval()
    generator = torch.Generator().manual_seed(seed)
    deviation = 0.8 if decoder == "bart" else 0.25
    for name, parameter in model.named_parameters():
        if "gate" in name:
            torch.nn.init.constant_(parameter, 0.7)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=deviation, generator=generator)
    # Untied: a tied head makes such models repeat themselves.
    model.lm_head.weight = torch.nn.Parameter(torch.randn(vocab_size, 32, generator=generator) * scale)
    return model


def batch_for(model: Polyglance, *, batch: int = 5, source_tokens: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """Images, and right-padded prompts of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    side = model.config.image_size
    mask = torch.arange(source_tokens) < torch.randint(2, source_tokens + 1, (batch, 1), generator=generator)
    return {
        "pixel_values": torch.randn(batch, 3, side, side, generator=generator),
        "input_ids": torch.randint(3, 13, (batch, source_tokens), generator=generator),
        "attention_mask": mask.long(),
    }


def tiny_vision() -> Florence2VisionConfig:
    return Florence2VisionConfig(
        embed_dim=(16, 32, 48, 64),
        num_heads=(2, 4, 6, 8),
        num_groups=(2, 4, 6, 8),
        depths=(1, 1, 2, 1),
        window_size=4,
        projection_dim=32,
    )


def tiny_bart(**changes: Any) -> BartConfig:
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 512}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    return BartConfig(**{**sizes, **heads, "use_cache": False, "forced_eos_token_id": None, **changes})


def tiny_gemma(**changes: Any) -> Gemma2Config:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16}
    sizes = {"hidden_size": 40, "intermediate_size": 80, "num_hidden_layers": 3, "sliding_window": 6, "vocab_size": 160}
    return Gemma2Config(**{**sizes, **heads, **IDS, "use_cache": False, **changes})


def tiny_config(decoder: str, *, cross_attention_every: int = 1) -> PolyglanceConfig:
    """The published wiring, small: Florence-2's vision tower under a decoder of either kind."""
    gemma = tiny_gemma(cross_attention_hidden_size=32, cross_attention_every=cross_attention_every)
    bart = tiny_bart(vocab_size=160, **IDS)
    encoder = tiny_bart(vocab_size=96, pad_token_id=1, bos_token_id=0, eos_token_id=2)
    return PolyglanceConfig(tiny_vision(), encoder, gemma if decoder == "gemma2" else bart)


def tiny_model(decoder: str, *, cross_attention_every: int = 1) -> Polyglance:
    """A random model of that wiring, its gates open."""
    torch.manual_seed(0)
    model = Polyglance(tiny_config(decoder, cross_attention_every=cross_attention_every)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(parameter, 0.7)
    return model


def tiny_sources(folder: Path) -> tuple[Path, Path]:
    """Florence-2 and Gemma-2 checkpoints as transformers saves them, the second in shards, with tokenizers."""
    torch.manual_seed(0)
    florence, gemma = folder / "florence", folder / "gemma"
    config = Florence2Config(vision_config=tiny_vision(), text_config=tiny_bart(vocab_size=120), image_token_id=119)
    Florence2ForConditionalGeneration(config).save_pretrained(florence)
    language_model = Gemma2ForCausalLM(tiny_gemma())
    for name, parameter in language_model.named_parameters():
        if "norm" in name:  # fresh norms are alike, and a wrong copy would not show
            torch.nn.init.normal_(parameter, std=0.3)
    language_model.save_pretrained(gemma, max_shard_size="50KB")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tiny_tokenizer(["<s>", "<pad>", "</s>", "<unk>"], 110, byte_level).save(str(florence / "tokenizer.json"))
    tiny_tokenizer(["<pad>", "<eos>", "<bos>", "<unk>"], 150, pre_tokenizers.Metaspace()).save(
        str(gemma / "tokenizer.json")
    )
    return florence, gemma


def assembled_folder(sources: tuple[Path, Path], out: Path) -> Path:
    """A model assembled from tiny checkpoints that says something else to almost every image and prompt."""
    assemble_model(AssembleConfig(florence=str(sources[0]), gemma=str(sources[1])), out)
    model = load_polyglance(out)
    torch.manual_seed(0)
    for layer in model.decoder.layers:
        attention = layer.encoder_attn
        torch.nn.init.constant_(layer.encoder_attn_gate, 2.0)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            torch.nn.init.normal_(projection.weight, std=3.0 if projection is attention.v_proj else 1.0)
    model.save_pretrained(out)
    return out


def tiny_tokenizer(specials: list[str], vocab_size: int, splitter: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([*TEXTS, *PREFIXES], trainer)
    return tokenizer
