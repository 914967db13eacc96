"""The interface of metrics: sufficient statistics of each segment, and scores computed from their sum.

A metric never sees files, languages or tokenisers. It gets texts, tokenised by a protocol where it reads tokens. Its
statistics are kept, so that subsets, intervals and comparisons need no texts (the design of sacrebleu's metrics).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

__all__ = ["MeanMetric", "Metric", "MetricInput", "Statistics", "check_segments"]

MetricInput = Literal["tokens", "text"]
"""`tokens`: texts whose tokens are joined by single spaces, as the protocol's tokeniser makes them. `text`: texts as
they are, for metrics that tokenise for themselves (sacrebleu's)."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Sufficient statistics of a metric over a set of segments."""

    values: Float[np.ndarray, "N K"]
    """One row per segment; scores are functions of the rows' sum and number."""
    names: tuple[str, ...]
    """Name of each of the K columns."""


@runtime_checkable
class Metric(Protocol):
    """A metric over segments (images, sentences) with one hypothesis and one or more references each."""

    @property
    def name(self) -> str:
        """Name on the command line: `cider`."""
        ...

    @property
    def reads(self) -> MetricInput:
        """Kind of texts that it reads."""
        ...

    @property
    def scale(self) -> float:
        """Score of a perfect text, roughly: 1, 10 (CIDEr) or 100. Printed in signatures, so that 0.6 is not read as
        0.6 %."""
        ...

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Count the statistics of N segments.

        Args:
            references: the references of each segment: `references[i]` belong to `hypotheses[i]`.

        Raises:
            ValueError: the two are not equally long, or a segment has no reference.
        """
        ...

    def scores(
        self, statistics: Float[np.ndarray, "*draws K"], num_segments: int
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """Return score name (`Bleu_4`) -> value, computed from statistics summed over `num_segments` segments. Many
        sums are accepted at once, so that a bootstrap is one call."""
        ...

    def signature(self) -> Mapping[str, str]:
        """Return key -> value of every setting of the metric that changes its scores, in a fixed order."""
        ...


class MeanMetric:
    """Base of metrics whose scores are means over segments: a column of the statistics for each score."""

    percent: ClassVar[bool] = False
    """Scores are printed in percent; the statistics are shares of 1."""

    @property
    def score_names(self) -> tuple[str, ...]:
        """Name of the score of each column."""
        raise NotImplementedError

    def scores(
        self, statistics: Float[np.ndarray, "*draws K"], num_segments: int
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """Compute the means."""
        sums = 100 * statistics if self.percent else statistics
        return {name: np.asarray(sums[..., column] / num_segments) for column, name in enumerate(self.score_names)}


def check_segments(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """Refuse segments that no metric can score.

    Raises:
        ValueError: none at all, not as many hypotheses as lists of references, a segment without reference, or a text
            where a list of references belongs.
    """
    if not len(hypotheses):
        raise ValueError("no segments to score: there are no hypotheses")
    if len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses but references of {len(references)} segments: "
            "expected one list of references per hypothesis"
        )
    for index, texts in enumerate(references):
        if isinstance(texts, str):
            raise ValueError(f"the references of segment {index} are a text; expected a list of texts")
        if not len(texts):
            raise ValueError(f"segment {index} has no reference")
