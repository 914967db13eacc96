"""Sentences for images by the similarity of their embeddings.

images, sentences = Embeddings(Path("images.npy")), Embeddings(sorted(Path("sentences").glob("*.npy")))
result = align(images, sentences, AlignConfig(top_n=10, hubs=HubConfig(max_per_sentence=100)))
"""

from polyglance.data.align.alignment import (
    AlignConfig,
    AlignResult,
    ThresholdRow,
    align,
    search,
    select,
    threshold_curve,
    tune_search,
)
from polyglance.data.align.approximate import FaissConfig
from polyglance.data.align.embeddings import Embeddings
from polyglance.data.align.hubs import HubConfig

__all__ = [
    "AlignConfig",
    "AlignResult",
    "Embeddings",
    "FaissConfig",
    "HubConfig",
    "ThresholdRow",
    "align",
    "search",
    "select",
    "threshold_curve",
    "tune_search",
]
