"""Steps that read the sources: images and bitext out of their pieces, and which of them are kept."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.data.build.files import read_rows, write_rows, write_table
from polyglance.data.build.plan import PlanStep
from polyglance.data.build.tasks import Report, Task, output_digests
from polyglance.data.near_duplicates import ImageHash, NearDuplicates, NearDuplicatesConfig, hash_image
from polyglance.data.sources.bitext import SECOND_TIME, BitextSource, read_bitext_piece
from polyglance.data.sources.captioned import GivenText, read_source
from polyglance.data.sources.images import SourceImage
from polyglance.data.sources.pieces import folder_of, stamp, walk
from polyglance.data.sources.seen import SeenHashes
from polyglance.records import Drops

__all__ = [
    "BitextStep",
    "BuiltImage",
    "DuplicatesConfig",
    "ImagesStep",
    "PairsStep",
    "SelectStep",
    "kept_images",
    "kept_keys",
    "num_kept",
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
_HASHED_PAIRS = PAIRS.append(pa.field("hash", pa.uint64()))


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
    """Images out of their sources; a part is a piece of one, and makes files of `images_per_part` images."""

    work_dir: Path
    plan: PlanStep
    name: str = "images"
    unit: str = "images"

    @property
    def fingerprint(self) -> str:
        sources = [self.plan.sources[number] for number in self._sources]
        return fingerprint(__version__, self.name, sources, self.plan.images_per_part)

    @property
    def _sources(self) -> list[int]:
        return [n for n, source in enumerate(self.plan.sources) if not isinstance(source, BitextSource)]

    def parts(self) -> Sequence[str]:
        return list(self.plan.pieces(self._sources))

    def inputs(self, part: str) -> tuple[str, ...]:
        return (self.plan.stamp(part),)

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        drops = Drops()
        num_out = 0
        images = read_source(*self.plan.piece(task.part), drops)
        # One at a time: pixels are let go before the next image is decoded.
        rows = (_image_row(image, texts) for image, texts in images)
        for number, chunk in enumerate(_chunks(rows, self.plan.images_per_part)):
            num_out += len(chunk)
            write_rows(task.out / f"{number:05d}.parquet", _IMAGES, chunk)
        return Report(num_in=num_out + sum(drops.counts.values()), num_out=num_out, drops=drops.to_dict())


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

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.config, self.images.fingerprint)

    def parts(self) -> Sequence[str]:
        return ["all"]

    def inputs(self, part: str) -> tuple[str, ...]:  # noqa: ARG002 - there is one
        folder = self.work_dir / "images"
        images = [f"{name} {d}" for source in self.images.parts() for name, d in output_digests(folder, source).items()]
        return (*images, *(_stamp_of_set(path) for path in self.config.exclude.values()))

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
        """Names of the files of images, `<source>_<piece>-<number>`; known once they are made."""
        folder = self.work_dir / "images"
        return [f"{path.parent.name}-{path.stem}" for path in sorted(folder.glob("*/*.parquet"))]

    def kept_digests(self, part: str) -> tuple[str, ...]:
        """Digests of a file of images, and of which of them are kept."""
        source, _, number = part.partition("-")
        images = output_digests(self.work_dir / "images", source)[f"{source}/{number}.parquet"]
        return images, output_digests(self.work_dir / self.name, "all")[f"all/{part}.parquet"]


def _stamp_of_set(path: Path) -> str:
    """What changes when an evaluation set's files do."""
    return stamp(folder_of(path), walk(path) if path.is_dir() else [path.name])


@dataclass(frozen=True, kw_only=True)
class PairsStep:
    """Sentence pairs out of their sources; a part is a piece of one."""

    work_dir: Path
    plan: PlanStep
    name: str = "pairs"
    unit: str = "pairs"

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, list(self.sources.values()), self.plan.pairs_per_part)

    @property
    def sources(self) -> dict[int, BitextSource]:
        """Number -> source."""
        return {n: source for n, source in enumerate(self.plan.sources) if isinstance(source, BitextSource)}

    def parts(self) -> Sequence[str]:
        return list(self.plan.pieces(list(self.sources)))

    def inputs(self, part: str) -> tuple[str, ...]:
        return (self.plan.stamp(part),)

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        drops, num_out = Drops(), 0
        source, piece = self.plan.piece(task.part)
        pairs = read_bitext_piece(source, piece, drops)
        for number, chunk in enumerate(_chunks(pairs, self.plan.pairs_per_part)):
            columns = [[getattr(pair, name) for pair in chunk] for name in _HASHED_PAIRS.names]
            write_table(task.out / f"{number:05d}.arrow", pa.table(columns, schema=_HASHED_PAIRS))
            num_out += len(chunk)
        return Report(num_in=num_out + sum(drops.counts.values()), num_out=num_out, drops=drops.to_dict())


@dataclass(frozen=True, kw_only=True)
class BitextStep:
    """The pairs of a language, each once; a part is a language, as all its pairs have to be seen. Nothing is read but
    their hashes, and what is kept is copied as it is."""

    work_dir: Path
    pairs: PairsStep
    name: str = "bitext"
    unit: str = "pairs"

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.pairs.fingerprint)

    def parts(self) -> Sequence[str]:
        return list(dict.fromkeys(source.language for source in self.pairs.sources.values()))

    def inputs(self, part: str) -> tuple[str, ...]:
        folder = self.work_dir / self.pairs.name
        return tuple(f"{name} {d}" for piece in self._pieces(part) for name, d in output_digests(folder, piece).items())

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        drops, seen = Drops(), SeenHashes()
        num_in = num_out = 0
        for piece in self._pieces(task.part):
            source = self.pairs.sources[int(piece.partition("_")[0])]
            for path in sorted((self.work_dir / self.pairs.name / piece).glob("*.arrow")):
                table = read_pairs(path)
                is_new = np.ones(len(table), dtype=bool)
                if not source.keep_duplicates:
                    is_new = seen.add(table["hash"].to_numpy())
                for where in table["where"].filter(pa.array(~is_new)).to_pylist():
                    drops.add(f"{task.part}: {SECOND_TIME}", where)
                kept = table.select(PAIRS.names).filter(pa.array(is_new))
                if len(kept):
                    write_table(task.out / f"{piece}_{path.stem}.arrow", kept)
                num_in, num_out = num_in + len(table), num_out + len(kept)
        return Report(num_in=num_in, num_out=num_out, drops=drops.to_dict())

    def _pieces(self, code: str) -> list[str]:
        numbers = [number for number, source in self.pairs.sources.items() if source.language == code]
        return list(self.pairs.plan.pieces(numbers))


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


def num_kept(work_dir: Path, part: str) -> int:
    """How many these are."""
    return int(pq.read_metadata(work_dir / "select" / "all" / f"{part}.parquet").num_rows)


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
