"""Languages that outputs can be scored in: more than the project trains on."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from polyglance.languages import MISTAKEN_CODES, did_you_mean

__all__ = ["SCORED_LANGUAGES", "ScoredLanguage", "find_scored_language"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredLanguage:
    """A language, and whether its words are separated by spaces."""

    code: str
    """Code of XM3600, else ISO 639."""
    name: str
    """English name."""
    spaces: bool
    """Words are separated by spaces. Where they are not, scores need characters or a word segmenter."""


_UNSPACED = {"bo", "ja", "km", "lo", "my", "th", "yue", "zh"}
_NAMES = """
af Afrikaans, am Amharic, ar Arabic, az Azerbaijani, be Belarusian, bg Bulgarian, bn Bengali, bo Tibetan, bs Bosnian,
ca Catalan, cs Czech, cy Welsh, da Danish, de German, el Greek, en English, es Spanish, et Estonian, eu Basque,
fa Persian, fi Finnish, fil Filipino, fr French, ga Irish, gl Galician, gu Gujarati, ha Hausa, he Hebrew, hi Hindi,
hr Croatian, hu Hungarian, hy Armenian, id Indonesian, ig Igbo, is Icelandic, it Italian, ja Japanese, jv Javanese,
ka Georgian, kk Kazakh, km Khmer, kn Kannada, ko Korean, ky Kyrgyz, lb Luxembourgish, lo Lao, lt Lithuanian, lv Latvian,
mg Malagasy, mi Maori, mk Macedonian, ml Malayalam, mn Mongolian, mr Marathi, ms Malay, mt Maltese, my Burmese,
ne Nepali, nl Dutch, no Norwegian, pa Punjabi, pl Polish, ps Pashto, pt Portuguese, quz Cusco Quechua, ro Romanian,
ru Russian, si Sinhala, sk Slovak, sl Slovene, so Somali, sq Albanian, sr Serbian, sv Swedish, sw Swahili, ta Tamil,
te Telugu, tg Tajik, th Thai, tr Turkish, uk Ukrainian, ur Urdu, uz Uzbek, vi Vietnamese, xh Xhosa, yo Yoruba,
yue Cantonese, zh Chinese, zu Zulu
"""

SCORED_LANGUAGES: Mapping[str, ScoredLanguage] = MappingProxyType(
    {
        code: ScoredLanguage(code=code, name=name, spaces=code not in _UNSPACED)
        for code, _, name in (entry.strip().partition(" ") for entry in _NAMES.split(","))
    }
)
"""Code -> language."""


def find_scored_language(code: str) -> ScoredLanguage:
    """Return the language with this code.

    Raises:
        ValueError: the code is not known; the message names the nearest one.
    """
    if code in SCORED_LANGUAGES:
        return SCORED_LANGUAGES[code]
    by_name = {entry.name.lower(): entry.code for entry in SCORED_LANGUAGES.values()}
    base = code.replace("_", "-").split("-")[0].lower()
    near = by_name.get(code.lower()) or (base if base in SCORED_LANGUAGES else MISTAKEN_CODES.get(base))
    hint = f"did you mean {near!r}?" if near else did_you_mean(code, SCORED_LANGUAGES)
    raise ValueError(f"unknown language {code!r}: {hint}")
