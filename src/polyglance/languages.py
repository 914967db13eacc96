"""The languages polyglance knows. Adding one is one entry here."""

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
"""What is written for a language, most often its country -> its code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """What the rest of the project needs to know about one language."""

    code: str
    """ISO 639-1 code, the key used in data, coverage and scores."""
    name: str
    """English name, as prompts spell it (official code, process/processing_florence2.py)."""
    prefix: str
    """First words of a caption; given to the decoder they pin its language (paper Fig. 5, v2 Fig. 4). Empty where none
    are known."""
    nllb: str
    """Code of NLLB-200 and FLORES."""
    script: str
    """ISO 15924 code of the writing system."""
    words: Literal["spaces", "characters"]
    """How words are told apart when texts are tokenised or scored: by spaces, or each character for itself."""


_OF_THE_PAPER = (
    Language(
        code="en",
        name="English",
        prefix="The image shows",
        nllb="eng_Latn",
        script="Latn",
        words="spaces",
    ),
    Language(
        code="de",
        name="German",
        prefix="Das Bild zeigt",
        nllb="deu_Latn",
        script="Latn",
        words="spaces",
    ),
    Language(
        code="fr",
        name="French",
        prefix="La photo montre",
        nllb="fra_Latn",
        script="Latn",
        words="spaces",
    ),
    Language(
        code="es",
        name="Spanish",
        prefix="La imagen muestra",
        nllb="spa_Latn",
        script="Latn",
        words="spaces",
    ),
    Language(
        code="ru",
        name="Russian",
        prefix="На картинке изображен",
        nllb="rus_Cyrl",
        script="Cyrl",
        words="spaces",
    ),
    Language(
        code="zh",
        name="simplified Chinese",
        prefix="图为",
        nllb="zho_Hans",
        script="Hans",
        words="characters",
    ),
)
"""The languages of the paper, each with the words that pin it (official code section 4.3)."""

_OTHERS = """
ar Arabic arb_Arab, bn Bengali ben_Beng, cs Czech ces_Latn, da Danish dan_Latn, el Greek ell_Grek, fa Persian pes_Arab,
fi Finnish fin_Latn, fil Filipino tgl_Latn, he Hebrew heb_Hebr, hi Hindi hin_Deva, hr Croatian hrv_Latn,
hu Hungarian hun_Latn, id Indonesian ind_Latn, it Italian ita_Latn, ja Japanese jpn_Jpan, ko Korean kor_Hang,
mi Maori mri_Latn, nl Dutch nld_Latn, no Norwegian nob_Latn, pl Polish pol_Latn, pt Portuguese por_Latn,
quz Cusco Quechua quy_Latn, ro Romanian ron_Latn, sv Swedish swe_Latn, sw Swahili swh_Latn, te Telugu tel_Telu,
th Thai tha_Thai, tr Turkish tur_Latn, uk Ukrainian ukr_Cyrl, vi Vietnamese vie_Latn
"""
"""The others of Crossmodal-3600 and CoMMuTE, without a prefix: a study or a command line gives one. NLLB has no Cusco
Quechua; its nearest is that of Ayacucho."""


def _other(entry: str) -> Language:
    code, *name, nllb = entry.split()
    return Language(
        code=code,
        name=" ".join(name),
        prefix="",
        nllb=nllb,
        script=nllb.partition("_")[2],
        words="characters" if code in ("ja", "th") else "spaces",
    )


LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {entry.code: entry for entry in (*_OF_THE_PAPER, *map(_other, _OTHERS.split(",")))}
)
"""Code -> language."""


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """The second half of an error message: the nearest right name, or all of them where none is near."""
    names = sorted(set(right))
    near = get_close_matches(wrong, names, n=1, cutoff=0.6)
    near = near or [name for name in names if name.lower() == wrong.lower()]
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def language(code: str) -> Language:
    """The language with this code.

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
