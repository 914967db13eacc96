"""The segments with the largest effect on a score, or on the difference of two systems, with matched n-grams.

    explanation = explain(table.reports["a"], table.reports["b"], num_segments=20)

The effect of a segment is the score (or the difference) of all segments minus that of all other segments. Document
frequencies of CIDEr stay those of the whole set.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from polyglance.data.texts.text_set import Id
from polyglance.evaluate.checks import SegmentTexts
from polyglance.evaluate.compare import find_order, pair_measurements
from polyglance.evaluate.metrics.sacre import Chrf, SacreBleu
from polyglance.evaluate.protocols import RAW, find_protocol
from polyglance.evaluate.score_report import Measurement, ScoreReport
from polyglance.languages import did_you_mean

__all__ = ["ExplainedSegment", "ExplainedText", "Explanation", "explain"]

_WORD_ORDER, _CHARACTER_ORDER = 4, 6
"""Longest n-grams: of words in CIDEr and BLEU, of characters in chrF."""


@dataclass(frozen=True, kw_only=True)
class ExplainedText:
    """A text as the metric counts it."""

    role: str
    """Name of the system, or `reference 1`."""
    tokens: tuple[str, ...]
    orders: tuple[int, ...]
    """For each token the length of the longest matched n-gram that contains it; 0 if none does. An n-gram is matched at
    most as often as it occurs in the reference that has it most often."""
    matches: tuple[str, ...]
    """The matched n-grams that are not part of longer matched ones, in order."""
    score: float | None = None
    """Score of this segment alone; None for references."""

    @property
    def marked(self) -> list[tuple[str, int]]:
        """Tokens with their orders."""
        return list(zip(self.tokens, self.orders, strict=True))


@dataclass(frozen=True, kw_only=True)
class ExplainedSegment:
    """One segment, with all its texts."""

    id: Id
    effect: float
    """Amount that the score, or the difference, of the whole set would lose without this segment."""
    texts: tuple[ExplainedText, ...]
    """The systems' texts, then the references."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The segments with the largest effect on one score."""

    score: str
    """Name of the score: `CIDEr`."""
    protocol: str
    language: str
    signature: str
    systems: tuple[str, ...]
    """The system; or the baseline, and the system whose difference to it is explained."""
    value: float
    """The score, or the system's score minus the baseline's."""
    num_segments: int
    """Number of segments of the whole set."""
    separator: str
    """Text between tokens: a space, or nothing where tokens are characters."""
    segments: tuple[ExplainedSegment, ...]
    """The largest effects first, whatever their sign."""


def explain(
    report: ScoreReport, other: ScoreReport | None = None, *, num_segments: int, score: str = "", names: Sequence[str]
) -> Explanation:
    """Find the segments with the largest effect on a score or, with `other`, on the difference of the two scores.

    Args:
        num_segments: number of segments to show.
        score: name of the score; the last of the first metric if not given (CIDEr, Bleu_4).
        names: name of the system, or of both.

    Raises:
        ValueError: no such score; scores that were read from a file, which hold no texts; or as `compare_systems`.
    """
    pairs = [(one, one) for one in report.measurements] if other is None else pair_measurements(report, other)
    first, second = _choose(pairs, score)
    chosen = score or list(_score(first, first.statistics.values.sum(axis=0), 2))[-1]
    effects = _measure_effects(second, chosen)
    own_scores = [_score_alone(first, chosen)]
    if other is not None:
        effects = effects - _measure_effects(first, chosen)
        own_scores.append(_score_alone(second, chosen))
    texts = [one.segments for one in (report, other) if one is not None]
    systems = [one for one in texts if one is not None]
    if len(systems) < len(texts):
        raise ValueError(f"{report.source}: segments are explained by their texts, which scores in files do not hold")
    if other is not None:
        systems[1] = _reorder(systems[1], report, other)
    tokenizer = _Tokenizer(first)
    rows = np.argsort(-np.abs(effects), kind="stable")[:num_segments]
    values = [_value(one, chosen) for one in (first, second)]
    (reported,) = [one for one in report.scores if (one.name, one.protocol) == (chosen, first.parts["proto"])]
    return Explanation(
        score=chosen,
        protocol=first.parts["proto"],
        language=first.parts["lang"],
        signature=reported.signature,
        systems=tuple(names),
        value=values[0] if other is None else values[1] - values[0],
        num_segments=len(effects),
        separator=tokenizer.separator,
        segments=tuple(
            ExplainedSegment(
                id=report.ids[row],
                effect=float(effects[row]),
                texts=_explain_texts(systems, int(row), names, [float(one[row]) for one in own_scores], tokenizer),
            )
            for row in rows
        ),
    )


def _choose(pairs: Sequence[tuple[Measurement, Measurement]], score: str) -> tuple[Measurement, Measurement]:
    if not pairs:
        raise ValueError("the report has no score to explain")
    names = [list(_score(one, one.statistics.values.sum(axis=0), 2)) for one, _ in pairs]
    if not score:
        return pairs[0]
    known = list(dict.fromkeys(name for some in names for name in some))
    if score not in known:
        raise ValueError(f"--explain-score {score}: no such score; {did_you_mean(score, known)}")
    return next(pair for pair, some in zip(pairs, names, strict=True) if score in some)


