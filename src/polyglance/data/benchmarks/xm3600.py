"""Crossmodal-3600 (Thapliyal et al., 2022): captions of 3,600 images in 36 languages."""

from collections.abc import Sequence
from pathlib import Path

from polyglance.data.benchmarks.benchmark import EvaluationTask, Example, ExpectedFile
from polyglance.data.benchmarks.files import (
    Needed,
    check_choice,
    check_size,
    check_unique,
    image_paths,
    non_empty,
    read_json_lines,
    require,
    text_field,
)

__all__ = ["XM3600", "XM3600_LANGUAGES"]

_CODES = "ar bn cs da de el en es fa fi fil fr he hi hr hu id it ja ko mi nl no pl pt quz ro ru sv sw te th tr uk vi zh"
XM3600_LANGUAGES = tuple(_CODES.split())
_CAPTIONS = Needed(
    paths=("xm3600/captions.jsonl", "crossmodal-3600/captions.jsonl", "XM3600/captions.jsonl"),
    published_at="https://google.github.io/crossmodal-3600 (captions.zip)",
)
_IMAGES = Needed(
    paths=("xm3600/images", "crossmodal-3600/images", "XM3600/images"),
    published_at="https://google.github.io/crossmodal-3600 (images.tgz)",
    each="<key>.jpg",
)


class XM3600:
    """`captions.jsonl`, one image a line; about two references per language, as raw text (`caption`).

    The tokenised captions that the file holds too are not read: how they were made is not documented.

    Args:
        num_images: images in the file.
    """

    name = "xm3600"
    task: EvaluationTask = "caption"
    splits: tuple[str, ...] = ("all",)
    licence = "CC BY 4.0"

    def __init__(self, *, num_images: int = 3600) -> None:
        self._num_images = num_images

    def languages(self, split: str) -> tuple[str, ...]:
        check_choice(self.name, "split", split, self.splits)
        return XM3600_LANGUAGES

    def expected_files(self, split: str, language: str) -> tuple[ExpectedFile, ...]:
        check_choice(self.name, "language", language, self.languages(split))
        return (_CAPTIONS.expected, _IMAGES.expected)

    def load(self, root: Path, *, split: str, language: str, images: bool = True) -> Sequence[Example]:
        """See `Benchmark.load`."""
        check_choice(self.name, "language", language, self.languages(split))
        label = f"{self.name} {language}"
        path = require(root, label, (_CAPTIONS, _IMAGES) if images else (_CAPTIONS,))[0]
        keys, references = [], []
        for where, record in read_json_lines(path):
            keys.append(text_field(record, "image/key", where))
            captions = record.get(language)
            if not isinstance(captions, dict):
                raise ValueError(f"{where}: image {keys[-1]} has no captions in {language!r}")
            references.append(non_empty(captions.get("caption"), f"{where}: image {keys[-1]} in {language!r}"))
        check_size(path, len(keys), self._num_images, "images")
        check_unique(keys, path)
        files: Sequence[Path | None] = [None] * len(keys)
        if images:
            files = image_paths(root, label, _IMAGES, [f"{key}.jpg" for key in keys])
        return [
            Example(id=key, image=file, references=texts)
            for key, file, texts in zip(keys, files, references, strict=True)
        ]
