"""Kind of the cells of a column: texts, or something that is no text."""

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["find_content", "find_placeholder"]

_NUMBER = re.compile(r"[-+]?[\d.,:/%eE\s-]*\d[\d.,:/%eE\s-]*")
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+", re.IGNORECASE)
_PATH = re.compile(r"\S*(?:[/\\]\S*|\.(?:jpe?g|png|webp|gif|bmp|tiff?|txt|json))", re.IGNORECASE)
_IMAGE_FILE = re.compile(r"[^.!?]*\S\.(?:jpe?g|png|webp|gif|bmp|tiff?|heic|svg|avif)", re.IGNORECASE)
_CAMERA_NAME = re.compile(
    r"(?:IMG|DSC[FN]?|PXL|GOPR|DCIM|VID|image|img|photo|picture|pic|screen ?shot|scan|untitled|file)"
    r"[ _-]*\(?\d[\d _-]*\)?"
    r"|P\d{5,}|_?MG_\d+",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[nrt](?![a-z])|(?<=[.!?;,\s])\\[nrt]")
_PERCENT = re.compile(r"\S*%[0-9A-Fa-f]{2}\S*%[0-9A-Fa-f]{2}\S*|\S*%20\S*")
_OBJECT = re.compile(r"[\[({]?\s*\{\s*(['\"]).+?\1\s*:.*\}\s*[\])}]?|b(['\"]).*\2", re.DOTALL)
_PLACEHOLDERS = frozenset(
    [
        *(
            "image",
            "images",
            "img",
            "picture",
            "photo",
            "photograph",
            "untitled",
            "undefined",
            "unknown",
            "placeholder",
        ),
        *("alt text", "alt-text", "no caption", "no description", "no alt text", "no title", "deleted", "removed"),
        *(
            "redacted",
            "unavailable",
            "not available",
            "n.a.",
            "#n/a",
            "#ref!",
            "#name?",
            "#value!",
            "#div/0!",
            "#null!",
        ),
        *("#num!", "tbd", "todo", "lorem ipsum", "click here", "click to enlarge", "object object", "404 not found"),
        *("403 forbidden", "inf", "-inf", "nat"),
    ]
)
"""Words that programs and people write where there is no text."""
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


def find_placeholder(text: str) -> str:
    """Say why a single text is no caption, but stands in for one or is a program's; empty if nothing tells."""
    bare = text.strip()
    if bare.lower() in _PLACEHOLDERS or bare.lower().strip("[](){}<>\"'*. ") in _PLACEHOLDERS:
        return "a word that stands for no text (image, untitled)"
    if not any(map(str.isalpha, bare)):
        return "no letter in it"
    if _ADDRESS.fullmatch(bare):
        return "an address"
    if _IMAGE_FILE.fullmatch(bare) or _CAMERA_NAME.fullmatch(bare):
        return "the name of a file"
    if (bare[0] in "[({b" or bare[-1] == "}") and _OBJECT.fullmatch(bare):
        return "an object of a program, written as text"
    if "\\" in bare and _ESCAPE.search(bare):
        return "escapes of a program, written out (\\n, \\u00e9)"
    if "%" in bare and _PERCENT.fullmatch(bare):
        return "encoded as an address (%20)"
    return ""
