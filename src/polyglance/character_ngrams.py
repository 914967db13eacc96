"""Character n-grams of the words of a few thousand texts: how likely a word is in their language.

    model = CharacterNgrams(["ein roter Kreis", "ein blauer Stern"])
    model.nats(["roter"])                    # near 0 for words like those of the texts, far below for others

Counts of all orders are interpolated (Witten and Bell 1991): the probability of an unseen n-gram comes from its shorter
contexts, and a letter that was never seen has the same probability in every model.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cached_property

__all__ = ["CharacterNgrams", "find_words"]

_ORDER = 5
_NUM_CHARACTERS = 3000
"""Size of the alphabet that an unseen letter is assumed to come from."""
_START, _END = "\x02", "\x03"
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f\u0900-\u0eff\u200c]|['\u2019-](?=[^\W\d_]))*")
"""Letters, with the vowel signs of Indic scripts and Thai, and apostrophes and hyphens between letters."""


def find_words(text: str) -> list[str]:
    """Find the words of a text, in lower case and in NFKC. A run of letters without spaces is one word."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class CharacterNgrams:
    """Counts of character n-grams in the words of texts in one language."""

    def __init__(self, texts: Iterable[str]) -> None:
        words: Counter[str] = Counter()
        for text in texts:
            words.update(find_words(text))
        self._counts: Counter[str] = Counter()
        for word, number in words.items():
            marked = f"{_START}{word}{_END}"
            for end in range(2, len(marked) + 1):
                for start in range(max(0, end - _ORDER), end):
                    self._counts[marked[start:end]] += number
        self._nats: dict[str, float] = {}

    def nats(self, words: Iterable[str]) -> float:
        """Return the log-likelihood of words, including their ends."""
        return sum(self._word_nats(word) for word in words)

    def _word_nats(self, word: str) -> float:
        if word not in self._nats:
            marked = f"{_START}{word}{_END}"
            total = 0.0
            for place in range(1, len(marked)):
                share = 1 / _NUM_CHARACTERS
                for start in range(place, max(-1, place - _ORDER), -1):
                    context = marked[start:place]
                    if context not in self._contexts:
                        break
                    share = self._share(marked[place], context, share)
                total += math.log(share)
            self._nats[word] = total
        return self._nats[word]

    def _share(self, letter: str, context: str, shorter: float) -> float:
        """Return the probability of a letter after a context, from the probability after the context without its first
        letter."""
        if context not in self._contexts:
            return shorter
        number, kinds = self._contexts[context]
        return (self._counts[context + letter] + kinds * shorter) / (number + kinds)

    @cached_property
    def _contexts(self) -> dict[str, tuple[int, int]]:
        """Context -> number of letters after it, and how many of them differ."""
        numbers: Counter[str] = Counter()
        kinds: Counter[str] = Counter()
        for ngram, number in self._counts.items():
            numbers[ngram[:-1]] += number
            kinds[ngram[:-1]] += 1
        return {context: (number, kinds[context]) for context, number in numbers.items()}
