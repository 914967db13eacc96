"""The tokeniser behind published caption scores: CoreNLP 3.4.1's PTB tokeniser as coco-caption calls it, without Java.

coco-caption and pycocoevalcap run `edu.stanford.nlp.process.PTBTokenizer -preserveLines -lowerCase`, delete 17
punctuation tokens and join the rest by spaces. `ptb_tokenize` returns the same strings, peculiarities included: `(`
becomes the word `-lrb-` (the list of deleted tokens is in capitals, the text is not), `cannot` becomes `can not`, `£`
becomes `#`, characters newer than Unicode 6 vanish. It differs in one respect: a text is one text. The original hands
all texts over as the lines of one file, and a line-break character inside a text shifts every later one. Here a line
break is a space. What remains of that file: after a single letter at the end of a text (`vitamin C.`) the full stop is
taken for an initial's (`c.`) unless the next text begins as sentences do (`A`, `The`, ...), after an `Art` or `No` for
an abbreviation's if the next text begins with a number.

Source: D. Klein, C. Manning et al., Stanford CoreNLP 3.4.1 (2014); X. Chen et al., "Microsoft COCO Captions: Data
Collection and Evaluation Server", arXiv:1504.00325, section 3.
"""

import re
from collections.abc import Sequence
from itertools import zip_longest

from polyglance.evaluate.tokenization.ptb_characters import LETTER, shape
from polyglance.evaluate.tokenization.ptb_rules import BEFORE_NUMBER, RULES, Rule
from polyglance.evaluate.tokenization.tokenizer import Tokenizer

__all__ = ["PTB", "REMOVED_TOKENS", "ptb_tokenize"]

REMOVED_TOKENS = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)
"""Tokens that coco-caption deletes. The names of brackets are in the published list but never in lower-cased text."""

_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_ACROSS_SPACES = re.compile(r"<[^>]*>|[\d).] \d|\. \.|(?i:[eoy]\. l)")
"""Where a token may hold a space or depend on the next: markup, `2 1/2`, telephone numbers, `No. 5`, `Co. Ltd`."""
_OPEN_END = re.compile(rf"(?<![A-Za-z])(?:[A-Za-z]|{BEFORE_NUMBER})\.$")
"""Where the next text decides about the full stop: `plan B.`, `diese Art.`"""
_END_CHARACTERS = len("-Figs.")
"""The longest of these, with the character before it."""
_PLAIN_WORD = re.compile(f"[A-Za-z{LETTER}]+,?")
_INNER_SIGMA = re.compile(r"(?<=\w)Σ(?=(?:[-\u2010_]|\d+)[^\W\d_])")
_FINAL_SIGMA = re.compile(r"(?<=[^\W\d_])([-\u2010_]|\d+)Σ(?!\w)")
"""Java looks beyond hyphens, low lines and digits for the ends of a word, Python does not."""
_SPLIT_WORDS = frozenset(("cannot", "gimme", "gonna", "gotta", "lemme", "wanna"))


def ptb_tokenize(texts: Sequence[str]) -> list[str]:
    """Texts -> their lower-cased tokens without punctuation, joined by single spaces; an empty string if none is left.

    Each text is tokenised by itself, but for the full stop of such a last word. No output holds a line break.
    """
    known: dict[str, str] = {}
    return [_tokenize(text, following, known) for text, following in zip_longest(texts, texts[1:], fillvalue="")]


PTB = Tokenizer(name="ptb", version="corenlp-3.4.1", tokenize=ptb_tokenize)
"""Whatever the language, as the original: texts written without spaces come out as they are."""


def _tokenize(text: str, following: str, known: dict[str, str]) -> str:
    """One text; `known` keeps what became of the pieces between spaces seen so far."""
    text = _LINE_BREAKS.sub(" ", text)
    if _OPEN_END.search(text.rstrip()[-_END_CHARACTERS:]):
        words = _words(text, f"\n{shape(_LINE_BREAKS.sub(' ', following))}\n")
    elif _ACROSS_SPACES.search(text):
        words = _words(text)
    else:
        words = _by_pieces(text.split(" "), known)
    return words.rstrip() if text[-1:].isspace() else words


def _by_pieces(pieces: list[str], known: dict[str, str]) -> str:
    """The words of a text cut at its spaces."""
    kept = []
    for piece in pieces:
        words = known.get(piece)
        if words is None:
            words = known[piece] = _words(piece)
        if words:
            kept.append(words)
            if words[-1] == "." and words[-3:-2] in ("", " ") and words != ".":
                return _words(" ".join(pieces))  # an initial or the end of a sentence: the next word tells
    return " ".join(kept)


def _words(text: str, lookahead: str = " ") -> str:
    """The words of a text before what some rules look ahead at."""
    outline = shape(text)
    if _PLAIN_WORD.fullmatch(outline) and (word := text.rstrip(",").lower()) not in _SPLIT_WORDS:
        return word
    tokens = " ".join(_tokens(text, outline + lookahead))
    if "Σ" in tokens:
        tokens = _FINAL_SIGMA.sub(r"\1ς", _INNER_SIGMA.sub("σ", tokens))
    tokens = tokens.lower()
    return " ".join(token for token in tokens.split(" ") if token and token not in REMOVED_TOKENS)


def _tokens(text: str, outline: str) -> list[str]:
    """The tokens of a text, given its shape and that of what stands behind it."""
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match, rule = _longest(outline, position)
        if match is None:
            position += 1  # white space, or a character that the original drops
            continue
        tokens.append(rule.token(text[position : match.end(1)]))
        position = match.end(1)
    return tokens


def _longest(outline: str, position: int) -> tuple[re.Match[str] | None, Rule]:
    """The first of the longest matches at a position, what is looked ahead at included."""
    best, best_rule, best_end = None, RULES[0], position
    for rule in RULES:
        match = rule.pattern.match(outline, position)
        if match is not None and match.end() > best_end:
            best, best_rule, best_end = match, rule, match.end()
    return best, best_rule
