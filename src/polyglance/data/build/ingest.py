"""First steps: images and bitext out of their sources into parts, and which images are kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.data.build.files import read_rows, replacing, write_rows
from polyglance.data.build.tasks import Report, Task
from polyglance.data.near_duplicates import ImageHash, NearDuplicates, NearDuplicatesConfig, hash_image
from polyglance.data.sources.bitext import BitextSource, read_bitext
from polyglance.data.sources.captioned import CaptionedSource, GivenText, ImagesSource, parts_of, read_source
from polyglance.data.sources.images import SourceImage
from polyglance.data.sources.seen import SeenHashes
from polyglance.records import Drops

__all__ = [
    "BitextStep",
    "BuiltImage",
    "DuplicatesConfig",
    "ImagesStep",
    "SelectStep",
    "kept_images",
    "kept_keys",
    "pair_parts",
    "read_pairs",
]

T = TypeVar("T")
Texts = list[dict[str, str | None]]

_TEXTS = pa.list_(pa.struct([(name, pa.string()) for name in ("language", "text", "style", "origin", "source")]))
_IMAGES = pa.schema(
    [
        ("key", pa.string()),
        ("image", pa.binary()),
        ("where", pa.string()),
        ("bits", pa.uint64()),
        ("colours", pa.binary()),
        ("texts", _TEXTS),
    ]
)
_KEPT = pa.schema([("row", pa.int32()), ("more_texts", _TEXTS)])
"""The rows of a part of images that are kept, and the texts that the same image came with elsewhere."""
PAIRS = pa.schema([("source", pa.string()), ("target", pa.string()), ("where", pa.string())])


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Images that are left out because they are there already, or because a model is to be evaluated on them."""

    near: NearDuplicatesConfig = field(default_factory=NearDuplicatesConfig)
    """When two images are the same picture. It suits photographs; for icons and drawings, which are alike without being
    the same, `max_distance = 0` leaves only identical files out."""
    exclude: Mapping[str, Path] = field(default_factory=dict)
    """Name of an evaluation set -> folder of its images, or file of their hashes: they are left out, however they were
    encoded or resized."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltImage:
    """An image that the build keeps."""

    key: str
    image: bytes
    texts: tuple[GivenText, ...]


@dataclass(frozen=True, kw_only=True)
class ImagesStep:
    """Images out of their sources; a part is a source, or a tar of one, and makes files of `images_per_part` images."""

    work_dir: Path
    sources: tuple[ImagesSource | CaptionedSource, ...]
    images_per_part: int
    name: str = "images"
    unit: str = "images"
    reads: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.sources, self.images_per_part)

    def parts(self) -> Sequence[str]:
        return [f"{number:05d}" for number in range(len(self._units))]

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        drops = Drops()
        num_out = 0
        images = read_source(self._units[int(task.part)], drops)
        # One at a time: pixels are let go before the next image is decoded.
        rows = (_image_row(image, texts) for image, texts in images)
        for number, chunk in enumerate(_chunks(rows, self.images_per_part)):
            num_out += len(chunk)
            write_rows(task.out / f"{number:05d}.parquet", _IMAGES, chunk)
        return Report(num_in=num_out + sum(drops.counts.values()), num_out=num_out, drops=drops.to_dict())

    @cached_property
    def _units(self) -> list[ImagesSource | CaptionedSource]:
        return [unit for source in self.sources for unit in parts_of(source)]


def _image_row(image: SourceImage, texts: Sequence[GivenText]) -> dict[str, Any]:
    return {"key": image.key, "image": image.image, "where": image.where, **hash_image(image.rgb)._asdict()} | {
        "texts": [asdict(text) for text in texts]
    }


@dataclass(frozen=True, kw_only=True)
class SelectStep:
    """Which images are kept: each picture once, and none of an evaluation set. One part: it has to see all of them."""

    work_dir: Path
    images: ImagesStep
    config: DuplicatesConfig
    name: str = "select"
    unit: str = "images"
    reads: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.config, self.images.fingerprint)

    def parts(self) -> Sequence[str]:
        return ["all"]

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        drops, num_in = Drops(), 0
        near = NearDuplicates(self.config.near)
        for name, path in self.config.exclude.items():
            near.exclude(name, path, drops)
        first: dict[str, list[Texts]] = {}
        kept: dict[str, dict[int, list[Texts]]] = {}
        for name in self.image_parts():
            kept[name] = {}
            for row, image in enumerate(
                read_rows(image_path(self.work_dir, name), ["key", "where", "bits", "colours", "texts"])
            ):
                num_in += 1
                key, where = image["key"], image["where"]
                if key in first:
                    drops.add("image: the same file as before (its texts are kept)", where)
                    first[key].append(image["texts"])
                elif (other := near.add_hash(key, ImageHash(image["bits"], image["colours"]))) is not None:
                    of_set = f"of the evaluation set {other.evaluation_set}"
                    reason = of_set if other.evaluation_set else "nearly the same as another"
                    drops.add(f"image: {reason}", f"{where} ({other.key})")
                else:
                    first[key] = kept[name][row] = []
        for name, rows in kept.items():
            found = [{"row": row, "more_texts": [t for texts in more for t in texts]} for row, more in rows.items()]
            write_rows(task.out / f"{name}.parquet", _KEPT, found)
        return Report(num_in=num_in, num_out=len(first), drops=drops.to_dict())

    def image_parts(self) -> list[str]:
        """Names of the parts of images, `<source>-<number>`; known once they are made."""
        folder = self.work_dir / "images"
        return [f"{path.parent.name}-{path.stem}" for path in sorted(folder.glob("*/*.parquet"))]


@dataclass(frozen=True, kw_only=True)
class BitextStep:
    """Sentence pairs out of their sources; a part is a language, so that no pair comes twice in it."""

    work_dir: Path
    sources: tuple[BitextSource, ...]
    pairs_per_part: int
    name: str = "bitext"
    unit: str = "pairs"
    reads: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.sources, self.pairs_per_part)

    def parts(self) -> Sequence[str]:
        return list(dict.fromkeys(source.language for source in self.sources))

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        drops, seen = Drops(), SeenHashes()
        sources = [source for source in self.sources if source.language == task.part]
        pairs = (pair for source in sources for pair in read_bitext(source, drops, seen=seen))
        num_out = 0
        for number, chunk in enumerate(_chunks(pairs, self.pairs_per_part)):
            columns = [[getattr(pair, name) for pair in chunk] for name in PAIRS.names]
            table = pa.table([pa.array(column, pa.string()) for column in columns], schema=PAIRS)
            with (
                replacing(task.out / f"{number:05d}.arrow") as partial,
                pa.OSFile(str(partial), "wb") as file,
                pa.ipc.new_file(file, PAIRS) as writer,
            ):
                writer.write_table(table)
            num_out += len(chunk)
        return Report(num_in=num_out + sum(drops.counts.values()), num_out=num_out, drops=drops.to_dict())


def image_path(work_dir: Path, part: str) -> Path:
    """File of a part of images."""
    source, _, number = part.partition("-")
    return work_dir / "images" / source / f"{number}.parquet"


def kept_images(work_dir: Path, part: str) -> Iterator[BuiltImage]:
    """The images of a part that are kept, in order, each with all its texts."""
    rows = read_rows(image_path(work_dir, part), ["key", "image", "texts"])
    for kept in read_rows(work_dir / "select" / "all" / f"{part}.parquet"):
        image = rows[kept["row"]]
        texts = dict.fromkeys(GivenText(**text) for text in (*image["texts"], *kept["more_texts"]))
        yield BuiltImage(key=image["key"], image=image["image"], texts=tuple(texts))


def kept_keys(work_dir: Path, part: str) -> list[str]:
    """Keys of the images that `kept_images` yields."""
    keys = read_rows(image_path(work_dir, part), ["key"])
    return [keys[kept["row"]]["key"] for kept in read_rows(work_dir / "select" / "all" / f"{part}.parquet", ["row"])]


def pair_parts(work_dir: Path, code: str) -> list[Path]:
    """Files of a language's pairs, in order."""
    return sorted((work_dir / "bitext" / code).glob("*.arrow"))


def read_pairs(path: Path) -> pa.Table:
    """The pairs of a file, read where they are looked at: the file is mapped, not loaded."""
    with pa.memory_map(str(path)) as mapped:
        return pa.ipc.open_file(mapped).read_all()


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk
