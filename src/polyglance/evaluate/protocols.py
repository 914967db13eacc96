"""Named protocols: how texts become tokens before a caption metric counts them, as published evaluations do it.

The choice moves the number more than most models do: the same Chinese captions score CIDEr 0.0008 under `coco`, 0.384
under `jieba` and 0.652 under `characters`. So a protocol is data, has a name, and is part of every signature.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from polyglance.evaluate.scored_languages import scored_language
from polyglance.evaluate.tokenization import Tokenizer, tokenizer
from polyglance.evaluate.tokenization.normalise import (
    CAPTION_PUNCTUATION,
    PAPER_PUNCTUATION,
    UnicodeForm,
    delete_characters,
    drop_tokens,
    normalise,
)
from polyglance.languages import did_you_mean

__all__ = ["DEFAULT", "PROTOCOLS", "Protocol", "Removal", "protocol"]

Removal = Literal["none", "tokens", "characters"]
DEFAULT = "default"
"""Stands for the protocol that a language is scored with where none is named."""
OTHERS = "*"
"""Stands for every language that a protocol does not name."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """From raw texts to tokens: Unicode form, words by language, punctuation, case; and the scale that is printed."""

    name: str
    summary: str
    """One line for people, with where it comes from."""
    tokenizers: Mapping[str, str]
    """Language code -> tokeniser; `*` stands for all others, and without it they are refused."""
    normalisation: UnicodeForm = "none"
    """Applied before the words are cut."""
    then_ptb: bool = False
    """The cut words go through PTB as well (which lower-cases, and removes its own punctuation)."""
    removal: Removal = "none"
    """`tokens`: tokens of CAPTION_PUNCTUATION are left out. `characters`: those of PAPER_PUNCTUATION are deleted."""
    lowercase: bool = False
    factor: float = 1.0
    """What scores are multiplied with: 100 where the published tables say 78.1 for what pycocoevalcap calls 0.781."""

    def tokenizer_name(self, language: str) -> str:
        """Name of the tokeniser for a language.

        Raises:
            ValueError: the language is not known, or the protocol says nothing about it.
        """
        scored_language(language)
        name = self.tokenizers.get(language, self.tokenizers.get(OTHERS))
        if name is None:
            raise ValueError(
                f"protocol {self.name!r} is for {', '.join(sorted(self.tokenizers))}, not for {language!r}; "
                "`default` is for every language"
            )
        return name

    def case(self, language: str) -> Literal["lower", "mixed"]:
        """Whether upper and lower case are the same to it."""
        ptb = self.then_ptb or self.tokenizer_name(language) == "ptb"
        return "lower" if ptb or self.lowercase else "mixed"

    def tokenizer(self, language: str) -> Tokenizer:
        """All of the protocol's steps as one tokeniser, named after the one that cuts the words.

        Raises:
            ValueError: as `tokenizer_name`; or a library or model that is needed is not installed.
        """
        words = tokenizer(self.tokenizer_name(language), language)
        ptb = tokenizer("ptb", language) if self.then_ptb and words.name != "ptb" else None

        def tokenize(texts: Sequence[str]) -> list[str]:
            cut = words.tokenize([normalise(text, self.normalisation) for text in texts])
            if ptb is not None:
                cut = ptb.tokenize(cut)
            return [self._finish(text) for text in cut]

        name = words.name if ptb is None else f"{words.name}+{ptb.name}"
        version = words.version if ptb is None else f"{words.version}+{ptb.version}"
        return Tokenizer(name=name, version=version, tokenize=tokenize)

    def _finish(self, tokenized: str) -> str:
        if self.removal == "tokens":
            tokenized = drop_tokens(tokenized, CAPTION_PUNCTUATION)
        elif self.removal == "characters":
            tokenized = delete_characters(tokenized, PAPER_PUNCTUATION)
        return tokenized.lower() if self.lowercase else tokenized


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Protocol(
                name="coco",
                summary="PTB on the raw text, as pycocoevalcap and the COCO server do it",
                tokenizers={OTHERS: "ptb"},
            ),
            Protocol(
                name="paper",
                summary="NFKC, stanza's words, punctuation deleted, lower case, x100: the paper's XM3600 evaluation",
                tokenizers={OTHERS: "stanza"},
                normalisation="NFKC",
                removal="characters",
                lowercase=True,
                factor=100.0,
            ),
            Protocol(
                name="paligemma-xm3600",
                summary="PTB on the raw text in every language, x100: PaliGemma and big_vision on XM3600",
                tokenizers={OTHERS: "ptb"},
                factor=100.0,
            ),
            Protocol(
                name="characters",
                summary="NFKC, every character that is not white space a token, punctuation left out, case kept",
                tokenizers={OTHERS: "characters"},
                normalisation="NFKC",
                removal="tokens",
            ),
            Protocol(
                name="jieba",
                summary="NFKC, jieba's words, punctuation left out, case kept; Chinese only",
                tokenizers={"zh": "jieba"},
                normalisation="NFKC",
                removal="tokens",
            ),
            Protocol(
                name="multicaptioneval",
                summary="NFKC; zh characters, ja Sudachi, ko MeCab, th newmm, else PTB; punctuation left out",
                tokenizers={"zh": "characters", "ja": "sudachi", "ko": "mecab-ko", "th": "newmm", OTHERS: "ptb"},
                normalisation="NFKC",
                removal="tokens",
            ),
            Protocol(
                name="mblip",
                summary="NFC; zh characters, ja Sudachi, th newmm; then PTB in every language: mBLIP and Centurio",
                tokenizers={"zh": "characters", "ja": "sudachi", "th": "newmm", OTHERS: "ptb"},
                normalisation="NFC",
                then_ptb=True,
            ),
            Protocol(
                name="whitespace",
                summary="words between spaces as they are, nothing removed, case kept",
                tokenizers={OTHERS: "whitespace"},
            ),
        )
    }
)
"""Every protocol, by the name that the command line takes."""


def protocol(name: str, language: str) -> Protocol:
    """The protocol with this name; `default` is `coco` where words are written with spaces between, else `characters`.

    Raises:
        ValueError: there is no such protocol or language; the message names the nearest.
    """
    if name == DEFAULT:
        name = "coco" if scored_language(language).spaces else "characters"
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}: {did_you_mean(name, (DEFAULT, *PROTOCOLS))}")
    return PROTOCOLS[name]
