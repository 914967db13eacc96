"""The record of a size's costs. Importing this loads no torch."""

from dataclasses import dataclass
from pathlib import Path

from polyglance.compute import FAMILY_STARTS

__all__ = ["CARDS_FILE", "PRECISIONS", "Card", "find_start"]

CARDS_FILE = Path(__file__).with_name("cards.json")
"""File with the cards of the package."""
PRECISIONS = {"float32": 4, "bfloat16": 2}
"""Bytes of a number, by precision."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Costs of a size; the content of `polyglance model card --json`."""

    size: str
    """Name of the size, as it was given."""
    num_parameters: int
    """P: unique parameters, tied ones once."""
    num_parameters_by_part: dict[str, int]
    """P by component."""
    num_trained: dict[str, int]
    """P_t: trained parameters, by policy."""
    image_size: int
    """Side of the square image, in pixels, for F and memory."""
    source_tokens: int
    """Prompt tokens, for F and memory."""
    target_tokens: int
    """Target tokens, for F and memory."""
    gmac: float
    """F: multiply-accumulates of one forward pass, in 10^9, 1 MAC = 1."""
    gmac_by_part: dict[str, float]
    """F by module."""
    inference_bytes: dict[str, int]
    """Memory for one image and `beams` beams, by precision: weights, keys and values, logits of one step."""
    training_bytes: dict[str, dict[str, int]]
    """Memory for one sample, by policy and precision: weights, gradients, Adam's two moments, saved activations. For
    bfloat16 (autocast) weights, gradients and moments stay float32, and a cast copy of the weights comes on top."""
    activation_bytes: dict[str, dict[str, int]]
    """Saved activations alone, by policy and precision: the memory of each further sample of a batch."""
    recomputed_bytes: dict[str, dict[str, int]]
    """The same if each layer keeps only its input and is recomputed in the backward pass (estimated)."""
    training_gmac: float
    """Multiply-accumulates of forward and backward pass of one sample in pre-training, in 10^9."""
    beams: int
    """Beams, for the memory of inference."""


def find_start(card: Card) -> float:
    """Return the published T of a model's family, which is recognised by the gates of a Gemma-2 decoder."""
    return FAMILY_STARTS["gemma" if card.num_parameters_by_part.get("gates") else "florence"]
