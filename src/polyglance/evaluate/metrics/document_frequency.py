"""Document frequencies: the number of images with each n-gram in their references. CIDEr weights n-grams by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from polyglance.config import fingerprint
from polyglance.evaluate.metrics.metric import check_segments
from polyglance.evaluate.metrics.ngrams import NgramCounts, SegmentWords
from polyglance.files import read_json, unseal, write_record

__all__ = ["DocumentFrequency"]

_FORMAT = "polyglance document frequency 1"
_MAX_ORDER = 4


@dataclass(frozen=True, kw_only=True)
class DocumentFrequency:
    """Document frequencies of another set than the evaluated one, so that CIDEr of a subset, or of one image, is
    comparable with CIDEr of the whole."""

    name: str
    """Name of the set, for signatures: `coco-karpathy-test/ptb`."""
    num_images: int
    """Images that were counted: the N of log(N / df)."""
    counts: Mapping[str, int]
    """N-gram, its words joined by single spaces, -> images with at least one reference that holds it."""

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError(f"document frequency {self.name!r}: num_images is {self.num_images}; expected at least 1")
        wrong = next((gram for gram, count in self.counts.items() if not 0 < count <= self.num_images), None)
        if wrong is not None:
            images = f"{self.counts[wrong]} of {self.num_images} images"
            raise ValueError(f"document frequency {self.name!r}: {wrong!r} occurs in {images}")

    @classmethod
    def count(cls, references: Sequence[Sequence[str]], *, name: str) -> "DocumentFrequency":
        """Count the references of each image, tokenised as the texts that will be scored."""
        no_hypotheses = [""] * len(references)
        check_segments(no_hypotheses, references)
        words = SegmentWords.from_texts(no_hypotheses, references)
        counts: dict[str, int] = {}
        for ngrams in words.count_ngrams(_MAX_ORDER):
            counts.update(zip(words.spell(ngrams), ngrams.document_frequency().tolist(), strict=True))
        return cls(name=name, num_images=len(references), counts=counts)

    @cached_property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change with any count."""
        return fingerprint(self.num_images, self.counts)

    def save(self, path: str | Path) -> None:
        """Write the table as JSON with a seal."""
        values = {"format": _FORMAT, "name": self.name, "num_images": self.num_images, "counts": dict(self.counts)}
        write_record(path, values, indent=None)

    @classmethod
    def load(cls, path: str | Path) -> "DocumentFrequency":
        """Read a table that `save` wrote.

        Raises:
            ValueError: no such file, or not a table of document frequencies.
        """
        values = read_json(path)
        if not isinstance(values, dict) or unseal(values, str(path)).get("format") != _FORMAT:
            raise ValueError(f'{path}: not a document-frequency table (its "format" is not {_FORMAT!r})')
        name, num_images, counts = (values.get(key) for key in ("name", "num_images", "counts"))
        if not (isinstance(name, str) and type(num_images) is int and isinstance(counts, dict)):
            raise ValueError(f"{path}: expected name (text), num_images (whole number) and counts (n-gram -> images)")
        if any(type(count) is not int for count in counts.values()):
            raise ValueError(f"{path}: some counts are not whole numbers")
        return cls(name=name, num_images=num_images, counts=counts)

    def look_up(self, words: SegmentWords, ngrams: NgramCounts) -> Int[np.ndarray, "grams"]:
        """Return the frequency of each n-gram of the evaluated texts; 0 where the table has none."""
        return np.array([self.counts.get(gram, 0) for gram in words.spell(ngrams)], dtype=np.int64)
