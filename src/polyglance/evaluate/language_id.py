"""Identification of a text's language from the words of a corpus whose languages are known."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import log

from polyglance.languages import language

__all__ = ["LanguageIdentifier", "split_words"]


def split_words(text: str, code: str) -> list[str]:
    """Split a text into lower-cased words: at spaces, or into single characters, as the language is written."""
    lowered = text.lower()
    if language(code).words == "characters":
        return [character for character in lowered if not character.isspace()]
    return [word.strip(".,;:!?()«»\"'") for word in lowered.split()]


class LanguageIdentifier:
    """Naive Bayes over words, for the few languages of a study.

    With a closed set of languages and a corpus in each of them this is more reliable than a general tool, which has
    to choose among a hundred languages by four words.
    """

    def __init__(self, counts: Mapping[str, Counter[str]]) -> None:
        self._counts = counts
        self._totals = {code: sum(counter.values()) for code, counter in counts.items()}
        self._num_words = len(set().union(*counts.values()))

    @classmethod
    def fit(cls, texts: Iterable[tuple[str, str]]) -> "LanguageIdentifier":
        """Count the words of pairs of language code and text."""
        counts: dict[str, Counter[str]] = {}
        for code, text in texts:
            counts.setdefault(code, Counter()).update(split_words(text, code))
        return cls(counts)

    def identify(self, text: str) -> str | None:
        """Return the code of the most likely language; None for a text without a single known word."""
        scores = {}
        for code, counter in self._counts.items():
            words = split_words(text, code)
            if any(word in counter for word in words):
                total = self._totals[code] + self._num_words
                # Mean per word: a language without spaces splits into more words, and must not lose by that.
                scores[code] = sum(log((counter[word] + 1) / total) for word in words) / max(len(words), 1)
        return max(scores, key=lambda code: scores[code], default=None)
