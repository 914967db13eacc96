"""Stanford image paragraphs (Krause et al., CVPR 2017): English paragraphs of Visual Genome images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

from polyglance.coverage import EvaluationTask
from polyglance.data.benchmarks.files import PublishedFile, check_references, get_text
from polyglance.data.benchmarks.published import PublishedBenchmark, PublishedRow
from polyglance.data.texts.text_set import TextFile

__all__ = ["ImageParagraphs"]

_PUBLISHED_AT = "https://cs.stanford.edu/people/ranjaykrishna/im2p"


class ImageParagraphs(PublishedBenchmark):
    """`paragraphs_v1.json` with lists of image ids per split. An image with several paragraphs has several references.

    The published evaluation keeps all images in one folder, with the name of the folder they came in before each name.
    """

    name = "image-paragraphs"
    task: EvaluationTask = "caption"
    licence = "CC BY 4.0 (Visual Genome)"
    sizes = MappingProxyType({"test": 2489, "val": 2487, "train": 14575})
    images = (
        PublishedFile(
            paths=(
                "image_paragraphs/images",
                "image_paragraphs/VG_100K",
                "visual_genome/VG_100K",
                "image_paragraphs/VG_100K_2",
                "visual_genome/VG_100K_2",
                "image_paragraphs/images/VG_100K",
                "image_paragraphs/images/VG_100K_2",
            ),
            published_at="https://homes.cs.washington.edu/~ranjay/visualgenome (images.zip, images2.zip)",
            each="<image_id>.jpg or VG_100K(_2)_<image_id>.jpg",
        ),
    )

    def text_files(self, split: str, language: str) -> tuple[PublishedFile, ...]:  # noqa: ARG002
        paths = (f"image_paragraphs/{name}.json" for name in (f"{split}_split", "paragraphs_v1"))
        return tuple(PublishedFile(paths=(path,), published_at=_PUBLISHED_AT) for path in paths)

    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:  # noqa: ARG002
        split_path, paragraphs_path = paths
        ids = _read_split(split_path)
        paragraphs = _read_paragraphs(paragraphs_path)
        if unknown := [name for name in ids if name not in paragraphs]:
            raise ValueError(f"{paragraphs_path}: no paragraph of {len(unknown)} images of {split}, first {unknown[0]}")
        for name in ids:
            names = (f"{name}.jpg", f"VG_100K_{name}.jpg", f"VG_100K_2_{name}.jpg")
            yield PublishedRow(id=name, image_names=names, references=tuple(dict.fromkeys(paragraphs[name])))


def _read_split(path: Path) -> list[str]:
    """Read the image ids of a split."""
    content = TextFile(path).json
    if not isinstance(content, list) or not all(isinstance(item, int) for item in content):
        raise ValueError(f"{path}: expected a list of image ids (numbers)")
    return [str(item) for item in content]


def _read_paragraphs(path: Path) -> dict[str, list[str]]:
    """Read image id -> its paragraphs."""
    content = TextFile(path).json
    if not isinstance(content, list):
        raise ValueError(f"{path}: expected a list of objects with image_id and paragraph")
    paragraphs: dict[str, list[str]] = {}
    for index, record in enumerate(content, 1):
        where = f"{path}: entry {index}"
        if not isinstance(record, dict) or not isinstance(record.get("image_id"), int):
            raise ValueError(f"{where}: the field 'image_id' is missing or not a number")
        references = check_references([get_text(record, "paragraph", where)], where)
        paragraphs.setdefault(str(record["image_id"]), []).extend(references)
    return paragraphs
