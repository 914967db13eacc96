"""Identification of a text's language by py3langid (Lui and Baldwin's langid.py), whose 4.6 MB model is inside its
package, so nothing is downloaded."""

import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any

from polyglance.languages import LANGUAGES, XM3600_LANGUAGES

__all__ = ["IDENTIFIER_CODES", "find_other_language", "is_in_another_language", "load_identifier"]

IDENTIFIER_CODES: Mapping[str, str] = MappingProxyType({"fil": "tl", "quz": "qu"})
"""Language code -> code of py3langid, where they differ."""
_CLOSE = (frozenset({"da", "no"}), frozenset({"cs", "hr"}), frozenset({"es", "pt"}), frozenset({"ru", "uk"}))
"""Languages whose short texts are often taken for each other."""
_MIN_TEXTS = 5
_MIN_LETTERS = 100
_MIN_LETTERS_OF_WORDS = 20
"""Letters of different words: the same words again are no evidence."""
_MIN_SHARE = 0.6
_MIN_LETTERS_OF_TEXT = 40
"""Letters of a single text whose language is identified; half of them where it has letters with accents."""


@cache
def load_identifier(language: str | None) -> Any:
    """Load py3langid's identifier for XM3600's languages and `language`; None: for all languages that it knows."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library = import_module("py3langid.langid")
    except ImportError:
        raise ValueError("language: needs a library that is not installed here: pip install py3langid") from None
    identifier = library.LanguageIdentifier.from_model_file(library.MODEL_FILE)
    if language is not None:
        codes = {IDENTIFIER_CODES.get(code, code) for code in (*XM3600_LANGUAGES, language)}
        identifier.set_languages(codes & set(identifier.labels))
    return identifier


def find_other_language(texts: list[str], code: str) -> str | None:
    """The language of `LANGUAGES` that a sample of texts is in, if that is clearly another one than `code`.

    None for few or short texts, for languages that the identifier does not know, and for one that is nearly the same.
    """
    texts = [text.lower() for text in texts if any(character.isalpha() for character in text)]
    num_letters = _count_letters(texts)
    num_letters_of_words = _count_letters({word for text in texts for word in text.split()})
    if len(texts) < _MIN_TEXTS or num_letters < _MIN_LETTERS or num_letters_of_words < _MIN_LETTERS_OF_WORDS:
        return None
    identifier = load_identifier(code)
    if IDENTIFIER_CODES.get(code, code) not in identifier.labels:
        return None
    names = {IDENTIFIER_CODES.get(name, name): name for name in LANGUAGES}
    found = names.get(identifier.classify(" ".join(texts))[0], code)
    if found == code or frozenset({found, code}) in _CLOSE:
        return None
    share = sum(names.get(identifier.classify(text)[0]) == found for text in texts) / len(texts)
    return found if share >= _MIN_SHARE else None


def _count_letters(texts: Iterable[str]) -> int:
    return sum(character.isalpha() for text in texts for character in text)


def is_in_another_language(text: str, code: str) -> bool:
    """Whether a single text is clearly in another language than `code`; never for a short one.

    Words alone count, in small letters: names confuse the identifier. Languages that it does not know are never taken
    for others.
    """
    num_letters = sum(character.isalpha() for character in text)
    if num_letters < (_MIN_LETTERS_OF_TEXT if text.isascii() or not text.strip() else _MIN_LETTERS_OF_TEXT // 2):
        return False
    identifier = load_identifier(code)
    own = IDENTIFIER_CODES.get(code, code)
    if own not in identifier.labels:
        return False
    names = {IDENTIFIER_CODES.get(name, name): name for name in LANGUAGES}
    halves = text.lower().split()
    found = {names.get(identifier.classify(" ".join(part))[0], code) for part in (halves, halves[::2], halves[1::2])}
    return code not in found and len(found) == 1 and frozenset({*found, code}) not in _CLOSE
