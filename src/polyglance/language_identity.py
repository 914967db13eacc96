"""Identification of the language that a text is in: the one identifier of studies, scores, audits and captions.

    LanguageIdentifier(["en", "de", "ru"]).identify("Ein Hund im Park") # 'de'; None without enough evidence
    judge_language("A dog runs in the park", "de").verdict # 'other': not the language asked for

First the script: Hangul is Korean whatever the words are. Among the languages that are written in the text's script,
py3langid (Lui and Baldwin's langid.py; its 4.5 MB model is inside its package) says how likely each is; a study adds
character n-grams of its own training texts. Maori, which py3langid does not know, is told by its syllables.
benchmarks/language_identity.py measures what is said here, docs/evaluation.md has the tables.
"""

import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Literal

from langcodes import Language as Tag

from polyglance.character_ngrams import CharacterNgrams, find_words
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE, XM3600_LANGUAGES
from polyglance.scripts import count_scripts, find_script, is_in_another_script

__all__ = [
    "IDENTIFIER",
    "Judgement",
    "LanguageIdentifier",
    "Verdict",
    "are_close",
    "are_surely_english",
    "find_foreign_part",
    "find_other_language",
    "is_in_another_language",
    "judge_language",
    "knows_language",
]

IDENTIFIER = f"scripts+py3langid-{version('py3langid')}+1"
"""Name and version of the library and of these rules, for signatures."""
Verdict = Literal["asked", "close", "other", "unclear"]
"""`asked`: in the language that was asked for. `close`: in one that is nearly the same in writing. `other`: in another
language, or another script. `unclear`: nothing tells, as in a number, a name or a word that many languages have."""

_CLOSE = ({"no", "nn", "da"}, {"hr", "sr", "bs"}, {"id", "ms"}, {"cs", "sk"}, {"xh", "zu"})
"""Languages that are nearly the same in writing: a text alone does not show which of them it is in."""
_NEIGHBOURS = (
    *("af", "az", "be", "bg", "ca", "et", "eu", "gl", "is", "kk", "lb", "lt", "lv", "mr", "ne", "ps", "sl"),
    *("sq", "ur"),
)
"""Languages beyond XM3600 that share a script, and many words, with one of it: Bulgarian would pass for Russian."""
_RARE_NATS = 5.0
"""Evidence that a neighbour has to have beyond other languages': few models write it."""
_MORE_SCRIPTS: Mapping[str, tuple[str, ...]] = MappingProxyType({"sr": ("Latn",), "bs": ("Cyrl",), "uz": ("Cyrl",)})
"""Scripts of languages beside the usual one."""
_MAX_CORPUS_TEXTS = 2000
"""Texts of each language that n-grams are counted in."""
_MIN_NATS_PER_LETTER = -5.0
"""Least mean log-likelihood of letters by the n-grams of a corpus: 1 in 150. One text in a thousand that is like the
corpus has less, and random letters have."""
_MIN_MARGIN_NATS = 8.0
"""Least evidence against the language that was asked for."""
_MAX_LATIN_LETTERS = 12
"""A text that is a name or a brand may be in Latin letters in every language."""
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\S+")
_RUN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff'\u2019-]+|[^\sA-Za-z\u00c0-\u024f\u1e00-\u1eff]+")
"""A word in Latin letters, or a run of anything else."""
_PARTS = ((8, 4), (6, 2))
"""Words of a part of a text that is judged by itself, and words from one part to the next: longer parts tell more, and
shorter ones lie within a clause."""
_MIN_LETTERS_OF_PART = 20


@dataclass(frozen=True, slots=True)
class Judgement:
    """Language of a text, as far as the text shows it."""

    verdict: Verdict
    language: str
    """Code of the language that it is in; empty where that is not known."""
    script: str
    """ISO 15924 code of its script (`polyglance.scripts.find_script`); empty for a text without letters."""
    margin_nats: float = 0.0
    """Evidence against the language that was asked for; infinite where the script decided."""


