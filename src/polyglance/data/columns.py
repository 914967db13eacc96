"""Kind of the cells of a column: texts, or something that is no text."""

import re
from collections import Counter
from collections.abc import Sequence

from polyglance.languages import SOURCE_LANGUAGE

__all__ = ["NO_LETTER", "SUBWORD_MARKS", "find_artefact", "find_content", "find_placeholder"]

_NUMBER = re.compile(r"[-+]?[\d.,:/%eE\s-]*\d[\d.,:/%eE\s-]*")
_MEASURE = re.compile(r"[-+]?\d[\d.,]*\s?[A-Za-z\u00b0\u00b5%]{1,2}\d?")
"""A number and its unit: `640 px`, `1.5 m2`."""
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+", re.IGNORECASE)
_PATH = re.compile(r"\S*(?:[/\\]\S*|\.(?:jpe?g|png|webp|gif|bmp|tiff?|txt|json))", re.IGNORECASE)
_IMAGE_FILE = re.compile(
    r"(?!(?:the|an?|this|that|see|is)\s)(?:[^\s.!?]+\s+){0,2}[^\s.!?]*[^\s.]\.(?:jpe?g|png|webp|gif|bmp|tiff?|heic|svg|avif)",
    re.IGNORECASE,
)
"""At most three words: a longer text that ends in the name of a file is a sentence."""
_ENDS_OF_FILES = "gpfcGPFC"
"""Last letters of these extensions."""
_CAMERA_NAME = re.compile(
    r"(?:IMG|DSC[FN]?|PXL|GOPR|DCIM|VID|image|img|photo|picture|pic|screen ?shot|scan|untitled|file)"
    r"[ _-]*\(?\d[\d _-]*\)?"
    r"|P\d{5,}|_?MG_\d+",
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[nrt](?![a-z])|\\[\"/]")
_ESCAPE_BEFORE_WORD = re.compile(r"(?<=[^\W\d_]|[.!?;,\s])\\[nrt](?=[a-z])")
"""An escape, or a part of a path or of a formula."""
_WINDOWS_PATH = re.compile(r"\b[A-Za-z]:\\|(?<!\S)\\\\\w")
_FORMULA = re.compile(
    r"\\(?:nabla|natural|near\w*|neq?|neg|ni|nmid|nolimits|nonumber|norm|not|notin|nu|newline|newcommand|noindent|"
    r"rangle|rbrace|rbrack|rceil|rfloor|rho|right\w*|rm|ref|root|tan|tanh|tau|tbinom|text\w*|tfrac|therefore|theta|"
    r"tilde|times|tiny|to|top|triangle\w*|frac|sqrt|sum|int|sin|cos|log|lim|left|cdot|alpha|beta|gamma|delta|pi|phi|"
    r"begin|end|leq?|geq?)(?![a-z])"
)
_PERCENT = re.compile(r"\S*%[0-9A-Fa-f]{2}\S*%[0-9A-Fa-f]{2}\S*|\S*%20\S*")
_OBJECT = re.compile(
    r"""[\[({]?\s*\{\s*(['"]).+?\1\s*:.*\}\s*[\])}]?|\[\s*(['"]).*['"]\s*\]|b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\"""",
    re.DOTALL,
)
"""A mapping, a list that could not be taken apart, or bytes, as Python prints them."""
NO_LETTER, SUBWORD_MARKS = "no letter in it", "marks of subwords (@@, ▁, ##, Ġ)"
"""Two reasons of `find_artefact` that a caller may treat in its own way."""
_SUBWORDS = re.compile(r"\S@@(?= |$)|▁|(?:^| )##(?=\w)|^\S+(?: Ġ\S*)+$|\w</w>")
"""Marks that tokenisers write between subwords. `Ġ` is a letter of Maltese, too, but does not begin every word."""
_SIGNS_OF_SUBWORDS = ("@@", "▁", "##", "Ġ", "</w>")
_JOINED_WORDS = re.compile(r"[^\W\d_]+(?:[_+][^\W\d_]+,?){2,}[.!?]?")
_ERROR = re.compile(
    r"Traceback \(most recent|(?:[A-Z]\w*)?(?:Error|Exception|ERROR)\b(?:: | code: ?\d)|CUDA out of memory"
)
"""Beginning of the message of an error, which programs write where a text should be."""


def _split_words(words: str) -> frozenset[str]:
    return frozenset(word.strip() for word in words.split(","))


_NOTHING = _split_words(
    "nan, null, none, n/a, na, <na>, nil, [], {}, n.a., #n/a, #ref!, #name?, #value!, #div/0!, #null!, #num!, inf, "
    "-inf, nat, \\n"
)
"""Words that programs write for a missing value, in small letters: `NA` is R's, `\\N` that of databases."""
_PLACEHOLDERS = _split_words(
    "image, images, img, picture, photo, photograph, untitled, undefined, unknown, placeholder, alt text, alt-text, "
    "no caption, no description, no alt text, no title, deleted, removed, redacted, unavailable, not available, tbd, "
    "todo, lorem ipsum, click here, click to enlarge, object object, 404 not found, 403 forbidden"
)
"""Words that people, and their programs, write where there is no text."""
_WORDS_OF_LANGUAGES = _split_words("todo, nat, inf, nil, na")
"""Some of these are words of other languages: `todo` is all in Spanish, `nat` wet in Dutch, `na` on in Czech. There
they stand for nothing only as programs write them, in capital letters."""
_CAPITALISED = _split_words("nan, null")
"""Others are words where they begin with a capital letter, as no program writes them: `Null` is zero in German, `Nan` a
grandmother in English. In small letters, or as `NaN`, they are what pandas and JSON write for a missing cell."""
_WORDS = _NOTHING | _PLACEHOLDERS
_LONGEST_WORD = max(map(len, _WORDS))
_NO_TEXT = _NOTHING | {"true", "false"}
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
    if _NUMBER.fullmatch(text) or _MEASURE.fullmatch(text) or text.lower() in _NO_TEXT:
        return "numbers"
    if len(text.split(None, 1)) < 2:  # none of these has a space
        if _ADDRESS.fullmatch(text):
            return "addresses"
        if _PATH.fullmatch(text) and not text.endswith("."):
            return "paths"
        if len(text) > 2 and _NAME.fullmatch(text):
            return "names"
    return "text" if any(map(str.isalpha, text)) else "numbers"


def find_placeholder(text: str, code: str) -> str:
    """Say that a text in the language `code` is a word that stands for no text; empty if it is none."""
    bare = text.strip()
    inner = bare.strip("[](){}<>\"'*. ")
    if len(inner) > _LONGEST_WORD or _WORDS.isdisjoint(words := (bare.lower(), inner.lower())):
        return ""
    if is_true_word(inner, code):
        return ""
    if not _NOTHING.isdisjoint(words):
        return "empty, written as nan, null or none"
    return "a word that stands for no text (image, untitled)"


def is_true_word(word: str, code: str) -> bool:
    """Tell whether a word that may stand for nothing is a word of the language `code`, by how it is written."""
    if word[1:] != word[1:].lower():
        return False
    if word.lower() in _CAPITALISED:
        return word[:1].isupper()
    return word.lower() in _WORDS_OF_LANGUAGES and code != SOURCE_LANGUAGE


def find_artefact(text: str) -> str:
    """Say why a text is not a caption: an address, a file's name, a program's, several texts; empty if nothing tells.

    Each rule is asked only about texts that have its signs: a last character, a pair of signs. Most have none of them.
    """
    bare = text.strip()
    if not any(map(str.isalpha, bare)):
        return NO_LETTER
    last = bare[-1]
    if ("://" in bare or bare[:4].lower() == "www.") and _ADDRESS.fullmatch(bare):
        return "an address"
    if last in _ENDS_OF_FILES and "." in bare[-5:-1] and _IMAGE_FILE.fullmatch(bare):
        return "the name of a file"
    if (last.isdecimal() or last in "_-)") and _CAMERA_NAME.fullmatch(bare):
        return "the name of a file"
    if bare.startswith('="') and last == '"':
        return "a formula of a spreadsheet"
    if (bare[0] in "[({" or last == "}" or bare.startswith(("b'", 'b"'))) and _OBJECT.fullmatch(bare):
        return "an object of a program, written as text"
    if "\\" in bare and _has_escape(bare):
        return "escapes of a program, written out (\\n, \\u00e9)"
    if "%" in bare and _PERCENT.fullmatch(bare):
        return "encoded as an address (%20)"
    if "|||" in bare:
        return "several texts in one (|||)"
    if any(mark in bare for mark in _SIGNS_OF_SUBWORDS) and _SUBWORDS.search(bare):
        return SUBWORD_MARKS
    if ("_" in bare or "+" in bare) and _JOINED_WORDS.fullmatch(bare):
        return "words joined by _ or +"
    is_error = ("rror" in bare or "RROR" in bare or bare[0] in "TC" or "xception" in bare) and _ERROR.match(bare)
    return "the message of an error" if is_error else ""


def _has_escape(text: str) -> bool:
    """Tell whether a text has escapes of a program in it. `\\n` before a small letter may be of a path or a formula."""
    if _ESCAPE.search(text):
        return True
    is_prose = any(map(str.isspace, text)) and not (_WINDOWS_PATH.search(text) or _FORMULA.search(text))
    return is_prose and _ESCAPE_BEFORE_WORD.search(text) is not None
