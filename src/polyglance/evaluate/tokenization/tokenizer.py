"""The interface of a tokeniser: texts in, tokens joined by single spaces out, with name and version for signatures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Tokenizer"]


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A way to cut texts into words."""

    name: str
    """Name on the command line: `ptb`, `characters`, `jieba`."""
    version: str
    """Version of the rules, or of library and dictionary; another version may give another score."""
    tokenize: Callable[[Sequence[str]], list[str]]
    """Texts -> their tokens joined by single spaces, text for text. No output holds a line break."""
