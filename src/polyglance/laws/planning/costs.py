"""Models to choose from and their costs: parameters, MACs, memory and speed.

Candidates come from a table (CSV, JSON lines, Parquet) or from `polyglance model card --json`; no torch is needed.
A cost is proportional to the data that a run sees: a candidate's costs are `Rates`, costs per unit of the law's data.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from polyglance.compute import training_compute
from polyglance.files import read_json
from polyglance.languages import did_you_mean
from polyglance.laws.config import Budget, CostMeasure
from polyglance.laws.equations.roles import Role
from polyglance.laws.tables.numerals import find_unit, parse_number
from polyglance.laws.tables.table import Table, is_missing

__all__ = ["Candidate", "Rates", "compute_rates", "read_candidates", "refuse_same_names"]

DataUnit = Literal["sample", "token"]

_ALIASES: Mapping[str, tuple[tuple[str, int], ...]] = {  # field -> (accepted name, power of ten to the unit)
    "P": (("P", 0), ("N", 0), ("num_parameters", 0), ("parameters", 0), ("params", 0)),
    "P_t": (("P_t", 0), ("num_trained", 0), ("trainable", 0)),
    "F_gmac": (("F_gmac", 0), ("F", 0)),
    "F_gmac_per_sample": (("F_gmac_per_sample", 0), ("macs_per_sample", -9), ("gmac", 0)),
    "F_gmac_per_token": (("F_gmac_per_token", 0), ("macs_per_token", -9)),
    "memory_bytes": (("memory_bytes", 0), ("memory_gb", 9), ("training_bytes", 0)),
    "samples_per_s": (("samples_per_s", 0),),
    "samples_per_gpu_s": (("samples_per_gpu_s", 0),),
    "tokens_per_s": (("tokens_per_s", 0),),
}
_CARD_KEYS = {"num_trained": ("pre-training",), "training_bytes": ("pre-training", "bfloat16")}
"""Field of a model card that has several values -> the keys of the one for training as published."""
_FIELD_NAMES = frozenset(name for aliases in _ALIASES.values() for name, _ in aliases)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model to choose from."""

    name: str
    P: float
    """Parameters."""
    P_t: float
    """Trainable parameters."""
    F_gmac: float
    """Forward pass of one unit of data, in GMAC."""
    F_unit: DataUnit | None = None
    """Unit of data that F is the forward pass of; None: a token for a law in tokens, a sample for any other law."""
    memory_bytes: float | None = None
    """Memory that training needs, if known."""
    samples_per_s: float | None = None
    """Measured training speed of all GPUs together, if known; used in place of a throughput in GMAC."""
    samples_per_gpu_s: float | None = None
    """Training speed of one GPU, if known; several GPUs are assumed to be proportionally faster."""
    tokens_per_s: float | None = None
    """As `samples_per_s`, in tokens."""
    inputs: Mapping[str, float] = field(default_factory=dict)
    """Values of further predictors that belong to the model, such as its T."""

    def __post_init__(self) -> None:
        names = ("memory_bytes", "samples_per_s", "samples_per_gpu_s", "tokens_per_s")
        measured = {name: getattr(self, name) for name in names}
        known = {name: value for name, value in measured.items() if value is not None}
        for name, value in {"P": self.P, "F_gmac": self.F_gmac, **known}.items():
            if not 0 < value < float("inf"):
                raise ValueError(f"candidate {self.name!r}: {name} is {value:g}; expected a positive number")
        if not 0 <= self.P_t <= self.P:
            raise ValueError(f"candidate {self.name!r}: P_t is {self.P_t:g}; expected 0 to P = {self.P:g}")

    @property
    def has_speed(self) -> bool:
        """Whether a speed was measured or estimated."""
        return any((self.samples_per_s, self.samples_per_gpu_s, self.tokens_per_s))

    def compute_gmac(self, forward_passes: float) -> float:
        """Return C = S F (1 + P_t / P), in GMAC (paper section 4.1)."""
        return training_compute(forward_passes * self.F_gmac, num_trained=self.P_t, num_parameters=self.P)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Costs of one unit of a law's data with one candidate; None where the inputs to compute it are missing."""

    samples: float | None = None
    tokens: float | None = None
    compute: float | None = None
    """GMAC."""
    hours: float | None = None
    """Wall-clock hours."""
    gpu_hours: float | None = None
    money: float | None = None

    @property
    def flop(self) -> float | None:
        return _multiply(self.compute, 2e9)

    def of(self, measure: CostMeasure) -> float | None:
        return {"compute": self.compute, "hours": self.hours, "money": self.money}[measure]

    def times(self, factor: float) -> "Rates":
        """Return the costs of so many units."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return Rates(**{name: None if value is None else value * factor for name, value in known.items()})


def compute_rates(role: Role, gmac_per_unit: float, candidate: Candidate | None, budget: Budget) -> Rates:
    """Return the costs of one unit of the predictor that counts data.

    Args:
        role: samples, tokens, epochs or compute.
        gmac_per_unit: GMAC in one unit of a compute predictor; not used for other roles.
        candidate: the model; None: only the costs that need no model are known.
    """
    per_token = budget.tokens_per_sample
    samples, tokens = _count_data(role, budget)
    gmac = gmac_per_unit if role == "compute" else None
    if candidate is not None:
        unit = candidate.F_unit or ("token" if role == "tokens" else "sample")
        pass_gmac = candidate.compute_gmac(1.0)
        if role == "compute":
            passes = gmac_per_unit / pass_gmac
            samples = passes if unit == "sample" else _divide(passes, per_token)
            tokens = passes if unit == "token" else _multiply(passes, per_token)
        else:
            gmac = _multiply(samples if unit == "sample" else tokens, pass_gmac)
    hours = _compute_hours(candidate, samples, tokens, gmac, budget)
    gpu_hours = _multiply(hours, budget.gpus)
    return Rates(
        samples=samples,
        tokens=tokens,
        compute=gmac,
        hours=hours,
        gpu_hours=gpu_hours,
        money=_multiply(gpu_hours, budget.price_per_gpu_hour),
    )


def _count_data(role: Role, budget: Budget) -> tuple[float | None, float | None]:
    """Return samples and tokens in one unit of a predictor that is not compute."""
    if role == "tokens":
        return _divide(1.0, budget.tokens_per_sample), 1.0
    samples = {"samples": 1.0, "epochs": budget.samples_per_epoch}.get(role)
    return samples, _multiply(samples, budget.tokens_per_sample)


def _compute_hours(
    candidate: Candidate | None, samples: float | None, tokens: float | None, gmac: float | None, budget: Budget
) -> float | None:
    """Return hours by the measured speed where there is one, and by the throughput in GMAC otherwise."""
    if candidate is not None and candidate.samples_per_s is not None:
        return _divide(samples, candidate.samples_per_s * 3600)
    if candidate is not None and candidate.samples_per_gpu_s is not None:
        return _divide(samples, candidate.samples_per_gpu_s * budget.gpus * 3600)
    if candidate is not None and candidate.tokens_per_s is not None:
        return _divide(tokens, candidate.tokens_per_s * 3600)
    if budget.gmac_per_gpu_s is None:
        return None
    return _divide(gmac, budget.gmac_per_gpu_s * budget.gpus * 3600)


def _multiply(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a * b


def _divide(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a / b


def read_candidates(path: str | Path, predictors: Sequence[str] = (), *, gpu: str = "H100") -> tuple[Candidate, ...]:
    """Read candidates from a table (one row each) or from model cards as JSON (an object, or a list of them).

    Columns: name, P (or N, num_parameters), P_t (or num_trained), F_gmac (or F_gmac_per_sample, F_gmac_per_token,
    macs_per_sample, macs_per_token), and if known memory_bytes, samples_per_s, samples_per_gpu_s, tokens_per_s and the
    law's other predictors, such as T. Without P_t all parameters are trained. From a model card the numbers for
    training as published are taken, and its rate on the GPU.

    Args:
        gpu: GPU whose rate is taken from model cards.

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
        cards = _read_rows(Table.read(path))
    if not cards:
        raise ValueError(f"{path}: no candidates")
    models = tuple(_read_candidate(f"{path}: row {i}", i, card, predictors, gpu) for i, card in enumerate(cards, 1))
    refuse_same_names(models, f"{path}: ")
    return models


