"""Sizes of the family: a Florence-2 with its own decoder, or with a Gemma-2 as decoder.

    resolve_size("3.5b")                        one of the four published sizes
    resolve_size("large+gemma-2-27b@2")         any other pair; a cross-attention block in every second decoder layer
    resolve_size("micro-96"), resolve_size("micro-gemma2-64")

Sources: official code sections 1.1 to 1.6; Gemma-2 report (arXiv 2408.00118), table 1.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from polyglance.languages import did_you_mean
from polyglance.model.config import UNUSED_DECODER_ROWS, UNUSED_ENCODER_ROWS
from polyglance.model.micro import MicroConfig

if TYPE_CHECKING:  # the tables are read without torch
    from transformers import BartConfig
    from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

    from polyglance.model.configuration import PolyglanceConfig

__all__ = ["FLORENCE", "GEMMA", "PUBLISHED", "Pair", "parse_pair", "resolve_size"]

FLORENCE: dict[str, dict[str, Any]] = {
    "base": {"embed_dim": (128, 256, 512, 1024), "d_model": 768, "layers": 6, "heads": 12, "positions": 1024},
    "large": {"embed_dim": (256, 512, 1024, 2048), "d_model": 1024, "layers": 12, "heads": 16, "positions": 4096},
}
"""Florence-2: channels of the vision tower's stages; width, layers, heads and positions of encoder and decoder."""

GEMMA: dict[str, dict[str, int]] = {
    name: dict(zip(("layers", "width", "ffn", "heads", "kv_heads", "head_dim", "scale"), sizes, strict=True))
    for name, sizes in {
        "gemma-2-2b": (26, 2304, 9216, 8, 4, 256, 256),
        "gemma-2-9b": (42, 3584, 14336, 16, 8, 256, 256),
        "gemma-2-27b": (46, 4608, 36864, 32, 16, 128, 144),
    }.items()
}
"""Gemma-2: `scale` is query_pre_attn_scalar."""

PUBLISHED = {"0.4b": "base", "1.0b": "large", "3.5b": "large+gemma-2-2b", "11.2b": "large+gemma-2-9b"}
"""The published sizes by name, as pairs."""

FLORENCE_VOCAB, GEMMA_VOCAB = 51_289, 256_000

_MICRO_VOCAB = 512
"""Vocabulary of a micro size that is given by name; a study takes its tokenizer's."""

_IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
_PAIR = re.compile(r"(?P<florence>[a-z]+)(\+(?P<gemma>[a-z0-9.\-]+?)(@(?P<every>\d+))?)?")
_MICRO = re.compile(r"micro-((?P<decoder>bart|gemma2)-)?(?P<width>\d+)")


