"""The PTB tokeniser behind published caption scores: CoreNLP 3.4.1's, as coco-caption calls it, without Java.

coco-caption and pycocoevalcap run `edu.stanford.nlp.process.PTBTokenizer -preserveLines -lowerCase`, delete 17
punctuation tokens and join the rest by spaces. `ptb_tokenize` returns the same strings, including their oddities:

- `(` becomes the word `-lrb-`, because the list of deleted tokens is in capitals and the text is not;
- `cannot` becomes `can not`, `£` becomes `#`, characters newer than Unicode 6 vanish.

There is one difference. The original receives all texts as the lines of one file, so that a line-break character inside
a text shifts every later text. Here a line break inside a text is a space. One effect of the file is kept, because
scores depend on it: the next text decides about the full stop of some last words.

- After a single letter (`vitamin C.`), the full stop is that of an initial (`c.`), unless the next text begins as
  sentences do (`A`, `The`, ...).
- After an `Art` or `No`, the full stop is that of an abbreviation if the next text begins with a number.

Source: D. Klein, C. Manning et al., Stanford CoreNLP 3.4.1 (2014); X. Chen et al., "Microsoft COCO Captions: Data
Collection and Evaluation Server", arXiv:1504.00325, section 3.
"""

import re
from collections.abc import Sequence
from itertools import zip_longest

from polyglance.evaluate.tokenization.ptb_characters import LETTER, replace_by_kinds
from polyglance.evaluate.tokenization.ptb_rules import BEFORE_NUMBER, RULES, TokenRule
from polyglance.evaluate.tokenization.tokenizer import Tokenizer

__all__ = ["PTB", "REMOVED_TOKENS", "ptb_tokenize"]

REMOVED_TOKENS = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)
"""Tokens that coco-caption deletes. The names of brackets are in the published list but never in lower-cased text."""

_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_ACROSS_SPACES = re.compile(r"<[^>]*>|[\d).] \d|\. \.|(?i:[eoy]\. l)")
"""Texts in which a token may hold a space or depend on the next word: markup, `2 1/2`, telephone numbers, `No. 5`,
`Co. Ltd`."""
_OPEN_END = re.compile(rf"(?<![A-Za-z])(?:[A-Za-z]|{BEFORE_NUMBER})\.$")
"""Ends of texts whose full stop depends on the next text: `plan B.`, `diese Art.`"""
_OPEN_END_LENGTH = len("-Figs.")
"""Length of the longest such end, with the character before it."""
_PLAIN_WORD = re.compile(f"[A-Za-z{LETTER}]+,?")
_SPLIT_WORDS = frozenset(("cannot", "gimme", "gonna", "gotta", "lemme", "wanna"))
"""Plain words that are two tokens."""

# Java looks beyond hyphens, low lines and digits for the end of a word when it lower-cases Σ, Python does not.
_INNER_SIGMA = re.compile(r"(?<=\w)Σ(?=(?:[-\u2010_]|\d+)[^\W\d_])")
_FINAL_SIGMA = re.compile(r"(?<=[^\W\d_])([-\u2010_]|\d+)Σ(?!\w)")


def ptb_tokenize(texts: Sequence[str]) -> list[str]:
    """Turn each text into its lower-cased tokens without punctuation, joined by single spaces; empty if none is left.

    Each text is tokenised on its own, except for the full stop of some last words. No output holds a line break.
    """
    known: dict[str, str] = {}
    return [_tokenize(text, following, known) for text, following in zip_longest(texts, texts[1:], fillvalue="")]


PTB = Tokenizer(name="ptb", version="corenlp-3.4.1", tokenize=ptb_tokenize)
"""The same for every language, as the original. Texts that are written without spaces are returned unchanged."""


def _tokenize(text: str, following: str, known: dict[str, str]) -> str:
    """Tokenise one text.

    Args:
        following: the next text.
        known: piece between spaces -> its tokens; filled here.
    """
    text = _LINE_BREAKS.sub(" ", text)
    if _OPEN_END.search(text.rstrip()[-_OPEN_END_LENGTH:]):
        tokens = _join_tokens(text, f"\n{replace_by_kinds(_LINE_BREAKS.sub(' ', following))}\n")
    elif _ACROSS_SPACES.search(text):
        tokens = _join_tokens(text)
    else:
        tokens = _tokenize_pieces(text.split(" "), known)
    return tokens.rstrip() if text[-1:].isspace() else tokens


def _tokenize_pieces(pieces: list[str], known: dict[str, str]) -> str:
    """Tokenise a text piece by piece, given its pieces between spaces."""
    kept = []
    for piece in pieces:
        tokens = known.get(piece)
        if tokens is None:
            tokens = known[piece] = _join_tokens(piece)
        if tokens:
            kept.append(tokens)
            if tokens[-1] == "." and tokens[-3:-2] in ("", " ") and tokens != ".":
                return _join_tokens(" ".join(pieces))  # an initial or the end of a sentence: the next word decides
    return " ".join(kept)


def _join_tokens(text: str, lookahead: str = " ") -> str:
    """Tokenise a text or a piece of it by the rules.

    Args:
        lookahead: kinds of the characters behind the text, which some rules look at.
    """
    kinds = replace_by_kinds(text)
    if _PLAIN_WORD.fullmatch(kinds) and (word := text.rstrip(",").lower()) not in _SPLIT_WORDS:
        return word
    tokens = " ".join(_find_tokens(text, kinds + lookahead))
    if "Σ" in tokens:
        tokens = _FINAL_SIGMA.sub(r"\1ς", _INNER_SIGMA.sub("σ", tokens))
    tokens = tokens.lower()
    return " ".join(token for token in tokens.split(" ") if token and token not in REMOVED_TOKENS)


def _find_tokens(text: str, kinds: str) -> list[str]:
    """Cut a text into tokens, given the kinds of its characters and of those behind it."""
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match, rule = _find_longest(kinds, position)
        if match is None:
            position += 1  # white space, or a character that the original drops
            continue
        tokens.append(rule.format_token(text[position : match.end(1)]))
        position = match.end(1)
    return tokens


def _find_longest(kinds: str, position: int) -> tuple[re.Match[str] | None, TokenRule]:
    """Return the first of the longest matches at a position; characters of the lookahead count too."""
    best, best_rule, best_end = None, RULES[0], position
    for rule in RULES:
        match = rule.pattern.match(kinds, position)
        if match is not None and match.end() > best_end:
            best, best_rule, best_end = match, rule, match.end()
    return best, best_rule
