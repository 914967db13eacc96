"""Measured training rates by card and size, from which hours are computed.

The table is rates.csv in this folder; benchmarks/gpu.py writes rows for it. A rate is kept as operations per second of
the model's own work (forward and backward pass at the real lengths; padding, recomputation and the optimiser's step
take time but are not counted), because samples per second depend on the lengths.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from polyglance.model.card import make_card

__all__ = ["KNOWN_PEAKS_TFLOPS", "MeasuredRate", "Rate", "find_rate", "read_rates"]

KNOWN_PEAKS_TFLOPS = {"H100": 989.0, "H200": 989.0}
"""Card -> peak in bf16, dense, in 10^12 FLOP/s, by its data sheet; model cards show the rates of these cards."""
_FILE = Path(__file__).with_name("rates.csv")


@dataclass(frozen=True, kw_only=True)
class MeasuredRate:
    """A row of the table."""

    card: str
    """Name of the card, as torch gives it."""
    peak_tflops: float
    """Peak of the card in bf16, dense, in 10^12 FLOP/s."""
    size: str
    work: str
    """`train`, or `train cached`: with cached features of the vision tower."""
    samples_per_s: float
    """At the lengths of the measurement."""
    tflops: float
    """Operations of the model's own work, in 10^12 per second."""
    date: str
    command: str
    """How it was measured."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Rate at which one card trains a size."""

    tflops: float
    """Operations of the model's own work, in 10^12 per second."""
    is_measured: bool
    """Whether this size was measured on this card; else the rate is an estimate."""
    basis: str
    """Source of the rate, in words."""

    def samples_per_s(self, training_gmac: float) -> float:
        """Return samples per second, for the multiply-accumulates of a training step on one sample, in 10^9."""
        return self.tflops * 1e3 / (2 * training_gmac)


@cache
def read_rates() -> tuple[MeasuredRate, ...]:
    """Read the table; for each card, size and work only the newest row."""
    newest: dict[tuple[str, str, str], MeasuredRate] = {}
    with _FILE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["source"] != "measured":
                raise ValueError(f"{_FILE}: the table holds measured rates only, not {row['source']!r}")
            rate = MeasuredRate(
                card=row["card"],
                peak_tflops=float(row["peak_tflops"]),
                size=row["size"],
                work=row["work"],
                samples_per_s=float(row["samples_per_s"]),
                tflops=float(row["tflops"]),
                date=row["date"],
                command=row["command"],
            )
            key = (rate.card, rate.size, rate.work)
            if key not in newest or rate.date >= newest[key].date:
                newest[key] = rate
    return tuple(newest.values())


def find_rate(
    card: str, size: str, training_gmac: float, *, peak_tflops: float, rates: Sequence[MeasuredRate] | None = None
) -> Rate:
    """Find the rate at which a card trains a size: measured if available, else estimated.

    The estimate starts from the sizes measured on this card or, if there are none, on the card with the nearest peak,
    in proportion to the cards' peaks. Between two sizes it lies on a straight line between the logarithms of operations
    and rate. Above the largest size it is the rate of that size. Below the smallest size the samples per second are at
    most those of that size.

    Args:
        card: a word of the card's name, such as `H100`.
        training_gmac: multiply-accumulates of forward and backward pass of one sample, in 10^9.
        peak_tflops: peak of the card in bf16, dense, in 10^12 FLOP/s.
        rates: the table; the package's if not given.
    """
    trained = [rate for rate in (read_rates() if rates is None else rates) if rate.work == "train"]
    here = [rate for rate in trained if card.lower() in rate.card.lower().split()]
    for rate in here:
        if rate.size == size:
            basis = f"measured on {rate.card}, {rate.date} ({rate.command})"
            return Rate(tflops=rate.tflops, is_measured=True, basis=basis)
    nearest = min(trained, key=lambda rate: abs(math.log(rate.peak_tflops / peak_tflops)))
    used = here or [rate for rate in trained if rate.card == nearest.card]
    points = sorted((make_card(rate.size).training_gmac, rate.tflops) for rate in used)
    ratio = peak_tflops / used[0].peak_tflops
    sizes = " and ".join(rate.size for rate in used)
    basis = f"estimated from {sizes} on {used[0].card}, {max(rate.date for rate in used)}"
    if ratio != 1:
        basis += f", by the ratio of the peaks, {ratio:.2f}"
    return Rate(tflops=ratio * _interpolate(points, training_gmac), is_measured=False, basis=basis)


def _interpolate(points: Sequence[tuple[float, float]], x: float) -> float:
    """Return the value at `x` on straight lines between the points' logarithms, above them that of the last; below them
    in proportion to `x`, because a small model waits for launches and not for operations."""
    if x < points[0][0]:
        return points[0][1] * x / points[0][0]
    below = max((point for point in points if point[0] <= x), default=points[0])
    above = min((point for point in points if point[0] >= x), default=points[-1])
    if below[0] >= above[0]:
        return below[1]
    share = math.log(x / below[0]) / math.log(above[0] / below[0])
    return below[1] * (above[1] / below[1]) ** share
