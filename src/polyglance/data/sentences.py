"""Splitting of texts into sentences and their end marks, without a model and without downloads. The paper's languages
have their own rules, which must not change because shards depend on them. All others are split by the rules and
abbreviations of sentencex (Wikimedia).
"""

import re
from collections.abc import Sequence

from sentencex import segment

from polyglance.languages import LANGUAGES, Language

__all__ = ["add_end_mark", "join_sentences", "marks_sentences", "split_sentences"]

_ABBREVIATIONS = {
    code: frozenset(words.split())
    for code, words in {
        "en": "mr mrs ms dr prof st no vs jr sr inc ltd co etc approx fig e.g i.e a.m p.m u.s u.k",
        "de": "dr prof st nr bzw ca usw etc z.b d.h u.a evtl ggf inkl sog str vgl",
        "fr": "m mm mme mlle dr st ste etc env p.ex c.-à-d av",
        "es": "sr sra srta dr dra prof etc aprox ud uds p.ej ee.uu",
        "ru": "г гг им ул т.е т.д т.п др напр см",
    }.items()
}
"""Words before a full stop that does not end a sentence; single letters do not either."""

_OWN_RULES = frozenset({*_ABBREVIATIONS, "zh"})
_END_MARKS = tuple(".!?…。！？।॥؟۔")
_GREEK_QUESTION_MARKS = (";", "\u037e")
_CLOSING = "\"'”’»)]」』）"
_NUMBER_CUT = re.compile(r"\d[.,]\d$")
_FULL_WIDTH_END = re.compile(r"[。！？][”’」』）]*\s*")
_END = re.compile(r"([.!?…]+[\"'”’»)\]]*)\s+(?=[\"'“‘«(\[¿¡„]*[^\W_a-zа-яß])")


def split_sentences(text: str, code: str) -> list[str]:
    """Split a text in the language `code` into its sentences, without the space between them.

    In the paper's languages a sentence ends at `.`, `!`, `?` or `…` before a space and a capital letter or digit,
    unless an abbreviation stands there, and at `。`, `！`, `？` anywhere.
    """
    if code not in _OWN_RULES:
        return _split_by_library(text, code)
    sentences: list[str] = []
    for piece in _split_full_width(text.strip()):
        start = 0
        for match in _END.finditer(piece):
            if not _is_abbreviation(piece[start : match.start()], match[1], code):
                sentences.append(piece[start : match.end(1)])
                start = match.end()
        if piece[start:]:
            sentences.append(piece[start:])
    return sentences


def join_sentences(sentences: Sequence[str], code: str) -> str:
    """Join sentences to one text, with spaces except in Chinese and Japanese. (Thai has spaces between sentences.)"""
    return _find(code).space.join(sentences)


def marks_sentences(code: str) -> bool:
    """Tell whether ends of sentences are marked in this language. In Thai they look like ends of clauses."""
    return bool(_find(code).full_stop)


def add_end_mark(text: str, code: str) -> str:
    """Add the full stop of the language if the text has no end mark; in Thai none is written."""
    bare = text.rstrip(_CLOSING)
    if code == "zh" and bare.endswith("."):
        return f"{bare[:-1]}。{text[len(bare) :]}"
    if not bare or bare.endswith(_END_MARKS) or (code == "el" and bare.endswith(_GREEK_QUESTION_MARKS)):
        return text
    return text + _find(code).full_stop


def _find(code: str) -> Language:
    """Return the language, with a full stop and spaces between words if it is not in `LANGUAGES`."""
    return LANGUAGES.get(code) or Language(code, code, "")


def _split_by_library(text: str, code: str) -> list[str]:
    """Split by sentencex. What goes on with a small letter (after an abbreviation), inside a number, or as
    indirect speech in Japanese belongs to the sentence before."""
    sentences: list[str] = []
    is_joined = False
    for piece in segment(_find(code).library_code, text):
        if not (sentence := piece.strip()):
            continue
        if sentences and sentence[0].islower() and sentences[-1].endswith("."):
            sentences[-1] = f"{sentences[-1]} {sentence}"
        elif sentences and is_joined and (_NUMBER_CUT.search(sentences[-1] + sentence[0]) or sentence[0] in "とっ"):
            sentences[-1] += sentence
        else:
            sentences.append(sentence)
        is_joined = piece == piece.rstrip()
    return sentences


def _split_full_width(text: str) -> list[str]:
    pieces, start = [], 0
    for match in _FULL_WIDTH_END.finditer(text):
        end = match.end()
        pieces.append(text[start:end].strip())
        start = end
    return [piece for piece in (*pieces, text[start:].strip()) if piece]


def _is_abbreviation(before: str, end: str, code: str) -> bool:
    if not end.startswith(".") or end.startswith(".."):
        return False
    words = before.rsplit(None, 1)
    last = words[-1].lstrip("(\"'“‘«[").lower() if words else ""
    if code == "de" and last.isdigit():  # an ordinal: am 5. Mai
        return True
    return (len(last) == 1 and last.isalpha()) or last in _ABBREVIATIONS.get(code, ())
