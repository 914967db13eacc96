"""Marks that are often no part of a text but of the file or answer that it comes from: quotation marks around all of
it, Markdown, the number of a list, words of a chat. They are right in some texts, so they are counted, not removed.

    counter = MarkCounter()
    counter.add("en", '"a dog"')
    counter.describe()      # ["en: 1 of 1 texts have quotation marks around the whole text, such as '\"a dog\"'"]
"""

import re
from collections import Counter

__all__ = ["CHAT", "MARKDOWN", "NUMBERED", "WRAPPED", "MarkCounter"]

WRAPPED = re.compile(
    r"^\s*(?:\"[^\"\n]*\"|'[^\n]*'|“[^\n]*”|„[^\n]*[“”]|«[^\n]*»|「[^\n]*」|`[^\n]*`)\s*$", re.MULTILINE
)
CHAT = re.compile(
    r"^\s*(?:sure\b[,!.]|certainly[,!.]|of course[,!.]|absolutely[,!.]|okay[,!.]"
    r"|here(?: is|'s|’s) (?:a|the|your)\b|as an ai\b"
    r"|i(?:'m|’m| am) sorry|i can(?:no|')t\b|i'm unable|(?:assistant|answer|caption|response|output|ai|bot)\s*:"
    r"|bien sûr|voici\b|natürlich[,!.]|gerne[,!.]|hier ist\b|claro[,!.]|por supuesto|aquí (?:está|tienes)|certo[,!.]"
    r"|ecco\b"
    r"|конечно[,!.]|вот\b|当然|好的[，,]|もちろん|물론)",
    re.IGNORECASE | re.MULTILINE,
)
MARKDOWN = re.compile(r"(\*\*|__)(?=\S).+?\1|```|`[^`\n]+`|^#{1,6} |^[-*] ", re.MULTILINE)
NUMBERED = re.compile(r"^\s*\d{1,3}[.)]\s+\S", re.MULTILINE)
_MARKS = {
    "quotation marks around the whole text": WRAPPED,
    "marks of Markdown (**, #, `)": MARKDOWN,
    "a number before the text, as lists have": NUMBERED,
    "words of a chat at the beginning": CHAT,
}
_LEAST_SHARE = 0.02
"""Smallest share of a language's texts that is described: a few texts have such marks rightly."""


class MarkCounter:
    """Counts texts with such marks, by language."""

    def __init__(self) -> None:
        self._num_texts: Counter[str] = Counter()
        self._found: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}

    def add(self, language: str, text: str) -> None:
        """Look at one text.

        Args:
            language: code of its language, or another name of the texts that it is counted with.
        """
        self._num_texts[language] += 1
        for words, pattern in _MARKS.items():
            if pattern.search(text):
                self._found[language, words] += 1
                self._examples.setdefault((language, words), text)

    def describe(self) -> tuple[str, ...]:
        """Return a sentence for each language and kind of mark that two texts or more in a hundred have."""
        return tuple(
            f"{language}: {count:,} of {self._num_texts[language]:,} texts have {words}, such as "
            f"{self._examples[language, words][:60]!r}"
            for (language, words), count in sorted(self._found.items())
            if count >= _LEAST_SHARE * self._num_texts[language]
        )
