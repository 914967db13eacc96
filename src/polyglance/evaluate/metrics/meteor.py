"""METEOR 1.5, computed by its authors' program: needs Java, and the jar that the user names.

Denkowski and Lavie 2014, https://aclanthology.org/W14-3348. Called as pycocoevalcap does: `-stdio -norm`, the best
reference of each segment, and the score of summed statistics.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from polyglance.evaluate.metrics.metric import MetricInput, Statistics, check_segments

__all__ = ["Meteor"]

_NUM_STATISTICS = 23


@dataclass(frozen=True, kw_only=True)
class Meteor:
    """METEOR: score `METEOR`, 0 to 1. Each call starts Java once, which takes seconds."""

    name: ClassVar[str] = "meteor"
    reads: ClassVar[MetricInput] = "tokens"
    scale: ClassVar[float] = 1.0

    jar: str | Path | None = None
    """Path of meteor-1.5.jar, with the paraphrase tables beside it in `data`."""
    language: str = "en"
    """METEOR's `-l`: `en`, `cz`, `de`, `es`, `fr`, `ru`, `ar` or `other`."""

    def __post_init__(self) -> None:
        if self.jar is None:
            raise ValueError("meteor: needs Java and METEOR's jar; give its path (jar, or --meteor-jar)")
        if not Path(self.jar).is_file():
            raise ValueError(f"meteor: there is no jar at {self.jar}")
        if which("java") is None:
            raise ValueError("meteor: the program 'java' was not found; install a Java runtime or leave METEOR out")

    def statistics(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Statistics:
        """Ask METEOR for its statistics of each segment against its best reference."""
        check_segments(hypotheses, references)
        requests = [
            " ||| ".join(["SCORE", *map(_clean_field, texts), _clean_field(text)])
            for text, texts in zip(hypotheses, references, strict=True)
        ]
        answers = self._run(requests, num_answers=len(requests))
        try:
            values = np.array([answer.split() for answer in answers], dtype=np.float64)
        except ValueError:
            raise ValueError(f"meteor: unexpected answer of {self.jar}: {answers[0][:80]!r}") from None
        assert values.shape == (len(hypotheses), _NUM_STATISTICS), values.shape
        return Statistics(values=values, names=tuple(f"meteor_{i}" for i in range(_NUM_STATISTICS)))

    def scores(
        self,
        statistics: Float[np.ndarray, "*draws K"],
        num_segments: int,  # noqa: ARG002  (counts are summed, not averaged)
    ) -> dict[str, Float[np.ndarray, "*draws"]]:
        """Compute METEOR of summed statistics, by one call of the program for all draws."""
        rows = statistics.reshape(-1, statistics.shape[-1]).tolist()
        request = " ||| ".join(["EVAL", *(" ".join(map(str, row)) for row in rows)])
        # One answer for each row, and one for their sum.
        answers = self._run([request], num_answers=len(rows) + 1)[:-1]
        return {"METEOR": np.array([float(answer) for answer in answers]).reshape(statistics.shape[:-1])}

    def signature(self) -> Mapping[str, str]:
        """Return the jar's file name, the language and its normalisation."""
        return {"jar": Path(str(self.jar)).name, "lang": self.language, "norm": "yes"}

    def _run(self, requests: Sequence[str], *, num_answers: int) -> list[str]:
        command = ["java", "-Xmx2G", "-jar", str(self.jar), "-", "-", "-stdio", "-l", self.language, "-norm"]
        text = "".join(f"{request}\n" for request in requests)
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
        answers = done.stdout.decode(errors="replace").splitlines()
        if done.returncode or len(answers) != num_answers:
            last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"meteor: {self.jar} gave {len(answers)} answers to {num_answers} requests: {last}")
        return answers


def _clean_field(text: str) -> str:
    """Remove from a text what would end the field or the line."""
    return " ".join(text.replace("|||", "").split())
