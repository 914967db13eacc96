"""Steps that read the sources: images and bitext from their pieces, and the choice of those that are kept."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.data.build.parts import PartId, PartReport, PartWork
from polyglance.data.build.pieces import BitextPiecesStep, ImagePiecesStep
from polyglance.data.build.row_files import read_rows, read_text_table, write_rows, write_text_table
from polyglance.data.build.step import Step
from polyglance.data.near_duplicates import ImageHash, NearDuplicates, NearDuplicatesConfig, hash_image
from polyglance.data.sources.bitext import BitextPair
from polyglance.data.sources.images import GivenText, SourceImage
from polyglance.data.sources.raw_images import TEXT_DROPPED
from polyglance.data.sources.seen import SeenHashes
from polyglance.data.sources.source import list_files, stamp_files
from polyglance.records import Drops

__all__ = ["BitextStep", "BuiltImage", "DuplicatesConfig", "ImagesStep", "PairsStep", "SelectStep"]

T = TypeVar("T")

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
"""Rows of a file of images that are kept, and texts of the same image elsewhere."""
_PAIRS = pa.schema([("source", pa.string()), ("target", pa.string()), ("where", pa.string())])
_HASHED_PAIRS = _PAIRS.append(pa.field("hash", pa.uint64()))


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Images that are left out: duplicates, and images on which models will be evaluated."""

    near: NearDuplicatesConfig = field(default_factory=NearDuplicatesConfig)
    """Limits within which two images are the same picture. The default suits photographs; for icons and drawings, which
    are alike without being the same, `max_distance = 0` leaves out identical pictures only."""
    exclude: Mapping[str, Path] = field(default_factory=dict)
    """Name of an evaluation set -> folder of its images, or file of their hashes. Its images are left out, however they
    were encoded or resized."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltImage:
    """An image that the build keeps."""

    key: str
    image: bytes
    texts: tuple[GivenText, ...]


@dataclass(frozen=True, kw_only=True)
class _RecordsStep(Step, ABC):
    """Records of sources; a part is a piece of a source, and makes files of as many records as a piece should have."""

    pieces: ImagePiecesStep | BitextPiecesStep

    @abstractmethod
    def write(self, path: Path, records: Sequence[Any]) -> None:
        """Write a file of records."""

    def parts(self) -> Sequence[PartId]:
        return self.pieces.folder.list_files()

    def run(self, work: PartWork) -> PartReport:
        drops, num_out = Drops(), 0
        source, piece = self.pieces.source_of(work.part), self.pieces.read_piece(work.part)
        records: Iterator[Any] = source.read_piece(piece, drops)
        for number, chunk in enumerate(_chunks(map(self.prepare, records), self.pieces.records_per_piece)):
            with work.writing(self.pieces.number(work.part, number)) as path:
                self.write(path, chunk)
            num_out += len(chunk)
        num_dropped = sum(count for reason, count in drops if not reason.startswith(TEXT_DROPPED))
        return PartReport(num_in=num_out + num_dropped, num_out=num_out, drops=drops.to_dict())

    def prepare(self, record: Any) -> Any:
        """Convert a record before it is collected for a file."""
        return record


@dataclass(frozen=True, kw_only=True)
class ImagesStep(_RecordsStep):
    """Images from their sources, with hashes."""

    name = "images"
    unit = "images"

    pieces: ImagePiecesStep

    def prepare(self, record: SourceImage) -> dict[str, Any]:
        """Make a row, so that the pixels are freed before the next image is decoded."""
        texts = [asdict(text) for text in record.texts]
        hashes = hash_image(record.rgb)._asdict()
        return {"key": record.key, "image": record.image, "where": record.where, **hashes, "texts": texts}

    def write(self, path: Path, records: Sequence[dict[str, Any]]) -> None:
        write_rows(path, _IMAGES, records)

    def read(self, file: PartId, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Read columns of a file of images."""
        return read_rows(self.folder.file(file), columns)


