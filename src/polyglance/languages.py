"""Languages that polyglance knows: one table, which every other module reads.

A language is added by one line in `LANGUAGES`, or by a user's file: its table `[languages.xx]` is declared
(`declare_languages`) before anything else of the file is read. `polyglance.language_tags.find_code` understands names
of languages as people write them.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal

__all__ = [
    "HOW_TO_DESCRIBE",
    "LANGUAGES",
    "MISTAKEN_CODES",
    "SOURCE_LANGUAGE",
    "XM3600_LANGUAGES",
    "Language",
    "OwnLanguage",
    "declare_languages",
    "declare_new_languages",
    "did_you_mean",
    "find_declared_languages",
    "get_language",
]

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
_RIGHT_TO_LEFT = ("Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm")
_DECLARED = "POLYGLANCE_LANGUAGES"
"""Environment variable that hands declared languages to the processes that this one starts, as JSON."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language, as every other module needs it."""

    code: str
    """ISO 639-1 code, or ISO 639-3 where there is none: the key in data, coverage and scores, and a tag of BCP 47."""
    name: str
    """English name, as prompts spell it (official code, process/processing_florence2.py)."""
    nllb: str
    """Code in NLLB-200 and FLORES: ISO 639-3 language and ISO 15924 script. Where NLLB does not have the language, only
    the script is given, as in `_Latn`."""
    prefix: str = ""
    """First words of a caption. A decoder that is started with them stays in the language (paper Fig. 5, v2 Fig. 4).
    The words fit any continuation: they require neither a gender nor a number nor (except in German, which keeps the
    published words) a case of what follows. Empty where no such words are known."""
    published: str = ""
    """The words of the official code (section 4.3), for the paper's own protocol; empty where it has none."""
    words: Literal["spaces", "characters"] = "spaces"
    """How texts are split into words for scores: at spaces, or into single characters."""
    full_stop: str = "."
    """Mark at the end of a sentence; empty in Thai, which writes none."""
    iso639_1: str = ""
    """Two-letter code in other libraries, where it differs from `code`: `tl` for `fil`, `qu` for `quz`."""

    @property
    def script(self) -> str:
        """ISO 15924 code of the writing system."""
        return self.nllb.partition("_")[2]

    @property
    def direction(self) -> Literal["ltr", "rtl"]:
        """Direction of writing, as HTML spells it."""
        return "rtl" if self.script in _RIGHT_TO_LEFT else "ltr"

    @property
    def library_code(self) -> str:
        """Code in py3langid, sentencex and other libraries."""
        return self.iso639_1 or self.code

    @property
    def space(self) -> str:
        """Separator of two sentences: empty where the full stop is a full-width character, which includes the space."""
        return "" if self.full_stop == "。" else " "


