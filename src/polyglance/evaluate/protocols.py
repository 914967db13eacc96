"""Named scoring protocols: how texts become tokens before a caption metric counts them, as published evaluations do it.

The choice of protocol changes scores more than the choice of model often does: the same Chinese captions score CIDEr
0.0008 under `coco`, 0.384 under `jieba` and 0.652 under `characters`. So a protocol has a name, which is part of every
signature. A protocol is added by one entry in `PROTOCOLS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from polyglance.evaluate.scored_languages import find_scored_language
from polyglance.evaluate.tokenization import Tokenizer, make_metric_tokenizer
from polyglance.evaluate.tokenization.normalise import (
    CAPTION_PUNCTUATION,
    PAPER_PUNCTUATION,
    UnicodeForm,
    delete_characters,
    delete_invisible,
    drop_tokens,
    normalise,
)
from polyglance.languages import did_you_mean

__all__ = ["DEFAULT", "PROTOCOLS", "RAW", "Removal", "ScoringProtocol", "find_protocol"]

Removal = Literal["none", "tokens", "characters"]
DEFAULT = "default"
"""Name of the protocol that is used if none is given; it depends on the language."""
RAW = "raw"
"""Stands in place of a protocol in signatures of metrics that read texts as they are."""
_OTHERS = "*"
"""Key for every language that a protocol does not name."""


@dataclass(frozen=True, kw_only=True)
class ScoringProtocol:
    """Steps from raw texts to tokens (Unicode form, words by language, punctuation, case), and the scale of scores."""

    name: str
    summary: str
    """One line for people, with the source."""
    tokenizers: Mapping[str, str]
    """Language code -> tokeniser; `*` is for all other languages, which are refused without it."""
    normalisation: UnicodeForm = "none"
    """Unicode form of texts before they are cut into words."""
    drops_invisible: bool = False
    """Whether invisible characters, such as U+200B, are deleted first."""
    then_ptb: bool = False
    """Whether the words are then tokenised by PTB as well (which lower-cases, and removes its own punctuation)."""
    removal: Removal = "none"
    """`tokens`: tokens of CAPTION_PUNCTUATION are left out. `characters`: those of PAPER_PUNCTUATION are deleted."""
    lowercase: bool = False
    """Whether tokens are lower-cased at the end."""
    factor: float = 1.0
    """Factor of scores: 100 where published tables print 78.1 for pycocoevalcap's 0.781."""

    def tokenizer_name(self, language: str) -> str:
        """Return the name of the tokeniser for a language.

        Raises:
            ValueError: the language is not known, or the protocol is not for it.
        """
        find_scored_language(language)
        name = self.tokenizers.get(language, self.tokenizers.get(_OTHERS))
        if name is None:
            raise ValueError(
                f"protocol {self.name!r} is for {', '.join(sorted(self.tokenizers))}, not for {language!r}; "
                "`default` is for every language"
            )
        return name

    def case(self, language: str) -> Literal["lower", "mixed"]:
        """Return `lower` where upper and lower case give the same tokens, else `mixed`."""
        ptb = self.then_ptb or self.tokenizer_name(language) == "ptb"
        return "lower" if ptb or self.lowercase else "mixed"

    def make_tokenizer(self, language: str) -> Tokenizer:
        """Make one tokeniser of all steps, named after the one that cuts the words.

        Raises:
            ValueError: as `tokenizer_name`; or a library or model that is needed is not installed.
        """
        words = make_metric_tokenizer(self.tokenizer_name(language), language)
        ptb = make_metric_tokenizer("ptb", language) if self.then_ptb and words.name != "ptb" else None

        def tokenize(texts: Sequence[str]) -> list[str]:
            if self.drops_invisible:
                texts = [delete_invisible(text) for text in texts]
            tokenized = words.tokenize([normalise(text, self.normalisation) for text in texts])
            if ptb is not None:
                tokenized = ptb.tokenize(tokenized)
            return [self._finish(text) for text in tokenized]

        name = words.name if ptb is None else f"{words.name}+{ptb.name}"
        version = words.version if ptb is None else f"{words.version}+{ptb.version}"
        version += "+visible" if self.drops_invisible else ""
        return Tokenizer(name=name, version=version, tokenize=tokenize)

    def _finish(self, tokenized: str) -> str:
        """Remove punctuation and case."""
        if self.removal == "tokens":
            tokenized = drop_tokens(tokenized, CAPTION_PUNCTUATION)
        elif self.removal == "characters":
            tokenized = delete_characters(tokenized, PAPER_PUNCTUATION)
        return tokenized.lower() if self.lowercase else tokenized


_ALL = (
    ScoringProtocol(
        name="coco",
        summary="PTB on the raw text, as pycocoevalcap and the COCO server do it",
        tokenizers={_OTHERS: "ptb"},
    ),
    ScoringProtocol(
        name="paper",
        summary="NFKC, stanza's words, punctuation deleted, lower case, x100: the paper's XM3600 evaluation",
        tokenizers={_OTHERS: "stanza"},
        normalisation="NFKC",
        removal="characters",
        lowercase=True,
        factor=100.0,
    ),
    ScoringProtocol(
        name="paligemma-xm3600",
        summary="PTB on the raw text in every language, x100: PaliGemma and big_vision on XM3600",
        tokenizers={_OTHERS: "ptb"},
        factor=100.0,
    ),
    ScoringProtocol(
        name="characters",
        summary="NFKC, every visible character a token, punctuation left out, case kept",
        tokenizers={_OTHERS: "characters"},
        normalisation="NFKC",
        drops_invisible=True,
        removal="tokens",
    ),
    ScoringProtocol(
        name="jieba",
        summary="NFKC, jieba's words, punctuation left out, case kept; Chinese only",
        tokenizers={"zh": "jieba"},
        normalisation="NFKC",
        removal="tokens",
    ),
    ScoringProtocol(
        name="multicaptioneval",
        summary="NFKC; zh characters, ja Sudachi, ko MeCab, th newmm, else PTB; punctuation left out",
        tokenizers={"zh": "characters", "ja": "sudachi", "ko": "mecab-ko", "th": "newmm", _OTHERS: "ptb"},
        normalisation="NFKC",
        removal="tokens",
    ),
    ScoringProtocol(
        name="mblip",
        summary="NFC; zh characters, ja Sudachi, th newmm; then PTB in every language: mBLIP and Centurio",
        tokenizers={"zh": "characters", "ja": "sudachi", "th": "newmm", _OTHERS: "ptb"},
        normalisation="NFC",
        then_ptb=True,
    ),
    ScoringProtocol(
        name="whitespace",
        summary="words between spaces as they are, nothing removed, case kept",
        tokenizers={_OTHERS: "whitespace"},
    ),
)
PROTOCOLS: Mapping[str, ScoringProtocol] = MappingProxyType({entry.name: entry for entry in _ALL})
"""Name on the command line -> protocol."""


def find_protocol(name: str, language: str) -> ScoringProtocol:
    """Return the protocol with this name; `default` is `coco` where words are separated by spaces, else `characters`.

    Raises:
        ValueError: there is no such protocol or language; the message names the nearest.
    """
    if name == DEFAULT:
        name = "coco" if find_scored_language(language).spaces else "characters"
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}: {did_you_mean(name, (DEFAULT, *PROTOCOLS))}")
    return PROTOCOLS[name]
