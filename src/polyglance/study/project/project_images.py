"""Examination of the images of a new project: number, languages of the captions, and whether they are drawings."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from polyglance.data.near_duplicates import NearDuplicates, hash_image
from polyglance.data.sources.images import ImagesSource
from polyglance.data.sources.raw_images import IMAGE_SUFFIXES
from polyglance.data.sources.source import Piece
from polyglance.language_tags import parse_language_tag
from polyglance.languages import SOURCE_LANGUAGE, get_language
from polyglance.records import Drops

__all__ = ["SAMPLED", "FoundImages", "look_at_images"]

SAMPLED = 1000
"""Number of images, and of pairs of each bitext, that are examined."""
_NEARLY_ALL = 0.9
"""Share of images with captions in a language from which on the language counts as captioned."""
_MANY_NEAR = 0.05
"""Share of images with a near-duplicate above which the images count as drawings."""


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """The images of a project."""

    number: int = 0
    """Number of images, as exactly as their form allows."""
    text_language: str = ""
    """Language of the captions that nearly all images have; empty if fewer have one."""
    captions: Mapping[str, int] = field(default_factory=dict)
    """Language -> images with captions in it."""
    num_for_training: int = 0
    """Images without a caption in any wanted language."""
    are_drawings: bool = False
    """Whether many images are similar without being identical."""

    def are_captioned_in(self, code: str) -> bool:
        """Tell whether nearly every image has a caption in this language."""
        return 0 < _NEARLY_ALL * self.number <= self.captions.get(code, 0)

    def has_captions_in(self, code: str) -> bool:
        """Tell whether some images have a caption in this language."""
        return bool(self.captions.get(code))


def look_at_images(
    path: Path | None, captions: Sequence[str], want: Sequence[str], found: list[str], missing: list[str]
) -> FoundImages:
    """Examine the first images, and the names of all text files that contain their language.

    Args:
        captions: languages that captions are expected in.
        want: languages that are wanted without captions: an image with a caption in one is held out.
        found, missing: lists to which a line is added for everything found or missing.

    Raises:
        ValueError: no such file or folder, or no image in it.
    """
    if path is None:
        missing.append("images: give --images; any photographs, the more the better (the paper: 10 million of CC12M)")
        return FoundImages()
    text_language = SOURCE_LANGUAGE if SOURCE_LANGUAGE in captions else captions[0]
    source = ImagesSource(path=path, texts="captions", text_language=text_language)
    drops = Drops()
    pieces = source.find_pieces(SAMPLED, drops)
    languages, num_near = _look_at_first(source, pieces[0], drops)
    num_looked = len(languages)
    if not num_looked:
        raise ValueError(f"{path}: no image was found in it")
    number = num_looked if len(pieces) == 1 else sum(map(_count_images, pieces))
    captioned, num_held_out = Counter[str](), 0
    for of_image in chain(languages, _find_languages(path, pieces[1:])):
        captioned.update(of_image)
        num_held_out += not of_image.isdisjoint(want)
    is_counted = len(pieces) == 1 or pieces[0].files[0].lower().endswith(IMAGE_SUFFIXES)
    about = "" if is_counted else "about "
    num_told = sum(text_language in of_image for of_image in languages)
    texts = "all" if num_told == num_looked else f"{num_told:,}"
    if num_told:  # the texts of a tar, or in a.txt, are not counted beyond the images looked at
        captioned[text_language] = max(captioned[text_language], num_told * number // num_looked)
    found.append(f"images: {path}, {about}{number:,}; {texts} of {num_looked:,} looked at have texts{_list(captioned)}")
    found += [f"left out: {reason}: {count:,}, first {drops.examples[reason][0]}" for reason, count in drops]
    if num_held_out:
        names = ", ".join(get_language(code).name for code in want if captioned[code])
        found.append(
            f"for measuring: {num_held_out:,} images with captions in {names}; {number - num_held_out:,} are left for "
            "training"
        )
    if are_drawings := num_near > _MANY_NEAR * num_looked:
        found.append(
            f"drawings: {num_near:,} of {num_looked:,} images are as near to another one as copies of a photograph "
            "are; the recipe leaves out identical ones only"
        )
    return FoundImages(
        number=number,
        text_language=text_language if num_told >= _NEARLY_ALL * num_looked else "",
        captions=captioned,
        num_for_training=number - num_held_out,
        are_drawings=are_drawings,
    )


def _look_at_first(source: ImagesSource, piece: Piece, drops: Drops) -> tuple[list[set[str]], int]:
    """Return the languages of the captions of each of the first images, and how many are nearly the same as another."""
    languages: list[set[str]] = []
    near = NearDuplicates()
    num_near = 0
    for image in islice(source.read_piece(piece, drops), SAMPLED):
        num_near += near.add(image.key, hash_image(image.rgb)) is not None
        languages.append({text.language for text in image.texts})
    return languages, num_near


def _count_images(piece: Piece) -> int:
    """Return the number of images of a piece; for a tar, which is not read, an estimate."""
    return piece.count or (len(piece.files) if piece.files[0].lower().endswith(IMAGE_SUFFIXES) else SAMPLED)


def _find_languages(path: Path, pieces: Sequence[Piece]) -> Iterator[set[str]]:
    """Yield the languages of each image that has files of texts named after their language, which are not blank."""
    for piece in pieces:
        by_image: dict[str, set[str]] = {}
        for name in piece.texts:
            stem, _, code = name.removesuffix(".txt").rpartition(".")
            tag = parse_language_tag(code)
            if tag is not None and tag.code and (path / name).read_bytes().strip():
                by_image.setdefault(stem, set()).add(tag.code)
        yield from by_image.values()


def _list(named: Mapping[str, int]) -> str:
    if not named:
        return ""
    return ": " + ", ".join(f"{get_language(code).name} {number:,}" for code, number in sorted(named.items()))
