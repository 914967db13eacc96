"""Cells and coverage: which task-language cells are trained, and which split each cell belongs to.

A cell is one (task, language). The coverage is the set of cells that are trained; the splits UC, ST and SC
(paper section 5.1) follow from it and are never listed by hand.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self, get_args

from polyglance.language_tags import find_code, find_codes
from polyglance.languages import SOURCE_LANGUAGE, did_you_mean

__all__ = ["SPLITS", "TASKS", "Cell", "Coverage", "EvaluationTask", "Split", "Task"]

Task = Literal["caption", "translation"]
EvaluationTask = Literal[Task, "disambiguation"]
Split = Literal["UC", "ST", "SC"]
TASKS: tuple[Task, ...] = get_args(Task)
SPLITS: tuple[Split, ...] = get_args(Split)


class Cell(NamedTuple):
    """One (task, language), written `caption-de` in files as in the published code."""

    task: Task
    language: str

    def __str__(self) -> str:
        return f"{self.task}-{self.language}"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read a cell that is written as `caption-de`.

        Raises:
            ValueError: not of the form task-language, or an unknown task or language.
        """
        task, _, code = name.partition("-")
        if task not in TASKS:
            raise ValueError(f"unknown task in cell {name!r}: {did_you_mean(task, TASKS)}")
        return cls(task, find_code(code))


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The cells that are trained. Languages are understood as people write them (`find_code`), and kept as codes.

    Raises:
        ValueError: an unknown or repeated language, or no cell at all.
    """

    caption: tuple[str, ...] = ()
    """Languages with captions."""
    translation: tuple[str, ...] = ()
    """Languages that English is translated into. English itself makes a reconstruction cell: the English text is
    copied, so that the decoder learns to write English from the encoder's representation of it."""
    cells: tuple[Cell, ...] = field(init=False, compare=False, repr=False, metadata={"derived": True})

    def __post_init__(self) -> None:
        for task in TASKS:
            codes = find_codes(getattr(self, task))
            object.__setattr__(self, task, codes)
            if repeated := sorted({code for code in codes if codes.count(code) > 1}):
                raise ValueError(f"coverage.{task} names {repeated[0]!r} twice")
        cells = tuple(Cell(task, code) for task in TASKS for code in getattr(self, task))
        if not cells:
            raise ValueError("the coverage is empty: name at least one language under caption or translation")
        object.__setattr__(self, "cells", cells)

    @property
    def languages(self) -> tuple[str, ...]:
        """Every language of the coverage, captions first, in the order given."""
        return tuple(dict.fromkeys((*self.caption, *self.translation)))

    def split(self, name: Split) -> tuple[Cell, ...]:
        """Return the cells of a split.

        SC: captions that are trained. ST: translations that are trained, without the reconstruction cell, which is no
        translation. UC: captions of the languages that are trained in translation only.
        """
        match name:
            case "SC":
                return tuple(Cell("caption", code) for code in self.caption)
            case "ST":
                return tuple(Cell("translation", code) for code in self.translation if code != SOURCE_LANGUAGE)
            case "UC":
                return tuple(Cell("caption", code) for code in self.translation if code not in self.caption)

    def split_of(self, cell: Cell) -> Split | None:
        """Return the split of a cell; None for the reconstruction cell and for cells outside the coverage."""
        return next((name for name in SPLITS if cell in self.split(name)), None)

    def missing(self, available: Iterable[Cell]) -> tuple[Cell, ...]:
        """Return the trained cells that are not among the available ones, in the coverage's order."""
        known = set(available)
        return tuple(cell for cell in self.cells if cell not in known)
