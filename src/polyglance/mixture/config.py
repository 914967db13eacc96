"""How batches are drawn from a data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Balance", "MixtureConfig", "SourceMasking"]

Balance = Literal["cell", "task", "language"]


@dataclass(frozen=True, kw_only=True)
class SourceMasking:
    """Hide source words of translations, so that the image has to be looked at."""

    samples: float = 0.0
    """Share of the translation samples that lose words."""
    words: float = 0.5
    """Share of their words that is hidden."""

    def __post_init__(self) -> None:
        for name in ("samples", "words"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a share between 0 and 1, not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """How batches are drawn from a data set."""

    batch_size: int = 64
    """Samples per optimiser step."""
    balance: Balance | Mapping[str, float] = "cell"
    """Target share of each cell: equal per `cell`, `task` or `language`, or a table of shares."""
    source_masking: SourceMasking = SourceMasking()
    """Hiding of source words."""
    max_source_tokens: int = 96
    """Prompts are cut to this length."""
    max_target_tokens: int = 64
    """Targets are cut to this length, the end token included."""
