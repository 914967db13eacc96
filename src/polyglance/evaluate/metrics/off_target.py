"""Share of outputs in another language than asked for: the first error of models that learnt from no captions in it.

py3langid (Lui and Baldwin's langid.py) identifies the languages. Its 4.6 MB model is inside its package, so nothing is
downloaded. It takes none of Multi30K's 1,000 human sentences for another language in English, French or German; it does
confuse texts of two or three words. It chooses among the languages of XM3600 and the asked one only: a hundred
languages, some nearly the same (Norwegian in two spellings, Serbian and Croatian), are too many for short captions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from polyglance.evaluate.metrics.metric import MeanMetric, MetricInput, Statistics, check_segments
from polyglance.language_identity import IDENTIFIER_CODES, load_identifier

__all__ = ["OffTarget"]


@dataclass(frozen=True, kw_only=True)
class OffTarget(MeanMetric):
    """Off-target rate: score `off_target`, the share of outputs that are not in the language; 0 is best.

    An empty output is in no language. References have no effect.
    """

    name: ClassVar[str] = "language"
    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 1.0
    score_names: ClassVar[tuple[str, ...]] = ("off_target",)

    language: str
    """Code of the language that was asked for."""

    def __post_init__(self) -> None:
        known = load_identifier(None).labels
        if IDENTIFIER_CODES.get(self.language, self.language) not in known:
            raise ValueError(f"language: {self.language!r} is not among the languages that py3langid tells apart")

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Mark each output in another language with 1, the others with 0."""
        check_segments(hypotheses, references)
        code = IDENTIFIER_CODES.get(self.language, self.language)
        identifier = load_identifier(self.language)
        off_target = [not text.strip() or identifier.classify(text)[0] != code for text in hypotheses]
        return Statistics(values=np.array(off_target, dtype=np.float64)[:, None], names=self.score_names)

    def signature(self) -> Mapping[str, str]:
        """Return the identifier and its version."""
        return {"by": f"py3langid-{version('py3langid')}"}
