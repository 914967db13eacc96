"""Differences of form between predictions and references that change scores but are easily overlooked.

Each is counted, and reported as a warning with a code, a share and an example. `normalise_texts` applies the changes
that the user names. Without them no text is changed, so that scores of reference protocols equal the tools'.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from polyglance.data.answers import REASONING_MARK, drop_reasoning
from polyglance.data.cleaning import has_tags
from polyglance.data.columns import NO_LETTER, SUBWORD_MARKS, find_artefact, find_placeholder
from polyglance.data.text_marks import CHAT, MARKDOWN, NUMBERED, WRAPPED
from polyglance.evaluate.tokenization.normalise import delete_invisible
from polyglance.language_identity import find_other_language

__all__ = ["NORMALISATIONS", "FormWarning", "find_differences", "normalise_texts"]

_FEW = 0.02
"""Smallest difference of shares that is reported, for forms that are correct if both sides have them."""
_MOST, _HARDLY = 0.5, 0.1
_LANGUAGE_SAMPLE = 200
"""Largest number of texts of a side, evenly drawn, whose language is examined."""
_MANY_LETTERS = 1_000_000
"""Number of letters, drawn from all texts of a side, whose case is examined."""


@dataclass(frozen=True, kw_only=True)
class FormWarning:
    """A difference of form, for people and machines."""

    code: str
    """Name of the difference: `special-tokens`."""
    message: str
    num_predictions: int
    """Predictions that have the form."""
    share_predictions: float
    num_references: int
    share_references: float
    example: str
    """Text that has the form, invisible characters escaped."""


@dataclass(frozen=True, kw_only=True)
class _Side:
    """Texts of one side, and the same texts in one string, which shows at once that no text matches a pattern."""

    texts: Sequence[str]
    joined: str
    is_ascii: bool

    @classmethod
    def make(cls, texts: Sequence[str]) -> "_Side":
        joined = "\n".join(texts)
        return cls(texts=texts, joined=joined, is_ascii=joined.isascii())

    def may_hold(self, pattern: re.Pattern[str]) -> bool:
        """Tell quickly whether a pattern may match, from a text that every match contains."""
        if self.is_ascii and pattern in _BEYOND_ASCII:
            return False
        literals = _LITERALS.get(pattern)
        return literals is None or any(literal in self.joined for literal in literals)

    def find(self, pattern: re.Pattern[str]) -> list[str]:
        """Return the texts that match the pattern."""
        if not self.may_hold(pattern) or not pattern.search(self.joined):
            return []
        return [text for text in self.texts if pattern.search(text)]

    def count(self, pattern: re.Pattern[str]) -> int:
        """Count the texts that match a pattern; the pattern matches a text at most once."""
        return sum(1 for _ in pattern.finditer(self.joined)) if self.may_hold(pattern) else 0

    def share(self, found: Sequence[str]) -> float:
        return len(found) / max(len(self.texts), 1)


_SPECIAL = re.compile(
    r"</?(?:s|pad|unk|eos|bos|end|start|sos|sep|cls|mask|eot|image|img|caption|extra_id_\d+|0x[0-9A-F]{2}"
    r"|(?:start|end)_of_turn)>|<\|[^|<>\n]{1,30}\|>|\[/?(?:UNK|PAD|CLS|SEP|MASK|EOS|BOS|INST)\]|<end_of_utterance>"
    r"|\b(?:startseq|endseq|(?-i:UNK))\b",
    re.IGNORECASE,
)
_SUBWORDS = re.compile(r"@@(?= |$)|▁|(?:^| )##(?=\w)|Ġ|</w>", re.MULTILINE)
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-fA-F]+|[a-zA-Z]{2,8});")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
    "|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]"
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_JOINERS = re.compile("[\u200c\u200d\ufe0e\ufe0f]")
_MOJIBAKE = re.compile("Ã[\x80-\xbfƒ‚„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€|Â[\xa0-\xbf]|\ufffd|ðŸ")
_BLANKS = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
_WIDE = re.compile("[\uff01-\uff9f\uffe0-\uffee\ufb00-\ufb06]")
_CURLY, _STRAIGHT = re.compile("[\u2018\u2019\u201a\u201c\u201d\u201e«»\u2013\u2014\u2212]"), re.compile("['\"]|-")
_QUESTION = re.compile(r"\?")
_SPACED_END = re.compile(r"\S[ ]+[.!?。][^\S\n]*$", re.MULTILINE)
_CLOSE_END = re.compile(r"[^\s.!?][.!?。][^\S\n]*$", re.MULTILINE)
_MOSES = re.compile(r"(?:^| )@-@(?= |$)|&(?:apos|quot|#91|#93|bar);| n't\b| 's\b", re.MULTILINE)
_SCORED = re.compile(r"\.\d+%?[)\]]?[^\S\n]*$", re.MULTILINE)
_CUT = re.compile(r"\w[^\S\n]?(?:\.\.\.|…)[^\S\n]*$", re.MULTILINE)
_UNDIVIDED = re.compile(r"^[^\S\n]*\S{25,}[^\S\n]*$", re.MULTILINE)
_SEGMENTED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff][ ]+"
                        "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")  # fmt: skip
_BEYOND_ASCII = frozenset((_JOINERS, _MOJIBAKE, _BLANKS, _WIDE, _CURLY, _SEGMENTED))
"""Patterns that never match ASCII text."""
_LITERALS: Mapping[re.Pattern[str], tuple[str, ...]] = MappingProxyType(
    {
        _SPECIAL: ("<", "[", "seq", "SEQ", "UNK"),
        REASONING_MARK: ("<",),
        MARKDOWN: ("**", "__", "`", "#", "- ", "* "),
        _SUBWORDS: ("@@", "▁", "##", "Ġ", "</w>"),
        _ENTITY: ("&",),
        _COLOURS: ("\x1b",),
        _MOSES: ("@-@", "&", " n't", " 's"),
        _CUT: ("...", "…"),
        _SPACED_END: (" .", " !", " ?", " 。"),
    }
)
"""Pattern -> strings, one of which is in every match; searching for them is much faster."""
_QUOTES = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'", "\u201c": '"', "\u201d": '"',
    "\u201e": '"', "«": '"', "»": '"', "\u2010": "-", "\u2011": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
})  # fmt: skip


def _unescape(text: str) -> str:
    import html

    return html.unescape(text)


def _join_subwords(text: str) -> str:
    if "▁" in text:
        text = text.replace(" ▁", "▁").replace("▁", " ")
    text = text.replace("</w>", " ").replace("Ġ", " ")
    return " ".join(re.sub(r"@@( |$)| ##(?=\w)", "", text).split())


NORMALISATIONS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "entities": _unescape,
        "reasoning": drop_reasoning,
        "special": lambda text: " ".join(_SPECIAL.sub(" ", text).split()),
        "subwords": _join_subwords,
        "nfc": lambda text: unicodedata.normalize("NFC", text),
        "nfkc": lambda text: unicodedata.normalize("NFKC", text),
        "invisible": delete_invisible,
        "quotes": lambda text: text.translate(_QUOTES),
        "lower": str.lower,
        "unsegment": lambda text: _remove_blanks(text),
    }
)
"""Name -> change of a text, in the order in which they are made: HTML entities decoded, reasoning and special tokens
deleted, subwords joined, Unicode forms, invisible characters deleted, quotes and dashes as ASCII, lower case, spaces
between letters of scripts without spaces deleted."""


def _remove_blanks(text: str) -> str:
    while _SEGMENTED.search(text):
        text = _SEGMENTED.sub(lambda match: match[0].replace(" ", ""), text)
    return text


def normalise_texts(texts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Make the named changes, in the order of `NORMALISATIONS`."""
    steps = [change for name, change in NORMALISATIONS.items() if name in names]
    changed = list(texts)
    for step in steps:
        changed = [step(text) for text in changed]
    return tuple(changed)


