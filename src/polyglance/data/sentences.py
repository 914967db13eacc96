"""Sentences of a text: enough for captions and translations, without a model and without downloads."""

import re
from collections.abc import Sequence

__all__ = ["join_sentences", "split_sentences"]

_ABBREVIATIONS = {
    "en": "mr mrs ms dr prof st no vs jr sr inc ltd co etc approx fig e.g i.e a.m p.m u.s u.k",
    "de": "dr prof st nr bzw ca usw etc z.b d.h u.a evtl ggf inkl sog str vgl",
    "fr": "m mm mme mlle dr st ste etc env p.ex c.-à-d av",
    "es": "sr sra srta dr dra prof etc aprox ud uds p.ej ee.uu",
    "ru": "г гг им ул т.е т.д т.п др напр см",
}
"""Words before a full stop that does not end a sentence; single letters do not either."""

_FULL_WIDTH_END = re.compile(r"(?<=[。！？])[”’」』）]*\s*")
_END = re.compile(r"([.!?…]+[\"'”’»)\]]*)\s+(?=[\"'“‘«(\[¿¡„]*[^\W_a-zа-яß])")


def split_sentences(text: str, code: str) -> list[str]:
    """Split a text in the language `code` into its sentences, without the space between them.

    A sentence ends at `.`, `!`, `?` or `…` before a space and a capital letter or digit, unless an abbreviation stands
    there, and at `。`, `！`, `？` anywhere.
    """
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
    """Join sentences to one text, with spaces except in languages written without them."""
    return ("" if code in ("zh", "ja", "th") else " ").join(sentences)


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
    words = before.split()
    last = words[-1].lstrip("(\"'“‘«[").lower() if words else ""
    if code == "de" and last.isdigit():  # an ordinal: am 5. Mai
        return True
    return (len(last) == 1 and last.isalpha()) or last in _ABBREVIATIONS.get(code, "").split()
