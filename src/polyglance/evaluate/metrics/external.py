"""Metrics that do not install beside this project (COMET, BLEURT, SPICE), run as a command that the user gives.

The command reads JSON lines `{"id", "src", "mt", "refs"}` on its standard input and writes one line for each, in the
same order or with ids: a number, or `{"id", "score"}`. It is started without a shell.
"""

import json
import math
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from polyglance.evaluate.metrics.metric import MeanMetric, MetricInput, Statistics, check_segments

__all__ = ["External"]


@dataclass(frozen=True, kw_only=True)
class External(MeanMetric):
    """The mean of a command's numbers, under a name that the user gives (`--external-name comet`)."""

    name: ClassVar[str] = "external"
    reads: ClassVar[MetricInput] = "text"
    scale: ClassVar[float] = 1.0

    command: str
    """Program and arguments, quoted as for a shell. No shell interprets them."""
    score_name: str = "external"
    """Name of the score."""
    ids: tuple[str, ...] = ()
    """Ids of the segments; none given: their numbers from 1."""
    sources: tuple[str, ...] = ()
    """Source text of each segment; none for captions."""

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise ValueError(f"{self.score_name}: the command {self.command!r} cannot be run ({error})") from None
        if not words:
            raise ValueError(f"{self.score_name}: the command is empty")

    @property
    def score_names(self) -> tuple[str, ...]:
        """Name of the score."""
        return (self.score_name,)

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Run the command: a number for each segment.

        Raises:
            ValueError: the command cannot be started, fails, or answers with something else than a number for each.
        """
        check_segments(hypotheses, references)
        ids = self.ids or tuple(str(number) for number in range(1, len(hypotheses) + 1))
        sources: Sequence[str | None] = self.sources or [None] * len(hypotheses)
        rows = [
            json.dumps({"id": name, "src": source, "mt": text, "refs": list(texts)})
            for name, source, text, texts in zip(ids, sources, hypotheses, references, strict=True)
        ]
        numbers = _parse_numbers(self._run("".join(f"{row}\n" for row in rows)), ids, self.score_name)
        return Statistics(values=np.array(numbers)[:, None], names=self.score_names)

    def signature(self) -> Mapping[str, str]:
        """Return the command. Of paths it has the file name only, so that it is the same on every machine."""
        words = [Path(word).name if word.startswith(("/", "./", "../")) else word for word in shlex.split(self.command)]
        return {"command": " ".join(words).replace("|", "/")}

    def _run(self, text: str) -> list[str]:
        try:
            done = subprocess.run(shlex.split(self.command), input=text.encode(), capture_output=True, check=False)
        except OSError as error:
            raise ValueError(f"{self.score_name}: the command {self.command!r} cannot be run ({error})") from None
        if done.returncode:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"{self.score_name}: {self.command!r} ended with exit code {done.returncode}: {last}")
        return [line for line in done.stdout.decode(errors="replace").split("\n") if line.strip()]


def _parse_numbers(lines: Sequence[str], ids: Sequence[str], metric: str) -> list[float]:
    """Read the number of each segment from the lines that the command wrote."""
    if len(lines) != len(ids):
        raise ValueError(
            f"{metric}: the command wrote {len(lines):,} lines for {len(ids):,} segments; expected one line each"
        )
    by_id: dict[str, float] = {}
    for number, (line, place) in enumerate(zip(lines, ids, strict=True), 1):
        answer = _parse_answer(line)
        name, score = (str(answer.get("id")), answer.get("score")) if isinstance(answer, dict) else (place, answer)
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            raise ValueError(f"{metric}: line {number} of the command's output is not a number: {line.strip()[:80]!r}")
        by_id[name] = float(score)
    absent = [name for name in ids if name not in by_id]
    if absent:
        raise ValueError(
            f"{metric}: the command gave no score for {len(absent):,} segments, the first is {absent[0]!r}"
        )
    return [by_id[name] for name in ids]


def _parse_answer(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
