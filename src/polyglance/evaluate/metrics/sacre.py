"""sacrebleu's BLEU and chrF: every count and score is sacrebleu's own (Post 2018, https://aclanthology.org/W18-6319)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import sacrebleu
from jaxtyping import Float
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
from sacrebleu.utils import SACREBLEU_DIR

from polyglance.evaluate.metrics.metric import MetricInput, Statistics, check_segments
from polyglance.languages import did_you_mean

__all__ = ["Chrf", "SacreBleu"]


@dataclass(frozen=True, kw_only=True)
class SacreBleu:
    """BLEU of translations: score `BLEU`, 0 to 100."""

    name: ClassVar[str] = "sacrebleu"
    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 100.0

    tokenize: str = "13a"
    """sacrebleu's tokeniser: `13a`, `zh`, `intl`, `char`, `ja-mecab`, `ko-mecab`, `flores200`, `none`, ..."""
    lowercase: bool = False
    """Compare without case."""

    def __post_init__(self) -> None:
        if self.tokenize not in BLEU.TOKENIZERS:
            raise ValueError(
                f"sacrebleu: unknown tokenize {self.tokenize!r}: {did_you_mean(self.tokenize, BLEU.TOKENIZERS)}"
            )
        if self.tokenize in SPM_MODELS:
            _check_sentencepiece_model(self.tokenize)
        try:
            _ = self._bleu
        except (ImportError, RuntimeError) as error:  # a tokeniser whose library is not installed
            raise ValueError(f"sacrebleu: tokenize={self.tokenize!r}: {' '.join(str(error).split())}") from None

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """sacrebleu's lengths and n-gram counts of each segment."""
        orders = range(1, self._bleu.max_ngram_order + 1)
        columns = [*(f"correct_{n}" for n in orders), *(f"total_{n}" for n in orders)]
        return _statistics(self._bleu, hypotheses, references, ("sys_len", "ref_len", *columns))

    def scores(
        self,
        statistics: Float[np.ndarray, "*draws K"],
        num_segments: int,  # noqa: ARG002  (counts are summed, not averaged)
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """BLEU of summed counts."""
        return {"BLEU": _row_scores(self._bleu, statistics)}

    def segment_scores(self, statistics: Float[np.ndarray, "N K"]) -> dict[str, Float[np.ndarray, "N"]]:
        """Sentence BLEU: of the n-gram lengths that the sentence has (sacrebleu's `effective_order`)."""
        return {"BLEU": _row_scores(BLEU(tokenize="none", effective_order=True), statistics)}

    def signature(self) -> Mapping[str, str]:
        """As in sacrebleu's own signature, without the number of references."""
        return {
            "case": "lc" if self.lowercase else "mixed",
            "eff": "no",
            "tok": self._bleu.tokenizer_signature,
            "smooth": self._bleu.smooth_method,
            "sacrebleu": sacrebleu.__version__,
        }

    @cached_property
    def _bleu(self) -> Any:
        # `force` only silences sacrebleu's own log line about texts that look tokenised.
        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase, force=True)


@dataclass(frozen=True, kw_only=True)
class Chrf:
    """chrF and chrF++: score `chrF`, `chrF+` or `chrF++` by the word order, 0 to 100 (Popović 2015, 2017)."""

    name: ClassVar[str] = "chrf"
    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 100.0

    word_order: int = 0
    """Longest word n-gram: 0 is chrF, 2 is chrF++."""
    lowercase: bool = False
    """Compare without case."""

    def __post_init__(self) -> None:
        if self.word_order not in (0, 1, 2):
            raise ValueError(f"chrf: word_order is {self.word_order!r}; 0 (chrF), 1 or 2 (chrF++) is right")

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """sacrebleu's n-gram counts of each segment against its best reference."""
        lengths = [f"char_{n}" for n in range(1, self._chrf.char_order + 1)]
        lengths += [f"word_{n}" for n in range(1, self.word_order + 1)]
        columns = tuple(f"{what}_{length}" for length in lengths for what in ("hyp", "ref", "match"))
        return _statistics(self._chrf, hypotheses, references, columns)

    def scores(
        self,
        statistics: Float[np.ndarray, "*draws K"],
        num_segments: int,  # noqa: ARG002  (counts are summed, not averaged)
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """chrF of summed counts."""
        return {"chrF" + "+" * self.word_order: _row_scores(self._chrf, statistics)}

    def segment_scores(self, statistics: Float[np.ndarray, "N K"]) -> dict[str, Float[np.ndarray, "N"]]:
        """chrF of each segment."""
        return self.scores(statistics, len(statistics))

    def signature(self) -> Mapping[str, str]:
        """As in sacrebleu's own signature, without the number of references."""
        return {
            "case": "lc" if self.lowercase else "mixed",
            "eff": "yes",
            "nc": str(self._chrf.char_order),
            "nw": str(self.word_order),
            "space": "no",
            "sacrebleu": sacrebleu.__version__,
        }

    @cached_property
    def _chrf(self) -> Any:
        return CHRF(word_order=self.word_order, lowercase=self.lowercase)


def _statistics(
    metric: Any, hypotheses: Sequence[str], references: Sequence[Sequence[str]], names: tuple[str, ...]
) -> Statistics:
    check_segments(hypotheses, references)
    streams = list(zip_longest(*references))  # sacrebleu's shape: a stream per reference, None where there is no such
    counts = metric._extract_corpus_statistics(hypotheses, streams)
    return Statistics(values=np.array(counts, dtype=np.float64), names=names)


def _row_scores(metric: Any, statistics: Float[np.ndarray, "*draws K"]) -> Float[np.ndarray, "*draws"]:
    rows = statistics.reshape(-1, statistics.shape[-1]).tolist()
    scores = [metric._compute_score_from_stats(row).score for row in rows]
    return np.array(scores, dtype=np.float64).reshape(statistics.shape[:-1])


def _check_sentencepiece_model(tokenize: str) -> None:
    """sacrebleu downloads a missing model; scoring never reaches for a network."""
    url = SPM_MODELS[tokenize]["url"]
    path = Path(SACREBLEU_DIR) / "models" / Path(url).name
    if not path.exists():
        raise ValueError(f"sacrebleu: tokenize={tokenize!r} needs its model at {path}; put it there from {url}")
