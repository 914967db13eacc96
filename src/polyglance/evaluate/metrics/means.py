"""Measures that are made with a model: their statistics are numbers per segment, and their scores are the means.

`eval disambiguate` and `eval clip-score` make the statistics; intervals and comparisons are made as for any metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from polyglance.evaluate.metrics.metric import MetricInput, Statistics

__all__ = ["ClipScore", "DisambiguationAccuracy", "SegmentMeans"]


@dataclass(frozen=True, kw_only=True)
class SegmentMeans:
    """Scores are means over segments, in percent."""

    names: ClassVar[tuple[str, ...]]
    """Of the scores; a column of the statistics each."""
    name: ClassVar[str]
    made_by: ClassVar[str]
    """The command that makes the statistics."""
    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 100.0

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:  # noqa: ARG002
        """Refused: texts alone do not say it."""
        raise ValueError(f"{self.name} takes more than texts: `polyglance {self.made_by}` measures it")

    def of(self, columns: Mapping[str, Sequence[float]]) -> Statistics:
        """Statistics of a number per segment for each score, as shares of 1."""
        values = np.array([columns[name] for name in self.names], dtype=np.float64).T
        return Statistics(values=values, names=self.names)

    def scores(
        self, statistics: Float[np.ndarray, "*draws K"], num_segments: int
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        return {name: _percent(statistics[..., column], num_segments) for column, name in enumerate(self.names)}

    def segment_scores(self, statistics: Float[np.ndarray, "N K"]) -> dict[str, Float[np.ndarray, "N"]]:
        return {name: 100 * statistics[:, column] for column, name in enumerate(self.names)}

    def signature(self) -> Mapping[str, str]:
        return {}


@dataclass(frozen=True, kw_only=True)
class DisambiguationAccuracy(SegmentMeans):
    """Rows whose right translation costs less than the wrong one, in percent, under each rule for ties."""

    name: ClassVar[str] = "accuracy"
    names: ClassVar[tuple[str, ...]] = ("accuracy", "accuracy_ties_right", "accuracy_ties_half")
    made_by: ClassVar[str] = "eval disambiguate"


@dataclass(frozen=True, kw_only=True)
class ClipScore(SegmentMeans):
    """CLIPScore without references (Hessel et al., 2021): 2.5 times the cosine, not below 0, times 100. It can pass 100
    in theory; real captions score 60 to 90."""

    score: str = "CLIPScore"
    """`CLIPScore` of English captions, `MCLIPScore` of those in other languages, which a multilingual model reads."""
    name: ClassVar[str] = "clipscore"
    names: ClassVar[tuple[str, ...]] = ("CLIPScore",)
    made_by: ClassVar[str] = "eval caption --clip FOLDER"

    def scores(
        self, statistics: Float[np.ndarray, "*draws K"], num_segments: int
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        return {self.score: _percent(statistics[..., 0], num_segments)}

    def segment_scores(self, statistics: Float[np.ndarray, "N K"]) -> dict[str, Float[np.ndarray, "N"]]:
        return {self.score: 100 * statistics[:, 0]}


def _percent(sums: Any, num_segments: int) -> Float[np.ndarray, "*draws"]:
    return np.asarray(100 * sums / num_segments)
