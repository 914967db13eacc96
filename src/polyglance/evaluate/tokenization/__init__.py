"""Tokenisers by name, each with a version. Once the metric is chosen, scores depend most on the tokeniser.

A tokeniser is added by one function and its line in `SEGMENTERS` (segmenters.py).
"""

from polyglance.evaluate.tokenization.segmenters import SEGMENTERS, make_stanza
from polyglance.evaluate.tokenization.tokenizer import Tokenizer
from polyglance.languages import did_you_mean

__all__ = ["TOKENIZERS", "Tokenizer", "make_metric_tokenizer"]

TOKENIZERS = (*SEGMENTERS, "stanza")
"""Names of the tokenisers."""


def make_metric_tokenizer(name: str, language: str) -> Tokenizer:
    """Make the tokeniser with this name for texts in a language.

    Raises:
        ValueError: there is no such tokeniser, its library is not installed (the message says how to get it), or it
            does not know the language.
    """
    if name == "stanza":
        return make_stanza(language)
    if name not in SEGMENTERS:
        raise ValueError(f"unknown tokeniser {name!r}: {did_you_mean(name, TOKENIZERS)}")
    return SEGMENTERS[name]()
