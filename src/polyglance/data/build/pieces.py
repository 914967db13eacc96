"""First steps: the pieces of the sources. A part is a source; each piece becomes a file, and a part of later steps."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polyglance.config import from_dict, to_dict
from polyglance.data.build.parts import PartId, PartReport, PartWork
from polyglance.data.build.step import Step
from polyglance.data.sources.bitext import BitextSource
from polyglance.data.sources.captioned import CaptionedSource
from polyglance.data.sources.images import ImagesSource
from polyglance.data.sources.source import Piece
from polyglance.files import read_json, write_json
from polyglance.records import Drops

__all__ = ["BitextPiecesStep", "ImagePiecesStep"]


@dataclass(frozen=True, kw_only=True)
class _PiecesStep(Step, ABC):
    """Pieces of sources. They depend on the sources and settings alone, so every executor does the same parts."""

    unit = "pieces"
    suffix = ".piece"

    records_per_piece: int
    """Records of a piece, as near as a source's form allows; the same number goes into each file that is made of it."""

    @abstractmethod
    def source_of(self, part: PartId) -> Any:
        """Return the source that a part, or a file about some of its records, belongs to."""

    @abstractmethod
    def number(self, part: PartId, number: int) -> PartId:
        """Return the id of the piece of a source with this number, or of the file of a piece."""

    def stamps(self, part: PartId) -> tuple[str, ...]:
        return (self.source_of(part).compute_stamp(),)

    def run(self, work: PartWork) -> PartReport:
        drops = Drops()
        pieces = self.source_of(work.part).find_pieces(self.records_per_piece, drops)
        for number, piece in enumerate(pieces):
            with work.writing(self.number(work.part, number)) as path:
                write_json(path, to_dict(piece), indent=None)
        return PartReport(num_in=len(pieces), num_out=len(pieces), drops=drops.to_dict())

    def read_piece(self, part: PartId) -> Piece:
        """Read the piece with this id."""
        return from_dict(Piece, read_json(self.folder.file(part)))


@dataclass(frozen=True, kw_only=True)
class ImagePiecesStep(_PiecesStep):
    """Pieces of image sources."""

    name = "image-pieces"

    sources: tuple[ImagesSource | CaptionedSource, ...]

    def parts(self) -> Sequence[PartId]:
        return [PartId(images=(number,)) for number in range(len(self.sources))]

    def source_of(self, part: PartId) -> ImagesSource | CaptionedSource:
        return self.sources[part.images[0]]

    def number(self, part: PartId, number: int) -> PartId:
        return PartId(images=(*part.images, number))


@dataclass(frozen=True, kw_only=True)
class BitextPiecesStep(_PiecesStep):
    """Pieces of bitext."""

    name = "bitext-pieces"

    sources: tuple[BitextSource, ...]

    def parts(self) -> Sequence[PartId]:
        return [PartId(language=source.language, pairs=(number,)) for number, source in enumerate(self.sources)]

    def source_of(self, part: PartId) -> BitextSource:
        return self.sources[part.pairs[0]]

    def number(self, part: PartId, number: int) -> PartId:
        return PartId(language=part.language, pairs=(*part.pairs, number))
