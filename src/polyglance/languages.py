"""Languages that polyglance knows. A language is added by one line in `LANGUAGES`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

__all__ = ["LANGUAGES", "MISTAKEN_CODES", "SOURCE_LANGUAGE", "XM3600_LANGUAGES", "Language", "did_you_mean", "language"]

SOURCE_LANGUAGE = "en"
"""Translations go from this language to the others (paper section 2)."""
_XM3600_CODES = (
    "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
)
XM3600_LANGUAGES = tuple(_XM3600_CODES.split())
"""The 36 languages of Crossmodal-3600."""
MISTAKEN_CODES: Mapping[str, str] = MappingProxyType(
    {"cn": "zh", "cz": "cs", "deutsch": "de", "dk": "da", "gr": "el", "jp": "ja", "kr": "ko", "se": "sv", "ua": "uk"}
)
"""Mistaken code, most often of a country -> code of the language."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language, as every other module needs it."""

    code: str
    """ISO 639-1 code, or ISO 639-3 where there is none: the key in data, coverage and scores."""
    name: str
    """English name, as prompts spell it (official code, process/processing_florence2.py)."""
    nllb: str
    """Code in NLLB-200 and FLORES: ISO 639-3 language and ISO 15924 script."""
    prefix: str = ""
    """First words of a caption. A decoder that is started with them stays in the language (paper Fig. 5, v2 Fig. 4; the
    words are those of official code section 4.3). Empty where none are known: a study or a command line gives them."""
    words: Literal["spaces", "characters"] = "spaces"
    """How texts are split into words for scores: at spaces, or into single characters."""

    @property
    def script(self) -> str:
        """ISO 15924 code of the writing system."""
        return self.nllb.partition("_")[2]


LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {
        entry.code: entry
        for entry in (
            Language("en", "English", "eng_Latn", prefix="The image shows"),
            Language("de", "German", "deu_Latn", prefix="Das Bild zeigt"),
            Language("fr", "French", "fra_Latn", prefix="La photo montre"),
            Language("es", "Spanish", "spa_Latn", prefix="La imagen muestra"),
            Language("ru", "Russian", "rus_Cyrl", prefix="На картинке изображен"),
            Language("zh", "simplified Chinese", "zho_Hans", prefix="图为", words="characters"),
            Language("ar", "Arabic", "arb_Arab"),
            Language("bn", "Bengali", "ben_Beng"),
            Language("cs", "Czech", "ces_Latn"),
            Language("da", "Danish", "dan_Latn"),
            Language("el", "Greek", "ell_Grek"),
            Language("fa", "Persian", "pes_Arab"),
            Language("fi", "Finnish", "fin_Latn"),
            Language("fil", "Filipino", "tgl_Latn"),
            Language("he", "Hebrew", "heb_Hebr"),
            Language("hi", "Hindi", "hin_Deva"),
            Language("hr", "Croatian", "hrv_Latn"),
            Language("hu", "Hungarian", "hun_Latn"),
            Language("id", "Indonesian", "ind_Latn"),
            Language("it", "Italian", "ita_Latn"),
            Language("ja", "Japanese", "jpn_Jpan", words="characters"),
            Language("ko", "Korean", "kor_Hang"),
            Language("mi", "Maori", "mri_Latn"),
            Language("nl", "Dutch", "nld_Latn"),
            Language("no", "Norwegian", "nob_Latn"),
            Language("pl", "Polish", "pol_Latn"),
            Language("pt", "Portuguese", "por_Latn"),
            Language("quz", "Cusco Quechua", "quy_Latn"),
            Language("ro", "Romanian", "ron_Latn"),
            Language("sv", "Swedish", "swe_Latn"),
            Language("sw", "Swahili", "swh_Latn"),
            Language("te", "Telugu", "tel_Telu"),
            Language("th", "Thai", "tha_Thai", words="characters"),
            Language("tr", "Turkish", "tur_Latn"),
            Language("uk", "Ukrainian", "ukr_Cyrl"),
            Language("vi", "Vietnamese", "vie_Latn"),
        )
    }
)
"""Code -> language: the six of the paper, then the others of Crossmodal-3600 and CoMMuTE. NLLB has no Cusco Quechua;
the code is that of Ayacucho Quechua, the nearest one."""


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """Return the second half of an error message: the nearest right name, or all names where none is near."""
    names = sorted(set(right))
    near = get_close_matches(wrong, names, n=1, cutoff=0.6)
    near = near or [name for name in names if name.lower() == wrong.lower()]
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def language(code: str) -> Language:
    """Return the language with this code.

    Raises:
        ValueError: the code is not known; the message names the nearest one.
    """
    if code not in LANGUAGES:
        names = {**MISTAKEN_CODES, **{entry.name.lower(): entry.code for entry in LANGUAGES.values()}}
        main = re.split("[-_]", code.lower())[0]  # zh-CN, pt_BR
        near = [main] if main in names.keys() | LANGUAGES.keys() else get_close_matches(main, names, n=1, cutoff=0.7)
        hint = f"did you mean {names.get(near[0], near[0])!r}?" if near else did_you_mean(code, LANGUAGES)
        raise ValueError(f"unknown language {code!r}: {hint}")
    return LANGUAGES[code]