def refuse_same_names(candidates: Sequence[Candidate], where: str = "") -> None:
    """Raise ValueError where two candidates have one name, by which results are found."""
    first: dict[str, int] = {}
    for number, candidate in enumerate(candidates, 1):
        if candidate.name in first:
            raise ValueError(
                f"{where}candidates {first[candidate.name]} and {number} are both named {candidate.name!r}; give each "
                "its own name"
            )
        first[candidate.name] = number


_NAMES = ("name", "id", "size")
"""Columns with the name of a candidate, the best first."""
_HAS_UNIT = re.compile(r"(^|_)(gb|gmac)(_|$)", re.IGNORECASE)
"""Names of columns that state the unit of their numbers."""


@dataclass(frozen=True)
class _Problem:
    """A cell without a number, in words."""

    text: str


def _read_rows(table: Table) -> list[dict[str, Any]]:
    """Return the rows of a table, with numbers as tables of runs are read (7B, 12,5)."""
    columns: dict[str, list[Any]] = {}
    for name, cells in table.columns.items():
        values, problems = table.numbers(name)
        columns[name] = [
            cell if name in _NAMES or is_missing(cell) else _Problem(problems[i]) if i in problems else float(values[i])
            for i, cell in enumerate(cells)
        ]
        for i, cell in enumerate(cells):
            if problem := _find_second_unit(name, cell):
                columns[name][i] = _Problem(problem)
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _find_second_unit(name: str, cell: Any) -> str:
    """Describe a cell such as `24G` in a column whose name has a unit, `memory_gb`; empty for any other cell."""
    if _HAS_UNIT.search(name) is None or find_unit(cell) not in ("count", "percent"):
        return ""
    return f"is {cell!r}, and the name of the column has the unit: write the number alone"


