"""The project's own data sets as benchmarks: any caption or translation cell of any of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

from polyglance.coverage import Task
from polyglance.data.benchmarks.benchmark import Benchmark, BenchmarkExample, EvaluationTask
from polyglance.data.benchmarks.files import PublishedFile, check_choice
from polyglance.data.shard import MANIFEST_NAME, ShardReader, read_annotations
from polyglance.languages import LANGUAGES, did_you_mean
from polyglance.records import Annotation, Style

__all__ = ["ShardBenchmark", "ShardExamples"]


class ShardBenchmark(Benchmark):
    """One cell of a data set below the root, read as an evaluation set. Images stay in the shards until asked for.

    A split is the folder of a data set (`polyglance data world` writes `test` and `train`; any other folder's name is
    right, too). The references of an image are its captions in the language; the references of a translation are all
    translations of one English text. Ids are the images' keys; where an image has several English texts, a number
    follows.

    Args:
        style: style of the captions that are references; the others answer another prompt.
    """

    licence = "as its manifest.json says"

    def __init__(self, cell_task: Task, *, style: Style = "short") -> None:
        self.name = f"shards-{cell_task}"
        self.task: EvaluationTask = cell_task
        self._task: Task = cell_task
        self._style: Style = style

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test", "val", "train")

    def languages(self, split: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the codes of all languages that polyglance knows; `load` takes any that the data set has."""
        return tuple(LANGUAGES)

    def num_examples(self, split: str, language: str) -> int | None:  # noqa: ARG002
        return None

    def expected_files(self, split: str, language: str) -> tuple[PublishedFile, ...]:  # noqa: ARG002
        made_by = "`polyglance data import` or `polyglance data world`"
        return tuple(
            PublishedFile(paths=(f"{split}/{path}",), published_at=made_by)
            for path in (MANIFEST_NAME, "shards/<number, 5 digits>.parquet")
        )

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> "ShardExamples":
        """Read the examples. The image of an example is read when the example is looked at."""
        directory = root / split
        if not directory.is_dir():
            known = sorted(path.parent.name for path in root.glob(f"*/{MANIFEST_NAME}"))
            hint = did_you_mean(split, known) if known else "there is none; `polyglance data` makes them"
            raise ValueError(f"{self.name}: no data set {split!r} below {root}; {hint}")
        reader = ShardReader(directory)
        cell = f"{self._task}-{language}"
        styles = reader.manifest.rows_per_cell_and_style
        check_choice(str(directory), "cell", cell, list(styles))
        check_choice(f"{directory}: {cell}", "style", self._style, list(styles[cell]))
        examples, rows = [], []
        for row, (key, annotations) in enumerate(read_annotations(directory)):
            texts = self._group_texts(annotations, language)
            for number, (source, references) in enumerate(texts.items(), 1):
                name = key if len(texts) == 1 else f"{key}#{number}"
                examples.append(BenchmarkExample(id=name, image=None, source=source, references=tuple(references)))
                rows.append(row)
        return ShardExamples(examples, rows, reader if images else None)

    def _group_texts(self, annotations: Sequence[Annotation], language: str) -> dict[str | None, list[str]]:
        """Return English text (None for captions) -> the references in the language."""
        texts: dict[str | None, list[str]] = {}
        for annotation in annotations:
            if (annotation.task, annotation.language, annotation.style) == (self._task, language, self._style):
                texts.setdefault(annotation.source, []).append(annotation.text)
        return texts


class ShardExamples(Sequence[BenchmarkExample]):
    """Examples whose images are read from the shards, one row group at a time, when an example is taken."""

    def __init__(self, examples: Sequence[BenchmarkExample], rows: Sequence[int], reader: ShardReader | None) -> None:
        self._examples, self._rows, self._reader = examples, rows, reader

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> BenchmarkExample: ...
    @overload
    def __getitem__(self, index: slice) -> "ShardExamples": ...
    def __getitem__(self, index: int | slice) -> "BenchmarkExample | ShardExamples":
        if isinstance(index, slice):
            return ShardExamples(self._examples[index], self._rows[index], self._reader)
        example = self._examples[index]
        if self._reader is None:
            return example
        return replace(example, image=self._reader.images([self._rows[index]])[0])
