"""The base class of published benchmarks: sizes, ids, images and missing files are checked for every benchmark."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from polyglance.data.benchmarks import BENCHMARKS
from polyglance.data.benchmarks.files import PublishedFile, read_lines
from polyglance.data.benchmarks.published import PublishedBenchmark, PublishedRow


class Names(PublishedBenchmark):
    """A benchmark of one file with an image name on each line."""

    name = "names"
    task = "caption"
    licence = "none"
    sizes = MappingProxyType({"test": 2, "train": {"en": 3}})
    texts = (PublishedFile(paths=("names.txt", "other/names.txt"), published_at="https://a.example"),)
    images = (
        PublishedFile(paths=("jpg", "more"), published_at="https://b.example", each="<name>.jpg"),
        PublishedFile(paths=("png",), published_at="https://c.example", each="<name>.png"),
    )

    def read_rows(self, paths: Sequence[Path], split: str, language: str) -> Iterator[PublishedRow]:
        for name in read_lines(paths[0]):
            yield PublishedRow(id=name, image_names=(f"{name}.jpg", f"{name}.png"), references=(f"a {name}",))


def write(root: Path, names: str = "one\ntwo\n") -> None:
    (root / "names.txt").write_text(names)
    for image in ("jpg/one.jpg", "more/one.jpg", "png/one.png", "png/two.png", "secret.jpg"):
        (root / image).parent.mkdir(exist_ok=True)
        (root / image).touch()


def load(root: Path, split: str = "test", *, images: bool = True) -> list[tuple[str, Path | bytes | None]]:
    return [(row.id, row.image) for row in Names().load(root, split=split, language="en", images=images)]


def test_images_are_found_in_any_folder_under_any_name(tmp_path: Path) -> None:
    """The first name and the first folder win."""
    write(tmp_path)
    assert load(tmp_path) == [("one", tmp_path / "jpg/one.jpg"), ("two", tmp_path / "png/two.png")]


def test_texts_are_read_without_images(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/names.txt").write_text("one\ntwo")
    assert load(tmp_path, images=False) == [("one", None), ("two", None)]


def test_missing_images_are_counted_and_names_are_no_paths(tmp_path: Path) -> None:
    secret = str(tmp_path / "secret")
    write(tmp_path, f"one\n../secret\n{secret}\n")
    with pytest.raises(ValueError, match=r"names train en: 2 of 3 images are missing .*: \.\./secret\.jpg") as error:
        load(tmp_path, "train")
    assert "looked in jpg, more, png; published at https://b.example, https://c.example" in str(error.value)


def test_missing_files_are_all_listed_by_address(tmp_path: Path) -> None:
    (tmp_path / "png").mkdir()
    with pytest.raises(ValueError, match="names test en: missing below") as error:
        load(tmp_path)
    assert str(error.value).endswith(
        "names.txt (published at https://a.example); jpg/<name>.jpg (published at https://b.example)"
    )


def test_wrong_sizes_and_repeated_ids_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match=r"names\.txt: 2 examples, but this split has 3"):
        load(tmp_path, "train")
    write(tmp_path, "one\none\n")
    with pytest.raises(ValueError, match=r"names\.txt: 1 ids occur more than once, the first is 'one'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "language", "size"),
    [
        ("coco-karpathy", "test", "en", 5000),
        ("coco-karpathy", "val", "en", 5000),
        ("coco-karpathy", "train", "en", 82783),
        ("coco-karpathy", "restval", "en", 30504),
        ("multi30k-task1", "test_2017_mscoco", "fr", 461),
        ("multi30k-task1", "test_2018_flickr", "cs", 1071),
        ("multi30k-task2", "test_2016", "de", 1000),
        ("xm3600", "all", "quz", 3600),
        ("commute-translation", "test", "fr", 308),
        ("commute-disambiguation", "dev", "fr", 60),
        ("docci", "train", "en", 9647),
        ("image-paragraphs", "train", "en", 14575),
        ("shards-caption", "test", "en", None),
    ],
)
def test_sizes_are_the_published_ones(name: str, split: str, language: str, size: int | None) -> None:
    assert BENCHMARKS[name].num_examples(split, language) == size
