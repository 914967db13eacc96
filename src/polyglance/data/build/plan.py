"""The first step: sources cut into pieces, each of which is a part of the steps that read them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.data.build.files import write_rows
from polyglance.data.build.tasks import Report, Task
from polyglance.data.sources import bitext, captioned
from polyglance.data.sources.bitext import BitextSource
from polyglance.data.sources.captioned import CaptionedSource, ImagesSource
from polyglance.data.sources.pieces import Piece
from polyglance.records import Drops

__all__ = ["PlanStep", "Source"]

Source = ImagesSource | CaptionedSource | BitextSource

_PIECES = pa.schema(
    [
        ("stamp", pa.string()),
        ("files", pa.list_(pa.string())),
        ("first", pa.int64()),
        ("count", pa.int64()),
        ("offsets", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """The pieces of the sources; a part is a source, and made again when its files change.

    Pieces depend on the sources and settings alone, never on who reads them, so that the same parts come out in one
    process and on a cluster.
    """

    work_dir: Path
    sources: tuple[Source, ...]
    images_per_part: int
    pairs_per_part: int
    name: str = "sources"
    unit: str = "pieces"

    @property
    def fingerprint(self) -> str:
        return fingerprint(__version__, self.name, self.sources, self.images_per_part, self.pairs_per_part)

    def parts(self) -> Sequence[str]:
        return [f"{number:03d}" for number in range(len(self.sources))]

    def inputs(self, part: str) -> tuple[str, ...]:
        source = self.sources[int(part)]
        return (bitext.stamp_of(source) if isinstance(source, BitextSource) else captioned.stamp_of(source),)

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        drops = Drops()
        source = self.sources[int(task.part)]
        if isinstance(source, BitextSource):
            pieces = bitext.bitext_pieces(source, num_pairs=self.pairs_per_part)
        else:
            pieces = captioned.pieces_of(source, num_images=self.images_per_part, drops=drops)
        write_rows(task.out.with_suffix(".parquet"), _PIECES, [asdict(piece) for piece in pieces])
        return Report(num_in=len(pieces), num_out=len(pieces), drops=drops.to_dict())

    def pieces(self, numbers: Sequence[int]) -> dict[str, str]:
        """Part `<source>_<piece>` -> stamp, of the sources with these numbers."""
        return {part: stamp for part, stamp in self._stamps.items() if int(part.partition("_")[0]) in numbers}

    def stamp(self, part: str) -> str:
        """Of the files that a part reads."""
        return self._stamps[part]

    def piece(self, part: str) -> tuple[Any, Piece]:
        """The source and the piece of it that a part reads."""
        number, _, row = part.partition("_")
        table = pq.read_table(self._path(int(number)), use_threads=False)
        (values,) = table.slice(int(row), 1).to_pylist()  # the others' names stay where they are: there may be 10^6
        lists = {name: tuple(values[name]) for name in ("files", "offsets")}
        return self.sources[int(number)], Piece(**{**values, **lists})

    def _path(self, number: int) -> Path:
        return self.work_dir / self.name / f"{number:03d}.parquet"

    @cached_property
    def _stamps(self) -> dict[str, str]:
        found = {}
        for number in range(len(self.sources)):
            stamps = pq.read_table(self._path(number), columns=["stamp"], use_threads=False)["stamp"].to_pylist()
            found.update({f"{number:03d}_{row:05d}": stamp for row, stamp in enumerate(stamps)})
        return found
