"""WebDataset shards: plain tar files in which members that share a name up to the first dot are one sample.

They are read front to back and only in memory: a member's name is a key, never a path. The standard library stops
silently at a damaged header and at the end of a file that was cut short; here both are counted.
"""

import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Self

from polyglance.data.location import Location
from polyglance.data.sources.raw_images import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    TEXT_DROPPED,
    TEXT_SUFFIXES,
    RawImage,
    collect_texts,
    decode_text,
    distinct_lines,
    find_language,
    parse_json_object,
)
from polyglance.records import Drops

__all__ = ["Member", "read_members", "read_samples", "read_tar"]

_MAX_TEXT_BYTES = 2**24


class Member(NamedTuple):
    """One file of a shard."""

    key: str
    suffix: str
    """Text after the first dot, in lower case."""
    data: bytes


class _StrictInfo(tarfile.TarInfo):
    """Makes a broken header, or a missing one at the end, an error anywhere in the file."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the two blocks of zeros
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None


def read_tar(path: Path, text_fields: Sequence[str], drops: Drops) -> Iterator[RawImage]:
    """Yield the images of one shard (.tar, or compressed) in order, with the texts of their samples."""
    for key, members in read_samples(path, drops):
        yield from _read_images(f"{path.name}:{key}", members, text_fields, drops)


def read_samples(path: Location, drops: Drops) -> Iterator[tuple[str, list[Member]]]:
    """Yield the samples of one shard (.tar, or compressed) in order: key and files of each."""
    for key, members in groupby(_read_members(path, drops), key=lambda member: member.key):
        yield key, list(members)


def _read_members(path: Location, drops: Drops) -> Iterator[Member]:
    for place, data in read_members(path, drops):
        name = PurePosixPath(place).name
        stem, _, suffix = name.partition(".")
        yield Member(place[: len(place) - len(name)] + stem, suffix.lower(), data)


def read_members(path: Location, drops: Drops) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a tar (.tar, or compressed) in order: name and content. Hidden files are left out."""
    try:
        with path.open("rb") as shard, tarfile.open(fileobj=shard, mode="r|*", tarinfo=_StrictInfo) as tar:
            for info in tar:
                tar.members = []  # type: ignore[attr-defined]  # or it would keep the headers of all members
                name = PurePosixPath(info.name).name
                if info.isdir() or name.startswith("."):
                    continue
                limit = MAX_FILE_BYTES if _is_image(name.lower()) else _MAX_TEXT_BYTES
                file = tar.extractfile(info) if info.isreg() and info.size <= limit else None
                if file is None:
                    reason = "image: too many bytes" if info.isreg() else "image: not a regular file in a tar"
                    drops.add(reason, f"{path.name}:{info.name}"[:300])
                    continue
                yield info.name, file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        drops.add("shard: damaged or cut short, read up to there", f"{path.name}: {error}"[:300])


def _is_image(suffix: str) -> bool:
    return f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES


def _read_images(where: str, members: list[Member], text_fields: Sequence[str], drops: Drops) -> Iterator[RawImage]:
    """Yield the images of a sample, each with the sample's texts: those in `text_fields`, and those in a language that
    their name says (`a.de.txt`; beside `a.b.png` also `a.b.de.txt`, which no other image gets)."""
    values: dict[str, Any] = {}
    images = [member for member in members if _is_image(member.suffix)]
    others = [member for member in members if not _is_image(member.suffix)]
    for member in others:
        if member.suffix == "json":
            values.update(parse_json_object(member.data, f"{where}.json", drops))
    stems = [image.suffix.rpartition(".")[0] for image in images]
    languages = [_find_languages(others, stem, text_fields) for stem in stems]
    texts: dict[str, str] = {}
    for member in others:
        if member.suffix in text_fields or any(member.suffix in found for found in languages):
            text = decode_text(member.data, f"{where}.{member.suffix}", drops)
            texts[member.suffix] = "" if text is None else text
        elif member.suffix.endswith(TEXT_SUFFIXES) and "." in member.suffix and not member.suffix.endswith(".json"):
            drops.add(f"{TEXT_DROPPED}its name says no known language", f"{where}.{member.suffix}"[:300])
    values |= {name: text.split("\n") for name, text in texts.items() if name in text_fields}
    if not images:
        drops.add("image: a sample without one", where)
    for image, found in zip(images, languages, strict=True):
        yield RawImage(
            data=image.data,
            where=f"{where}.{image.suffix}",
            texts=collect_texts(values, text_fields),
            texts_by_language=tuple(
                (code, line) for name, code in found.items() for line in distinct_lines(texts[name])
            ),
        )


def _find_languages(members: list[Member], stem: str, text_fields: Sequence[str]) -> dict[str, str]:
    """Return suffix of a text -> code of the language that it says, for an image of this name without extension."""
    found = {member.suffix: find_language(member.suffix.removeprefix(f"{stem}.")) for member in members}
    return {suffix: code for suffix, code in found.items() if code and suffix not in text_fields}
