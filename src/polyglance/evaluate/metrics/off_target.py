"""Share of outputs in another language than asked for: the most basic error of models trained without captions in it.

`polyglance.language_identity` judges each text, and each reference in the same way. References are known to be in the
language, so their rate is the error of the identifier, with which the outputs' rate is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from polyglance.evaluate.metrics.metric import MeanMetric, MetricInput, Statistics, check_segments
from polyglance.language_identity import IDENTIFIER, judge_language, knows_language

__all__ = ["OffTarget"]


@dataclass(frozen=True, kw_only=True)
class OffTarget(MeanMetric):
    """Off-target rate: `off_target`, the share of outputs that are empty or in another language or script; 0 is best.

    `close_language` is the share in a language that is nearly the same in writing (Danish for Norwegian), and
    `unclear_language` that of outputs that tell nothing; neither is off target. The same two rates of the references
    (`off_target_references`, `close_language_references`) say how often right texts are mistaken.
    """

    name: ClassVar[str] = "language"
    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 1.0
    score_names: ClassVar[tuple[str, ...]] = (
        "off_target",
        "off_target_references",
        "close_language",
        "close_language_references",
        "unclear_language",
    )

    language: str
    """Code of the language that was asked for."""

    def __post_init__(self) -> None:
        if not knows_language(self.language):
            raise ValueError(f"language: {self.language!r} is not a language that the identifier can tell from others")

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Mark each output, and take the mean over its references."""
        check_segments(hypotheses, references)
        of_outputs = np.array([self._mark(text) for text in hypotheses])
        of_references = np.array([np.mean([self._mark(text) for text in texts], axis=0) for texts in references])
        other, close, unclear = range(3)
        columns = [of_outputs[:, other], of_references[:, other], of_outputs[:, close], of_references[:, close]]
        return Statistics(values=np.stack([*columns, of_outputs[:, unclear]], axis=1), names=self.score_names)

    def signature(self) -> Mapping[str, str]:
        """Return the identifier and its version."""
        return {"by": IDENTIFIER}

    def _mark(self, text: str) -> tuple[float, float, float]:
        """Return 1 or 0 for off target, close language and unclear language. An empty text is off target."""
        verdict = judge_language(text, self.language).verdict if text.strip() else "other"
        return (float(verdict == "other"), float(verdict == "close"), float(verdict == "unclear"))
