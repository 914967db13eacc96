"""Kind of the cells of a column: texts, or something that is no text."""

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["find_content"]

_NUMBER = re.compile(r"[-+]?[\d.,:/%eE\s-]*\d[\d.,:/%eE\s-]*")
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+", re.IGNORECASE)
_PATH = re.compile(r"\S*(?:[/\\]\S*|\.(?:jpe?g|png|webp|gif|bmp|tiff?|txt|json))", re.IGNORECASE)
_NAME = re.compile(r"(?=\S*[\d_])[A-Za-z0-9_.:#-]+")
"""A word of ASCII with a digit or an underscore in it."""


def find_content(texts: Sequence[str]) -> str:
    """Say what most cells of a column are: `text`, `numbers`, `addresses`, `paths`, `names` (words with digits or
    underscores), `the same in every row`; empty for a column without texts."""
    if not texts:
        return ""
    kinds = Counter(_find_kind(text.strip()) for text in texts)
    kind, number = kinds.most_common(1)[0]
    if kind == "text" and number < 0.5 * len(texts):
        kind = next(other for other, _ in kinds.most_common() if other != "text")
    if kind == "text" and (len(set(texts)) == 1 and len(texts) >= 3):
        return "the same in every row"
    return "a few values in turn" if kind == "text" and len(set(texts)) <= 3 and len(texts) >= 20 else kind


def _find_kind(text: str) -> str:
    if _NUMBER.fullmatch(text) or text.lower() in ("true", "false", "nan", "null", "none", "n/a"):
        return "numbers"
    if len(text.split(None, 1)) < 2:  # none of these has a space
        if _ADDRESS.fullmatch(text):
            return "addresses"
        if _PATH.fullmatch(text) and not text.endswith("."):
            return "paths"
        if len(text) > 2 and _NAME.fullmatch(text):
            return "names"
    return "text" if any(map(str.isalpha, text)) else "numbers"
