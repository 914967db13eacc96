"""Predictions of runs, made before the runs; predictions.json is read and written only here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from polyglance.config import from_dict, to_dict
from polyglance.files import read_record, write_record

__all__ = ["ChosenForm", "RunPrediction", "RunPredictions"]

_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RunPrediction:
    """One predicted loss of one run."""

    run: str
    """Id of the run."""
    target: str
    """Column of runs.csv that was predicted."""
    value: float
    """Predicted loss, in nats per token."""
    low: float | None = None
    """Lower end of the interval for a new run; None where the law has no interval."""
    high: float | None = None
    """Upper end."""
    num_runs: int
    """Runs that the law was fitted to."""
    form: str = ""
    """Form of the law, such as `additive(P, S)`; empty in older records, which are of the product law."""
    new_start: str = ""
    """Starting point of the run, if the law was fitted to none from it."""


@dataclass(frozen=True, kw_only=True)
class ChosenForm:
    """Form of the law that predicts one loss of a family, and how the form was chosen (`laws.rehearsal`)."""

    family: str
    target: str
    """Column of runs.csv."""
    form: str
    errors: Mapping[str, float]
    """Form -> mean of |ln(predicted / measured)| in the rehearsals."""
    protocol: str
    """Runs that were predicted in the rehearsals: `smaller corners` of the grid, each one (`leave one out`), or
    `none`."""
    num_runs: int
    """Runs that were predicted in the rehearsals."""


@dataclass(frozen=True, kw_only=True)
class RunPredictions:
    """The content of predictions.json."""

    confidence: float
    """Confidence of the intervals."""
    predictions: tuple[RunPrediction, ...]
    forms: tuple[ChosenForm, ...] = ()
    """Form of each family and loss; empty in older records."""
    already_measured: tuple[str, ...] = ()
    """Runs that were already finished when they were predicted, so that these are not true predictions."""
    problems: tuple[str, ...] = ()
    """Laws that could not be fitted, one line each."""

    @property
    def has_new_start(self) -> bool:
        """Whether runs with a starting point that is new to the law were predicted."""
        return any(prediction.new_start for prediction in self.predictions)

    def write(self, path: Path) -> None:
        """Write predictions.json."""
        write_record(path, {"format": _FORMAT, **to_dict(self)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read predictions.json.

        Raises:
            ValueError: no such file, another format, or a value missing or of another type: one line.
        """
        values = read_record(path)
        version = values.pop("format", None)
        if version != _FORMAT:
            raise ValueError(f"{path}: format {version!r}; this version of polyglance reads format {_FORMAT}")
        try:
            return from_dict(cls, values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
