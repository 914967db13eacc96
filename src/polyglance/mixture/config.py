"""How batches are drawn from a data set."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Balance", "Decode", "MixtureConfig", "SourceMasking"]

Balance = Literal["cell", "task", "language"]
Decode = Literal["exact", "reduced"]


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
    image_memory_bytes: int = 2**31
    """Images are decoded once and kept where all of them, resized, take no more than this. Where they take more, those
    of one window are kept for the other cells that show them, as far as this goes; loader processes divide it."""
    shuffle_window_images: int | None = None
    """Images are shuffled within windows of about so many, which are made of row groups from anywhere in the data, so
    that few row groups are read at a time, and kept (by each loader process, for each cell); 0: the whole data set is
    one window. If not given: 0 where the images
    are kept in memory, else 1,024."""
    decode: Decode | None = None
    """`exact`: the published transform, full decoding and Pillow's bicubic filter. `reduced`: a JPEG of more than four
    times the asked size is decoded at a half, quarter or eighth of its size, never below twice the asked one, and the
    same filter is computed by torch, in a third of the time. If not given: `exact` where the images are kept in
    memory, as each is then decoded only once, else `reduced`."""
    max_bad_share: float = 0.01
    """A run stops when more than this share of its samples had to be replaced by others (of at least 1,000)."""
    token_cache: Path | None = None
    """Folder for the texts as tokens, which are computed once and shared by all runs. If not given: the data set's own
    folder where it has half a million texts or more; fewer are kept in memory."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        if self.shuffle_window_images is not None and self.shuffle_window_images < 0:
            raise ValueError(f"shuffle_window_images must be 0 or more, not {self.shuffle_window_images}")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"max_bad_share must be a share between 0 and 1, not {self.max_bad_share}")
