"""Sentences of a text: enough for captions and translations, with no model and nothing to download."""

import re

__all__ = ["join_sentences", "sentences"]

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


def sentences(text: str, code: str) -> list[str]:
    """The sentences of a text in the language `code`, without the space between them.

    A sentence ends at `.`, `!`, `?` or `…` before a space and a capital letter or digit, unless an abbreviation stands
    there, and at `。`, `！`, `？` anywhere.
    """
    found: list[str] = []
    for piece in _split_full_width(text.strip()):
        start = 0
        for match in _END.finditer(piece):
            if not _is_abbreviation(piece[start : match.start()], match[1], code):
                found.append(piece[start : match.end(1)])
                start = match.end()
        if piece[start:]:
            found.append(piece[start:])
    return found


def join_sentences(parts: list[str], code: str) -> str:
    """Sentences as one text: with spaces, but for languages written without them."""
    return ("" if code in ("zh", "ja", "th") else " ").join(parts)


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
