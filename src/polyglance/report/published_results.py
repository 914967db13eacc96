"""Numbers of the result tables that the paper prints (version 1, tables 4, 6 and 8 to 13).

They are read from published_results.csv beside this module, on the paper's scales: percent, and CIDEr times 100.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

__all__ = [
    "MEANS",
    "PREFIXED",
    "PUBLISHED_SCALES",
    "Place",
    "PublishedResult",
    "Setting",
    "list_mean_parts",
    "read_published_results",
]

Setting = Literal["supervised", "fine-tuned", "zero-shot"]
PREFIXED = " (prefix)"
"""Ending of a metric's name if captions were started with the language's prefix."""
PUBLISHED_SCALES = {
    "BLEU": 100.0,
    "BLEU-4": 100.0,
    "CIDEr": 1000.0,
    "CLIPScore": 100.0,
    "mCLIPScore": 100.0,
    "COMET-22": 100.0,
    "accuracy": 100.0,
}
"""Metric -> score of a perfect text as the paper prints it. CIDEr's own scale ends at 10, and is printed times 100."""

_FILE = Path(__file__).with_name("published_results.csv")


class Place(NamedTuple):
    """Benchmark, split, language and metric of a number."""

    benchmark: str
    """Name in `polyglance.data.benchmarks`."""
    split: str
    """The benchmark's, or `mean` (Multi30K: see `MEANS`)."""
    language: str
    """Code, or `X` and `unseen`: means over languages (see `MEANS`)."""
    metric: str
    """One of `PUBLISHED_SCALES`; followed by `PREFIXED` where captions were started with the prefix."""


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """One printed number."""

    model: str
    """Name in the paper. `F-` and a size: the paper's models; 100K and 30K are their pre-training steps, else 10K."""
    setting: Setting
    place: Place
    value: float
    source: str
    """`v1 Table 8`."""
    note: str
    """Segmentation that a number of table 6 was made with; else empty."""
    suspect: str
    """Reason to doubt the number, in words; else empty."""


MEANS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("multi30k-task1", "mean"): ("split", ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco")),
    ("commute-translation", "X"): ("language", ("de", "fr", "ru", "zh")),
    ("commute-disambiguation", "X"): ("language", ("de", "fr", "ru", "zh")),
    ("xm3600", "unseen"): ("language", ("fr", "es", "ru", "zh")),
}
"""(benchmark, split or language that names a mean) -> field and values that the mean is over (paper section 5.2, where
2018 is left out)."""


def list_mean_parts(place: Place) -> tuple[Place, ...]:
    """List the places that are averaged; a place that is not a mean is returned alone."""
    field, names = MEANS.get((place.benchmark, place.split)) or MEANS.get((place.benchmark, place.language)) or ("", ())
    return tuple(place._replace(**{field: name}) for name in names) or (place,)


@lru_cache(maxsize=1)
def read_published_results() -> Sequence[PublishedResult]:
    """Read every printed number, table by table and row by row as printed."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_result(row) for row in csv.DictReader(file))


def _result(row: dict[str, str]) -> PublishedResult:
    setting = next(name for name in get_args(Setting) if name == row["setting"])
    place = Place(row["benchmark"], row["split"], row["language"], row["metric"])
    assert place.metric.removesuffix(PREFIXED) in PUBLISHED_SCALES, place
    return PublishedResult(
        model=row["model"],
        setting=setting,
        place=place,
        value=float(row["value"]),
        source=row["source"],
        note=row["note"],
        suspect=row["suspect"],
    )