def _read_candidate(where: str, number: int, card: Mapping[str, Any], predictors: Sequence[str], gpu: str) -> Candidate:
    values = {name: _read_value(where, card, aliases) for name, aliases in _ALIASES.items()}
    if values["samples_per_gpu_s"] is None and card.get("rates"):
        values["samples_per_gpu_s"] = _read_rate(where, card, gpu)
    if values["P"] is None:
        raise ValueError(f"{where}: no P (or {', '.join(alias for alias, _ in _ALIASES['P'][1:])})")
    forward = {name: values[name] for name in ("F_gmac", "F_gmac_per_sample", "F_gmac_per_token")}
    known = {name: value for name, value in forward.items() if value is not None}
    if len(known) != 1:
        others = "F_gmac (or F), F_gmac_per_sample (or macs_per_sample), F_gmac_per_token (or macs_per_token)"
        raise ValueError(f"{where}: {'no F_gmac' if not known else 'more than one F'}; give one of {others}")
    ((name, f_gmac),) = known.items()
    units: Mapping[str, DataUnit] = {"F_gmac_per_sample": "sample", "F_gmac_per_token": "token"}
    inputs = {name: _read_value(where, card, ((name, 0),)) for name in predictors if name not in _FIELD_NAMES}
    return Candidate(
        name=str(next((card[key] for key in _NAMES if card.get(key)), f"candidate {number}")).strip(),
        P=values["P"],
        P_t=values["P"] if values["P_t"] is None else values["P_t"],
        F_gmac=f_gmac,
        F_unit=units.get(name),
        memory_bytes=values["memory_bytes"],
        samples_per_s=values["samples_per_s"],
        samples_per_gpu_s=values["samples_per_gpu_s"],
        tokens_per_s=values["tokens_per_s"],
        inputs={name: value for name, value in inputs.items() if value is not None},
    )


def _read_value(where: str, card: Mapping[str, Any], aliases: Sequence[tuple[str, int]]) -> float | None:
    for name, power in aliases:
        cell = card.get(name)
        for key in _CARD_KEYS.get(name, ()):
            cell = cell.get(key) if isinstance(cell, Mapping) else cell
        if cell is None or cell == "":
            continue
        if problem := cell.text if isinstance(cell, _Problem) else _find_second_unit(name, cell):
            raise ValueError(f"{where}: {name} {problem}")
        try:
            cell = parse_number(cell) if isinstance(cell, str) else cell
            return float(cell) * 10**power if power >= 0 else float(cell) / 10**-power
        except (TypeError, ValueError):
            raise ValueError(f"{where}: {name} is {cell!r}, not a number") from None
    return None


def _read_rate(where: str, card: Mapping[str, Any], gpu: str) -> float | None:
    """Return the samples per second of one GPU from the rates of a model card."""
    rates, gmac = card["rates"], card.get("training_gmac")
    if not isinstance(rates, Mapping) or not isinstance(gmac, (int, float)):
        raise ValueError(
            f"{where}: no valid rates and training_gmac; expected those that `polyglance model card --json` writes"
        )
    if gpu not in rates:
        raise ValueError(f"{where}: the card has no rate of gpu {gpu!r}; {did_you_mean(gpu, rates)}")
    tflops = rates[gpu].get("tflops") if isinstance(rates[gpu], Mapping) else None
    if not isinstance(tflops, (int, float)) or not 0 < gmac < float("inf"):
        raise ValueError(f"{where}: the rate of {gpu} has no number tflops")
    return tflops * 1e3 / (2 * gmac)
