"""Translation of captions with the image's description as context, and checks of what comes out.

A translator that reads the description beside the caption picks the right sense of ambiguous words (paper section 2,
table 1). What it writes is then one text in which the caption's translation has to be found again, and translators that
read several sentences drop, merge and repeat some. `published` is the procedure of the fine-tuning mix (official code
section 2.6); `checked` accepts a translation only when nothing of that kind is seen in it, and tries again where it is.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from polyglance.data.sentences import join_sentences, sentences
from polyglance.engines.protocol import Failure, Translator
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.languages import language as language_of

__all__ = ["Translated", "TranslationConfig", "flaw", "translate"]

_LENGTH_RATIOS = {"en": 1.0, "de": 1.15, "fr": 1.15, "es": 1.12, "ru": 1.0, "zh": 0.31, "ja": 0.5, "ko": 0.55}
"""Characters of a translation per character of its English text, as people translate captions and names of things
(measured on Multi30K, CoMMuTE and CLDR; Japanese and Korean are estimates, other languages count as English)."""
_LENGTH_SLACK_CHARACTERS = 12
"""Added to both lengths, in English characters, so that short texts are free to differ."""
_MAX_PERIOD_WORDS = 30
"""Longest piece that is looked for repeated."""
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
_END_MARKS = tuple(".!?…。！？")
_CLOSING = "\"'”’»)]」』）"
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
_TOKEN = re.compile(r"[A-Za-zÀ-ɏЀ-ӿ]+|\d+|[^\W\d_]")  # words; other signs, such as Chinese, one by one
_MAX_NAMES = 3
"""A text of more words that are all names of the source was not translated."""
_SIGN_LOOP = re.compile(r"([^\s\d]{1,12}?)\1{5,}")


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """How texts are translated, and what a translation has to be like.

    Raises:
        ValueError: a limit out of range, or a separator without a sign in it.
    """

    mode: Literal["checked", "published", "none"] = "checked"
    """`checked`: with context, then a second candidate, then without, each only where the one before has a flaw;
    `published`: with context, and without where nothing was cut off; `none`: without context, but checked."""
    separator: str = " ### "
    """Between a text and its context, which follows in brackets."""
    max_context_words: int = 64
    """Words of the context that are given (no gain beyond 64 to 128 in the paper's table 1)."""
    length_tolerance: float = 2.0
    """How many times longer or shorter than usual for the language a translation may be."""
    max_other_script: float = 0.2
    """Share of letters that may be of another script than the language's, names of the source left aside."""
    max_copied_words: int = 2
    """Words in a row that may stand in the English text or context just so; names and numbers do not count."""
    max_repeats: int = 2
    """How often in a row the same words may stand, unless they do in the source."""

    def __post_init__(self) -> None:
        if not self.separator.strip():
            raise ValueError("separator must hold a sign that can be found again, such as ' ### '")
        if self.length_tolerance <= 1:
            raise ValueError(f"length_tolerance is {self.length_tolerance}; expected more than 1")
        if not 0 <= self.max_other_script < 1:
            raise ValueError(f"max_other_script is {self.max_other_script}; expected a share below 1")
        if min(self.max_context_words, self.max_copied_words, self.max_repeats) < 1:
            raise ValueError("max_context_words, max_copied_words and max_repeats must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Translated:
    """What became of one text."""

    text: str | None
    """The translation; None where no candidate was good enough."""
    used_context: bool
    """Whether the translator read the context for it."""
    rejected: tuple[str, ...] = ()
    """What was wrong with the candidates before it, in order: `with context: fewer sentences`."""


@dataclass(kw_only=True, slots=True)
class _Job:
    """A text on its way through the passes."""

    source: str
    prompt: str
    """What the translator is given first: the source, with its context where there is one."""
    context: str
    """What the translator reads beside it; emptied when it is tried alone."""
    text: str | None = None
    used_context: bool = False
    failed: Failure | None = None
    """Set while the last candidate is one that the engine could not make."""
    rejected: list[str] = field(default_factory=list)

    def result(self) -> Translated | Failure:
        if self.text is None and self.failed is not None:
            return self.failed
        return Translated(text=self.text, used_context=self.used_context, rejected=tuple(self.rejected))


def translate(
    translator: Translator,
    sources: Sequence[str],
    contexts: Sequence[str],
    *,
    language: str,
    config: TranslationConfig,
) -> list[Translated | Failure]:
    """English texts in another language, in at most three calls of the translator for all of them.

    Args:
        contexts: for each text the description of its image, or "" where there is none.

    Returns:
        For each text its translation, or what was wrong with every candidate, or that the engine failed in the end.

    Raises:
        ValueError: an unknown language.
    """
    language_of(language)
    jobs = [_job(source, context, config) for source, context in zip(sources, contexts, strict=True)]
    if config.mode == "published":
        _publish(translator, jobs, language)
    else:
        _check(translator, jobs, language, config)
    return [job.result() for job in jobs]


def flaw(candidate: str, source: str, *, language: str, context: str = "", config: TranslationConfig) -> str | None:
    """What is wrong with a translation, as far as it shows without knowing the language; None: nothing.

    Args:
        candidate: the translation of `source` alone.
        context: English text that the translator was given as well.
    """
    if not candidate.strip():
        return "empty"
    if _other_script(candidate, source, language) > config.max_other_script:
        return "wrong script"
    if _loops(candidate, config.max_repeats) and not _loops(source, config.max_repeats):
        return "repetition"
    if language != SOURCE_LANGUAGE and _copies(candidate, source, context, config.max_copied_words):
        return "English words copied"
    if context and any(candidate.count(sign) > source.count(sign) for sign in "(#"):
        return "context copied"
    num_more = len(sentences(candidate, language)) - len(sentences(source, SOURCE_LANGUAGE))
    if num_more:
        return "more sentences" if num_more > 0 else "fewer sentences"
    as_english = len(candidate) / _LENGTH_RATIOS.get(language, 1.0)
    ratio = (as_english + _LENGTH_SLACK_CHARACTERS) / (len(source) + _LENGTH_SLACK_CHARACTERS)
    if not 1 / config.length_tolerance <= ratio <= config.length_tolerance:
        return "too long" if ratio > 1 else "too short"
    return None


def _job(source: str, context: str, config: TranslationConfig) -> _Job:
    """A text that has the separator's sign in it goes without context: its translation could not be found again."""
    source, sign = " ".join(source.split()), config.separator.strip()
    words = context.replace(sign, " ").split()[: config.max_context_words]
    context = " ".join(words) if config.mode != "none" and sign not in source else ""
    prompt = f"{source}{config.separator}({context})" if context else source
    return _Job(source=source, prompt=prompt, context=context)


def _publish(translator: Translator, jobs: Sequence[_Job], language: str) -> None:
    """What stands before the first bracket or number sign; the bare text where that is all of it, or nothing."""
    alone = []
    for job, answer in zip(jobs, _ask(translator.translate, [job.prompt for job in jobs], language), strict=True):
        if not job.context:
            _settle(job, answer, language)
            continue
        kept = answer if isinstance(answer, Failure) else answer.split("(")[0].split("#")[0].strip()
        if isinstance(kept, str) and kept not in ("", answer):
            _settle(job, kept, language)
        else:
            _reject(job, answer if isinstance(answer, Failure) else "nothing was cut off")
            alone.append(job)
    for job, answer in zip(alone, _ask(translator.translate, [job.source for job in alone], language), strict=True):
        job.context = ""
        _settle(job, answer, language)


def _check(translator: Translator, jobs: Sequence[_Job], language: str, config: TranslationConfig) -> None:
    """The first candidate without a flaw: of the best, the second best, and sentence by sentence without context."""
    left = list(jobs)
    for call in (translator.translate, translator.alternatives):
        for job, answer in zip(left, _ask(call, [job.prompt for job in left], language), strict=True):
            _consider(job, answer, language, config)
        left = [job for job in left if job.text is None]
    left = [job for job in left if job.context or len(sentences(job.source, SOURCE_LANGUAGE)) > 1]
    parts = [sentences(job.source, SOURCE_LANGUAGE) for job in left]
    answers = iter(_ask(translator.translate, [part for own in parts for part in own], language))
    for job, own in zip(left, parts, strict=True):
        job.context = ""
        _consider(job, _joined(own, list(islice(answers, len(own))), language), language, config)


def _ask(call: Callable[..., list[str | Failure]], texts: list[str], language: str) -> list[str | Failure]:
    answers = call(texts, language=language) if texts else []
    return [answer if isinstance(answer, Failure) else answer.strip() for answer in answers]


def _consider(job: _Job, answer: str | Failure, language: str, config: TranslationConfig) -> None:
    """Take an answer, or note what is wrong with it."""
    if isinstance(answer, Failure):
        _reject(job, answer)
        return
    candidate = answer
    if job.context:
        candidate, *rest = (piece.strip() for piece in answer.split(config.separator.strip()))
        if len(rest) != 1:
            _reject(job, "separator repeated" if rest else "separator lost")
            return
    wrong = flaw(candidate, job.source, language=language, context=job.context, config=config)
    if wrong is None:
        _settle(job, candidate, language)
    else:
        _reject(job, wrong)


def _settle(job: _Job, answer: str | Failure, language: str) -> None:
    if isinstance(answer, Failure):
        _reject(job, answer)
    else:
        job.text, job.used_context = _ended(answer, language), bool(job.context)


def _reject(job: _Job, reason: str | Failure) -> None:
    job.failed = reason if isinstance(reason, Failure) else None
    words = reason.reason if isinstance(reason, Failure) else reason
    job.rejected.append(f"{'with context' if job.context else 'alone'}: {words}")


def _joined(parts: Sequence[str], answers: Sequence[str | Failure], language: str) -> str | Failure:
    """Translations of single sentences as one text."""
    made = [answer for answer in answers if isinstance(answer, str)]
    for answer in answers:
        if isinstance(answer, Failure):
            return answer
    if len(parts) == 1 or not all(made):  # an empty one is found by the checks
        return join_sentences(made, language)
    return join_sentences([_ended(text, language) for text in made], language)


def _ended(text: str, language: str) -> str:
    """With a full stop, in Chinese its own, where there is no end mark."""
    bare = text.rstrip(_CLOSING)
    if language == "zh" and bare.endswith("."):
        return f"{bare[:-1]}。{text[len(bare) :]}"
    return text if bare.endswith(_END_MARKS) else text + ("。" if language == "zh" else ".")


def _other_script(candidate: str, source: str, language: str) -> float:
    """Share of a text's letters that are of another script than the language's; names of the source left aside."""
    scripts = _SCRIPTS[language_of(language).script]
    text = candidate
    for name in {word for word in _WORD.findall(source) if not word.islower()}:
        text = re.sub(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", " ", text)
    letters = [sign for sign in text if sign.isalpha()]
    if not letters:  # nothing but names and numbers
        return float(len(_WORD.findall(candidate)) > _MAX_NAMES)
    return sum(unicodedata.name(sign, "").split(" ")[0] not in scripts for sign in letters) / len(letters)


def _loops(text: str, max_repeats: int) -> bool:
    """Whether words or signs stand more than `max_repeats` times in a row; of long pieces the last may be cut short."""
    if _SIGN_LOOP.search(text):
        return True
    tokens = _TOKEN.findall(text.lower())
    for period in range(1, min(_MAX_PERIOD_WORDS, len(tokens) // max_repeats) + 1):
        alike, needed = 0, period * max_repeats - (period > 2)
        for one, other in zip(tokens, tokens[period:], strict=False):
            alike = alike + 1 if one == other else 0
            if alike >= needed:
                return True
    return False


def _copies(candidate: str, source: str, context: str, max_copied_words: int) -> bool:
    """Whether a run of English words, names and numbers not counted, stands in a translation as in what was read."""
    read = [_WORD.findall(sentence) for text in (source, context) for sentence in sentences(text, SOURCE_LANGUAGE)]
    names = {word.lower() for words in read for number, word in enumerate(words) if not word.islower() and number}
    plain = [[word.lower() for word in words if word.lower() not in names] for words in read]
    written = [word for word in _WORD.findall(candidate.lower()) if word not in names]
    size = min(max_copied_words + 1, max(2, len(plain[0]) if plain else 0))
    runs = {tuple(words[i : i + size]) for words in plain for i in range(len(words) - size + 1)}
    return any(tuple(written[i : i + size]) in runs for i in range(len(written) - size + 1))
