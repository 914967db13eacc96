"""Tokenisers by name, each with a version: what a score depends on most, once the metric is chosen."""

from polyglance.evaluate.tokenization.segmenters import SEGMENTERS, stanza
from polyglance.evaluate.tokenization.tokenizer import Tokenizer
from polyglance.languages import did_you_mean

__all__ = ["TOKENIZERS", "Tokenizer", "tokenizer"]

TOKENIZERS = (*SEGMENTERS, "stanza")


def tokenizer(name: str, language: str) -> Tokenizer:
    """The tokeniser with this name, ready for texts in a language.

    Raises:
        ValueError: there is no such tokeniser, its library is not installed (the message says how to get it), or it
            does not know the language.
    """
    if name == "stanza":
        return stanza(language)
    if name not in SEGMENTERS:
        raise ValueError(f"unknown tokeniser {name!r}: {did_you_mean(name, TOKENIZERS)}")
    return SEGMENTERS[name]()
