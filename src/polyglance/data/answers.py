"""Texts that engines write, brought to plain text, and what shows that they are no caption and no translation.

One set of checks for every engine, local or behind an endpoint, and for captions and translations alike. They are rules
about the form of an answer; `benchmarks/answer_checks.py` measures how many texts of people they would refuse.
"""

import re
from operator import eq

from polyglance.data.cleaning import find_flaw, join_lines
from polyglance.data.sentences import add_end_mark, split_sentences
from polyglance.language_identity import is_in_another_language
from polyglance.records import Style

__all__ = ["REASONING_MARK", "clean_answer", "drop_reasoning", "find_answer_flaw", "has_loop"]

_REASONING = re.compile(r"<(think|thinking|thought|reasoning|reflection)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_END_OF_REASONING = re.compile(r"^.*</(think|thinking|thought|reasoning|reflection)>", re.DOTALL | re.IGNORECASE)
"""Reasoning whose beginning was part of the prompt."""
REASONING_MARK = re.compile(r"</?(?:think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_SPECIAL = re.compile(r"<\|[a-z_]+\|>|</?s>|<(pad|eos|bos|unk|end_of_turn|start_of_turn)>", re.IGNORECASE)
_FENCE = re.compile(r"^```[\w-]*\s*|```\s*$", re.MULTILINE)
_LINE_MARKS = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]+|[-*+\u2022][ \t]+|\d{1,2}[.)][ \t]+(?=\S))", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*\*\*|\*\*|__)(?=\S)(.+?)(?<=\S)\1|(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=\S)\*(?![\w*])")
_LEAD_IN = re.compile(
    r"^(?:(?:sure|certainly|of course|okay)[,!.]\s+)?(?:(?:here(?:'s| is)|this is) (?:the|a|your|one)[^:.\n]{0,60}:"
    r"|(?:caption|description|translation|answer|output|image description)\s*:)\s*",
    re.IGNORECASE,
)
_APOSTROPHE = "['\u2019]?"
_TASK = (
    r"(?:assist|help(?! (?:it|but|myself|feeling|thinking|falling|loving))|provide|describe|view|access|identify"
    r"|recogni[sz]e|determine|generate|create|produce|write|answer|respond|comply|fulfil+|translate|analy[sz]e|process"
    r"|caption|give you|complete|continue with|share|discuss|engage|support|offer|make out|do that|do this"
    r"|tell (?:you )?(?:what|who|which)"
    r"|(?:see|look at|read|open|tell|infer)\b.{0,40}\b(?:image|picture|photo|file|attachment|link))"
)
"""Deeds that a model says it cannot do. People who "can't wait" or "couldn't believe it" speak of something else."""
_REFUSAL = re.compile(
    rf"(?:(?:i{_APOSTROPHE}m|i am|we{_APOSTROPHE}re) (?:very |so |really |truly )?(?:unable|not able) to\b"
    rf"|(?:i{_APOSTROPHE}m |i am |we{_APOSTROPHE}re )?(?:very |so |really |truly )?sorry[,.!;:]? "
    rf"(?:but\b|i (?:can|could|am (?:un|not )able|(?:do not|don{_APOSTROPHE}t) have|won{_APOSTROPHE}t)|for (?:any|the) "
    rf"|as an\b|this (?:image|request)|there is no\b|the image)"
    rf"|i(?: am|{_APOSTROPHE}m) sorry[.!]?$"
    rf"|i (?:really |simply |just |unfortunately )?(?:can(?:not|{_APOSTROPHE}t| not)|could(?: not|n{_APOSTROPHE}t)"
    rf"|won{_APOSTROPHE}t|will not|(?:am|{_APOSTROPHE}m) not able to|(?:do not|don{_APOSTROPHE}t) feel comfortable)"
    rf" (?:be able to )?(?:\w+ly )?(?:to )?{_TASK}\b"
    rf"|i (?:don{_APOSTROPHE}t|do not) have (?:access|the (?:ability|capabilit|capacity)"
    r"|any (?:image|information|context)|(?:an?|the) (?:image|picture|photo)|enough (?:information|context)"
    r"|sufficient|permission|real-time|visual)"
    r"|i (?:must )?(?:sincerely )?apologi[sz]e,? (?:but|for (?:the|any) (?:confusion|inconvenience|error))\b"
    r"|my apologies\b|unfortunately,? i (?:can|could|am|do|don)|as an (?:ai|artificial)\b"
    r"|es tut mir (?:sehr )?leid,? (?:aber|ich kann|ich bin)|entschuldigung, (?:aber )?ich kann"
    r"|je (?:suis|ne suis) (?:d\u00e9sol\u00e9e?,? (?:mais|je)|pas en mesure)"
    r"|d\u00e9sol\u00e9e?, (?:mais )?je ne (?:peux|suis)"
    r"|lo siento,? (?:pero|no puedo)|lamento (?:no poder|que no|informar)"
    r"|\u0438\u0437\u0432\u0438\u043d\u0438\u0442\u0435, (?:\u043d\u043e|\u044f \u043d\u0435)\b"
    r"|\u043a \u0441\u043e\u0436\u0430\u043b\u0435\u043d\u0438\u044e, \u044f\b"
    r"|(?:\u5f88)?\u62b1\u6b49[\uff0c,]?\s*(?:\u6211|\u4f46)|\u5bf9\u4e0d\u8d77\uff0c\u6211(?:\u65e0\u6cd5|\u4e0d\u80fd))",
    re.IGNORECASE,
)
"""A refusal at the beginning of an answer."""
_REFUSAL_INSIDE = re.compile(
    r"\b(?:as an ai (?:language )?(?:model|assistant)"
    rf"|(?:cannot|can{_APOSTROPHE}t) (?:assist|help)(?: you)? with (?:that|this))\b",
    re.IGNORECASE,
)
_TABLE = re.compile(r"\|\s*:?-{3,}|^\s*\|.*\|.*\|", re.MULTILINE)
_SIGN_LOOP = re.compile(r"([^\s\d]{1,12}?)\1{5,}")
_LONG_RUN = re.compile(r"[^\s\d]{12,}")
_TOKEN = re.compile(
    r"[A-Za-z\u00c0-\u024f\u0400-\u04ff\u1e00-\u1eff]+|[\u0370-\u03ff\u0590-\u0e7f\u1f00-\u1fff\uac00-\ud7af]+|\d+|[^\W\d_]"
)
"""Words; the signs of Chinese and Japanese one by one. (Thai has no spaces between words: one piece is a token.)"""
_MAX_PERIOD_WORDS = 30
"""Longest repeated run of words that is searched for."""
_MAX_CHARACTERS = 4000
"""Longest text that is a description."""


