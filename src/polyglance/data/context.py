"""Translation of captions with the image's description as context, and checks of the translations.

A translator that reads the description beside the caption picks the right sense of ambiguous words (paper section 2,
table 1). The caption's translation then has to be cut out of its output, and translators drop, merge and repeat
sentences when they read several. `published` is the procedure of the fine-tuning mix (official code section 2.6);
`checked` accepts a translation only without such flaws, and tries again otherwise.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import Literal

from polyglance.data.answers import clean_answer, drop_reasoning, find_answer_flaw, has_loop
from polyglance.data.sentences import add_end_mark, join_sentences, marks_sentences, split_sentences
from polyglance.engines.protocol import Failure, Translator
from polyglance.languages import SOURCE_LANGUAGE, get_language

__all__ = ["Translated", "TranslationConfig", "find_translation_flaw", "translate_with_context"]

_LENGTH_RATIOS = {"en": 1.0, "de": 1.15, "fr": 1.15, "es": 1.12, "ru": 1.0, "zh": 0.31, "ja": 0.5, "ko": 0.55}
"""Characters of a human translation per character of its English text, for captions and names of things (measured on
Multi30K, CoMMuTE and CLDR; Japanese and Korean are estimates, other languages count as English)."""
_LENGTH_SLACK_CHARACTERS = 12
"""Added to both lengths, in English characters, so that short texts may differ more."""
_SCRIPTS = {
    "Latn": ("LATIN",),
    "Cyrl": ("CYRILLIC",),
    "Hans": ("CJK",),
    "Jpan": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "Hang": ("HANGUL",),
    "Arab": ("ARABIC",),
    "Beng": ("BENGALI",),
    "Deva": ("DEVANAGARI",),
    "Grek": ("GREEK",),
    "Hebr": ("HEBREW",),
    "Telu": ("TELUGU",),
    "Thai": ("THAI",),
}
"""ISO 15924 code -> first word of its letters' Unicode names."""
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
_MAX_NAMES = 3
"""Largest number of words of a translation that consists only of names of the source; a longer one is refused."""


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """Translation of texts with context, and limits of what is accepted.

    Raises:
        ValueError: a limit out of range, or a separator of spaces only.
    """

    mode: Literal["checked", "published", "none"] = "checked"
    """`checked`: with context, then a second candidate, then without context; each only if the one before has a flaw.
    `published`: with context, and without it if nothing could be cut off. `none`: without context, but checked."""
    separator: str = " ### "
    """Text between a caption and its context, which follows in brackets."""
    max_context_words: int = 64
    """Words of the context that the translator reads (no gain beyond 64 to 128 in the paper's table 1)."""
    length_tolerance: float = 2.0
    """Factor by which a translation may be longer or shorter than is usual for the language."""
    max_other_script: float = 0.2
    """Share of a translation's letters that may belong to another script; names of the source do not count."""
    max_copied_words: int = 2
    """Words in a row that may be copied from the English text or context; names and numbers do not count."""
    max_repeats: int = 2
    """Number of times in a row that the same words may appear, unless they also do in the source."""

    def __post_init__(self) -> None:
        if not self.separator.strip():
            raise ValueError("separator must contain a character other than a space, such as ' ### '")
        if self.length_tolerance <= 1:
            raise ValueError(f"length_tolerance is {self.length_tolerance}; expected more than 1")
        if not 0 <= self.max_other_script < 1:
            raise ValueError(f"max_other_script is {self.max_other_script}; expected a share below 1")
        if min(self.max_context_words, self.max_copied_words, self.max_repeats) < 1:
            raise ValueError("max_context_words, max_copied_words and max_repeats must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Translated:
    """Outcome for one text."""

    text: str | None
    """The translation; None if no candidate was good enough."""
    used_context: bool
    """Whether the translator read the context for it."""
    rejected: tuple[str, ...] = ()
    """Flaws of the rejected candidates, in order: `with context: fewer sentences`."""


@dataclass(kw_only=True, slots=True)
class _Job:
    """State of one text between the calls of the translator."""

    source: str
    prompt: str
    """First input of the translator: the source, with its context if it has one."""
    context: str
    """Text that the translator reads with the source; empty once the source is tried alone."""
    text: str | None = None
    used_context: bool = False
    failed: Failure | None = None
    """Set while the last candidate is a failure of the engine."""
    rejected: list[str] = field(default_factory=list)

    def result(self) -> Translated | Failure:
        if self.text is None and self.failed is not None:
            return self.failed
        return Translated(text=self.text, used_context=self.used_context, rejected=tuple(self.rejected))


def translate_with_context(
    translator: Translator,
    sources: Sequence[str],
    contexts: Sequence[str],
    *,
    language: str,
    config: TranslationConfig,
) -> list[Translated | Failure]:
    """Translate English texts into another language, in at most three calls of the translator for all of them.

    Args:
        contexts: for each text the description of its image, or "" if it has none.

    Returns:
        For each text its translation, or the flaws of every candidate, or the engine's failure at the last try.

    Raises:
        ValueError: an unknown language.
    """
    get_language(language)
    jobs = [_prepare(source, context, config) for source, context in zip(sources, contexts, strict=True)]
    if config.mode == "published":
        _translate_as_published(translator, jobs, language)
    else:
        _translate_checked(translator, jobs, language, config)
    return [job.result() for job in jobs]


def find_translation_flaw(
    candidate: str, source: str, *, language: str, context: str = "", config: TranslationConfig
) -> str | None:
    """Find a flaw of a translation that can be seen without knowing the language; None: no such flaw.

    Args:
        candidate: the translation of `source` alone.
        context: English text that the translator read beside it.
    """
    if not candidate.strip():
        return "empty"
    sentences = split_sentences(source, SOURCE_LANGUAGE)
    words = [_WORD.findall(sentence) for sentence in sentences]
    if _share_of_other_scripts(candidate, chain.from_iterable(words), language) > config.max_other_script:
        return "wrong script"
    if has_loop(candidate, config.max_repeats) and not has_loop(source, config.max_repeats):
        return "repetition"
    if context:
        words += [_WORD.findall(sentence) for sentence in split_sentences(context, SOURCE_LANGUAGE)]
    if language != SOURCE_LANGUAGE and _has_copied_words(candidate, words, config.max_copied_words):
        return "English words copied"
    if flaw := find_answer_flaw(candidate, language, source=source, max_repeats=None):
        return flaw
    if context and any(candidate.count(sign) > source.count(sign) for sign in "(#"):
        return "context copied"
    num_more = len(split_sentences(candidate, language)) - len(sentences)
    if num_more and marks_sentences(language):
        return "more sentences" if num_more > 0 else "fewer sentences"
    as_english = len(candidate) / _LENGTH_RATIOS.get(language, 1.0)
    ratio = (as_english + _LENGTH_SLACK_CHARACTERS) / (len(source) + _LENGTH_SLACK_CHARACTERS)
    if not 1 / config.length_tolerance <= ratio <= config.length_tolerance:
        return "too long" if ratio > 1 else "too short"
    return None


def _prepare(source: str, context: str, config: TranslationConfig) -> _Job:
    """Prepare a text. One that contains the separator gets no context: its translation could not be cut out."""
    source, sign = " ".join(source.split()), config.separator.strip()
    words = context.replace(sign, " ").split()[: config.max_context_words]
    context = " ".join(words) if config.mode != "none" and sign not in source else ""
    prompt = f"{source}{config.separator}({context})" if context else source
    return _Job(source=source, prompt=prompt, context=context)


def _translate_as_published(translator: Translator, jobs: Sequence[_Job], language: str) -> None:
    """Take the answer up to the first bracket or number sign. If this is all or nothing, translate without context."""
    alone = []
    for job, answer in zip(jobs, _ask(translator.translate, [job.prompt for job in jobs], language), strict=True):
        if not job.context:
            _accept(job, answer, language)
            continue
        kept = answer if isinstance(answer, Failure) else answer.split("(")[0].split("#")[0].strip()
        if isinstance(kept, str) and kept not in ("", answer):
            _accept(job, kept, language)
        else:
            _reject(job, answer if isinstance(answer, Failure) else "nothing was cut off")
            alone.append(job)
    for job, answer in zip(alone, _ask(translator.translate, [job.source for job in alone], language), strict=True):
        job.context = ""
        _accept(job, answer, language)


def _translate_checked(translator: Translator, jobs: Sequence[_Job], language: str, config: TranslationConfig) -> None:
    """Take the first candidate without a flaw: the best, the second best, or sentence by sentence without context."""
    left = list(jobs)
    for call in (translator.translate, translator.alternatives):
        for job, answer in zip(left, _ask(call, [job.prompt for job in left], language), strict=True):
            _consider(job, answer, language, config)
        left = [job for job in left if job.text is None]
    left = [job for job in left if job.context or len(split_sentences(job.source, SOURCE_LANGUAGE)) > 1]
    sentences = [split_sentences(job.source, SOURCE_LANGUAGE) for job in left]
    answers = iter(_ask(translator.translate, list(chain.from_iterable(sentences)), language))
    for job, of_job in zip(left, sentences, strict=True):
        job.context = ""
        _consider(job, _join_answers(list(islice(answers, len(of_job))), language), language, config)


def _ask(call: Callable[..., list[str | Failure]], texts: list[str], language: str) -> list[str | Failure]:
    answers = call(texts, language=language) if texts else []
    return [answer if isinstance(answer, Failure) else drop_reasoning(answer) for answer in answers]


def _consider(job: _Job, answer: str | Failure, language: str, config: TranslationConfig) -> None:
    """Accept an answer, or note its flaw."""
    if isinstance(answer, Failure):
        _reject(job, answer)
        return
    candidate = answer
    if job.context:
        candidate, *rest = (piece.strip() for piece in answer.split(config.separator.strip()))
        if len(rest) != 1:
            _reject(job, "separator repeated" if rest else "separator lost")
            return
    candidate = clean_answer(candidate, job.source)
    flaw = find_translation_flaw(candidate, job.source, language=language, context=job.context, config=config)
    if flaw is None:
        _accept(job, candidate, language)
    else:
        _reject(job, flaw)


def _accept(job: _Job, answer: str | Failure, language: str) -> None:
    if isinstance(answer, Failure):
        _reject(job, answer)
    else:
        job.text, job.used_context = add_end_mark(answer, language), bool(job.context)


def _reject(job: _Job, reason: str | Failure) -> None:
    job.failed = reason if isinstance(reason, Failure) else None
    words = reason.reason if isinstance(reason, Failure) else reason
    job.rejected.append(f"{'with context' if job.context else 'alone'}: {words}")


def _join_answers(answers: Sequence[str | Failure], language: str) -> str | Failure:
    """Join the translations of single sentences to one text; a failure of one is a failure of all."""
    texts: list[str] = []
    for answer in answers:
        if isinstance(answer, Failure):
            return answer
        texts.append(answer)
    if len(texts) == 1 or not all(texts):  # the checks reject an empty one
        return join_sentences(texts, language)
    return join_sentences([add_end_mark(text, language) for text in texts], language)


def _share_of_other_scripts(candidate: str, words: Iterable[str], language: str) -> float:
    """Return the share of a text's letters that belong to another script than the language's.

    Names do not count; they are found among the `words` of the source.
    """
    scripts = _SCRIPTS[get_language(language).script]
    text = candidate
    for name in {word for word in words if not word.islower()}:
        if name in text:
            text = re.sub(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", " ", text)
    letters = {sign: number for sign, number in Counter(text).items() if sign.isalpha()}
    if not letters:  # nothing but names and numbers
        return float(len(_WORD.findall(candidate)) > _MAX_NAMES)
    num_other = sum(number for sign, number in letters.items() if _first_word_of_name(sign) not in scripts)
    return num_other / sum(letters.values())


@lru_cache(maxsize=2**16)
def _first_word_of_name(sign: str) -> str:
    """Return the first word of a character's Unicode name, which for a letter is its script."""
    return unicodedata.name(sign, "").split(" ")[0]


def _has_copied_words(candidate: str, read: Sequence[Sequence[str]], max_copied_words: int) -> bool:
    """Tell whether a translation contains a run of English words of the texts `read`, besides names and numbers."""
    written = _WORD.findall(candidate.lower())
    if {word.lower() for words in read for word in words}.isdisjoint(written):
        return False
    names = {word.lower() for words in read for word in words[1:] if not word.islower()}
    plain = [[word for word in map(str.lower, words) if word not in names] for words in read]
    written = [word for word in written if word not in names]
    size = min(max_copied_words + 1, max(2, len(plain[0]) if plain else 0))
    runs = {tuple(words[i : i + size]) for words in plain for i in range(len(words) - size + 1)}
    return any(tuple(written[i : i + size]) in runs for i in range(len(written) - size + 1))
