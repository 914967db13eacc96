"""Records of predictions: predictions.jsonl (a row for each example) and prediction.json (how they were made).

Only this module knows the fields of the two files. It loads no torch, so that reports can read them.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from polyglance.config import from_dict
from polyglance.data.benchmarks import BenchmarkExample
from polyglance.evaluate.row_files import read_joined_lines
from polyglance.files import parse_json, read_json, seal_files, write_json

__all__ = ["INFO_NAME", "PREDICTIONS_NAME", "PredictionInfo", "PredictionRow", "PredictionSet", "read_prediction_rows"]

PREDICTIONS_NAME = "predictions.jsonl"
INFO_NAME = "prediction.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionRow:
    """The prediction for one example: a text, or the losses of two translations, or the reason why there is none."""

    id: str
    """Id of the example."""
    text: str | None = None
    """Caption or translation; empty where there is an error. None for disambiguation."""
    correct: float | None = None
    """Disambiguation: loss of the correct translation, mean nats per token."""
    incorrect: float | None = None
    """Disambiguation: loss of the incorrect translation, mean nats per token."""
    correct_tokens: int | None = None
    """Disambiguation: number of tokens of the correct translation, the end token among them."""
    incorrect_tokens: int | None = None
    """Disambiguation: number of tokens of the incorrect translation, the end token among them."""
    error: str | None = None
    """Reason why there is no answer; None where there is one."""

    def format_line(self) -> str:
        """Return the row as a line of predictions.jsonl; fields without a value are left out."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(values, ensure_ascii=False) + "\n"

    @classmethod
    def parse_line(cls, line: str, where: str) -> "PredictionRow":
        """Read a line of predictions.jsonl.

        Raises:
            ValueError: not JSON, or a field that is unknown, missing or of the wrong type.
        """
        values = parse_json(line, where)
        known = {"id": str, "text": str, "error": str, "correct_tokens": int, "incorrect_tokens": int}
        if not isinstance(values, dict) or "id" not in values:
            raise ValueError(f"{where}: expected an object with an id")
        for name, value in values.items():
            if name in ("correct", "incorrect"):
                right = isinstance(value, (int, float)) and math.isfinite(value)
            else:
                right = name in known and isinstance(value, known[name])
            if not right:
                raise ValueError(f"{where}: {name!r} is {value!r}, which is not a valid value")
        row = cls(**values)
        if row.text is None and row.error is None and (row.correct is None or row.incorrect is None):
            raise ValueError(f"{where}: expected a text, two losses or an error")
        return row


def read_prediction_rows(folder: Path) -> list[PredictionRow]:
    """Read the rows of a finished predictions.jsonl.

    Raises:
        ValueError: missing, or damaged: one line with file and row.
    """
    path = folder / PREDICTIONS_NAME
    lines = read_joined_lines(folder, PREDICTIONS_NAME)
    return [PredictionRow.parse_line(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


@dataclass(frozen=True, kw_only=True)
class PredictionInfo:
    """Content of prediction.json: what was predicted, by which model, and everything that the predictions depend on.

    In a hand-written file only benchmark, split, language and model are required.
    """

    benchmark: str
    split: str
    language: str
    task: str = ""
    model: str
    """Name of the model."""
    prefix: str = ""
    """Words that captions were started with; empty for none."""
    limit: int | None = None
    """Number of examples, the first ones; None: all."""
    batch_size: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model's configuration."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Everything about the model that changes its answers (`EvaluatedModel.facts`)."""
    fingerprint: str = ""
    """Changes with facts, settings and examples."""
    num_rows: int = 0
    num_errors: int = 0
    """Number of rows without an answer."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library -> version."""

    def write(self, folder: Path) -> None:
        """Write prediction.json, whole or not at all, and list it and the rows with their digests."""
        write_json(folder / INFO_NAME, asdict(self))
        seal_files(folder, [name for name in (INFO_NAME, PREDICTIONS_NAME) if (folder / name).exists()])

    @classmethod
    def read(cls, folder: Path) -> "PredictionInfo":
        """Read prediction.json.

        Raises:
            ValueError: missing, not JSON, without benchmark, split, language or model, or a field of another type.
        """
        path = folder / INFO_NAME
        if not path.is_file():
            raise ValueError(f"{path}: no such file; it holds model, benchmark, split and language of the predictions")
        values = read_json(path)
        if not isinstance(values, dict):
            raise ValueError(f"{path}: expected a JSON object")
        for name in ("benchmark", "split", "language", "model"):
            if not isinstance(values.get(name), str) or not values[name]:
                raise ValueError(f"{path}: the field {name!r} is missing or not text")
        known = {one.name for one in fields(cls)}
        try:
            return from_dict(cls, {name: value for name, value in values.items() if name in known})
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class PredictionSet:
    """Finished predictions of one model for one benchmark, split and language."""

    folder: Path
    info: PredictionInfo
    examples: Sequence[BenchmarkExample]
    """Examples of the benchmark, without images."""
    rows: Sequence[PredictionRow]
    """Row of each example."""

    def count_errors(self) -> Counter[str]:
        """Return reason -> number of rows without an answer for this reason."""
        return Counter(row.error for row in self.rows if row.error is not None)
