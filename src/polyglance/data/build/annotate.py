"""From texts to annotations: captions by style, translations, paragraphs (official code section 2.3, defects mended).

What is drawn at random depends on the seed and the image's key alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyglance.data.sentences import join_sentences, sentences
from polyglance.languages import SOURCE_LANGUAGE, language
from polyglance.records import Annotation, Style

__all__ = ["AnnotateConfig", "Description", "MatchedPair", "annotations_of"]


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """Which annotations are made of texts."""

    captions: tuple[str, ...] = ("en", "de")
    """Languages whose descriptions become captions. The others are translated into but never captioned in."""
    min_source_characters: int = 26
    """Pairs with a shorter English side are left out (published: more than 25)."""
    shuffled_sentences: bool = True
    """Of a translated description with several sentences also a random selection of them, in random order."""
    paragraphs: bool = True
    """Of several bitext pairs of an image also some of them as one text, in random order."""
    min_score: float | None = None
    """Bitext pairs that match their image less than this (cosine similarity) are left out."""

    def __post_init__(self) -> None:
        if self.min_source_characters < 0:
            raise ValueError("min_source_characters must not be negative")
        for code in self.captions:
            language(code)


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """An English description of an image and its translations."""

    text: str
    style: Style | None = None
    """None: told by the number of sentences."""
    origin: str
    translations: tuple[tuple[str, str, str], ...] = ()
    """(language, text, origin)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedPair:
    """A bitext pair that was matched to an image."""

    language: str
    source: str
    target: str
    origin: str
    score: float


def annotations_of(
    key: str,
    descriptions: Sequence[Description],
    pairs: Sequence[MatchedPair],
    *,
    config: AnnotateConfig,
    seed: int,
) -> tuple[Annotation, ...]:
    """The annotations of one image, each once."""
    random = np.random.default_rng([seed, *hashlib.sha256(key.encode()).digest()[:8]])
    made: dict[Annotation, None] = {}
    for description in descriptions:
        made |= dict.fromkeys(_of_description(description, config, random))
    made |= dict.fromkeys(_of_pairs(pairs, config, random))
    return tuple(made)


def _of_description(description: Description, config: AnnotateConfig, random: np.random.Generator) -> list[Annotation]:
    made = []
    if SOURCE_LANGUAGE in config.captions:
        made += _captions(description.text, SOURCE_LANGUAGE, description.style, description.origin)
    source_sentences = sentences(description.text, SOURCE_LANGUAGE)
    for code, text, origin in description.translations:
        if code in config.captions:
            made += _captions(text, code, description.style, origin)
        if len(description.text) < config.min_source_characters:
            continue
        made.append(_translation(code, description.text, text, origin, _style(len(source_sentences))))
        target_sentences = sentences(text, code)
        if config.shuffled_sentences and len(source_sentences) == len(target_sentences) > 1:
            chosen = _some(len(source_sentences), random)
            source = join_sentences([source_sentences[i] for i in chosen], SOURCE_LANGUAGE)
            target = join_sentences([target_sentences[i] for i in chosen], code)
            made.append(_translation(code, source, target, origin, _style(len(chosen))))
    return made


def _of_pairs(pairs: Sequence[MatchedPair], config: AnnotateConfig, random: np.random.Generator) -> list[Annotation]:
    made = []
    kept = [
        pair
        for pair in pairs
        if len(pair.source) >= config.min_source_characters
        and (config.min_score is None or pair.score >= config.min_score)
    ]
    for code in dict.fromkeys(pair.language for pair in kept):
        own = [pair for pair in kept if pair.language == code]
        made += [_translation(code, pair.source, pair.target, pair.origin, "short", pair.score) for pair in own]
        if config.paragraphs and len(own) > 1:
            chosen = [own[i] for i in _some(len(own), random)]
            source = join_sentences([pair.source for pair in chosen], SOURCE_LANGUAGE)
            target = join_sentences([pair.target for pair in chosen], code)
            score = min(pair.score for pair in chosen)
            made.append(_translation(code, source, target, chosen[0].origin, _style(len(chosen)), score))
    return made


def _captions(text: str, code: str, style: Style | None, origin: str) -> list[Annotation]:
    """The text in its style; or its first sentence, and all of it if there are more."""

    def caption(words: str, kind: Style) -> Annotation:
        return Annotation(task="caption", language=code, text=words, style=kind, origin=origin)

    if style is not None:
        return [caption(text, style)]
    found = sentences(text, code)
    made = [caption(found[0], "short")] if found else []
    return made + ([caption(text, _style(len(found)))] if len(found) > 1 else [])


def _style(num_sentences: int) -> Style:
    return "short" if num_sentences < 2 else "detailed" if num_sentences == 2 else "paragraph"


def _translation(
    code: str, source: str, target: str, origin: str, style: Style, score: float | None = None
) -> Annotation:
    return Annotation(
        task="translation", language=code, text=target, source=source, style=style, origin=origin, score=score
    )


def _some(number: int, random: np.random.Generator) -> list[int]:
    """Two or more of `number` places, in random order."""
    return random.permutation(number)[: random.integers(2, number + 1)].tolist()
