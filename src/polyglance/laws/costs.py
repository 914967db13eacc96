"""What a model costs: candidates with their parameters and MACs, and the paper's compute C = S F (1 + P_t / P).

Candidates come from a table (CSV, JSON lines, Parquet) or from `polyglance model card --json`; no torch is needed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyglance.laws.table import Table

__all__ = ["Budget", "Candidate", "read_candidates"]

_ALIASES: Mapping[str, tuple[tuple[str, int], ...]] = {  # field -> accepted (name, power of ten to its unit)
    "P": (("P", 0), ("num_parameters", 0), ("parameters", 0), ("params", 0)),
    "P_t": (("P_t", 0), ("num_trained", 0), ("trainable", 0)),
    "F_gmac": (("F_gmac", 0), ("F", 0), ("macs_per_sample", -9)),
    "memory_bytes": (("memory_bytes", 0), ("memory_gb", 9)),
    "samples_per_s": (("samples_per_s", 0),),
}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that could be trained."""

    name: str
    P: float
    """Parameters."""
    P_t: float
    """Trainable parameters."""
    F_gmac: float
    """MACs of one forward pass of one sample, in GMAC."""
    memory_bytes: float | None = None
    """Memory that training needs, if known."""
    samples_per_s: float | None = None
    """Measured training speed on the whole machine, if known; goes before a throughput in GMAC."""
    inputs: Mapping[str, float] = field(default_factory=dict)
    """Further predictors of the law that belong to the model, such as its T."""

    def __post_init__(self) -> None:
        for name, value in (("P", self.P), ("F_gmac", self.F_gmac)):
            if not 0 < value < float("inf"):
                raise ValueError(f"candidate {self.name!r}: {name} is {value:g}, must be positive")
        if not 0 <= self.P_t <= self.P:
            raise ValueError(f"candidate {self.name!r}: P_t is {self.P_t:g}, must be between 0 and P = {self.P:g}")

    def compute_gmac(self, samples: float) -> float:
        """C = S F (1 + P_t / P), in GMAC (paper section 4.1)."""
        return samples * self.F_gmac * (1 + self.P_t / self.P)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Caps, and what computing costs. Whatever is None is unlimited or unknown."""

    max_samples: float | None = None
    """S that there is data for."""
    max_memory_bytes: float | None = None
    max_hours: float | None = None
    """Wall-clock hours."""
    num_gpus: int = 1
    gmac_per_gpu_s: float | None = None
    """Throughput reached in training, GMAC per second and GPU."""
    price_per_gpu_hour: float | None = None
    """In any currency."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"budget: {name} is {value:g}, must be positive")

    def hours(self, candidate: Candidate, samples: float) -> float | None:
        """Wall-clock hours for that many samples, if a speed is known."""
        if candidate.samples_per_s is not None:
            return samples / candidate.samples_per_s / 3600
        if self.gmac_per_gpu_s is None:
            return None
        return candidate.compute_gmac(samples) / (self.gmac_per_gpu_s * self.num_gpus) / 3600

    def money(self, hours: float | None) -> float | None:
        """What the GPUs cost for that long, if a price is known."""
        if hours is None or self.price_per_gpu_hour is None:
            return None
        return hours * self.num_gpus * self.price_per_gpu_hour


def read_candidates(path: str | Path, predictors: Sequence[str] = ()) -> tuple[Candidate, ...]:
    """Candidates from a table (one row each) or from model cards as JSON (an object or a list of them).

    Columns: name, P (or num_parameters), P_t (or num_trained), F_gmac (or F in GMAC, or macs_per_sample), and if known
    memory_bytes, samples_per_s and the law's own predictors, such as T.

    Raises:
        ValueError: a column is missing or a value is not a positive number, with the row.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        try:
            cards = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file") from None
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
        cards = cards if isinstance(cards, list) else [cards]
        if not all(isinstance(card, dict) for card in cards):
            raise ValueError(f"{path}: expected a model card or a list of them")
    else:
        table = Table.read(path)
        columns = {name: list(table.column(name)) for name in table.columns}
        cards = [{name: column[i] for name, column in columns.items()} for i in range(len(table))]
    if not cards:
        raise ValueError(f"{path}: no candidates")
    return tuple(_candidate(f"{path}: row {i}", i, card, predictors) for i, card in enumerate(cards, 1))


def _candidate(where: str, number: int, card: Mapping[str, Any], predictors: Sequence[str]) -> Candidate:
    values = {name: _value(where, card, aliases) for name, aliases in _ALIASES.items()}
    for name in ("P", "F_gmac"):
        if values[name] is None:
            raise ValueError(f"{where}: no {name} (or {', '.join(alias for alias, _ in _ALIASES[name][1:])})")
    own = {name: _value(where, card, ((name, 0),)) for name in predictors if name not in ("P", "S", "C", "N", "D")}
    return Candidate(
        name=str(card.get("name") or card.get("id") or f"candidate {number}"),
        P=values["P"] or 0.0,
        P_t=values["P"] or 0.0 if values["P_t"] is None else values["P_t"],
        F_gmac=values["F_gmac"] or 0.0,
        memory_bytes=values["memory_bytes"],
        samples_per_s=values["samples_per_s"],
        inputs={name: value for name, value in own.items() if value is not None},
    )


def _value(where: str, card: Mapping[str, Any], aliases: Sequence[tuple[str, int]]) -> float | None:
    for name, power in aliases:
        cell = card.get(name)
        if cell is None or cell == "":
            continue
        try:
            return float(cell) * 10**power if power >= 0 else float(cell) / 10**-power
        except (TypeError, ValueError):
            raise ValueError(f"{where}: {name} is {cell!r}, not a number") from None
    return None
