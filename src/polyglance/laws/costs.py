"""Models to choose from, with their cost: parameters, MACs, memory and speed.

Candidates come from a table (CSV, JSON lines, Parquet) or from `polyglance model card --json`; no torch is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyglance.compute import training_compute
from polyglance.files import read_json
from polyglance.laws.config import Budget
from polyglance.laws.table import Table

__all__ = ["Candidate", "estimate_hours", "estimate_price", "read_candidates"]

_ALIASES: Mapping[str, tuple[tuple[str, int], ...]] = {  # field -> (accepted name, power of ten to the unit)
    "P": (("P", 0), ("num_parameters", 0), ("parameters", 0), ("params", 0)),
    "P_t": (("P_t", 0), ("num_trained", 0), ("trainable", 0)),
    "F_gmac": (("F_gmac", 0), ("F", 0), ("macs_per_sample", -9)),
    "memory_bytes": (("memory_bytes", 0), ("memory_gb", 9)),
    "samples_per_s": (("samples_per_s", 0),),
}
_NOT_INPUTS = ("P", "S", "C", "N", "D")
"""Predictors that are not read from a column of their name."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model to choose from."""

    name: str
    P: float
    """Parameters."""
    P_t: float
    """Trainable parameters."""
    F_gmac: float
    """Forward pass of one sample, in GMAC."""
    memory_bytes: float | None = None
    """Memory that training needs, if known."""
    samples_per_s: float | None = None
    """Measured training speed of all GPUs together, if known; used in place of a throughput in GMAC."""
    inputs: Mapping[str, float] = field(default_factory=dict)
    """Values of further predictors that belong to the model, such as its T."""

    def __post_init__(self) -> None:
        for name, value in (("P", self.P), ("F_gmac", self.F_gmac)):
            if not 0 < value < float("inf"):
                raise ValueError(f"candidate {self.name!r}: {name} is {value:g}, must be positive")
        if not 0 <= self.P_t <= self.P:
            raise ValueError(f"candidate {self.name!r}: P_t is {self.P_t:g}, must be between 0 and P = {self.P:g}")

    def compute_gmac(self, samples: float) -> float:
        """Return C = S F (1 + P_t / P), in GMAC (paper section 4.1)."""
        return training_compute(samples * self.F_gmac, num_trained=self.P_t, num_parameters=self.P)


def estimate_hours(budget: Budget, candidate: Candidate, samples: float) -> float | None:
    """Return wall-clock hours for that many samples; None if no speed is known."""
    if candidate.samples_per_s is not None:
        return samples / candidate.samples_per_s / 3600
    if budget.gmac_per_gpu_s is None:
        return None
    return candidate.compute_gmac(samples) / (budget.gmac_per_gpu_s * budget.gpus) / 3600


def estimate_price(budget: Budget, hours: float | None) -> float | None:
    """Return the price of all GPUs for that many hours; None if hours or price are not known."""
    if hours is None or budget.price_per_gpu_hour is None:
        return None
    return hours * budget.gpus * budget.price_per_gpu_hour


def read_candidates(path: str | Path, predictors: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """Read candidates from a table (one row each) or from model cards as JSON (an object, or a list of them).

    Columns: name, P (or num_parameters), P_t (or num_trained), F_gmac (or F in GMAC, or macs_per_sample), and if known
    memory_bytes, samples_per_s and the law's other predictors, such as T. Without P_t all parameters are trained.

    Raises:
        ValueError: a column is missing or a value is not a positive number, with the row.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        content = read_json(path)
        cards = content if isinstance(content, list) else [content]
        if not all(isinstance(card, dict) for card in cards):
            raise ValueError(f"{path}: expected a model card or a list of them")
    else:
        columns = Table.read(path).columns
        cards = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if not cards:
        raise ValueError(f"{path}: no candidates")
    return tuple(_read_candidate(f"{path}: row {i}", i, card, predictors) for i, card in enumerate(cards, 1))


def _read_candidate(where: str, number: int, card: Mapping[str, Any], predictors: Sequence[str]) -> Candidate:
    values = {name: _read_value(where, card, aliases) for name, aliases in _ALIASES.items()}
    for name in ("P", "F_gmac"):
        if values[name] is None:
            raise ValueError(f"{where}: no {name} (or {', '.join(alias for alias, _ in _ALIASES[name][1:])})")
    inputs = {name: _read_value(where, card, ((name, 0),)) for name in predictors if name not in _NOT_INPUTS}
    return Candidate(
        name=str(card.get("name") or card.get("id") or f"candidate {number}"),
        P=values["P"] or 0.0,
        P_t=values["P"] or 0.0 if values["P_t"] is None else values["P_t"],
        F_gmac=values["F_gmac"] or 0.0,
        memory_bytes=values["memory_bytes"],
        samples_per_s=values["samples_per_s"],
        inputs={name: value for name, value in inputs.items() if value is not None},
    )


def _read_value(where: str, card: Mapping[str, Any], aliases: Sequence[tuple[str, int]]) -> float | None:
    for name, power in aliases:
        cell = card.get(name)
        if cell is None or cell == "":
            continue
        try:
            return float(cell) * 10**power if power >= 0 else float(cell) / 10**-power
        except (TypeError, ValueError):
            raise ValueError(f"{where}: {name} is {cell!r}, not a number") from None
    return None
