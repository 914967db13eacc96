"""Sentences for images, by the similarity of their embeddings.

    images, sentences = Embeddings(Path("images.npy")), Embeddings(sorted(Path("sentences").glob("*.npy")))
    config = AlignConfig(top_n=10, hubs=HubConfig(max_per_sentence=100))
    pairs = select(search(images, sentences, config), images, sentences, config)

An approximate search needs an index: `build_index`, then `tune_search`, then `search` with the tuned settings.
"""

from polyglance.data.align.alignment import AlignResult, search, select
from polyglance.data.align.approximate import build_index
from polyglance.data.align.config import AlignConfig, FaissConfig, HubConfig
from polyglance.data.align.embeddings import Embeddings
from polyglance.data.align.recall import TunedSearch, tune_search

__all__ = [
    "AlignConfig",
    "AlignResult",
    "Embeddings",
    "FaissConfig",
    "HubConfig",
    "TunedSearch",
    "build_index",
    "search",
    "select",
    "tune_search",
]
