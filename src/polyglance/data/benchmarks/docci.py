"""DOCCI (Onoe et al., 2024): long English descriptions of related images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from polyglance.data.benchmarks.benchmark import EvaluationTask
from polyglance.data.benchmarks.files import PublishedFile, check_choice, check_references, get_text, read_json_lines
from polyglance.data.benchmarks.published import PublishedBenchmark, PublishedRow

__all__ = ["Docci"]


class Docci(PublishedBenchmark):
    """`docci_descriptions.jsonlines`, one image with one description a line."""

    name = "docci"
    task: EvaluationTask = "caption"
    licence = "CC BY 4.0"
    sizes = MappingProxyType({"test": 5000, "train": 9647, "qual_dev": 100, "qual_test": 100})
    texts = (
        PublishedFile(
            paths=("docci/docci_descriptions.jsonlines", "DOCCI/docci_descriptions.jsonlines"),
            published_at="https://google.github.io/docci (docci_descriptions.jsonlines)",
        ),
    )
    images = (
        PublishedFile(
            paths=("docci/images", "DOCCI/images"),
            published_at="https://google.github.io/docci (docci_images.tar.gz)",
            each="<split>_<number, 5 digits>.jpg",
        ),
    )

    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:  # noqa: ARG002
        for where, record in read_json_lines(paths[0]):
            row_split = get_text(record, "split", where)
            check_choice(where, "split", row_split, self.splits)
            if row_split == split:
                yield PublishedRow(
                    id=get_text(record, "example_id", where),
                    image_names=(get_text(record, "image_file", where),),
                    references=check_references([get_text(record, "description", where)], where),
                )
