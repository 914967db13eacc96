"""Languages that outputs can be scored in: more than the project trains on."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from polyglance.language_tags import find_code, parse_language_tag
from polyglance.languages import LANGUAGES, did_you_mean

__all__ = ["SCORED_LANGUAGES", "ScoredLanguage", "find_scored_language"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredLanguage:
    """A language, and whether its words are separated by spaces."""

    code: str
    """Code of XM3600, else ISO 639."""
    name: str
    """English name."""
    spaces: bool
    """Whether words are separated by spaces. If not, scores need characters or a word segmenter."""


_UNSPACED = {"bo", "km", "lo", "my", "yue"}
_NAMES = """
af Afrikaans, am Amharic, az Azerbaijani, be Belarusian, bg Bulgarian, bo Tibetan, bs Bosnian, ca Catalan, cy Welsh,
et Estonian, eu Basque, ga Irish, gl Galician, gu Gujarati, ha Hausa, hy Armenian, ig Igbo, is Icelandic, jv Javanese,
ka Georgian, kk Kazakh, km Khmer, kn Kannada, ky Kyrgyz, lb Luxembourgish, lo Lao, lt Lithuanian, lv Latvian, mg
Malagasy, mk Macedonian, ml Malayalam, mn Mongolian, mr Marathi, ms Malay, mt Maltese, my Burmese, ne Nepali, pa
Punjabi, ps Pashto, si Sinhala, sk Slovak, sl Slovene, so Somali, sq Albanian, sr Serbian, ta Tamil, tg Tajik, ur
Urdu, uz Uzbek, xh Xhosa, yo Yoruba, yue Cantonese, zu Zulu
"""

_OTHERS = {
    code: ScoredLanguage(code=code, name=name, spaces=code not in _UNSPACED)
    for code, _, name in (" ".join(entry.split()).partition(" ") for entry in _NAMES.split(","))
}
SCORED_LANGUAGES: Mapping[str, ScoredLanguage] = MappingProxyType(
    {
        **{
            code: ScoredLanguage(code=code, name=entry.name, spaces=entry.words == "spaces")
            for code, entry in LANGUAGES.items()
        },
        **_OTHERS,
    }
)
"""Code -> language: those of `LANGUAGES`, and others."""


def find_scored_language(text: str) -> ScoredLanguage:
    """Return a language, by its code or as people write it (`polyglance.language_tags.find_code`).

    Raises:
        ValueError: it is not known; the message names the nearest one.
    """
    if text in SCORED_LANGUAGES:
        return SCORED_LANGUAGES[text]
    by_name = {entry.name.lower(): entry for entry in _OTHERS.values()}
    tag = parse_language_tag(text)
    if found := by_name.get(text.strip().lower()) or (_OTHERS.get(tag.language) if tag else None):
        return found
    try:
        entry = LANGUAGES[find_code(text)]
    except ValueError as error:
        if "known: " not in str(error):
            raise
        raise ValueError(f"unknown language {text!r}: {did_you_mean(text, SCORED_LANGUAGES)}") from None
    return ScoredLanguage(code=entry.code, name=entry.name, spaces=entry.words == "spaces")
