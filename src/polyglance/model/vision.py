"""Vision towers: pixels to a grid of features. Three kinds, one interface."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, ViTModel
from transformers import initialization as init
from transformers.models.florence2.modeling_florence2 import (
    Florence2MultiModalProjector,
    Florence2VisionBackbone,
    Florence2VisionPositionalEmbeddingCosine1D,
)

__all__ = [
    "ConvStemConfig",
    "ImageProjector",
    "build_vision_tower",
    "count_channels",
    "fill_frame_positions",
    "normalise_pixels",
]

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's red, green and blue, for pixels from 0 to 1."""


def count_channels(config: PreTrainedConfig) -> int:
    """Return the number of channels of the tower's feature grid."""
    return config.embed_dim[-1] if config.model_type == "florence_vision" else config.hidden_size


def build_vision_tower(config: PreTrainedConfig) -> nn.Module:
    """Build a module from pixel values, float [B, 3, H, W], to a feature grid, float [B, D, h, w].

    `florence_vision` is Florence-2's DaViT, stride 32 (official code section 1.2). DaViT does not train from scratch at
    micro sizes; these use `conv_stem`, a few strided convolutions, or `vit`, transformers' ViT.
    """
    match config.model_type:
        case "florence_vision":
            return FlorenceTower(config)
        case "conv_stem":
            return ConvStem(config)
        case "vit":
            return ViTTower(config)
    raise ValueError(f"no vision tower of type {config.model_type!r}; known: florence_vision, conv_stem, vit")


class FlorenceTower(Florence2VisionBackbone):  # type: ignore[misc]
    """Florence-2's DaViT with the interface of all towers."""

    def forward(self, pixel_values: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        return super().forward(pixel_values).last_hidden_state


class ConvStemConfig(PreTrainedConfig):  # type: ignore[misc]
    """Strided 3x3 convolutions: each halves the image's side and doubles the channels, up to `hidden_size`. After each
    come `num_blocks` residual 3x3 convolutions."""

    model_type = "conv_stem"

    def __init__(self, hidden_size: int = 96, num_layers: int = 3, num_blocks: int = 0, **kwargs: Any) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_blocks = num_blocks
        super().__init__(**kwargs)


class ResidualConv(nn.Conv2d):
    """GELU and convolution, added to the input."""

    def forward(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        return features + super().forward(F.gelu(features))


class ConvStem(PreTrainedModel):  # type: ignore[misc]
    """The smallest tower that learns to distinguish shapes, colours and places within a few thousand captions."""

    config_class = ConvStemConfig
    main_input_name = "pixel_values"
    # The tower has no attention, so every implementation that is set for the whole model is accepted.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: ConvStemConfig) -> None:
        super().__init__(config)
        halvings = range(config.num_layers - 1, -1, -1)
        channels = [3, *(config.hidden_size // 2**halving for halving in halvings)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualConv(width, width, 3, padding=1) for _ in range(config.num_blocks)))
            for width in channels[1:]
        )
        self.post_init()

    def forward(self, pixel_values: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        features = pixel_values
        for i, (conv, blocks) in enumerate(zip(self.convs, self.blocks, strict=True)):
            features = blocks(conv(F.gelu(features) if i else features))
        return features

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):  # outputs as large as inputs, for any number of channels
            init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            init.zeros_(module.bias)


class ViTTower(ViTModel):  # type: ignore[misc]
    """A ViT whose patch tokens are returned as a grid, without the class token."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config, add_pooling_layer=False)

    def forward(self, pixel_values: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        tokens = super().forward(pixel_values).last_hidden_state[:, 1:]
        height = pixel_values.shape[-2] // self.config.patch_size
        return tokens.transpose(1, 2).unflatten(2, (height, -1))


class ImageProjector(Florence2MultiModalProjector):  # type: ignore[misc]
    """Grid features to image tokens: + 2-D positions, + the temporal row of frame 0, [mean token; grid], projection,
    LayerNorm (official code section 1.2). Float [B, D, h, w] -> [B, 1 + h*w, D_encoder]."""

    def __init__(self, vision_config: PreTrainedConfig, *, width: int, max_grid: int) -> None:
        channels = count_channels(vision_config)
        super().__init__(
            SimpleNamespace(
                vision_config=SimpleNamespace(
                    embed_dim=(channels,),
                    projection_dim=width,
                    max_position_embeddings=max_grid,
                    max_temporal_embeddings=getattr(vision_config, "max_temporal_embeddings", 1),
                )
            )
        )
        self.max_grid = max_grid

    def forward(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B I E"]:
        if max(features.shape[-2:]) > self.max_grid:
            raise ValueError(
                f"the image gives a grid of {features.shape[-2]} x {features.shape[-1]} features; "
                f"this model has positions for {self.max_grid} a side: use smaller images"
            )
        return super().forward(features)


def fill_frame_positions(module: nn.Module) -> None:
    """Compute the constant table of a projector's frame positions; other modules are left unchanged. The table of a
    model that was built on the meta device is empty (`PreTrainedModel._init_weights`)."""
    if isinstance(module, Florence2VisionPositionalEmbeddingCosine1D):
        sine, cosine = module.get_sinusoid_embeddings(max_positions=module.max_seq_len, embed_dim=module.embed_dim)
        init.copy_(module.pos_idx_to_embed, torch.stack([sine, cosine], dim=-1).flatten(1))


def normalise_pixels(images: torch.Tensor) -> Float[Tensor, "B 3 H W"]:
    """Turn uint8 pixels [B, H, W, 3] into a tower's input: ImageNet mean and deviation (official code section 2.5)."""
    # Transposing bytes first and then working in place is several times faster, with the same bits.
    pixels = images.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)
    # Numbers, not tensors: a tensor made from a list would make the program wait for a GPU.
    for channel, mean, deviation in zip(pixels.unbind(1), _MEAN, _DEVIATION, strict=True):
        channel.sub_(mean).div_(deviation)
    return pixels
