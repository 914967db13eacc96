"""Lengths of texts for which a study counts F. Importing this loads no torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from polyglance.config import from_dict
from polyglance.files import read_json, write_json
from polyglance.study.config import StudyConfig

__all__ = ["TokenLengths", "find_lengths"]


@dataclass(frozen=True, kw_only=True)
class TokenLengths:
    """Lengths at which F is counted: the content of lengths.json."""

    source_tokens: int
    """Prompt tokens."""
    target_tokens: int
    """Target tokens."""

    def write(self, path: Path) -> None:
        """Write lengths.json."""
        write_json(path, asdict(self), indent=2)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read lengths.json."""
        return from_dict(cls, read_json(path))


def find_lengths(config: StudyConfig) -> TokenLengths:
    """Return the lengths at which F is counted: for micro models the mean of the data, which the tokenizer's job has
    written; for published sizes the longest, as published (official code section 4.2)."""
    if config.is_micro:
        return TokenLengths.read(config.out / "tokenizer" / "lengths.json")
    mixture = config.mixture
    return TokenLengths(source_tokens=mixture.max_source_tokens, target_tokens=mixture.max_target_tokens)
