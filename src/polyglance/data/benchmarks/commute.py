"""CoMMuTE (Futeral et al., ACL 2023): English sentences that only their image makes clear, with two translations."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from polyglance.data.benchmarks.benchmark import EvaluationTask
from polyglance.data.benchmarks.files import PublishedFile, read_parallel_lines
from polyglance.data.benchmarks.published import PublishedBenchmark, PublishedRow

__all__ = ["Commute", "CommuteDisambiguation", "CommuteTranslation"]

_TEXTS_AT = "https://github.com/MatthieuFP/CoMMuTE"
_IMAGES_AT = "https://drive.google.com/drive/folders/1FrvKN1PyR7zeGLllCLp50TbM0OS8LCSc"
_MAX_UNMIRRORED = 0.05
"""Largest share of pairs that may fail to mirror each other. The published files have at most 2 of 154 pairs (French);
where `incorrect` is shifted or of another language, nearly all pairs fail."""


class Commute(PublishedBenchmark):
    """Base of both tasks on CoMMuTE.

    Two lines after each other are a pair: the same English sentence with two images, for which the correct and the
    incorrect translation change places. Ids are line numbers from 1. White space at the ends of lines (there is some
    in Arabic, Czech, German and French) is removed.
    """

    licence = "CC BY-NC-SA 4.0 by its README (its LICENSE file says CC BY-SA 4.0)"
    sizes = MappingProxyType(
        {
            "test": MappingProxyType({"de": 300, "fr": 308, "cs": 308, "ru": 324, "zh": 324, "ar": 324}),
            "dev": MappingProxyType({"fr": 60}),
        }
    )

    def language_codes(self, split: str) -> tuple[str, ...]:
        sizes = self.sizes[split]
        assert not isinstance(sizes, int)
        return tuple(sizes)

    def text_files(self, split: str, language: str) -> tuple[PublishedFile, ...]:
        pair = f"en-{language}" if split == "test" else f"en-{language}_{split}"
        folders = ("CoMMuTE/CoMMuTE", "CoMMuTE", "commute", "CoMMuTE-main")
        return tuple(
            PublishedFile(paths=tuple(f"{folder}/{pair}/{name}" for folder in folders), published_at=_TEXTS_AT)
            for name in ("img.order", "src.en", f"correct.{language}", f"incorrect.{language}")
        )

    def image_folders(self, split: str) -> tuple[PublishedFile, ...]:
        name = "images" if split == "test" else f"images_{split}"
        folders = ("CoMMuTE", "CoMMuTE/CoMMuTE", "commute", "CoMMuTE-main")
        return (
            PublishedFile(
                paths=tuple(f"{folder}/{name}" for folder in folders),
                published_at=f"{_IMAGES_AT} ({name}.tar.gz)",
                each="<name in img.order>",
            ),
        )

    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:  # noqa: ARG002
        columns = read_parallel_lines(paths)
        _check_pairs(paths, *columns)
        for number, (image, source, correct, incorrect) in enumerate(zip(*columns, strict=True), 1):
            yield PublishedRow(
                id=str(number),
                image_names=(image,),
                source=source,
                references=(correct,),
                incorrect=incorrect if self.task == "disambiguation" else None,
            )


class CommuteTranslation(Commute):
    """Translation; the reference is the translation that fits the image."""

    name = "commute-translation"
    task: EvaluationTask = "translation"


class CommuteDisambiguation(Commute):
    """Choice between the translation that fits the image and the one that does not."""

    name = "commute-disambiguation"
    task: EvaluationTask = "disambiguation"


def _check_pairs(
    paths: Sequence[Path],
    images: Sequence[str],
    sources: Sequence[str],
    correct: Sequence[str],
    incorrect: Sequence[str],
) -> None:
    """Refuse files whose lines do not belong together, as far as the pairs show it."""
    order_path, source_path, correct_path, incorrect_path = paths
    if len(images) % 2:
        raise ValueError(f"{source_path}: {len(images)} lines, but lines come in pairs")
    first_rows = range(0, len(images), 2)
    for row in first_rows:
        if sources[row] != sources[row + 1]:
            raise ValueError(f"{source_path}:{row + 2}: not the sentence of line {row + 1}, with which it is a pair")
        if images[row] == images[row + 1]:
            raise ValueError(f"{order_path}:{row + 2}: the image of line {row + 1} again; a pair has two images")
    texts = list(zip(correct, incorrect, strict=True))
    unmirrored = [row for row in first_rows if texts[row] != texts[row + 1][::-1]]
    if len(unmirrored) > _MAX_UNMIRRORED * len(first_rows):
        raise ValueError(
            f"{incorrect_path}:{unmirrored[0] + 1}: does not belong to {correct_path.name}: in {len(unmirrored)} of "
            f"{len(first_rows)} pairs the two translations do not change places"
        )