@dataclass(frozen=True, kw_only=True)
class OwnLanguage:
    """A language that is not in `LANGUAGES`, as its user describes it in a TOML file: `[languages.yo]`.

    Raises:
        ValueError: the name is empty, or the script is not an ISO 15924 code.
    """

    name: str
    """English name, as prompts spell it: `Yoruba`."""
    script: str = "Latn"
    """ISO 15924 code of the writing system."""
    prefix: str = ""
    """First words of captions; they have to fit any continuation, whatever its gender, number or case. If not given,
    nothing is measured or written after a prefix in this language."""
    words: Literal["spaces", "characters"] = "spaces"
    """How texts are split into words for scores: at spaces, or into single characters."""
    full_stop: str = "."
    """Mark at the end of a sentence; empty if none is written."""
    nllb: str = ""
    """Code in NLLB-200, such as `yor_Latn`. If not given, engines of the kind `nllb` do not translate into it."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("name is empty; expected the language's English name, such as Yoruba")
        if not re.fullmatch("[A-Z][a-z]{3}", self.script):
            raise ValueError(f"script is {self.script!r}; expected an ISO 15924 code, such as Latn or Cyrl")
        if self.nllb and not self.nllb.endswith(f"_{self.script}"):
            raise ValueError(f"nllb is {self.nllb!r}, but script is {self.script!r}: expected xxx_{self.script}")


_TABLE = {
    entry.code: entry
    for entry in (
        Language("en", "English", "eng_Latn", "The image shows", "The image shows"),
        Language("de", "German", "deu_Latn", "Das Bild zeigt", "Das Bild zeigt"),
        Language("fr", "French", "fra_Latn", "La photo montre", "La photo montre"),
        Language("es", "Spanish", "spa_Latn", "La imagen muestra", "La imagen muestra"),
        Language("ru", "Russian", "rus_Cyrl", "На картинке", "На картинке изображен"),
        Language("zh", "simplified Chinese", "zho_Hans", "图为", "图为", words="characters", full_stop="。"),
        Language("ar", "Arabic", "arb_Arab", "في الصورة"),
        Language("bn", "Bengali", "ben_Beng", "ছবিতে", full_stop="।"),
        Language("cs", "Czech", "ces_Latn", "Na obrázku"),
        Language("da", "Danish", "dan_Latn", "Billedet viser"),
        Language("el", "Greek", "ell_Grek", "Στην εικόνα"),
        Language("fa", "Persian", "pes_Arab", "در تصویر"),
        Language("fi", "Finnish", "fin_Latn", "Kuvassa on"),
        Language("fil", "Filipino", "tgl_Latn", "Sa larawan", iso639_1="tl"),
        Language("he", "Hebrew", "heb_Hebr", "בתמונה"),
        Language("hi", "Hindi", "hin_Deva", "तस्वीर में", full_stop="।"),
        Language("hr", "Croatian", "hrv_Latn", "Na slici"),
        Language("hu", "Hungarian", "hun_Latn", "A képen"),
        Language("id", "Indonesian", "ind_Latn", "Gambar ini menunjukkan"),
        Language("it", "Italian", "ita_Latn", "L'immagine mostra"),
        Language("ja", "Japanese", "jpn_Jpan", "画像には", words="characters", full_stop="。"),
        Language("ko", "Korean", "kor_Hang", "사진에는"),
        Language("mi", "Maori", "mri_Latn", "E whakaatu ana te whakaahua"),
        Language("nl", "Dutch", "nld_Latn", "De afbeelding toont"),
        Language("no", "Norwegian", "nob_Latn", "Bildet viser"),
        Language("pl", "Polish", "pol_Latn", "Na zdjęciu"),
        Language("pt", "Portuguese", "por_Latn", "A imagem mostra"),
        Language("quz", "Cusco Quechua", "quy_Latn", "Kay fotopi", iso639_1="qu"),
        Language("ro", "Romanian", "ron_Latn", "Imaginea arată"),
        Language("sv", "Swedish", "swe_Latn", "Bilden visar"),
        Language("sw", "Swahili", "swh_Latn", "Picha inaonyesha"),
        Language("te", "Telugu", "tel_Telu", "చిత్రంలో"),
        Language("th", "Thai", "tha_Thai", "ในภาพมี", words="characters", full_stop=""),
        Language("tr", "Turkish", "tur_Latn", "Resimde"),
        Language("uk", "Ukrainian", "ukr_Cyrl", "На зображенні"),
        Language("vi", "Vietnamese", "vie_Latn", "Hình ảnh cho thấy"),
    )
}
_BUILT_IN = frozenset(_TABLE)
LANGUAGES: Mapping[str, Language] = MappingProxyType(_TABLE)
"""Code -> language: the six of the paper, the others of Crossmodal-3600, and those that were declared. NLLB has no
Cusco Quechua; the code is that of Ayacucho Quechua, the nearest one."""


HOW_TO_DESCRIBE = "A table [languages.xx] in a TOML file describes any other language (docs/languages.md)"
_OTHER_VARIETIES = frozenset({"traditional", "nynorsk", "ancient", "classical", "middle", "old", "sign"})
"""Words that name another language than the last word of the name does: `Ancient Greek` is not Greek."""


def declare_languages(languages: Mapping[str, OwnLanguage]) -> None:
    """Add languages to `LANGUAGES`, in this process and in the processes that it starts from now on. A language that
    was declared before is replaced.

    Args:
        languages: code -> language.

    Raises:
        ValueError: a language that is built in, a malformed code, or the name of another language.
    """
    for code, own in languages.items():
        if code in _BUILT_IN:
            raise ValueError(f"{code!r} is built in ({LANGUAGES[code].name}); set its prefix in [evaluation.prefixes]")
        if not re.fullmatch("[a-z]{2,8}", code):
            raise ValueError(f"{code!r} is not a language code; expected an ISO 639 code in lower case, such as yo")
        for other in LANGUAGES.values():
            if other.code != code and other.name.lower() == own.name.strip().lower():
                raise ValueError(f"{code!r}: the name {own.name!r} belongs to {other.code!r}")
    for code, own in languages.items():
        _TABLE[code] = _make_language(code, own)
    if languages:
        declared = _read_declared() | {code: asdict(own) for code, own in languages.items()}
        os.environ[_DECLARED] = json.dumps(declared)


def declare_new_languages(languages: Mapping[str, OwnLanguage] | None) -> None:
    """Declare the languages that are not known yet. Data sets and models bring descriptions of their languages; a
    user's own description takes precedence.

    Raises:
        ValueError: as `declare_languages`.
    """
    declare_languages({code: own for code, own in (languages or {}).items() if code not in LANGUAGES})


def find_declared_languages(codes: Iterable[str] | None = None) -> dict[str, OwnLanguage] | None:
    """Return the declared languages, all of them or only those with these codes; None if there are none."""
    declared = _read_declared()
    chosen = declared if codes is None else set(codes) & set(declared)
    return {code: OwnLanguage(**declared[code]) for code in sorted(chosen)} or None


def _read_declared() -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = json.loads(os.environ.get(_DECLARED, "{}"))
    return values


def _make_language(code: str, own: OwnLanguage) -> Language:
    nllb = own.nllb or f"_{own.script}"
    return Language(code, own.name, nllb, own.prefix, words=own.words, full_stop=own.full_stop)


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """Return the hint of an error message: the nearest right name, or all names if none is near."""
    names = sorted(set(right))
    near = get_close_matches(wrong, names, n=1, cutoff=0.6)
    near = near or [name for name in names if name.lower() == wrong.lower()]
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def get_language(code: str) -> Language:
    """Return the language with this code.

    Raises:
        ValueError: the code is not known; the message names the nearest one.
    """
    if code not in LANGUAGES:
        near = _find_near(code)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(LANGUAGES))}."
        raise ValueError(f"unknown language {code!r}: {hint} {HOW_TO_DESCRIBE}")
    return LANGUAGES[code]


def _find_near(text: str) -> str | None:
    """Return the code of the known language that a text may mean; None if no language is near."""
    names = {**MISTAKEN_CODES, **{entry.name.lower(): entry.code for entry in LANGUAGES.values()}}
    names["chinese"] = "zh"
    main = re.split("[-_]", text.lower())[0]  # zh-CN, pt_BR
    words = re.findall(r"\w+", text.lower())
    if main in names.keys() | LANGUAGES.keys():
        return names.get(main, main)
    if not _OTHER_VARIETIES & set(words):  # Swahili (Kenya)
        inside = [names[word] for word in words if word in names and len(word) > 3]
        near = inside or [names[name] for name in get_close_matches(main, names, n=3, cutoff=0.7) if name[0] == main[0]]
        return near[0] if near else None
    return None


for _code, _values in _read_declared().items():
    _TABLE.setdefault(_code, _make_language(_code, OwnLanguage(**_values)))