@dataclass(frozen=True, kw_only=True)
class SelectStep(Step):
    """Choice of the images to keep: each picture once, none of an evaluation set. One part sees all images and makes
    a file for each file of images."""

    name = "select"
    unit = "images"

    images: ImagesStep
    config: DuplicatesConfig

    def parts(self) -> Sequence[PartId]:
        return [PartId()]

    def stamps(self, part: PartId) -> tuple[str, ...]:  # noqa: ARG002 - there is one
        return tuple(
            stamp_files(path, list_files(path)) if path.is_dir() else stamp_files(path.parent, [path.name])
            for path in self.config.exclude.values()
        )

    def run(self, work: PartWork) -> PartReport:
        drops, num_in = Drops(), 0
        near = NearDuplicates(self.config.near)
        for name, path in self.config.exclude.items():
            near.exclude(name, path, drops)
        more_texts: dict[str, list[dict[str, str | None]]] = {}  # key of a kept image -> its texts elsewhere
        kept: dict[PartId, list[dict[str, Any]]] = {}
        for file in self.images.folder.list_files():
            kept[file] = []
            for row, image in enumerate(self.images.read(file, ["key", "where", "bits", "colours", "texts"])):
                num_in += 1
                key, where = image["key"], image["where"]
                if key in more_texts:
                    drops.add("image: the same file as before (its texts are kept)", where)
                    more_texts[key] += image["texts"]
                elif (other := near.add(key, ImageHash(image["bits"], image["colours"]))) is not None:
                    of_set = f"of the evaluation set {other.evaluation_set}"
                    reason = of_set if other.evaluation_set else "nearly the same as another"
                    drops.add(f"image: {reason}", f"{where} ({other.key})")
                else:
                    more_texts[key] = []
                    kept[file].append({"row": row, "more_texts": more_texts[key]})
        for file, rows in kept.items():
            with work.writing(file) as path:
                write_rows(path, _KEPT, rows)
        return PartReport(num_in=num_in, num_out=len(more_texts), drops=drops.to_dict())

    def read_kept(self, file: PartId) -> Iterator[BuiltImage]:
        """Yield the images of a file that are kept, in order, each with all its texts."""
        images = self.images.read(file, ["key", "image", "texts"])
        for kept in read_rows(self.folder.file(file)):
            image = images[kept["row"]]
            texts = dict.fromkeys(GivenText(**text) for text in (*image["texts"], *kept["more_texts"]))
            yield BuiltImage(key=image["key"], image=image["image"], texts=tuple(texts))

    def read_kept_keys(self, file: PartId) -> list[str]:
        """Read the keys of the images that `read_kept` yields."""
        images = self.images.read(file, ["key"])
        return [images[kept["row"]]["key"] for kept in read_rows(self.folder.file(file), ["row"])]

    def list_files_with_images(self) -> list[PartId]:
        """List the files of images of which at least one is kept."""
        return [file for file in self.folder.list_files() if pq.read_metadata(self.folder.file(file)).num_rows]


@dataclass(frozen=True, kw_only=True)
class PairsStep(_RecordsStep):
    """Sentence pairs from their sources, with hashes."""

    name = "pairs"
    unit = "pairs"
    suffix = ".arrow"

    pieces: BitextPiecesStep

    def write(self, path: Path, records: Sequence[BitextPair]) -> None:
        columns = [[getattr(pair, name) for pair in records] for name in _HASHED_PAIRS.names]
        write_text_table(path, pa.table(columns, schema=_HASHED_PAIRS))


@dataclass(frozen=True, kw_only=True)
class BitextStep(Step):
    """The pairs of a language, each once; a part is a language, as all its pairs have to be seen. Only their hashes are
    compared, and kept pairs are copied."""

    name = "bitext"
    unit = "pairs"
    suffix = ".arrow"

    pairs: PairsStep

    def parts(self) -> Sequence[PartId]:
        languages = (source.language for source in self.pairs.pieces.sources)
        return [PartId(language=code) for code in dict.fromkeys(languages)]

    def run(self, work: PartWork) -> PartReport:
        drops, seen = Drops(), SeenHashes()
        num_in = num_out = 0
        for file in self.pairs.folder.list_files(work.part):
            table = read_text_table(self.pairs.folder.file(file))
            is_new = np.ones(len(table), dtype=bool)
            if not self.pairs.pieces.source_of(file).keep_duplicates:
                is_new = seen.add(table["hash"].to_numpy())
            for where in table["where"].filter(pa.array(~is_new)).to_pylist():
                drops.add(f"{work.part.language}: a pair for the second time", where)
            kept = table.select(_PAIRS.names).filter(pa.array(is_new))
            if len(kept):
                with work.writing(file) as path:
                    write_text_table(path, kept)
            num_in, num_out = num_in + len(table), num_out + len(kept)
        return PartReport(num_in=num_in, num_out=num_out, drops=drops.to_dict())

    def read_table(self, file: PartId) -> pa.Table:
        """Map the pairs of a file, with columns `source`, `target` and `where`."""
        return read_text_table(self.folder.file(file))

    def list_languages(self) -> list[str]:
        """List the languages that have pairs, in the order of the sources."""
        return [part.language for part in self.parts() if self.folder.list_files(part)]


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
