"""How many outputs are in another language than asked for: the first thing that goes wrong without captions in it.

Languages are told by py3langid (Lui and Baldwin's langid.py), whose 4.6 MB model is inside its package: nothing is
downloaded. Of Multi30K's 1,000 human sentences it takes none for another language in English, French or German; texts
of two or three words it does confuse. Guesses are limited to the languages of XM3600 and the asked one, since a hundred
languages with near twins (Norwegian in two spellings, Serbian beside Croatian) are more than short captions can tell
apart.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from polyglance.evaluate.metrics.metric import MetricInput, Statistics, check_segments
from polyglance.languages import XM3600_LANGUAGES

__all__ = ["OffTarget"]

_CODES: Mapping[str, str] = MappingProxyType({"fil": "tl", "quz": "qu"})
"""Codes that the identifier spells otherwise."""


@dataclass(frozen=True, kw_only=True)
class OffTarget:
    """Off-target rate: score `off_target`, the share of outputs that are not in the language; 0 is best.

    An empty output is in no language. References are not looked at.
    """

    name: ClassVar[str] = "language"
    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 1.0

    language: str

    def __post_init__(self) -> None:
        known = _identifier(None).labels
        if _CODES.get(self.language, self.language) not in known:
            raise ValueError(f"language: {self.language!r} is not among the languages that py3langid tells apart")

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """1 for each output in another language."""
        check_segments(hypotheses, references)
        wanted = _CODES.get(self.language, self.language)
        identifier = _identifier(self.language)
        off = [not text.strip() or identifier.classify(text)[0] != wanted for text in hypotheses]
        return Statistics(values=np.array(off, dtype=np.float64)[:, None], names=("off_target",))

    def scores(
        self, statistics: Float[np.ndarray, "*draws K"], num_segments: int
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """The mean over outputs."""
        return {"off_target": np.asarray(statistics[..., 0] / num_segments)}

    def segment_scores(self, statistics: Float[np.ndarray, "N K"]) -> dict[str, Float[np.ndarray, "N"]]:
        """1 for each output in another language."""
        return {"off_target": statistics[:, 0]}

    def signature(self) -> Mapping[str, str]:
        """The identifier and its version."""
        return {"by": f"py3langid-{version('py3langid')}"}


@cache
def _identifier(language: str | None) -> Any:
    """py3langid's identifier for XM3600's languages and `language`; for all it knows where that is None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library = import_module("py3langid.langid")
    except ImportError:
        raise ValueError("language: needs a library that is not installed here: pip install py3langid") from None
    identifier = library.LanguageIdentifier.from_model_file(library.MODEL_FILE)
    if language is not None:
        codes = {_CODES.get(code, code) for code in (*XM3600_LANGUAGES, language)}
        identifier.set_languages(codes & set(identifier.labels))
    return identifier
