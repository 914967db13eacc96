"""CoMMuTE (Futeral et al., ACL 2023): English sentences that only their image makes clear, with two translations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from polyglance.data.benchmarks.benchmark import EvaluationTask, Example, ExpectedFile
from polyglance.data.benchmarks.files import Needed, check_choice, image_paths, read_parallel_lines, require

__all__ = ["COMMUTE_SIZES", "Commute", "CommuteDisambiguation", "CommuteTranslation"]

COMMUTE_SIZES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "test": MappingProxyType({"de": 300, "fr": 308, "cs": 308, "ru": 324, "zh": 324, "ar": 324}),
        "dev": MappingProxyType({"fr": 60}),
    }
)
_TEXTS_AT = "https://github.com/MatthieuFP/CoMMuTE"
_IMAGES_AT = "https://drive.google.com/drive/folders/1FrvKN1PyR7zeGLllCLp50TbM0OS8LCSc"
_MAX_UNMIRRORED = 0.05
"""Share of pairs that may fail to mirror each other. In the published files it is 2 of 154 French pairs at most; where
`incorrect` is shifted or of another language, it is nearly all."""


class Commute:
    """What both tasks on CoMMuTE share.

    Two lines after each other are a pair: the same English sentence with two images, for which the correct and the
    incorrect translation change places. Ids are line numbers from 1. White space at the ends of lines (there is some
    in Arabic, Czech, German and French) is removed.

    Args:
        sizes: split -> language -> number of lines.
    """

    name = "commute"
    task: EvaluationTask = "translation"
    splits: tuple[str, ...] = tuple(COMMUTE_SIZES)
    licence = "CC BY-NC-SA 4.0 by its README (its LICENSE file says CC BY-SA 4.0)"

    def __init__(self, *, sizes: Mapping[str, Mapping[str, int]] = COMMUTE_SIZES) -> None:
        self._sizes = sizes

    def languages(self, split: str) -> tuple[str, ...]:
        check_choice(self.name, "split", split, self.splits)
        return tuple(COMMUTE_SIZES[split])

    def expected_files(self, split: str, language: str) -> tuple[ExpectedFile, ...]:
        check_choice(self.name, "language", language, self.languages(split))
        return tuple(needed.expected for needed in (*_texts(split, language), _images(split)))

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[Example]:
        """See `Benchmark.load`."""
        check_choice(self.name, "language", language, self.languages(split))
        texts, folder = _texts(split, language), _images(split)
        label = f"{self.name} {split} {language}"
        paths = require(root, label, (*texts, folder) if images else texts)[: len(texts)]
        names, sources, correct, incorrect = read_parallel_lines(paths, self._sizes[split][language])
        _check_pairs(paths, names, sources, correct, incorrect)
        files: Sequence[Path | None] = [None] * len(names)
        if images:
            files = image_paths(root, label, folder, names)
        rows = zip(files, sources, correct, incorrect, strict=True)
        return [self._example(str(number), *row) for number, row in enumerate(rows, 1)]

    def _example(self, name: str, image: Path | None, source: str, correct: str, incorrect: str) -> Example:
        kept = incorrect if self.task == "disambiguation" else None
        return Example(id=name, image=image, source=source, references=(correct,), incorrect=kept)


class CommuteTranslation(Commute):
    """Translation; the reference is the translation that fits the image."""

    name = "commute-translation"
    task: EvaluationTask = "translation"


class CommuteDisambiguation(Commute):
    """Choice between the translation that fits the image and the one that does not."""

    name = "commute-disambiguation"
    task: EvaluationTask = "disambiguation"


def _texts(split: str, language: str) -> tuple[Needed, ...]:
    part = f"en-{language}" if split == "test" else f"en-{language}_{split}"
    folders = ("CoMMuTE/CoMMuTE", "CoMMuTE", "commute", "CoMMuTE-main")
    return tuple(
        Needed(paths=tuple(f"{folder}/{part}/{name}" for folder in folders), published_at=_TEXTS_AT)
        for name in ("img.order", "src.en", f"correct.{language}", f"incorrect.{language}")
    )


def _images(split: str) -> Needed:
    name = "images" if split == "test" else f"images_{split}"
    folders = ("CoMMuTE", "CoMMuTE/CoMMuTE", "commute", "CoMMuTE-main")
    return Needed(
        paths=tuple(f"{folder}/{name}" for folder in folders),
        published_at=f"{_IMAGES_AT} ({name}.tar.gz)",
        each="<name in img.order>",
    )


def _check_pairs(
    paths: Sequence[Path],
    names: Sequence[str],
    sources: Sequence[str],
    correct: Sequence[str],
    incorrect: Sequence[str],
) -> None:
    """Refuse files whose lines do not belong together, as far as the pairs show it."""
    order_path, source_path, _, incorrect_path = paths
    if len(names) % 2:
        raise ValueError(f"{source_path}: {len(names)} lines, but lines come in pairs")
    first_rows = range(0, len(names), 2)
    for row in first_rows:
        if sources[row] != sources[row + 1]:
            raise ValueError(f"{source_path}:{row + 2}: not the sentence of line {row + 1}, with which it is a pair")
        if names[row] == names[row + 1]:
            raise ValueError(f"{order_path}:{row + 2}: the image of line {row + 1} again; a pair has two images")
    pairs = list(zip(correct, incorrect, strict=True))
    unmirrored = [row for row in first_rows if pairs[row] != pairs[row + 1][::-1]]
    if len(unmirrored) > _MAX_UNMIRRORED * len(first_rows):
        raise ValueError(
            f"{incorrect_path}:{unmirrored[0] + 1}: does not belong to {paths[2].name}: in {len(unmirrored)} of "
            f"{len(first_rows)} pairs the two translations do not change places"
        )