def find_differences(
    hypotheses: Sequence[str], references: Sequence[str], *, language: str, spaces: bool, cased: bool
) -> list[FormWarning]:
    """Count the differences of form.

    Args:
        references: all references of all segments.
        language: code of the texts' language.
        spaces: the language is written with spaces between words.
        cased: a metric distinguishes upper and lower case.
    """
    left, right = _Side.make(hypotheses), _Side.make(references)
    return [
        *_find_marks(left, right),
        *_find_no_texts(left, right, language),
        *_find_other_languages(left, right, language),
        *_find_unlike(left, right, spaces=spaces),
        *_find_unicode_forms(left, right),
        *_find_styles(left, right, spaces=spaces, cased=cased),
        *_find_answers(left, right, spaces=spaces),
    ]


_MARKS: tuple[tuple[str, re.Pattern[str], str, str], ...] = (
    ("special-tokens", _SPECIAL, "special tokens of a model", "special"),
    ("subword-marks", _SUBWORDS, "marks of subwords", "subwords"),
    ("reasoning", REASONING_MARK, "what a model thought before it answered", "reasoning"),
    ("html-entities", _ENTITY, "HTML entities", "entities"),
    ("terminal-colours", _COLOURS, "colour codes of a terminal", ""),
    ("invisible-characters", _INVISIBLE, "invisible characters", "invisible"),
    ("wrong-encoding", _MOJIBAKE, "characters that were read in a wrong encoding", ""),
)
"""Code, pattern, description, and the normalisation that removes it: forms that no text should have."""
_OTHER_CODES = frozenset({NO_LETTER, SUBWORD_MARKS})
"""Problems of `find_artefact` that an answer to a question has rightly, or that have a code of their own."""


