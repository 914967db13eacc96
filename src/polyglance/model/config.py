"""Settings of generation and of initial models; importing them loads neither torch nor transformers."""

import math
from dataclasses import dataclass
from typing import Literal

from polyglance.settings import refuse_unused

__all__ = ["UNUSED_DECODER_ROWS", "UNUSED_ENCODER_ROWS", "AssembleConfig", "GenerateConfig"]

UNUSED_ENCODER_ROWS, UNUSED_DECODER_ROWS = 39, 1024
"""Unused rows of the published Florence-based models' tables, beyond the two vocabularies."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Options of decoding."""

    beams: int = 4
    """Number of beams; 1 is greedy decoding."""
    max_new_tokens: int = 128
    """Longest text, in tokens after the prefix."""
    length_penalty: float = 1.0
    """Exponent of the length by which the log-probability of a finished beam is divided."""
    early_stopping: bool = True
    """Stop as soon as `beams` beams are finished, as the published evaluation does."""
    no_repeat_ngram_size: int = 3
    """Length of token sequences that must not occur twice in a text (published: 3); 0 allows repetition."""
    batch_size: int = 8
    """Number of texts decoded at a time."""

    def __post_init__(self) -> None:
        for name in ("beams", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty is {self.length_penalty}; expected a finite number")
        refuse_unused(
            self,
            length_penalty=(self.beams > 1, "with greedy decoding (`beams` is 1)"),
            early_stopping=(self.beams > 1, "with greedy decoding (`beams` is 1)"),
        )


@dataclass(frozen=True, kw_only=True)
class AssembleConfig:
    """Sources and options of an initial model."""

    florence: str
    """Florence-2: a checkpoint folder with its tokenizer.json, or NAME@COMMIT on the Hugging Face hub."""
    gemma: str
    """Gemma-2: a checkpoint folder with its tokenizer.json, or NAME@COMMIT on the Hugging Face hub. With a `bart`
    decoder only its tokenizer.json is read."""
    decoder: Literal["bart", "gemma2"] = "gemma2"
    """`gemma2`: Gemma-2 with inserted cross-attention. `bart`: Florence-2's decoder with Gemma-2's vocabulary."""
    cross_attention_every: int = 1
    """Distance of cross-attention blocks in a `gemma2` decoder: one in every k-th layer."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the result (published: float32)."""
    unused_encoder_rows: int = UNUSED_ENCODER_ROWS
    """Rows of a `bart` model's encoder table beyond its vocabulary. The default is the published number."""
    unused_decoder_rows: int = UNUSED_DECODER_ROWS
    """Rows of a `bart` model's decoder table beyond its vocabulary. The default is the published number."""
    language_tokens: tuple[str, ...] = ()
    """Languages that get a token each, which the encoder then reads before every prompt that asks for them, in training
    and after it. None by default, as published. A `bart` model's encoder has unused rows for them."""
    seed: int = 0
    """Seed of the random tensors: cross-attention projections, rows of tokens without a counterpart."""

    def __post_init__(self) -> None:
        for name, least in (("cross_attention_every", 1), ("unused_encoder_rows", 0), ("unused_decoder_rows", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {least} or more")
        refuse_unused(
            self,
            cross_attention_every=(self.decoder == "gemma2", "unless `decoder` is gemma2"),
            unused_encoder_rows=(self.decoder == "bart", "unless `decoder` is bart"),
            unused_decoder_rows=(self.decoder == "bart", "unless `decoder` is bart"),
        )
