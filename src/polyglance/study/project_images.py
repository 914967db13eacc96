"""A look at the images of a new project: how many, in which languages captions come with them, and whether they are
drawings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polyglance.data.near_duplicates import NearDuplicates, hash_image
from polyglance.data.sources.images import ImagesSource
from polyglance.data.sources.raw_images import IMAGE_SUFFIXES
from polyglance.data.sources.source import Piece
from polyglance.language_tags import parse_language_tag
from polyglance.languages import SOURCE_LANGUAGE, language
from polyglance.records import Drops

__all__ = ["SAMPLED", "FoundImages", "look_at_images"]

SAMPLED = 1000
"""Images, and pairs of each bitext, that are looked at."""
_MANY_NEAR = 0.05
"""Share of images that are nearly the same as another one, above which they are taken for drawings."""


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """The images of a project."""

    number: int = 0
    """Images, as near as their form tells."""
    text_language: str = ""
    """Language of the captions that all images have; empty if not all have one."""
    captions: Mapping[str, int] = field(default_factory=dict)
    """Language -> images with captions in it."""
    are_drawings: bool = False
    """Whether many are alike without being the same."""

    def are_captioned_in(self, code: str) -> bool:
        """Whether every image has a caption in this language."""
        return self.text_language == code

    def has_captions_in(self, code: str) -> bool:
        """Whether some images have a caption in this language."""
        return bool(self.captions.get(code))


def look_at_images(path: Path | None, captions: Sequence[str], found: list[str], missing: list[str]) -> FoundImages:
    """Look at the first images, and at the names of all files of texts.

    Args:
        captions: languages that captions are expected in.
        found, missing: get a line for each thing that is there, or is not.

    Raises:
        ValueError: no such file or folder, or no image in it.
    """
    if path is None:
        missing.append("images: give --images; any photographs, the more the better (the paper: 10 million of CC12M)")
        return FoundImages()
    text_language = SOURCE_LANGUAGE if SOURCE_LANGUAGE in captions else captions[0]
    source = ImagesSource(path=path, texts="captions", text_language=text_language)
    drops, near = Drops(), NearDuplicates()
    pieces = source.find_pieces(SAMPLED, drops)
    num_looked = num_near = 0
    languages: Counter[str] = Counter()
    for image in source.read_piece(pieces[0], drops):
        num_looked += 1
        num_near += near.add(image.key, hash_image(image.rgb)) is not None
        languages.update({text.language for text in image.texts})
        if num_looked == SAMPLED:
            break
    if not num_looked:
        raise ValueError(f"{path}: no image was found in it")
    number = num_looked if len(pieces) == 1 else sum(map(_count_images, pieces))
    named = Counter(_language_of(name) for piece in pieces for name in piece.texts)
    are_drawings = num_near > _MANY_NEAR * num_looked
    is_counted = len(pieces) == 1 or pieces[0].files[0].lower().endswith(IMAGE_SUFFIXES)
    about = "" if is_counted else "about "
    num_told = languages[text_language]
    texts = "all" if num_told == num_looked else f"{num_told:,}"
    found.append(f"images: {path}, {about}{number:,}; {texts} of {num_looked:,} looked at have texts{_list(named)}")
    if are_drawings:
        found.append(
            f"drawings: {num_near:,} of {num_looked:,} images are as near to another one as copies of a photograph "
            "are; the recipe leaves out identical ones only"
        )
    return FoundImages(
        number=number,
        text_language=text_language if num_told == num_looked else "",
        captions={**languages, **named},
        are_drawings=are_drawings,
    )


def _count_images(piece: Piece) -> int:
    """Return the images of a piece; of a tar, which is not read, a guess."""
    return piece.count or (len(piece.files) if piece.files[0].lower().endswith(IMAGE_SUFFIXES) else SAMPLED)


def _language_of(name: str) -> str:
    tag = parse_language_tag(name.removesuffix(".txt").rpartition(".")[2])
    return tag.code if tag is not None else ""


def _list(named: Mapping[str, int]) -> str:
    if not named:
        return ""
    return ": " + ", ".join(f"{language(code).name} {number:,}" for code, number in sorted(named.items()))
