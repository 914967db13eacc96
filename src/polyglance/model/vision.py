"""Vision towers: pixels to a grid of features. Two kinds, one interface."""

from types import SimpleNamespace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, ViTModel
from transformers.models.florence2.modeling_florence2 import Florence2MultiModalProjector, Florence2VisionBackbone

__all__ = ["ImageProjector", "feature_width", "pixel_values", "vision_tower"]


def feature_width(config: PreTrainedConfig) -> int:
    """Channels of the grid that the tower of this configuration gives."""
    return config.embed_dim[-1] if config.model_type == "florence_vision" else config.hidden_size


def vision_tower(config: PreTrainedConfig) -> nn.Module:
    """A module from pixel values, float [B, 3, H, W], to a feature grid, float [B, D, h, w].

    `florence_vision`: Florence-2's DaViT, stride 32 (official code section 1.2). `vit`: transformers' ViT, for sizes
    at which DaViT does not train from scratch.
    """
    if config.model_type == "florence_vision":
        return FlorenceTower(config)
    return ViTTower(config)


class FlorenceTower(Florence2VisionBackbone):  # type: ignore[misc]
    """Florence-2's DaViT under the common interface."""

    def forward(self, pixel_values: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        return super().forward(pixel_values).last_hidden_state


class ViTTower(ViTModel):  # type: ignore[misc]
    """A ViT whose patch tokens are laid out as the grid they came from; the class token is dropped."""

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
        channels = feature_width(vision_config)
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

    def forward(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B I W"]:
        if max(features.shape[-2:]) > self.max_grid:
            raise ValueError(
                f"the image gives a grid of {features.shape[-2]} x {features.shape[-1]} features; "
                f"this model has positions for {self.max_grid} a side: use smaller images"
            )
        return super().forward(features)


def pixel_values(images: torch.Tensor) -> Float[Tensor, "B 3 H W"]:
    """Pixels as towers take them: uint8 [B, H, W, 3] -> float32, ImageNet mean and deviation (code section 2.5)."""
    mean = images.new_tensor([0.485, 0.456, 0.406], dtype=torch.float32)
    deviation = images.new_tensor([0.229, 0.224, 0.225], dtype=torch.float32)
    return ((images.to(torch.float32) / 255 - mean) / deviation).permute(0, 3, 1, 2).contiguous()
