"""BLEU and chrF of sacrebleu. Every count and score is sacrebleu's own (Post 2018, https://aclanthology.org/W18-6319)."""

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

from polyglance.error_text import one_line
from polyglance.evaluate.metrics.metric import MetricInput, Statistics, check_segments
from polyglance.languages import did_you_mean

__all__ = ["Chrf", "SacreBleu"]


@dataclass(frozen=True, kw_only=True)
class _SacreMetric:
    """A metric whose statistics and scores are sacrebleu's."""

    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 100.0

    lowercase: bool = False
    """Compare without case."""

    @cached_property
    def _library_metric(self) -> Any:
        raise NotImplementedError

    @property
    def _score_name(self) -> str:
        raise NotImplementedError

    @property
    def _columns(self) -> tuple[str, ...]:
        raise NotImplementedError

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Let sacrebleu count each segment."""
        check_segments(hypotheses, references)
        streams = list(zip_longest(*references))  # sacrebleu's shape: a stream per reference; None where there is none
        counts = self._library_metric._extract_corpus_statistics(hypotheses, streams)
        return Statistics(values=np.array(counts, dtype=np.float64), names=self._columns)

    def scores(
        self,
        statistics: Float[np.ndarray, "*draws K"],
        num_segments: int,  # noqa: ARG002  (counts are summed, not averaged)
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """Let sacrebleu compute the score of summed counts."""
        rows = statistics.reshape(-1, statistics.shape[-1]).tolist()
        scores = [self._library_metric._compute_score_from_stats(row).score for row in rows]
        return {self._score_name: np.array(scores, dtype=np.float64).reshape(statistics.shape[:-1])}


@dataclass(frozen=True, kw_only=True)
class SacreBleu(_SacreMetric):
    """BLEU of translations: score `BLEU`, 0 to 100. Statistics are lengths and n-gram counts."""

    name: ClassVar[str] = "sacrebleu"

    tokenize: str = "13a"
    """sacrebleu's tokeniser: `13a`, `zh`, `intl`, `char`, `ja-mecab`, `ko-mecab`, `flores200`, `none`, ..."""

    def __post_init__(self) -> None:
        if self.tokenize not in BLEU.TOKENIZERS:
            raise ValueError(
                f"sacrebleu: unknown tokenize {self.tokenize!r}: {did_you_mean(self.tokenize, BLEU.TOKENIZERS)}"
            )
        if self.tokenize in SPM_MODELS:
            _check_sentencepiece_model(self.tokenize)
        try:
            _ = self._library_metric
        except (ImportError, RuntimeError) as error:  # a tokeniser whose library is not installed
            raise ValueError(f"sacrebleu: tokenize={self.tokenize!r}: {one_line(error)}") from None

    @cached_property
    def _library_metric(self) -> Any:
        # `force` only silences sacrebleu's own log line about texts that look tokenised.
        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase, force=True)

    def cut_words(self, text: str) -> list[str]:
        """Return the words that are counted."""
        prepared = text.lower() if self.lowercase else text
        words: str = self._library_metric.tokenizer(prepared.rstrip())
        return words.split()

    @property
    def _score_name(self) -> str:
        return "BLEU"

    @property
    def _columns(self) -> tuple[str, ...]:
        orders = range(1, self._library_metric.max_ngram_order + 1)
        return ("sys_len", "ref_len", *(f"correct_{n}" for n in orders), *(f"total_{n}" for n in orders))

    def signature(self) -> Mapping[str, str]:
        """Return the parts of sacrebleu's own signature, without the number of references."""
        return {
            "case": "lc" if self.lowercase else "mixed",
            "eff": "no",
            "tok": self._library_metric.tokenizer_signature,
            "smooth": self._library_metric.smooth_method,
            "sacrebleu": sacrebleu.__version__,
        }


@dataclass(frozen=True, kw_only=True)
class Chrf(_SacreMetric):
    """chrF and chrF++: score `chrF`, `chrF+` or `chrF++` by the word order, 0 to 100 (Popović 2015, 2017). Statistics
    are n-gram counts against the best reference."""

    name: ClassVar[str] = "chrf"

    word_order: int = 0
    """Longest word n-gram: 0 is chrF, 2 is chrF++."""

    def __post_init__(self) -> None:
        if self.word_order not in (0, 1, 2):
            raise ValueError(f"chrf: word_order is {self.word_order!r}; expected 0 (chrF), 1 or 2 (chrF++)")

    @cached_property
    def _library_metric(self) -> Any:
        return CHRF(word_order=self.word_order, lowercase=self.lowercase)

    @property
    def _score_name(self) -> str:
        return "chrF" + "+" * self.word_order

    @property
    def _columns(self) -> tuple[str, ...]:
        lengths = [f"char_{n}" for n in range(1, self._library_metric.char_order + 1)]
        lengths += [f"word_{n}" for n in range(1, self.word_order + 1)]
        return tuple(f"{kind}_{length}" for length in lengths for kind in ("hyp", "ref", "match"))

    def signature(self) -> Mapping[str, str]:
        """Return the parts of sacrebleu's own signature, without the number of references."""
        return {
            "case": "lc" if self.lowercase else "mixed",
            "eff": "yes",
            "nc": str(self._library_metric.char_order),
            "nw": str(self.word_order),
            "space": "no",
            "sacrebleu": sacrebleu.__version__,
        }


def _check_sentencepiece_model(tokenize: str) -> None:
    """Refuse a tokeniser whose model is missing: sacrebleu would download it, and scoring never uses a network."""
    url = SPM_MODELS[tokenize]["url"]
    path = Path(SACREBLEU_DIR) / "models" / Path(url).name
    if not path.exists():
        raise ValueError(f"sacrebleu: tokenize={tokenize!r} needs its model at {path}; put it there from {url}")