class LanguageIdentifier:
    """Tells a few languages apart.

    Args:
        languages: codes of the candidate languages. A text is taken for one of them, or for none.
        corpus: pairs of language code and text, which show how these languages look in the data at hand. Counts where
            it has texts in every language that is written in a text's script.
    """

    def __init__(self, languages: Iterable[str], corpus: Iterable[tuple[str, str]] = ()) -> None:
        self.languages = tuple(dict.fromkeys(languages))
        texts: dict[str, dict[str, None]] = {code: {} for code in self.languages}
        for code, text in corpus:
            if code in texts and len(texts[code]) < _MAX_CORPUS_TEXTS:
                texts[code][text] = None
        self._ngrams = {code: CharacterNgrams(several) for code, several in texts.items() if several}
        self._possible: dict[str, tuple[str, ...]] = {}

    def identify(self, text: str) -> str | None:
        """Return the code of the likeliest language.

        None for a text without letters, in a script of no candidate language, or with too little evidence. Evidence is
        too little if two languages are equally likely, or if the text's words are unlike any in the corpus of the
        likeliest language, as letters in a random order are.
        """
        text = _without_addresses(text)
        ranks = self.rank(text)
        if len(ranks) < 2:
            return next(iter(ranks), None)
        best = max(ranks, key=lambda code: ranks[code])
        if sum(nats == ranks[best] for nats in ranks.values()) > 1:
            return None
        if best in self._ngrams:
            words = find_words(text)
            if self._ngrams[best].nats(words) < _MIN_NATS_PER_LETTER * sum(len(word) + 1 for word in words):
                return None
        return best

    def rank(self, text: str, script: str | None = None) -> dict[str, float]:
        """Return how likely a text is in each language that is written in its script, in nats below the likeliest.

        Args:
            script: what `find_script` finds; None: not yet looked for.
        """
        possible = self._find_possible(text, find_script(text) if script is None else script)
        if len(possible) < 2:
            return dict.fromkeys(possible, 0.0)
        words = find_words(text)
        ranks = _rank_by_library(words, possible)
        if all(code in self._ngrams for code in possible):
            ranks = {code: ranks[code] + self._ngrams[code].nats(words) for code in possible}
        best = max(ranks.values(), default=0.0)
        return {code: nats - best for code, nats in ranks.items()}

    def _find_possible(self, text: str, script: str) -> tuple[str, ...]:
        """Return the candidate languages that are written in the script of a text."""
        if script in ("Hani", "Hant"):  # the text decides whether it can be Japanese
            return tuple(code for code in self.languages if _is_written_in(code, script, text))
        if script not in self._possible:
            self._possible[script] = tuple(code for code in self.languages if _is_written_in(code, script, text))
        return self._possible[script]


@cache
def are_close(one: str, other: str) -> bool:
    """Tell whether two languages are nearly the same in writing."""
    return one == other or any({one, other} <= family for family in _CLOSE)


@cache
def knows_language(code: str) -> bool:
    """Tell whether texts in a language can be told from texts in others."""
    if code == "mi" or _library_code(code) in _load_library().labels:
        return True
    scripts = set(_scripts(code)) - {""}
    return bool(scripts) and all(scripts.isdisjoint(_scripts(other)) for other in XM3600_LANGUAGES)


def judge_language(text: str, code: str) -> Judgement:
    """Judge whether a text is in the language `code`, among the languages of XM3600 and their neighbours.

    Little evidence makes a text unclear, never one in another language. Chinese is asked for in simplified characters.

    Args:
        code: a language that `knows_language` says yes to.
    """
    text = _without_addresses(text)
    script = find_script(text)
    if not script:
        return Judgement("unclear", "", "")
    ranks = _identifier_for(code).rank(text, script)
    if code not in ranks or (script == "Hant" and _scripts(code)[0] == "Hans"):
        return _judge_another_script(text, code, script)
    if len(ranks) == 1:
        return Judgement("asked", code, script)
    if not any(ranks.values()):
        return Judgement("unclear", "", script)
    ranks = {other: nats - _RARE_NATS * (other in _NEIGHBOURS and other != code) for other, nats in ranks.items()}
    best = max(ranks, key=lambda other: (ranks[other], other == code))
    if are_close(best, code):
        margin = ranks[best] - ranks[code]
        is_close = margin >= _MIN_MARGIN_NATS
        return Judgement("close" if is_close else "asked", best if is_close else code, script, margin)
    margin = ranks[best] - max(nats for other, nats in ranks.items() if are_close(other, code))
    if margin < _MIN_MARGIN_NATS or (code == "ja" and script != "Jpan"):  # a title in Japanese may have no kana
        return Judgement("unclear", "", script, margin)
    return Judgement("other", best, script, margin)


