"""Micro sizes of the family: the same classes at widths of 32 to a few hundred, set by one number."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from polyglance.mixture.tokenizer import BOS, EOS, PAD
from polyglance.settings import refuse_unused

if TYPE_CHECKING:
    import polyglance.model.configuration

__all__ = ["MicroConfig"]


@dataclass(frozen=True, kw_only=True)
class MicroConfig:
    """A model small enough to train on a CPU in minutes. `width` sets its size; the defaults of the rest fit it.

    Raises:
        ValueError: a size below 1, the width is not divisible by the number of heads, or a setting has no effect.
    """

    decoder: Literal["bart", "gemma2"] = "bart"
    """Kind of decoder. `bart` is trained from scratch with the rest; `gemma2` is a language model with gated
    cross-attention."""
    width: int = 96
    """Hidden size of encoder and decoder."""
    layers: int = 2
    """Layers of the encoder, and of the decoder."""
    heads: int = 4
    """Attention heads of each layer."""
    vision_width: int | None = None
    """Hidden size of the vision tower; None: the model's width. A tower that several sizes share needs its own."""
    vision: Literal["conv_stem", "vit"] = "conv_stem"
    """Kind of vision tower. A ViT of one layer learns the built-in world more slowly than convolutions."""
    vision_layers: int = 1
    """Transformer layers of the tower (vit only)."""
    vision_blocks: int | None = None
    """Residual convolutions after each convolution of the tower (conv_stem only); None: none."""
    image_size: int = 32
    """Side of the square images, in pixels."""
    patch_size: int = 8
    """Side of the square that one image token covers, in pixels; a power of two for the convolutional stem."""
    max_tokens: int = 128
    """Longest sequence in tokens, of image and prompt together and of the target."""
    cross_attention_every: int = 1
    """Distance of cross-attention blocks: one in every k-th decoder layer (gemma2 only)."""

    def __post_init__(self) -> None:
        sizes = ("width", "layers", "heads", "vision_layers", "image_size", "patch_size", "max_tokens")
        for name in (*sizes, "vision_width", "cross_attention_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if self.vision_blocks is not None and self.vision_blocks < 0:
            raise ValueError(f"vision_blocks is {self.vision_blocks}; expected 0 or more")
        refuse_unused(
            self,
            vision_layers=(self.vision == "vit", "unless `vision` is 'vit'"),
            vision_blocks=(self.vision == "conv_stem", "unless `vision` is 'conv_stem'"),
            cross_attention_every=(self.decoder == "gemma2", "unless `decoder` is 'gemma2'"),
        )
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} does not give {self.heads} heads an even size each")
        if self.image_size % self.patch_size:
            raise ValueError(f"patches of {self.patch_size} do not tile an image of {self.image_size} pixels")

        if self.vision == "conv_stem" and (self.patch_size < 2 or self.patch_size & (self.patch_size - 1)):
            raise ValueError(f"patch_size {self.patch_size} is not a power of two, which the convolutional stem needs")

    def build(self, vocab_size: int) -> "polyglance.model.configuration.PolyglanceConfig":
        """Return the configuration of the model, for a tokenizer with `vocab_size` entries shared by both sides."""
        from polyglance.model.configuration import PolyglanceConfig  # imports torch; run files are read without it

        return PolyglanceConfig(
            self._vision(),
            self._bart(vocab_size),
            self._bart(vocab_size) if self.decoder == "bart" else self._gemma2(vocab_size),
            max_image_grid=self.image_size // self.patch_size,
            decoder_start_token_id=BOS,
            initializer_range=_deviation(self.width),
        )

    def _vision(self) -> Any:
        from transformers import ViTConfig

        from polyglance.model.vision import ConvStemConfig

        width = self.vision_width or self.width
        if self.vision == "conv_stem":
            num_layers = self.patch_size.bit_length() - 1
            return ConvStemConfig(hidden_size=width, num_layers=num_layers, num_blocks=self.vision_blocks or 0)
        return ViTConfig(
            hidden_size=width,
            num_hidden_layers=self.vision_layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * width,
            image_size=self.image_size,
            patch_size=self.patch_size,
            initializer_range=_deviation(width),
        )

    def _bart(self, vocab_size: int) -> Any:
        from transformers import BartConfig

        return BartConfig(
            vocab_size=vocab_size,
            d_model=self.width,
            encoder_layers=self.layers,
            decoder_layers=self.layers,
            encoder_attention_heads=self.heads,
            decoder_attention_heads=self.heads,
            encoder_ffn_dim=4 * self.width,
            decoder_ffn_dim=4 * self.width,
            max_position_embeddings=self.max_tokens,
            dropout=0.0,
            init_std=_deviation(self.width),
            pad_token_id=PAD,
            eos_token_id=EOS,
            bos_token_id=BOS,
            forced_eos_token_id=None,
            use_cache=False,
        )

    def _gemma2(self, vocab_size: int) -> Any:
        from transformers import Gemma2Config

        head_dim = self.width // self.heads
        return Gemma2Config(
            vocab_size=vocab_size,
            hidden_size=self.width,
            intermediate_size=3 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            head_dim=head_dim,
            query_pre_attn_scalar=head_dim,
            max_position_embeddings=self.max_tokens,
            sliding_window=self.max_tokens,
            initializer_range=_deviation(self.width),
            pad_token_id=PAD,
            eos_token_id=EOS,
            bos_token_id=BOS,
            use_cache=False,
            cross_attention_hidden_size=self.width,
            cross_attention_every=self.cross_attention_every,
        )


def _deviation(width: int) -> float:
    """Return the standard deviation of initial weights that keeps a layer's output as large as its input. The published
    0.02 does so for widths in the thousands; at micro widths, attention and image would have no effect during a whole
    short run."""
    return width**-0.5
