"""How the model of a run is measured on held-out data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from polyglance.languages import language

__all__ = ["EvaluationConfig"]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured of each run."""

    samples_per_cell: int = 256
    """Held-out samples of each cell for its loss."""
    captions_per_cell: int = 64
    """Held-out images of each caption cell that are captioned, with and without prefix."""
    examples: int = 6
    """Captions of each cell that are kept for the report."""
    max_new_tokens: int = 48
    """Captions are cut off here."""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """Language code -> prefix, where it is not the data set's own nor the language's."""

    def __post_init__(self) -> None:
        for code in self.prefixes:
            language(code)
