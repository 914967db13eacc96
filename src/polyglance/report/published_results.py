"""The result tables that the paper prints (version 1, tables 4, 6 and 8 to 13), as data.

The numbers are those of published_results.csv beside this module, on the paper's scales: percent, and CIDEr times 100.
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
    "mean_parts",
    "published_results",
]

Setting = Literal["supervised", "fine-tuned", "zero-shot"]
PREFIXED = " (prefix)"
"""What the name of a metric ends in where captions were begun with the language's prefix."""
PUBLISHED_SCALES = {
    "BLEU": 100.0,
    "BLEU-4": 100.0,
    "CIDEr": 1000.0,
    "CLIPScore": 100.0,
    "mCLIPScore": 100.0,
    "COMET-22": 100.0,
    "accuracy": 100.0,
}
"""Metric -> score of a perfect text as the paper prints it. CIDEr's own scale ends at 10; it is printed times 100."""

_FILE = Path(__file__).with_name("published_results.csv")


class Place(NamedTuple):
    """What a number is of."""

    benchmark: str
    """As `polyglance.data.benchmarks` names it."""
    split: str
    """The benchmark's, or `mean` (Multi30K: see `MEANS`)."""
    language: str
    """Code, or `X` and `unseen`: means over languages (see `MEANS`)."""
    metric: str
    """One of `PUBLISHED_SCALES`, with `PREFIXED` behind it where that is so."""


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """One printed number."""

    model: str
    """F- and a size are the paper's own models; 100K and 30K are their pre-training steps, 10K where none is named."""
    setting: Setting
    place: Place
    value: float
    source: str
    """`v1 Table 8`."""
    note: str
    """How a number of table 6, the check of segmentation, was made; else empty."""
    suspect: str
    """What speaks against the number, in words; empty where nothing does."""


MEANS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    ("multi30k-task1", "mean"): ("split", ("test_2016_flickr", "test_2017_flickr", "test_2017_mscoco")),
    ("commute-translation", "X"): ("language", ("de", "fr", "ru", "zh")),
    ("commute-disambiguation", "X"): ("language", ("de", "fr", "ru", "zh")),
    ("xm3600", "unseen"): ("language", ("fr", "es", "ru", "zh")),
}
"""(benchmark, split or language that stands for a mean) -> over what (paper section 5.2; 2018 is left out)."""


def mean_parts(place: Place) -> tuple[Place, ...]:
    """The places that a mean is over; the place alone where it is no mean."""
    field, names = MEANS.get((place.benchmark, place.split)) or MEANS.get((place.benchmark, place.language)) or ("", ())
    return tuple(place._replace(**{field: name}) for name in names) or (place,)


@lru_cache(maxsize=1)
def published_results() -> Sequence[PublishedResult]:
    """Every printed number, table by table and row by row as printed."""
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