def _judge_another_script(text: str, code: str, script: str) -> Judgement:
    """Judge a text in a script that the language is not written in. Brands and single letters are no evidence."""
    counts = count_scripts(text)
    has_signs = not counts.keys().isdisjoint({"Hani", "Kana", "Hang"})
    if (script == "Latn" and counts["Latn"] <= _MAX_LATIN_LETTERS) or (sum(counts.values()) < 2 and not has_signs):
        return Judgement("unclear", "", script)
    return Judgement("other", _identifier_for(code).identify(text) or "", script, math.inf)


def find_foreign_part(text: str, code: str) -> str:
    """Return the language, or the script, of a part of a text that is clearly not in the language `code`; empty: none.

    Parts are runs of eight and of six words. A text that is in another language as a whole has such parts, too.
    """
    words = _RUN.findall(_without_addresses(text))
    parts = (
        " ".join(words[start : start + length])
        for length, step in _PARTS
        for start in range(0, max(len(words) - length, 0) + step, step)
    )
    for part in parts:
        if sum(map(str.isalpha, part)) < _MIN_LETTERS_OF_PART:
            continue
        found = judge_language(part, code)
        if found.verdict == "other":
            return found.language or found.script
    return ""


_MIN_TEXTS = 5
_MIN_LETTERS = 100
_MIN_LETTERS_OF_WORDS = 20
"""Letters of different words: the same words again are no evidence."""
_MIN_SHARE = 0.6
_MIN_LETTERS_OF_TEXT = 40
"""Letters of a single text that is refused for its language; half of them where it has letters with accents."""
_ENGLISH_WORDS = frozenset(["the", "and", "with", "that", "this", "from", "which", "their"])
"""Frequent words of English that are words of no other language here."""


def find_other_language(texts: Sequence[str], code: str) -> str | None:
    """Return the language that a sample of texts is in, if that is clearly another one than `code`.

    None for few or short texts, for languages that the identifier does not know, and for one that is nearly the same.
    """
    texts = [text for text in texts if any(character.isalpha() for character in text)]
    words = [word for text in texts for word in find_words(text)]
    num_letters, num_letters_of_words = sum(map(len, words)), sum(map(len, set(words)))
    if len(texts) < _MIN_TEXTS or num_letters < _MIN_LETTERS or num_letters_of_words < _MIN_LETTERS_OF_WORDS:
        return None
    if code == SOURCE_LANGUAGE and _have_english_words(texts):
        return None
    whole = judge_language(" ".join(texts), code)
    if whole.verdict != "other" or not whole.language or not knows_language(code):
        return None
    share = sum(judge_language(text, code).language == whole.language for text in texts) / len(texts)
    return whole.language if share >= _MIN_SHARE else None


def are_surely_english(texts: Sequence[str]) -> bool:
    """Tell whether words that only English has are as frequent in the first hundred texts as in English.

    False if the texts have fewer than 50 words.
    """
    words = " ".join(texts[:100]).lower().split()
    return len(words) >= 50 and sum(word in _ENGLISH_WORDS for word in words) >= 0.03 * len(words)


def _have_english_words(texts: Sequence[str]) -> bool:
    """Tell whether most texts have a word that only English has: then they are not in another language. False decides
    nothing: then the library, whose model takes 0.6 s to load, has to identify the language."""
    return sum(not _ENGLISH_WORDS.isdisjoint(text.lower().split()) for text in texts) > (1 - _MIN_SHARE) * len(texts)