def _score(one: Measurement, sums: Float[np.ndarray, "*N K"], num_segments: int) -> dict[str, Any]:
    return {name: value * one.factor for name, value in one.metric.scores(sums, num_segments).items()}


def _value(one: Measurement, score: str) -> float:
    values = one.statistics.values
    return float(_score(one, values.sum(axis=0), len(values))[score])


def _score_alone(one: Measurement, score: str) -> Float[np.ndarray, "N"]:
    """Compute the score of each segment alone."""
    return np.asarray(_score(one, one.statistics.values, 1)[score])


def _measure_effects(one: Measurement, score: str) -> Float[np.ndarray, "N"]:
    """Compute the score of all segments minus that of all but one, for each."""
    values = one.statistics.values
    if len(values) == 1:
        return _score_alone(one, score)
    others = _score(one, values.sum(axis=0) - values, len(values) - 1)[score]
    return np.asarray(_value(one, score) - others)


def _reorder(texts: SegmentTexts, report: ScoreReport, other: ScoreReport) -> SegmentTexts:
    """Bring the second system's texts into the order of the first's ids."""
    order = find_order(report, other)
    return replace(
        texts,
        ids=report.ids,
        hypotheses=[texts.hypotheses[row] for row in order],
        references=[texts.references[row] for row in order],
    )


class _Tokenizer:
    """Cuts texts as a measurement did."""

    def __init__(self, measurement: Measurement) -> None:
        metric, language = measurement.metric, measurement.parts["lang"]
        self.separator, self.max_order = " ", _WORD_ORDER
        self._cut: Callable[[Sequence[str]], list[list[str]]]
        if measurement.parts["proto"] != RAW:
            tokenize = find_protocol(measurement.parts["proto"], language).make_tokenizer(language).tokenize
            self._cut = lambda texts: [text.split() for text in tokenize(texts)]
        elif isinstance(metric, SacreBleu):
            self._cut = lambda texts: [metric.cut_words(text) for text in texts]
        elif isinstance(metric, Chrf):
            self.separator, self.max_order = "", _CHARACTER_ORDER
            self._cut = lambda texts: [list("".join(text.split())) for text in texts]
        else:
            self._cut = lambda texts: [text.split() for text in texts]

    def cut(self, texts: Sequence[str], following: str) -> list[list[str]]:
        """Cut texts into tokens; PTB looks into the text that follows the last."""
        return self._cut([*texts, following])[:-1]


def _explain_texts(
    systems: Sequence[SegmentTexts], row: int, names: Sequence[str], scores: Sequence[float], tokenizer: _Tokenizer
) -> tuple[ExplainedText, ...]:
    """Cut the texts of a segment and mark what matches."""
    is_last = row + 1 == len(systems[0].ids)
    following = "" if is_last else systems[0].references[row + 1][0]
    references = tokenizer.cut(systems[0].references[row], following)
    hypotheses = []
    for one in systems:
        (tokens,) = tokenizer.cut([one.hypotheses[row]], "" if is_last else one.hypotheses[row + 1])
        hypotheses.append(tokens)
    explained = [
        _explain_text(name, tokens, references, tokenizer, score)
        for name, tokens, score in zip(names, hypotheses, scores, strict=True)
    ]
    explained += [
        _explain_text(f"reference {number}", tokens, hypotheses, tokenizer)
        for number, tokens in enumerate(references, 1)
    ]
    return tuple(explained)


def _explain_text(
    role: str,
    tokens: Sequence[str],
    others: Sequence[Sequence[str]],
    tokenizer: _Tokenizer,
    score: float | None = None,
) -> ExplainedText:
    orders, matches, end = [0] * len(tokens), [], 0
    spans = _find_matches(tokens, others, tokenizer.max_order)
    for place, length in spans:
        orders[place : place + length] = [max(length, order) for order in orders[place : place + length]]
        if place + length > end:  # the longest that begins here, unless it is part of one that begins before
            matches.append(tokenizer.separator.join(tokens[place : place + length]))
            end = place + length
    return ExplainedText(
        role=role, tokens=tuple(tokens), orders=tuple(orders), matches=tuple(dict.fromkeys(matches)), score=score
    )


def _find_matches(tokens: Sequence[str], others: Sequence[Sequence[str]], max_order: int) -> list[tuple[int, int]]:
    """Return position and length of each n-gram that one of the other texts has too: by position, the longest first.
    Each is matched at most as often as it occurs in the text that has it most often."""
    spans = []
    for length in range(1, max_order + 1):
        left: Counter[tuple[str, ...]] = Counter()
        for other in others:
            left |= Counter(_list_ngrams(other, length))
        for place, gram in enumerate(_list_ngrams(tokens, length)):
            if left[gram] > 0:
                left[gram] -= 1
                spans.append((place, length))
    return sorted(spans, key=lambda span: (span[0], -span[1]))


def _list_ngrams(tokens: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[place : place + length]) for place in range(len(tokens) - length + 1)]
