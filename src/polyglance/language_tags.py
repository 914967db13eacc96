"""Language tags as data has them (`de-DE`, `zh_Hant`, `iw`, `deu`, `nob_Latn`), and the languages that they stand for.

Tags are read by the rules of BCP 47 and Unicode CLDR (langcodes): replaced codes, three-letter codes, and the usual
script of a region. A tag never stands for a language in another script: `zh-TW` is no simplified Chinese.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from langcodes import Language as Tag
from langcodes.tag_parser import LanguageTagError

from polyglance.languages import LANGUAGES

__all__ = ["LanguageTag", "choose_tag", "parse_language_tag"]

_SAME = {"nb": "no", "qu": "quz", "quy": "quz"}
"""Language of a tag -> key in `LANGUAGES`, beyond what CLDR says: Bokmål is what Norwegian texts are written in, and
`quy` is the Quechua that NLLB has (`polyglance.languages`)."""
_SAME_SCRIPT = {"Hang": "Kore", "Hira": "Jpan", "Kana": "Jpan"}
_NAME = re.compile(r"[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class LanguageTag:
    """A tag, taken apart."""

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


@cache
def parse_language_tag(text: str) -> LanguageTag | None:
    """Take a tag apart; None if it is no tag. Names of languages in English (`German`) are tags too."""
    by_name = {entry.name.lower(): code for code, entry in LANGUAGES.items()} | {"chinese": "zh"}
    tag = by_name.get(text.strip().lower(), text.strip())
    if not _NAME.fullmatch(tag):
        return None
    try:
        parsed = Tag.get(tag, normalize=True)
        likely = parsed.maximize()
        if not parsed.is_valid():
            return None
    except (LanguageTagError, ValueError):
        return None
    language = parsed.language or ""
    if language not in LANGUAGES:
        language = _SAME.get(language) or _macrolanguage(parsed) or language
    return LanguageTag(
        tag=text,
        language=language,
        script=_script(parsed.script or likely.script or ""),
        region=parsed.territory or "",
        names_script=parsed.script is not None,
    )


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
    """How well a tag stands for the one that is wanted, 0 best; None: not at all."""
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
    """Key in `LANGUAGES` of the language that this one counts as (`arb` -> `ar`); empty if there is none."""
    language = tag.prefer_macrolanguage().language or ""
    return language if language in LANGUAGES and tag.language != "nn" else ""