def _find_marks(left: _Side, right: _Side) -> list[FormWarning]:
    warnings = []
    for code, pattern, words, fix in _MARKS:
        found = left.find(pattern), right.find(pattern)
        if any(found):
            counts = Counter(match for texts in found for text in texts for match in pattern.findall(text))
            names = ", ".join(_show(name) for name, _ in counts.most_common(5))
            warnings.append(_make(code, f"{words} ({names})", found, left, right, fix))
    return warnings


def _find_no_texts(left: _Side, right: _Side, language: str) -> list[FormWarning]:
    """Find what programs write in place of a text or into it, by the rules by which an import leaves texts out."""
    found: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for number, side in enumerate((left, right)):
        for text in side.texts:
            if find_placeholder(text, language):
                words = "no-text", "a word for nothing in place of a text"
            elif not (problem := find_artefact(text)) or problem in _OTHER_CODES:
                if not has_tags(text) or _SPECIAL.search(text) or REASONING_MARK.search(text):
                    continue
                words = "tags", "tags, as of HTML"
            else:
                words = "program-text", f"marks of a program: {problem}"
            found.setdefault(words, ([], []))[number].append(text)
    return [_make(code, words, texts, left, right, "") for (code, words), texts in found.items()]


def _find_other_languages(left: _Side, right: _Side, language: str) -> list[FormWarning]:
    """Find a side whose texts clearly read as another language than they are scored in, by a sample of them."""
    samples = (side.texts[:: len(side.texts) // _LANGUAGE_SAMPLE + 1] for side in (left, right))
    others = [find_other_language(sample, language) for sample in samples]
    if not any(others):
        return []
    found = tuple([*side.texts] if other else [] for side, other in zip((left, right), others, strict=True))
    names = " and ".join(dict.fromkeys(other for other in others if other))
    words = f"texts that, by a sample, read as {names} and not {language}"
    return [_make("other-language", words, found, left, right, "")]


def _find_unlike(left: _Side, right: _Side, *, spaces: bool) -> list[FormWarning]:
    """Find forms that are correct if both sides have them, but that one side has more often."""
    forms = (
        ("joiners", _JOINERS, "joiners or variation selectors (such as U+200C)", "invisible"),
        ("blanks", _BLANKS, "spaces of other kinds (such as U+00A0, U+3000)", "nfkc"),
        ("full-width", _WIDE, "full-width forms or ligatures", "nfkc"),
        ("question-marks", _QUESTION, "question marks, which may stand for lost characters", ""),
        ("markdown", MARKDOWN, "marks of Markdown (**, #, `)", ""),
        ("moses-tokens", _MOSES, "tokens of a tokeniser (@-@, &apos;, n't)", ""),
        ("numbered", NUMBERED, "a number before the text, as lists have", ""),
        ("scored", _SCORED, "a decimal number at the end, which may be a score", ""),
        ("cut", _CUT, "dots at the end, where a program may have cut the text", ""),
        *((("undivided", _UNDIVIDED, "long texts without any blank", ""),) if spaces else ()),
    )
    warnings = []
    for code, pattern, words, fix in forms:
        found = left.find(pattern), right.find(pattern)
        if abs(left.share(found[0]) - right.share(found[1])) >= _FEW and _one_sided(found, left, right):
            warnings.append(_make(code, words, found, left, right, fix))
    wrapped = left.find(WRAPPED), right.find(WRAPPED)
    shares = left.share(wrapped[0]), right.share(wrapped[1])
    # If both sides have them, equal words stay equal.
    if max(shares) >= _MOST or (abs(shares[0] - shares[1]) >= _FEW and _one_sided(wrapped, left, right)):
        warnings.append(_make("wrapped", "quotation marks around the whole text", wrapped, left, right, ""))
    return warnings


def _one_sided(found: tuple[list[str], list[str]], left: _Side, right: _Side) -> bool:
    """Tell whether one side has a form at least three times as often."""
    low, high = sorted((left.share(found[0]), right.share(found[1])))
    return high >= 3 * low


def _find_unicode_forms(left: _Side, right: _Side) -> list[FormWarning]:
    if left.joined.isascii() and right.joined.isascii():
        return []
    found = tuple(
        [text for text in side.texts if not text.isascii() and not unicodedata.is_normalized("NFC", text)]
        for side in (left, right)
    )
    if not any(found):
        return []
    return [_make("not-nfc", "letters and accents apart (NFD) or other forms than NFC", found, left, right, "nfc")]


def _find_styles(left: _Side, right: _Side, *, spaces: bool, cased: bool) -> list[FormWarning]:
    warnings = []
    curly, straight = ((left.find(one), right.find(one)) for one in (_CURLY, _STRAIGHT))
    for one, other in ((0, 1), (1, 0)):
        sides = (left, right)
        if sides[one].share(curly[one]) >= _FEW / 2 and not curly[other] and straight[other]:
            warnings.append(
                _make("quotes-and-dashes", "quotation marks or dashes beyond ASCII", curly, left, right, "quotes")
            )
    spaced = left.find(_SPACED_END), right.find(_SPACED_END)
    close = left.count(_CLOSE_END), right.count(_CLOSE_END)
    shares = [len(spaced[i]) / max(len(spaced[i]) + close[i], 1) for i in (0, 1)]
    ended = [(len(spaced[i]) + close[i]) / max(len(side.texts), 1) for i, side in enumerate((left, right))]
    if min(ended) >= _HARDLY and abs(shares[0] - shares[1]) >= _MOST:
        words = "a space before the full stop, as tokenisers write it, where the other side has none"
        warnings.append(_make("tokenised", words, spaced, left, right, ""))
    if not spaces:
        found = left.find(_SEGMENTED), right.find(_SEGMENTED)
        if abs(left.share(found[0]) - right.share(found[1])) >= _HARDLY and _one_sided(found, left, right):
            warnings.append(_make("segmented", "spaces between words", found, left, right, "unsegment"))
    if cased:
        warnings += _find_case(left, right)
    return warnings


def _find_case(left: _Side, right: _Side) -> list[FormWarning]:
    """Find a side that is all lower case, or all capitals, while the other is not."""
    shares = []
    for side in (left, right):
        letters = side.joined[:: len(side.joined) // _MANY_LETTERS + 1]
        capitals = sum(map(str.isupper, letters))
        shares.append(capitals / max(capitals + sum(map(str.islower, letters)), 1))
    low, high = sorted(shares)
    if not (low < 0.001 and high > 0.005) and not (low < 0.3 and high > 0.6):
        return []
    found = tuple([text for text in side.texts if text != text.lower()] for side in (left, right))
    if not any(found):
        return []
    return [_make("case", "capital letters, which count here", found, left, right, "lower")]


def _find_answers(left: _Side, right: _Side, *, spaces: bool) -> list[FormWarning]:
    """Find text that models write beside captions: chat phrases, the prompt, repetitions."""
    warnings = []
    chat, human = left.find(CHAT), right.find(CHAT)
    if chat and left.share(chat) > right.share(human):
        warnings.append(_make("chat", "words of a chat at the beginning", (chat, human), left, right, ""))
    starts = Counter(_start(text, spaces) for text in left.texts)
    start, count = max(starts.items(), key=lambda item: item[1])
    if len(left.texts) >= 5 and start and count >= _MOST * len(left.texts) and not chat:
        same = [text for text in right.texts if _start(text, spaces) == start]
        if right.share(same) < _HARDLY:
            found = [text for text in left.texts if _start(text, spaces) == start]
            words = f"the same beginning ({start!r}), which is rare among the references; perhaps the prompt"
            warnings.append(_make("prefix", words, (found, same), left, right, ""))
    loops = [text for text in left.texts if _has_loop(text)]
    if loops:
        found_loops = (loops, [text for text in right.texts if _has_loop(text)])
        warnings.append(_make("loops", "the same words four times and more in a row", found_loops, left, right, ""))
    return warnings


def _start(text: str, spaces: bool) -> str:
    if not spaces:
        return text.strip()[:4]
    words = text.split(maxsplit=2)
    return " ".join(words[: 1 if words and words[0].endswith(":") else 2]).lower()


def _has_loop(text: str) -> bool:
    """Tell whether one to six words (in texts without spaces: letters) are repeated four times in a row."""
    words: Sequence[str] = text.lower().split()
    if len(words) < 4 and len(text) >= 16:
        words = text
    if len(words) < 4 or 2 * len(set(words)) > len(words) + 2:
        return False
    least = 8 if isinstance(words, str) else 4
    for length in range(1, 7):
        run = 0
        for one, other in zip(words, words[length:], strict=False):
            run = run + 1 if one == other else 0
            if run >= max(3 * length, least - 1):
                return True
    return False


def _make(code: str, words: str, found: tuple[Sequence[str], ...], left: _Side, right: _Side, fix: str) -> FormWarning:
    in_left, in_right = found[0], found[1]
    counts = (
        f"{len(in_left):,} of {len(left.texts):,} predictions and {len(in_right):,} of {len(right.texts):,} references"
    )
    example = _show((in_left or in_right)[0], marks=code == "not-nfc")
    remedy = f"; --normalise {fix} removes it" if fix else ""
    return FormWarning(
        code=code,
        message=f"[{code}] {counts} have {words}, such as {example}{remedy}",
        num_predictions=len(in_left),
        share_predictions=left.share(in_left),
        num_references=len(in_right),
        share_references=right.share(in_right),
        example=example,
    )


def _show(text: str, *, marks: bool = False) -> str:
    """Return the beginning of a text on one line, with invisible characters (and `marks`) as \\u escapes."""
    shown = "".join(
        character
        if character == " " or (character.isprintable() and not (marks and unicodedata.combining(character)))
        else f"\\u{ord(character):04x}"
        for character in text[:60]
    )
    return shown + ("..." if len(text) > 60 else "")
