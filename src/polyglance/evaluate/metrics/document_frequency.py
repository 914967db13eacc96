"""In how many images' references each n-gram stands: what CIDEr weighs n-grams by."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from polyglance.config import fingerprint
from polyglance.evaluate.metrics.metric import check_segments
from polyglance.evaluate.metrics.ngrams import Ngrams, Segments
from polyglance.files import write_atomically

__all__ = ["DocumentFrequency"]

_FORMAT = "polyglance document frequency 1"


@dataclass(frozen=True, kw_only=True)
class DocumentFrequency:
    """Document frequencies of another set than the evaluated one, so that CIDEr of a subset, or of one image, is
    comparable with CIDEr of the whole."""

    name: str
    """What it was made from, for signatures: `coco-karpathy-test/ptb`."""
    num_images: int
    """Images that were counted: the N of log(N / df)."""
    counts: Mapping[str, int]
    """N-gram, its words joined by single spaces, -> images with at least one reference that holds it."""

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError(f"document frequency {self.name!r}: num_images is {self.num_images}; at least 1 is right")
        wrong = next((gram for gram, count in self.counts.items() if not 0 < count <= self.num_images), None)
        if wrong is not None:
            images = f"{self.counts[wrong]} of {self.num_images} images"
            raise ValueError(f"document frequency {self.name!r}: {wrong!r} stands in {images}")

    @classmethod
    def of(cls, references: Sequence[Sequence[str]], *, name: str, max_order: int = 4) -> "DocumentFrequency":
        """Count the references of each image, tokenised as the texts that will be scored."""
        check_segments([""] * len(references), references)
        segments = Segments.of([""] * len(references), references)
        counts: dict[str, int] = {}
        for ngrams in segments.ngrams(max_order):
            counts.update(zip(segments.spelled(ngrams), ngrams.document_frequency().tolist(), strict=True))
        return cls(name=name, num_images=len(references), counts=counts)

    @cached_property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change with any count."""
        return fingerprint(self.num_images, self.counts)

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        values = {"format": _FORMAT, "name": self.name, "num_images": self.num_images, "counts": dict(self.counts)}
        write_atomically(path, json.dumps(values, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | Path) -> "DocumentFrequency":
        """Read what `save` wrote.

        Raises:
            ValueError: no such file, or not one of these.
        """
        try:
            values: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ValueError(f"{path}: not JSON in UTF-8 ({error})") from None
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise ValueError(f'{path}: not a document-frequency table (its "format" is not {_FORMAT!r})')
        name, num_images, counts = (values.get(key) for key in ("name", "num_images", "counts"))
        if not (isinstance(name, str) and type(num_images) is int and isinstance(counts, dict)):
            raise ValueError(f"{path}: expected name (text), num_images (whole number) and counts (n-gram -> images)")
        kinds = Counter(type(count) for count in counts.values())
        if kinds.keys() - {int}:
            raise ValueError(f"{path}: some counts are not whole numbers")
        return cls(name=name, num_images=num_images, counts=counts)

    def lookup(self, segments: Segments, ngrams: Ngrams) -> Int[np.ndarray, "grams"]:
        """The frequency of each n-gram of the evaluated texts; 0 where it was not seen."""
        found = map(self.counts.get, segments.spelled(ngrams))
        return np.array([count or 0 for count in found], dtype=np.int64)
