"""Configuration of how batches are drawn from a data set."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Balance", "Decode", "MixtureConfig", "SourceMasking"]

Balance = Literal["cell", "task", "language"]
Decode = Literal["exact", "reduced"]


@dataclass(frozen=True, kw_only=True)
class SourceMasking:
    """Hide source words of translations, so that the model has to look at the image."""

    samples: float = 0.0
    """Share of the translation samples in which words are hidden."""
    words: float = 0.5
    """Share of their source words that is hidden."""

    def __post_init__(self) -> None:
        for name in ("samples", "words"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """How batches are drawn from a data set."""

    batch_size: int = 64
    """Samples per optimiser step."""
    balance: Balance | Mapping[str, float] = "cell"
    """Target share of each cell. `cell`: all cells equal. `task`: all tasks equal, and the cells within a task.
    `language`: all languages equal, and the cells within a language. Or a table of shares, such as
    `{"caption-de" = 2.0, ...}`, that names every trained cell."""
    source_masking: SourceMasking = SourceMasking()
    """Hide source words of translations."""
    first_token_weight: float | None = None
    """Weight in the training loss of each target's first token, which decides the language of a caption without
    prefix; all others have 1. If not given: 1. Losses that are reported are without weights."""
    max_source_tokens: int = 96
    """Prompts are cut to this number of tokens."""
    max_target_tokens: int = 64
    """Targets are cut to this number of tokens, the end token included."""
    image_memory_bytes: int = 2**31
    """Memory for decoded images, in bytes. If all images, resized, fit into it, each is decoded once and kept.
    Otherwise it holds the images of the current window, for the other cells that show them; loader processes share it
    equally."""
    shuffle_window_images: int | None = None
    """Images are shuffled within windows of about this many. A window consists of row groups from anywhere in the data,
    so that each loader process reads and keeps few row groups at a time for each cell. 0: the whole data set is one
    window. If not given: 0 if all images fit into memory, else 1,024."""
    decode: Decode | None = None
    """`exact`: the published transform, full decoding and Pillow's bicubic filter. `reduced`: a JPEG of more than four
    times the asked size is decoded at a half, quarter or eighth of its size, never below twice the asked size, and
    torch computes the same filter; this takes a third of the time. If not given: `exact` if all images fit into memory,
    because each is then decoded only once, else `reduced`."""
    max_bad_share: float = 0.01
    """A run stops when more than this share of its samples (of at least 1,000) had to be replaced by others."""
    token_cache: Path | None = None
    """Folder for the texts as tokens, which are computed once and shared by all runs. If not given: the data set's own
    folder if it has half a million texts or more; the tokens of fewer texts are kept in memory."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; expected at least 1")
        if self.shuffle_window_images is not None and self.shuffle_window_images < 0:
            raise ValueError(f"shuffle_window_images is {self.shuffle_window_images}; expected 0 or more")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"max_bad_share is {self.max_bad_share}; expected a share between 0 and 1")
        if self.first_token_weight is not None and not 0 < self.first_token_weight < math.inf:
            raise ValueError(f"first_token_weight is {self.first_token_weight:g}; expected a positive number (1: none)")
        if self.first_token_weight == 1:  # the same run, which has the same fingerprint
            object.__setattr__(self, "first_token_weight", None)

    def count_seen(self, num_samples: int) -> int:
        """Return the samples that a run of `num_samples` sees, in whole batches."""
        return num_samples // self.batch_size * self.batch_size
