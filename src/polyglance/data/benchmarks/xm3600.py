"""Crossmodal-3600 (Thapliyal et al., 2022): captions of 3,600 images in 36 languages."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from polyglance.coverage import EvaluationTask
from polyglance.data.benchmarks.files import PublishedFile, check_references, get_text, read_json_lines
from polyglance.data.benchmarks.published import PublishedBenchmark, PublishedRow
from polyglance.data.texts.json_forms import find_xm3600_captions
from polyglance.languages import XM3600_LANGUAGES

__all__ = ["XM3600"]


class XM3600(PublishedBenchmark):
    """`captions.jsonl`, one image a line; about two references per language, as raw text (`caption`).

    The tokenised captions that the file holds too are not read: how they were made is not documented.
    """

    name = "xm3600"
    task: EvaluationTask = "caption"
    licence = "CC BY 4.0"
    sizes = MappingProxyType({"all": 3600})
    texts = (
        PublishedFile(
            paths=("xm3600/captions.jsonl", "crossmodal-3600/captions.jsonl", "XM3600/captions.jsonl"),
            published_at="https://google.github.io/crossmodal-3600 (captions.zip)",
        ),
    )
    images = (
        PublishedFile(
            paths=("xm3600/images", "crossmodal-3600/images", "XM3600/images"),
            published_at="https://google.github.io/crossmodal-3600 (images.tgz)",
            each="<key>.jpg",
        ),
    )

    def language_codes(self, split: str) -> tuple[str, ...]:  # noqa: ARG002
        return XM3600_LANGUAGES

    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:  # noqa: ARG002
        for where, record in read_json_lines(paths[0]):
            key = get_text(record, "image/key", where)
            captions = find_xm3600_captions(record, language, where)
            references = check_references(captions, f"{where}: image {key} in {language!r}")
            yield PublishedRow(id=key, image_names=(f"{key}.jpg",), references=references)
