"""Metrics that need a model: `polyglance eval` computes their statistics, a number per segment. Intervals and
comparisons are computed as for any metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from polyglance.evaluate.metrics.metric import MeanMetric, MetricInput, Statistics

__all__ = ["ClipScore", "DisambiguationAccuracy", "ModelBasedMetric"]


@dataclass(frozen=True, kw_only=True)
class ModelBasedMetric(MeanMetric):
    """Means over segments, in percent. The statistics cannot be computed from texts alone."""

    name: ClassVar[str]
    made_by: ClassVar[str]
    """Command that makes the statistics."""
    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 100.0
    percent: ClassVar[bool] = True

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:  # noqa: ARG002
        """Refuse to score texts alone."""
        raise ValueError(f"{self.name} takes more than texts: `polyglance {self.made_by}` measures it")

    def signature(self) -> Mapping[str, str]:
        """Return nothing: the scores depend on the model, which the measurement names."""
        return {}


@dataclass(frozen=True, kw_only=True)
class DisambiguationAccuracy(ModelBasedMetric):
    """Rows whose correct translation costs less than the incorrect one, in percent, under three rules for ties.

    `accuracy`: ties are wrong (`<`), as in CoMMuTE's evaluate.py and the paper. `accuracy_ties_right`: ties are right
    (`<=`), as in VGAMT's trainer. `accuracy_ties_half`: a tie counts half; blind guessing gives 50 under this rule
    alone. Six Russian and two Arabic rows of CoMMuTE have two identical translations and always tie.
    """

    name: ClassVar[str] = "accuracy"
    score_names: ClassVar[tuple[str, ...]] = ("accuracy", "accuracy_ties_right", "accuracy_ties_half")
    made_by: ClassVar[str] = "eval disambiguate"

    def count_decisions(self, correct: Sequence[float], incorrect: Sequence[float]) -> Statistics:
        """Count the rows that are decided rightly.

        Args:
            correct, incorrect: loss of the correct and of the incorrect translation of each row, finite; less is
                better. Mean losses order rows as perplexities do (CoMMuTE and the paper: exp of the mean over tokens).
        """
        a, b = np.array(correct), np.array(incorrect)
        assert len(a) == len(b) > 0, "one loss of each translation per row"
        assert np.isfinite(a).all(), "losses are finite"
        assert np.isfinite(b).all(), "losses are finite"
        columns = (a < b, a <= b, ((a < b) + (a <= b) * 1.0) / 2)
        return Statistics(values=np.stack(columns, axis=1).astype(np.float64), names=self.score_names)


@dataclass(frozen=True, kw_only=True)
class ClipScore(ModelBasedMetric):
    """CLIPScore without references (Hessel et al., 2021): 2.5 times the cosine, not below 0, times 100. It can pass 100
    in theory; real captions score 60 to 90."""

    score: str = "CLIPScore"
    """`CLIPScore` of English captions, `MCLIPScore` of those in other languages, which a multilingual model reads."""
    name: ClassVar[str] = "clipscore"
    made_by: ClassVar[str] = "eval caption --clip FOLDER"

    @property
    def score_names(self) -> tuple[str, ...]:
        """Name of the score."""
        return (self.score,)

    def keep_values(self, values: Sequence[float]) -> Statistics:
        """Return the weighted cosines of the segments as statistics."""
        return Statistics(values=np.array(values, dtype=np.float64)[:, None], names=("CLIPScore",))
