"""Names of a model's components, and those trained as published. Importing this loads no torch."""

from typing import Literal, get_args

__all__ = ["COMPONENTS", "PUBLISHED_TRAINED", "Component"]

Component = Literal["vision", "projection", "encoder", "decoder", "cross_attention", "gates", "embeddings"]
COMPONENTS: tuple[Component, ...] = get_args(Component)

PUBLISHED_TRAINED: dict[str, tuple[Component, ...]] = {
    "bart": ("encoder", "decoder", "cross_attention", "embeddings"),
    "gemma2": ("encoder", "cross_attention", "gates", "embeddings"),
}
"""Components trained in pre-training and fine-tuning alike, by kind of decoder (official code section 1.10)."""