def drop_reasoning(answer: str) -> str:
    """Remove what a model thought before it answered, and special tokens of its tokeniser."""
    if "<" not in answer:
        return answer.strip()
    return _SPECIAL.sub(" ", _END_OF_REASONING.sub("", _REASONING.sub(" ", answer))).strip()


def clean_answer(answer: str, source: str = "") -> str:
    """Bring an answer to plain text on one line: without reasoning, special tokens, Markdown and words of introduction.

    Args:
        source: English text that was translated; quotation marks around the whole of it are its own.
    """
    text = drop_reasoning(answer)
    text = _LINE_MARKS.sub("", _FENCE.sub("", text).strip() if "```" in text else text)
    if "*" in text or "__" in text:
        text = _EMPHASIS.sub(lambda match: match[2] or match[3], text)
    text = join_lines(_LEAD_IN.sub("", text))
    quotes = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb"}
    is_quoted = len(text) > 2 and quotes.get(text[0]) == text[-1] and source[:1] not in quotes
    if is_quoted and not any(sign in text[1:-1] for sign in (text[0], text[-1])):
        text = text[1:-1].strip()
    return re.sub(r"[ \t]{2,}", " ", text)


def find_answer_flaw(
    answer: str, code: str, *, style: Style | None = None, source: str = "", max_repeats: int | None = 2
) -> str | None:
    """Say what shows that a cleaned answer is no text of an image in the language; None if nothing does.

    Args:
        style: style that was asked for; one of several sentences has to end with a mark.
        source: English text that was translated; what it has itself is no flaw.
        max_repeats: number of times in a row that the same words may appear; None: the caller has looked for that.
    """
    if not answer.strip():
        return "empty"
    if REASONING_MARK.search(answer):
        return "reasoning without an end"
    if _is_refusal(answer) and not _is_refusal(source):
        return "refusal"
    if "|" in answer and _TABLE.search(answer) and not _TABLE.search(source):
        return "a table"
    if len(answer) > max(_MAX_CHARACTERS, 4 * len(source)):
        return "too long"
    if max_repeats is not None and has_loop(answer, max_repeats) and not has_loop(source, max_repeats):
        return "repetition"
    if flaw := find_flaw(answer, code):
        return "wrong script" if flaw.startswith("in another script") else flaw
    if is_in_another_language(answer, code):
        return "another language"
    is_long = style in ("detailed", "paragraph") and len(split_sentences(answer, code)) > 1
    return "cut off" if is_long and add_end_mark(answer, code) != answer else None


def has_loop(text: str, max_repeats: int) -> bool:
    """Tell whether words or signs appear more than `max_repeats` times in a row.

    The last repetition of a long run may be cut short.
    """
    if _has_sign_loop(text):
        return True
    tokens = _TOKEN.findall(text.lower())
    triples = [*zip(tokens, tokens[1:], tokens[2:], strict=False)]
    num_again = len(triples) - len(set(triples))
    for period in range(1, min(_MAX_PERIOD_WORDS, len(tokens) // max_repeats) + 1):
        needed = period * max_repeats - (period > 2)
        if needed - 2 > num_again:  # a loop of this period would repeat more triples
            return False
        if bytes([1]) * needed in bytes(map(eq, tokens, tokens[period:])):
            return True
    return False


def _has_sign_loop(text: str) -> bool:
    """Tell whether up to twelve signs without spaces or digits appear six times in a row.

    Six times two signs are a run of twelve signs without a space. Few texts have one, and only such runs are searched.
    """
    if any(sign * 6 in text for sign in set(text)) and _SIGN_LOOP.search(text):
        return True
    return any(_SIGN_LOOP.search(run) for run in _LONG_RUN.findall(text))


def _is_refusal(text: str) -> bool:
    return _REFUSAL.match(text) is not None or _REFUSAL_INSIDE.search(text) is not None
