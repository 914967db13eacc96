"""Which language a text is in, told by the words of a corpus whose languages are known."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import log

from polyglance.languages import language

__all__ = ["LanguageIdentifier", "words"]


def words(text: str, code: str) -> list[str]:
    """A text's words, lower-cased, as the language tells them apart: by spaces, or each character for itself."""
    lowered = text.lower()
    if language(code).words == "characters":
        return [character for character in lowered if not character.isspace()]
    return [word.strip(".,;:!?()«»\"'") for word in lowered.split()]


class LanguageIdentifier:
    """Naive Bayes over words, for the few languages of a study.

    A closed set of languages and a corpus in each of them make this more reliable than a general tool, which knows a
    hundred languages and guesses among them on four words.
    """

    def __init__(self, counts: Mapping[str, Counter[str]]) -> None:
        self._counts = counts
        self._totals = {code: sum(counter.values()) for code, counter in counts.items()}
        self._num_words = len(set().union(*counts.values()))

    @classmethod
    def fit(cls, texts: Iterable[tuple[str, str]]) -> "LanguageIdentifier":
        """Learn from pairs of language code and text."""
        counts: dict[str, Counter[str]] = {}
        for code, text in texts:
            counts.setdefault(code, Counter()).update(words(text, code))
        return cls(counts)

    def identify(self, text: str) -> str | None:
        """Code of the most likely language; None for a text without a single known word."""
        scores = {}
        for code, counter in self._counts.items():
            found = words(text, code)
            if any(word in counter for word in found):
                total = self._totals[code] + self._num_words
                # Per character, so that languages written without spaces are not scored on more words than others.
                scores[code] = sum(log((counter[word] + 1) / total) for word in found) / max(len(found), 1)
        return max(scores, key=lambda code: scores[code], default=None)