class Pair(NamedTuple):
    """A Florence-2, with a Gemma-2 as decoder or with its own."""

    florence: str
    gemma: str
    """Empty for Florence-2's own decoder."""
    every: int
    """Distance of cross-attention blocks, in decoder layers."""

    @property
    def num_layers(self) -> int:
        """Layers of the decoder."""
        return GEMMA[self.gemma]["layers"] if self.gemma else FLORENCE[self.florence]["layers"]

    @property
    def num_crossed(self) -> int:
        """Decoder layers with a cross-attention block."""
        return -(-self.num_layers // self.every)


def parse_pair(name: str) -> Pair | None:
    """Parse the name of a pair or published size; None if it is neither.

    Raises:
        ValueError: an unknown Gemma-2.
    """
    match = _PAIR.fullmatch(PUBLISHED.get(name, name))
    if match is None or match["florence"] not in FLORENCE:
        return None
    gemma = match["gemma"] or ""
    if gemma and gemma not in GEMMA:
        raise ValueError(f"unknown Gemma-2 {gemma!r} in {name!r}; {did_you_mean(gemma, GEMMA)}")
    every = int(match["every"] or 1)
    if every < 1:
        raise ValueError(f"{name!r}: cross-attention in every {every}th layer; expected 1 or more after @")
    return Pair(match["florence"], gemma, every)


def resolve_size(name: str) -> "PolyglanceConfig":
    """Return the configuration of a size.

    Args:
        name: a published name, `micro-WIDTH`, `micro-gemma2-WIDTH`, `FLORENCE`, `FLORENCE+GEMMA`, `FLORENCE+GEMMA@K`
            (cross-attention every K layers), or a folder with a model's config.json.

    Raises:
        ValueError: an unknown name; the message gives the nearest known one.
    """
    from polyglance.model.configuration import load_config

    if Path(name, "config.json").is_file():
        return load_config(name)
    if micro := _MICRO.fullmatch(name):
        decoder: Literal["bart", "gemma2"] = "gemma2" if micro["decoder"] == "gemma2" else "bart"
        return MicroConfig(decoder=decoder, width=int(micro["width"])).build(_MICRO_VOCAB)
    pair = parse_pair(name)
    if pair is None:
        if Path(name).exists():
            raise ValueError(
                f"{name}: {'no config.json in it' if Path(name).is_dir() else 'a file'}; expected a model's folder"
            )
        raise ValueError(f"unknown size {name!r}; {did_you_mean(name, [*PUBLISHED, *FLORENCE, 'micro-96'])}")
    return _gemma_based(pair) if pair.gemma else _florence_based(pair.florence)


def _florence_based(florence: str) -> "PolyglanceConfig":
    from polyglance.model.configuration import PolyglanceConfig

    return PolyglanceConfig(
        _vision(florence),
        _bart(
            florence, vocab_size=FLORENCE_VOCAB + UNUSED_ENCODER_ROWS, pad_token_id=1, bos_token_id=0, eos_token_id=2
        ),
        _bart(florence, vocab_size=GEMMA_VOCAB + UNUSED_DECODER_ROWS, **_IDS),
    )


def _gemma_based(pair: Pair) -> "PolyglanceConfig":
    from transformers import Gemma2Config

    from polyglance.model.configuration import PolyglanceConfig

    sizes = GEMMA[pair.gemma]
    return PolyglanceConfig(
        _vision(pair.florence),
        _bart(pair.florence, vocab_size=FLORENCE_VOCAB, pad_token_id=1, bos_token_id=0, eos_token_id=2),
        Gemma2Config(
            vocab_size=GEMMA_VOCAB,
            hidden_size=sizes["width"],
            intermediate_size=sizes["ffn"],
            num_hidden_layers=sizes["layers"],
            num_attention_heads=sizes["heads"],
            num_key_value_heads=sizes["kv_heads"],
            head_dim=sizes["head_dim"],
            query_pre_attn_scalar=sizes["scale"],
            cross_attention_hidden_size=FLORENCE[pair.florence]["d_model"],
            cross_attention_every=pair.every,
            use_cache=False,
            **_IDS,
        ),
    )


def _vision(florence: str) -> "Florence2VisionConfig":
    from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

    heads = tuple(channels // 32 for channels in FLORENCE[florence]["embed_dim"])
    return Florence2VisionConfig(
        embed_dim=FLORENCE[florence]["embed_dim"],
        num_heads=heads,
        num_groups=heads,
        projection_dim=FLORENCE[florence]["d_model"],
    )


def _bart(florence: str, **vocabulary: int) -> "BartConfig":
    from transformers import BartConfig

    sizes = FLORENCE[florence]
    return BartConfig(
        d_model=sizes["d_model"],
        encoder_layers=sizes["layers"],
        decoder_layers=sizes["layers"],
        encoder_attention_heads=sizes["heads"],
        decoder_attention_heads=sizes["heads"],
        encoder_ffn_dim=4 * sizes["d_model"],
        decoder_ffn_dim=4 * sizes["d_model"],
        max_position_embeddings=sizes["positions"],
        dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.1,
        forced_eos_token_id=None,
        use_cache=False,
        **vocabulary,
    )
