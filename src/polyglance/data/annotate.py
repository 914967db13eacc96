"""From the texts of an image to its annotations: captions by style, translations, paragraphs.

The rules are those of the published code (official code section 2.3) without its defects. Random choices depend on the
seed and the image's key alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polyglance.data.sentences import join_sentences, split_sentences
from polyglance.data.sources.raw_images import TEXT_DROPPED
from polyglance.language_tags import find_codes
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.records import Annotation, Drops, Style

__all__ = ["AnnotateConfig", "Description", "MatchedPair", "make_annotations"]

_SHORT = "shorter than min_source_characters"


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """Rules by which texts become annotations.

    Raises:
        ValueError: an unknown language, or a negative length.
    """

    captions: tuple[str, ...] = ("en", "de")
    """Languages whose descriptions become captions. Other languages only get translations."""
    min_source_characters: int = 26
    """Pairs with a shorter English side are left out (published: more than 25)."""
    shuffled_sentences: bool = True
    """Also make a translation from a random selection of a description's sentences, in random order, if it has several
    sentences."""
    paragraphs: bool = True
    """Also make a translation from some of an image's bitext pairs, joined in random order, if it has several pairs."""
    min_score: float | None = None
    """Least cosine similarity of a bitext pair and its image; pairs below it are left out. None: no limit."""

    def __post_init__(self) -> None:
        if self.min_source_characters < 0:
            raise ValueError("min_source_characters must not be negative")
        object.__setattr__(self, "captions", find_codes(self.captions))


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """An English description of an image and its translations."""

    text: str
    style: Style | None = None
    """None: derived from the number of sentences."""
    origin: str
    translations: tuple[tuple[str, str, str], ...] = ()
    """(language, text, origin) of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedPair:
    """A bitext pair that was matched to an image."""

    language: str
    source: str
    target: str
    origin: str
    score: float


def make_annotations(
    key: str,
    descriptions: Sequence[Description],
    pairs: Sequence[MatchedPair],
    *,
    config: AnnotateConfig,
    seed: int,
    drops: Drops,
) -> tuple[Annotation, ...]:
    """Make the annotations of one image, without duplicates.

    Args:
        drops: gets the pairs and translations that are left out.
    """
    random = np.random.default_rng([seed, *hashlib.sha256(key.encode()).digest()[:8]])
    annotations: dict[Annotation, None] = {}
    for description in descriptions:
        annotations |= dict.fromkeys(_annotate_description(key, description, config, random, drops))
    good = [pair for pair in pairs if _is_good(key, pair, config, drops)]
    annotations |= dict.fromkeys(_annotate_pairs(good, config, random))
    return tuple(annotations)


def _annotate_description(
    key: str, description: Description, config: AnnotateConfig, random: np.random.Generator, drops: Drops
) -> list[Annotation]:
    annotations = []
    if SOURCE_LANGUAGE in config.captions:
        annotations += _captions(description.text, SOURCE_LANGUAGE, description.style, description.origin)
    source_sentences = split_sentences(description.text, SOURCE_LANGUAGE)
    for code, text, origin in description.translations:
        if code in config.captions:
            annotations += _captions(text, code, description.style, origin)
        if len(description.text) < config.min_source_characters:
            drops.add(f"{TEXT_DROPPED}{code}: translation of a text {_SHORT}", f"{key}: {description.text}"[:300])
            continue
        annotations.append(_translation(code, description.text, text, origin, len(source_sentences)))
        target_sentences = split_sentences(text, code)
        if config.shuffled_sentences and len(source_sentences) == len(target_sentences) > 1:
            chosen = _choose_two_or_more(len(source_sentences), random)
            source = join_sentences([source_sentences[i] for i in chosen], SOURCE_LANGUAGE)
            target = join_sentences([target_sentences[i] for i in chosen], code)
            annotations.append(_translation(code, source, target, origin, len(chosen)))
    return annotations


def _is_good(key: str, pair: MatchedPair, config: AnnotateConfig, drops: Drops) -> bool:
    """Tell whether a pair is long enough, and near enough to its image; if not, it goes to `drops`."""
    reason = ""
    if len(pair.source) < config.min_source_characters:
        reason = f"pair with an English side {_SHORT}"
    elif config.min_score is not None and pair.score < config.min_score:
        reason = "pair with a score below min_score"
    if reason:
        drops.add(f"{TEXT_DROPPED}{pair.language}: {reason}", f"{key}: {pair.score:.3g}, {pair.source}"[:300])
    return not reason


def _annotate_pairs(
    pairs: Sequence[MatchedPair], config: AnnotateConfig, random: np.random.Generator
) -> list[Annotation]:
    annotations = []
    for code in dict.fromkeys(pair.language for pair in pairs):
        of_language = [pair for pair in pairs if pair.language == code]
        annotations += [
            _translation(code, pair.source, pair.target, pair.origin, 1, pair.score) for pair in of_language
        ]
        if config.paragraphs and len(of_language) > 1:
            chosen = [of_language[i] for i in _choose_two_or_more(len(of_language), random)]
            source = join_sentences([pair.source for pair in chosen], SOURCE_LANGUAGE)
            target = join_sentences([pair.target for pair in chosen], code)
            score = min(pair.score for pair in chosen)
            annotations.append(_translation(code, source, target, chosen[0].origin, len(chosen), score))
    return annotations


def _captions(text: str, code: str, style: Style | None, origin: str) -> list[Annotation]:
    """Return the captions of a text: the text in its style; without a style its first sentence and, if it has more, all
    of it."""

    def caption(words: str, kind: Style) -> Annotation:
        return Annotation(task="caption", language=code, text=words, style=kind, origin=origin)

    if style is not None:
        return [caption(text, style)]
    sentences = split_sentences(text, code)
    captions = [caption(sentences[0], "short")] if sentences else []
    return captions + ([caption(text, _style(len(sentences)))] if len(sentences) > 1 else [])


def _style(num_sentences: int) -> Style:
    return "short" if num_sentences < 2 else "detailed" if num_sentences == 2 else "paragraph"


def _translation(
    code: str, source: str, target: str, origin: str, num_sentences: int, score: float | None = None
) -> Annotation:
    return Annotation(
        task="translation",
        language=code,
        text=target,
        source=source,
        style=_style(num_sentences),
        origin=origin,
        score=score,
    )


def _choose_two_or_more(number: int, random: np.random.Generator) -> list[int]:
    """Choose two or more of the numbers below `number`, in random order."""
    return random.permutation(number)[: random.integers(2, number + 1)].tolist()
