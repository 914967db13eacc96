"""Disambiguation accuracy: how often the translation that fits the image costs less than the one that does not.

    disambiguation_accuracy([0.9, 1.2], [1.1, 1.2]).strict      # 50.0: a tie is wrong
    read_losses(Path("correct.txt"), Path("incorrect.txt")).accuracy().lenient

The two official scripts disagree on ties: CoMMuTE's evaluate.py counts `correct < incorrect`, VGAMT's trainer counts
`<=`. Six Russian and two Arabic rows of CoMMuTE have two identical translations and always tie. Whether a loss is the
mean or the sum over a translation's tokens is for its maker to say; CoMMuTE's and the paper's is exp(mean), which
orders as the mean does.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyglance.data.benchmarks import BenchmarkExample
from polyglance.data.benchmarks.files import check_unique, get_text, read_json_lines, read_lines

__all__ = ["Accuracy", "Losses", "disambiguation_accuracy", "read_losses"]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Rows decided rightly, in percent, under each rule for ties."""

    strict: float
    """Ties are wrong (`<`): CoMMuTE's evaluate.py, and the paper."""
    lenient: float
    """Ties are right (`<=`): VGAMT."""
    expected: float
    """Ties are tossed for: each counts half. What blind guessing gives is 50 under this rule alone."""
    ties: int
    """Rows whose two losses are equal."""
    identical: int | None
    """Rows whose two texts are identical, so that nothing can tell them apart; None where the texts are not known."""
    num: int
    """All rows."""

    def summary(self) -> str:
        """One line for people."""
        same = "" if self.identical is None else f", {self.identical} rows with identical texts"
        return (
            f"{self.strict:.2f} % (ties wrong), {self.lenient:.2f} % (ties right), {self.expected:.2f} % (ties half); "
            f"{self.ties} ties in {self.num} rows{same}"
        )


def disambiguation_accuracy(
    correct: Sequence[float], incorrect: Sequence[float], *, texts: Sequence[tuple[str, str]] | None = None
) -> Accuracy:
    """Accuracy from the loss of the correct and of the incorrect translation of each row; less is better.

    Args:
        correct: losses (or perplexities: any increasing function of them) of the translations that fit.
        incorrect: losses of those that do not.
        texts: the two translations of each row, so that identical ones are counted.

    Raises:
        ValueError: no rows, not equally many, or a loss that is not finite.
    """
    _check_losses(correct, incorrect)
    if texts is not None and len(texts) != len(correct):
        raise ValueError(f"{len(texts)} pairs of texts, but {len(correct)} rows of losses")
    wins = sum(c < i for c, i in zip(correct, incorrect, strict=True))
    ties = sum(c == i for c, i in zip(correct, incorrect, strict=True))
    num = len(correct)
    return Accuracy(
        strict=100 * wins / num,
        lenient=100 * (wins + ties) / num,
        expected=100 * (wins + ties / 2) / num,
        ties=ties,
        identical=None if texts is None else sum(a == b for a, b in texts),
        num=num,
    )


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Losses as a file holds them."""

    source: Path
    """The file, or the first of the two."""
    ids: tuple[str, ...] | None
    """Ids of the rows; None where the file has none and rows are in the benchmark's order."""
    correct: tuple[float, ...]
    incorrect: tuple[float, ...]

    def accuracy(self, examples: Sequence[BenchmarkExample] | None = None) -> Accuracy:
        """Accuracy of these losses.

        Args:
            examples: the benchmark they belong to; where given, ids and number of rows must be the benchmark's.

        Raises:
            ValueError: rows are missing or too many, or a loss is not finite.
        """
        if examples is None:
            return disambiguation_accuracy(self.correct, self.incorrect)
        self._check_rows(examples)
        texts = [(example.references[0], example.incorrect or "") for example in examples]
        return disambiguation_accuracy(self.correct, self.incorrect, texts=texts)

    def _check_rows(self, examples: Sequence[BenchmarkExample]) -> None:
        if self.ids is None:
            if len(self.correct) != len(examples):
                raise ValueError(f"{self.source}: {len(self.correct)} losses, but the benchmark has {len(examples)}")
            return
        wanted = [example.id for example in examples]
        known = set(self.ids)
        if missing := [name for name in wanted if name not in known]:
            raise ValueError(f"{self.source}: {len(missing)} rows of the benchmark are missing, first {missing[0]!r}")
        if extra := known - set(wanted):
            raise ValueError(f"{self.source}: {len(extra)} ids are not in the benchmark, such as {min(extra)!r}")


def read_losses(path: Path, incorrect_path: Path | None = None) -> Losses:
    """Losses from two files with one number a line, as CoMMuTE's evaluate.py takes them, or from one JSON lines file
    with `{"id": ..., "correct": ..., "incorrect": ...}`.

    Raises:
        ValueError: unreadable, not numbers, not finite, an id twice, or not equally many lines.
    """
    if incorrect_path is not None:
        correct, incorrect = (tuple(_numbers(file)) for file in (path, incorrect_path))
        if len(correct) != len(incorrect):
            raise ValueError(f"{incorrect_path}: {len(incorrect)} losses, but {path.name} has {len(correct)}")
        return Losses(source=path, ids=None, correct=correct, incorrect=incorrect)
    ids, pairs = [], []
    for where, record in read_json_lines(path):
        name = record.get("id")
        ids.append(str(name) if isinstance(name, int) else get_text(record, "id", where))
        pairs.append(tuple(_number(record.get(key), f"{where}: {key!r}") for key in ("correct", "incorrect")))
    check_unique(ids, path)
    return Losses(
        source=path, ids=tuple(ids), correct=tuple(pair[0] for pair in pairs), incorrect=tuple(p[1] for p in pairs)
    )


def _numbers(path: Path) -> Iterator[float]:
    for row, line in enumerate(read_lines(path), 1):
        try:
            value = float(line)
        except ValueError:
            hint = "; JSON lines are read from one file" if line.startswith("{") else ""
            raise ValueError(f"{path}:{row}: expected one number, got {json.dumps(line[:40])}{hint}") from None
        yield _number(value, f"{path}:{row}")


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{where} is missing or not a number")
    try:
        loss = float(value)
    except OverflowError:  # an integer of hundreds of digits
        loss = math.inf
    if not math.isfinite(loss):
        raise ValueError(f"{where}: a loss of {loss} decides nothing; losses are finite")
    return loss


def _check_losses(correct: Sequence[float], incorrect: Sequence[float]) -> None:
    if len(correct) != len(incorrect):
        raise ValueError(f"{len(correct)} losses of correct texts, but {len(incorrect)} of incorrect ones")
    if not correct:
        raise ValueError("no losses: there is nothing to decide")
    for row, pair in enumerate(zip(correct, incorrect, strict=True), 1):
        if not all(map(math.isfinite, pair)):
            raise ValueError(f"row {row}: a loss is not finite ({pair[0]}, {pair[1]})")