def is_in_another_language(text: str, code: str) -> bool:
    """Tell whether a single text is surely in another language than `code`: as a whole, and every other word of it.

    Never for a short text, and for languages that the identifier does not know.
    """
    num_letters = sum(map(str.isalpha, text))
    if num_letters < (_MIN_LETTERS_OF_TEXT if text.isascii() else _MIN_LETTERS_OF_TEXT // 2):
        return False
    words = text.split()
    found: str | None = None
    for some in (words[::2], words[1::2], words):  # a half takes half of the time, and shows most texts to be fine
        judged = judge_language(" ".join(some), code)
        if judged.verdict != "other" or found not in (None, judged.language):
            return False
        found = judged.language
    return knows_language(code)


def _without_addresses(text: str) -> str:
    return _ADDRESS.sub(" ", text) if "@" in text or "://" in text or "www." in text else text


@cache
def _identifier_for(code: str) -> LanguageIdentifier:
    close = sorted(other for family in _CLOSE if code in family for other in family)
    return LanguageIdentifier((*XM3600_LANGUAGES, *_NEIGHBOURS, code, *close))


@cache
def _scripts(code: str) -> tuple[str, ...]:
    """Return the ISO 15924 codes of the scripts that a language is written in, the usual one first."""
    usual = LANGUAGES[code].script if code in LANGUAGES else Tag.get(code).maximize().script or ""
    return (usual, *_MORE_SCRIPTS.get(code, ()))


def _is_written_in(code: str, script: str, text: str) -> bool:
    if script in ("Hani", "Hans", "Hant"):
        if code == "ja":
            return script != "Hans" and not is_in_another_script(text, code)
        return any(own in ("Hans", "Hant") for own in _scripts(code))
    return script in _scripts(code)


_NOTHING_FOUND = -1e30
"""py3langid's log-likelihoods of a text without a single n-gram that it knows are below this."""


def _rank_by_library(words: Sequence[str], languages: tuple[str, ...]) -> dict[str, float]:
    """Return language -> log-likelihood of the different words by py3langid, up to a constant.

    One that it does not know has that of the best.
    """
    limited, names, unknown = _limit_library(languages)
    found = {} if limited is None else dict(limited.rank(f" {' '.join(dict.fromkeys(words))} "))
    nats = {code: found[name] for code, name in names.items()}
    best = max(nats.values(), default=0.0)
    if best < _NOTHING_FOUND:
        nats, best = dict.fromkeys(nats, 0.0), 0.0
    nats |= dict.fromkeys(unknown, best)
    if "mi" in nats:
        nats["mi"] = best + _maori_nats(words)
    return nats


def _library_code(code: str) -> str:
    return LANGUAGES[code].library_code if code in LANGUAGES else code


@cache
def _load_library() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = import_module("py3langid.langid")
    return library.LanguageIdentifier.from_model_file(library.MODEL_FILE)


@cache
def _limit_library(languages: tuple[str, ...]) -> tuple[Any, Mapping[str, str], Sequence[str]]:
    """Limit the library's identifier to some languages.

    Returns:
        The identifier, None if the library knows none of the languages; code -> the library's name for those that it
        knows; the others.
    """
    known = set(_load_library().labels)
    names = {code: name for code in languages if (name := _library_code(code)) in known}
    if not names:
        return None, {}, languages
    limited = copy(_load_library())
    limited.set_languages(names.values())
    return limited, names, [code for code in languages if code not in names]


_MAORI_WORD = re.compile("(?:(?:ng|wh|[hkmnprtw])?[aeiou\u0101\u0113\u012b\u014d\u016b])+")
"""Open syllables of ten consonants and five vowels, short or long."""
_MAORI_PARTICLES = frozenset(
    ["te", "nga", "ngā", "ki", "kei", "ka", "ko", "kua", "tana", "tona", "tōna", "nō", "mō", "he"]
)
_LONG_VOWEL = re.compile("[\u0101\u0113\u012b\u014d\u016b]")


def _maori_nats(words: Sequence[str]) -> float:
    """Return roughly the log-likelihood ratio of Maori to the likeliest other language.

    Words of Maori's syllables are three to four times as frequent in Maori, others are twenty times rarer, and few
    other languages have its particles and long vowels.
    """
    nats = -3.0
    for word in set(" ".join(words).replace("-", " ").split()):
        if _MAORI_WORD.fullmatch(word):
            nats += 1.25 + 2.5 * (word in _MAORI_PARTICLES) + 3.0 * (_LONG_VOWEL.search(word) is not None)
        elif len(word) > 1:
            nats -= 3.0
    return nats
