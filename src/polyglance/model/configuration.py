"""The configuration of a model: transformers' of vision tower, encoder and decoder, and that of their connections."""

from pathlib import Path
from typing import Any, ClassVar

from transformers import AutoConfig, BartConfig, PreTrainedConfig
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from polyglance.engines.loading import loading, read_model_config
from polyglance.model.hub_files import CONFIG_AUTO_MAP, write_module
from polyglance.model.vision import ConvStemConfig

__all__ = ["PolyglanceConfig", "load_config"]


class PolyglanceConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of vision tower (`florence_vision`, `conv_stem`, `vit`), encoder (`bart`) and decoder (`bart`,
    `gemma2`).

    Encoder and decoder have their own vocabularies (official code section 1.8). A `gemma2` decoder configuration
    has two more keys than the library's: `cross_attention_hidden_size` (the encoder's width) and
    `cross_attention_every` (a cross-attention block in every k-th layer).
    """

    model_type = "polyglance"
    keys_to_ignore_at_inference: ClassVar = ["cache", "past_key_values"]
    sub_configs: ClassVar = {"vision_config": AutoConfig, "encoder_config": BartConfig, "decoder_config": AutoConfig}

    def __init__(
        self,
        vision_config: PreTrainedConfig | dict[str, Any] | None = None,
        encoder_config: PreTrainedConfig | dict[str, Any] | None = None,
        decoder_config: PreTrainedConfig | dict[str, Any] | None = None,
        *,
        max_image_grid: int = 50,
        final_logit_softcapping: float | None = 30.0,
        initializer_range: float = 0.02,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            max_image_grid: rows of the two learned position tables of the image grid; its longest side in features.
            final_logit_softcapping: logits are bounded to plus or minus this by tanh; None leaves them as they are.
            initializer_range: standard deviation of the image projection and its positions when drawn at random.
        """
        self.vision_config = _build_config(vision_config, "florence_vision")
        self.encoder_config = _build_config(encoder_config, "bart")
        self.decoder_config = _build_config(decoder_config, "bart")
        self.max_image_grid = max_image_grid
        self.final_logit_softcapping = final_logit_softcapping
        self.initializer_range = initializer_range
        kwargs.setdefault("tie_word_embeddings", True)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            kwargs.setdefault(name, getattr(self.decoder_config, name))
        kwargs.setdefault("decoder_start_token_id", self.decoder_config.eos_token_id)
        kwargs["is_encoder_decoder"] = True
        super().__init__(**kwargs)
        self.auto_map = dict(CONFIG_AUTO_MAP)

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write config.json, and the module by which Auto classes find this model."""
        super().save_pretrained(save_directory, **kwargs)
        write_module(save_directory)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Do nothing: folders have the module that Auto classes import; the library would copy this file instead."""

    @property
    def vocab_size(self) -> int:
        """Number of rows of the decoder's embedding and of the tied head."""
        return self.decoder_config.vocab_size

    @vocab_size.setter
    def vocab_size(self, size: int) -> None:
        self.decoder_config.vocab_size = size

    @property
    def hidden_size(self) -> int:
        """Width of the decoder. DeepSpeed's `auto` values and other tools read this and the next two by name."""
        return self.decoder_config.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """Number of the decoder's layers. A BART configuration calls its encoder's `num_hidden_layers`."""
        decoder = self.decoder_config
        return decoder.decoder_layers if isinstance(decoder, BartConfig) else decoder.num_hidden_layers

    @property
    def num_attention_heads(self) -> int:
        """Number of the decoder's query heads."""
        decoder = self.decoder_config
        return decoder.decoder_attention_heads if isinstance(decoder, BartConfig) else decoder.num_attention_heads

    @property
    def image_size(self) -> int:
        """Default side of the square images, in pixels: 224 for Florence-2's tower, which takes any (official code
        section 2.5), else the largest that the model has positions for."""
        vision = self.vision_config
        if vision.model_type == "florence_vision":
            return 224
        return vision.image_size if vision.model_type == "vit" else self.max_image_grid * 2**vision.num_layers

    def num_image_tokens(self, image_size: int) -> int:
        """Return the number of tokens of a square image with this side, in pixels: the mean, then the grid."""
        vision = self.vision_config
        side = image_size
        if vision.model_type == "florence_vision":
            for size, stride, padding in zip(vision.patch_size, vision.patch_stride, vision.patch_padding, strict=True):
                side = (side + 2 * padding - size) // stride + 1
        else:
            side //= vision.patch_size if vision.model_type == "vit" else 2**vision.num_layers
        return 1 + side**2

    def check_widths(self) -> None:
        """Refuse a decoder whose cross-attention does not take the encoder's states.

        Raises:
            ValueError: gives both widths.
        """
        decoder = self.decoder_config
        wanted = decoder.d_model if isinstance(decoder, BartConfig) else decoder.cross_attention_hidden_size
        if wanted != self.encoder_config.d_model:
            raise ValueError(
                f"encoder_config says that the encoder is {self.encoder_config.d_model} wide, decoder_config that the "
                f"decoder reads states of width {wanted}; expected the same"
            )

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the encoder's configuration if only that is asked for, else the decoder's (generation reads it)."""
        return self.encoder_config if encoder and not decoder else self.decoder_config


def load_config(folder: str | Path) -> PolyglanceConfig:
    """Load the configuration in a model's folder.

    Raises:
        ValueError: there is none, or it is not of a model of this project: one line.
    """
    values = read_model_config(folder)
    if values.get("model_type") != PolyglanceConfig.model_type:
        raise ValueError(
            f"{folder}: a model of type {values.get('model_type')!r}; expected polyglance (see `polyglance model "
            "convert`)"
        )
    with loading(folder, "configuration"):
        return PolyglanceConfig.from_pretrained(folder, local_files_only=True)


_NOT_AUTO = {"florence_vision": Florence2VisionConfig, "conv_stem": ConvStemConfig}
"""Configurations that AutoConfig does not know."""


def _build_config(config: PreTrainedConfig | dict[str, Any] | None, default_model_type: str) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        return config
    values = dict(config or {})
    model_type = values.pop("model_type", default_model_type)
    if model_type in _NOT_AUTO:
        return _NOT_AUTO[model_type](**values)
    return AutoConfig.for_model(model_type, **values)
