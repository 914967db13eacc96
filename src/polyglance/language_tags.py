"""Language tags as data has them (`de-DE`, `zh_Hant`, `iw`, `deu`, `nob_Latn`), and the languages that they stand for.

Tags are read by the rules of BCP 47 and Unicode CLDR (langcodes): replaced codes, three-letter codes, and the usual
script of a region. A tag never stands for a language in another script: `zh-TW` is not simplified Chinese.

    find_code("pt-BR"), find_code("Ukrainian"), find_code("ua")     # 'pt', 'uk', 'uk': as people write it
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from langcodes import Language as Tag
from langcodes.tag_parser import LanguageTagError

from polyglance.languages import HOW_TO_DESCRIBE, LANGUAGES, MISTAKEN_CODES, get_language

__all__ = ["LanguageTag", "choose_tag", "find_code", "find_codes", "parse_language_tag"]

_SAME = {"nb": "no", "qu": "quz", "quy": "quz"}
"""Language of a tag -> key in `LANGUAGES`, beyond what CLDR says: Bokmål is what Norwegian texts are written in, and
`quy` is the Quechua that NLLB has (`polyglance.languages`)."""
_OTHER_NAMES = {
    **{"chinese": "zh", "mandarin": "zh", "farsi": "fa", "tagalog": "fil", "quechua": "quz", "māori": "mi"},
    **{"bokmål": "no", "bokmal": "no", "norwegian bokmål": "no", "kiswahili": "sw", "castilian": "es"},
    **{"brazilian portuguese": "pt", "modern greek": "el", "bangla": "bn", "flemish": "nl", "mandarin chinese": "zh"},
}
"""English name, or one that is used in English -> code, beyond those of `LANGUAGES`."""
_SAME_SCRIPT = {"Hang": "Kore", "Hira": "Jpan", "Kana": "Jpan"}
_NAME = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class LanguageTag:
    """A parsed tag."""

    tag: str
    """As it was written."""
    language: str
    """Key in `LANGUAGES`, or the tag's language where that is not among them."""
    script: str
    """ISO 15924 code: that of the tag, or the usual one of its language and region."""
    region: str
    """ISO 3166-1 code; empty where the tag has none."""
    names_script: bool
    """Whether the script is written in the tag."""

    @property
    def code(self) -> str:
        """Key in `LANGUAGES` of the language that texts with this tag are in; empty if it is not among them, or is
        written in another script there."""
        known = LANGUAGES.get(self.language)
        return self.language if known is not None and _script(known.script) == self.script else ""


def find_code(text: str) -> str:
    """Return the key in `LANGUAGES` of a language as people write it: its code, its English name, a tag of BCP 47
    (`pt-BR`), a code of ISO 639-3 or NLLB, or the code of its country if that is not a language code (`ua`, `cn`).

    Raises:
        ValueError: no language is known by this name; the message has the nearest one.
    """
    if text in LANGUAGES:
        return text
    name = text.strip()
    tag = parse_language_tag(name)
    if tag is not None and tag.code:
        return tag.code
    if tag is not None and tag.language in LANGUAGES:
        own = LANGUAGES[tag.language]
        raise ValueError(
            f"unknown language {text!r}: it is written in the script {tag.script}, and {own.code!r} ({own.name}) in "
            f"{own.script} here. {HOW_TO_DESCRIBE}"
        )
    known = MISTAKEN_CODES.get(_plain(name)) if tag is None else None
    return known if known is not None else get_language(name).code


def find_codes(texts: Iterable[str]) -> tuple[str, ...]:
    """Return `find_code` of each."""
    return tuple(map(find_code, texts))


def parse_language_tag(text: str) -> LanguageTag | None:
    """Parse a tag; None if it is not a tag. English names of languages (`German`) are tags too."""
    name = text.strip().lower()
    codes = (code for code, entry in LANGUAGES.items() if entry.name.lower() == name)
    parts = _parse(_OTHER_NAMES.get(name) or next(codes, text.strip()))
    if parts is None:
        return None
    parsed, script = parts
    language = parsed.language or ""
    if language not in LANGUAGES:
        language = _SAME.get(language) or _macrolanguage(parsed) or language
    return LanguageTag(
        tag=text,
        language=language,
        script=_script(script),
        region=parsed.territory or "",
        names_script=parsed.script is not None,
    )


@cache
def _parse(tag: str) -> tuple[Tag, str] | None:
    """Return a valid tag and the usual script of its language and region; None if it is not a valid tag."""
    if not _NAME.fullmatch(tag):
        return None
    try:
        parsed = Tag.get(tag, normalize=True)
        if parsed.is_valid():
            return parsed, parsed.script or parsed.maximize().script or ""
    except (LanguageTagError, ValueError):
        pass
    return None


def choose_tag(wanted: str, tags: Iterable[str]) -> str | None:
    """Choose the tag that stands for a language best: the same tag, then one that names the script, then the language
    alone, then one that names a region (the language's usual one first), in the order of `tags`. None: no tag does.

    Args:
        wanted: a key of `LANGUAGES`, or any other tag, with a script or region if they matter.
    """
    ranked = [(rank, place, tag) for place, tag in enumerate(tags) if (rank := _rank(wanted, tag)) is not None]
    return min(ranked)[2] if ranked else None


@cache
def _rank(wanted: str, tag: str) -> int | None:
    """Return how well a tag stands for the wanted one: 0 is best; None: it does not."""
    if _plain(wanted) == _plain(tag):
        return 0
    want, have = parse_language_tag(wanted), parse_language_tag(tag)
    if want is None or have is None or want.language != have.language or want.script != have.script:
        return None
    if want.region and have.region and want.region != have.region:
        return None
    if want.region == have.region:
        return 1 if have.names_script else 2
    usual = Tag.get(have.language).maximize().territory
    return 3 if have.region == usual else 4


def _plain(tag: str) -> str:
    return tag.strip().replace("_", "-").lower()


def _script(name: str) -> str:
    return _SAME_SCRIPT.get(name, name)


def _macrolanguage(tag: Tag) -> str:
    """Return the key in `LANGUAGES` of the language that this one counts as (`arb` -> `ar`); empty if there is none."""
    language = tag.prefer_macrolanguage().language or ""
    return language if language in LANGUAGES and tag.language != "nn" else ""
