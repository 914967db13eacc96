"""Settings of the alignment of images and sentences."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["AlignConfig", "FaissConfig", "HubConfig"]

_CANDIDATES_PER_PLACE = 4


@dataclass(frozen=True, kw_only=True)
class FaissConfig:
    """Size and thoroughness of an approximate search.

    Raises:
        ValueError: a value outside its range.
    """

    num_lists: int | None = None
    """Lists into which the sentences are sorted. None: about 4 times the square root of their number."""
    recall: float | None = 0.95
    """Share of the exact search's pairs to be found: `num_probes` and `refine_factor` are raised until a sample of
    images reaches it. None: both stay as they are."""
    num_probes: int = 32
    """Lists that are searched for an image; more find more and take longer."""
    code_bytes: int | None = None
    """Bytes in which a sentence is stored, a divisor of the embeddings' width. None: half the width."""
    num_train: int | None = None
    """Sentences, drawn at random, on which centres and codes are trained. None: 64 per list."""
    refine_factor: int = 4
    """Candidates per neighbour, which are scored with the embeddings themselves."""

    def __post_init__(self) -> None:
        for name in ("num_lists", "num_probes", "code_bytes", "num_train", "refine_factor"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise ValueError(f"recall is {self.recall}; expected a share, above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class HubConfig:
    """Measures against hubs; none by default.

    Raises:
        ValueError: a value outside its range.
    """

    max_per_sentence: int | None = None
    """Largest number of images that one sentence is matched to. None: no limit."""
    rescaling: Literal["none", "csls", "inverted_softmax"] = "none"
    """Method that makes scores comparable between sentences. The score of a pair remains its cosine similarity."""
    num_neighbours: int = 10
    """Nearest images whose mean similarity CSLS subtracts (published: 10)."""
    inverse_temperature: float = 30.0
    """Inverse temperature of the inverted softmax; with a larger value only the nearest images count."""
    num_reference_images: int = 4096
    """Images, drawn at random, on which a sentence's nearness to images in general is measured."""

    def __post_init__(self) -> None:
        if self.max_per_sentence is not None and self.max_per_sentence < 1:
            raise ValueError(f"max_per_sentence is {self.max_per_sentence}; expected at least 1")
        if self.num_neighbours < 1 or self.num_reference_images < 1 or self.inverse_temperature <= 0:
            raise ValueError("num_neighbours, num_reference_images and inverse_temperature must be above 0")

    @property
    def is_on(self) -> bool:
        """Whether any measure is taken."""
        return self.max_per_sentence is not None or self.rescaling != "none"


@dataclass(frozen=True, kw_only=True)
class AlignConfig:
    """Settings of the matching of sentences to images.

    Raises:
        ValueError: a value outside its range.
    """

    top_n: int = 10
    """Largest number of sentences per image."""
    min_score: float | None = None
    """Least cosine similarity of a pair. None: no limit."""
    method: Literal["exact", "faiss"] = "exact"
    """`exact` compares all images with all sentences, which suits up to some millions of sentences. `faiss` is
    approximate and needs the extra `search`."""
    faiss: FaissConfig = field(default_factory=FaissConfig)
    """The approximate search."""
    hubs: HubConfig = field(default_factory=HubConfig)
    """Measures against sentences that are near to every image."""
    num_candidates: int | None = None
    """Sentences per image from which hub control chooses. None: 4 times `top_n`."""
    num_recall_images: int = 200
    """Images, drawn at random, on which an approximate search is compared with the exact one; as many others are used
    to tune it (`faiss.recall`). 0: neither."""
    seed: int = 0
    """Seed of all random choices."""

    def __post_init__(self) -> None:
        if self.top_n < 1 or self.num_recall_images < 0:
            raise ValueError("top_n must be at least 1 and num_recall_images at least 0")
        if self.num_candidates is not None and self.num_candidates < self.top_n:
            raise ValueError(f"num_candidates is {self.num_candidates}; expected at least top_n, {self.top_n}")

    @property
    def num_searched(self) -> int:
        """Sentences per image that are searched for."""
        return self.num_candidates or (_CANDIDATES_PER_PLACE * self.top_n if self.hubs.is_on else self.top_n)
