"""Forms of image data sets: how each is cut into pieces, and how a piece is read to `RawImage`."""

import os
from abc import ABC
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.data.sources.image_tables import cut_image_table, find_arrow_files, read_image_table
from polyglance.data.sources.raw_images import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    RawImage,
    collect_texts,
    decode_text,
    distinct_lines,
    find_language,
    parse_json_object,
    resolve_inside,
)
from polyglance.data.sources.source import Piece, SourceForm, list_files
from polyglance.data.sources.webdataset import read_tar
from polyglance.records import Drops

__all__ = ["IMAGE_FORMS", "ImageForm", "detect_image_form"]

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_TABLE_SUFFIXES = (".parquet", ".arrow")
_STATS = "_stats.json"
_NUM_SAMPLED = 200
"""Images, or texts of a language, whose texts are sampled."""
_BESIDE = (".txt", ".json")
"""Endings of the files that may hold an image's texts, under its name."""


class ImageForm(SourceForm[RawImage], ABC):
    """Images in one form.

    Args:
        path: a file or folder, which exists.
        column: column of the images, if they are in tables; None: the only column of images.
        text_fields: where texts are looked for.
    """

    def __init__(self, path: Path, column: str | None, text_fields: Sequence[str]) -> None:
        super().__init__(path)
        self.column, self.text_fields = column, text_fields

    def sample_texts(self, pieces: Sequence[Piece], text_language: str) -> dict[str, list[str]]:
        """Return the first texts of each language.

        Args:
            text_language: language of the texts whose place does not name one.
        """
        found: dict[str, list[str]] = {}
        for piece in pieces[:1]:
            for image in islice(self.read_piece(piece, Drops()), _NUM_SAMPLED):
                found.setdefault(text_language, []).extend(image.texts)
                for code, text in image.texts_by_language:
                    found.setdefault(code, []).append(text)
        return found


class _FolderForm(ImageForm):
    """Image files in folders, with their texts beside them."""

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:
        if not self.path.is_dir():
            raise ValueError(f"{self.path}: not a folder")
        names = self.list_files()
        images = _select_images(names, drops)
        if not images:
            raise ValueError(f"{self.path}: no image in the folder, known are {', '.join(IMAGE_SUFFIXES)}")
        present, by_image, pieces = set(names), _match_languages(names), []
        for first in range(0, len(images), num_records):
            chosen = images[first : first + num_records]
            beside = [text for name in chosen for text in _names_beside(name) if text in present]
            texts = [text for name in chosen for text in by_image.get(name, {})]
            pieces.append(self.make_piece(chosen, beside=beside, texts=texts))
        return pieces

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[RawImage]:
        root, by_image = self.path.resolve(), _match_languages([*piece.files, *piece.texts])
        for image in _read_folder(root, piece.files, self.text_fields, drops):
            texts = by_image.get(image.where, {})
            yield replace(image, texts_by_language=tuple(_read_lines(root, texts, drops))) if texts else image

    def sample_texts(self, pieces: Sequence[Piece], text_language: str) -> dict[str, list[str]]:
        """Return the first texts of each language. All names are looked at, and no image is read."""
        root, drops, found = self.path.resolve(), Drops(), {text_language: list[str]()}
        for piece in pieces:
            by_image = _match_languages([*piece.files, *piece.texts])
            for image in piece.files:
                if len(found[text_language]) < _NUM_SAMPLED:
                    found[text_language] += _read_texts_beside(root, Path(image), self.text_fields, drops)
                for name, code in by_image.get(image, {}).items():
                    of_language = found.setdefault(code, [])
                    if len(of_language) < _NUM_SAMPLED:
                        of_language += (text for _, text in _read_lines(root, {name: code}, drops))
        return found


class _WebDatasetForm(ImageForm):
    """Tar shards; a piece is a shard. Shards in subfolders count only if there are none beside them."""

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:  # noqa: ARG002
        tars = [name for name in self.list_files() if name.lower().endswith(_TAR_SUFFIXES) or self.path.is_file()]
        if not tars:
            raise ValueError(f"{self.path}: no file in it ends in {', '.join(_TAR_SUFFIXES)}")
        beside = [name for name in tars if "/" not in name]
        return [self.make_piece([name]) for name in beside or tars]

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[RawImage]:
        return read_tar(self.root / piece.files[0], self.text_fields, drops)


class _HuggingFaceForm(ImageForm):
    """Arrow or Parquet files, cut between record batches or row groups."""

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:  # noqa: ARG002
        is_saved = any((self.path / name).is_file() for name in ("state.json", "dataset_dict.json"))
        files = find_arrow_files(self.path) if is_saved else _files_ending_in(self.path, _TABLE_SUFFIXES)
        return [
            self.make_piece([file.relative_to(self.root).as_posix()], first=first, count=count)
            for file in files
            for first, count in cut_image_table(file, self.column, num_records)
        ]

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[RawImage]:
        return read_image_table(self.root / piece.files[0], self.column, self.text_fields, piece, drops)


class _Img2datasetForm(ImageForm):
    """Shards of img2dataset; a piece is a shard: its table of downloads has to be compared with all its images."""

    def find_pieces(self, num_records: int, drops: Drops) -> list[Piece]:  # noqa: ARG002
        stems = [file.name.removesuffix(_STATS) for file in _files_ending_in(self.path, (_STATS,))]
        begun = {file.stem for file in self.path.iterdir() if file.suffix in (".tar", ".parquet")}
        for stem in sorted(begun - set(stems)):
            drops.add("shard: without its _stats.json, so not finished", stem)
        return [self.make_piece([stem + _STATS], beside=self._list_shard(stem)) for stem in stems]

    def _list_shard(self, stem: str) -> list[str]:
        names = [name for name in (f"{stem}.parquet", f"{stem}.tar") if (self.path / name).is_file()]
        return names + [f"{stem}/{name}" for name in list_files(self.path / stem)]

    def read_piece(self, piece: Piece, drops: Drops) -> Iterator[RawImage]:
        stem = piece.files[0].removesuffix(_STATS)
        num_expected, num_images = _count_failures(self.path, stem, drops), 0
        for image in self._read_shard(stem, drops):
            num_images += 1
            yield image
        if num_expected > num_images:
            drops.add("image: downloaded, but not in its shard", stem, num_expected - num_images)

    def _read_shard(self, stem: str, drops: Drops) -> Iterator[RawImage]:
        """Yield the images of a tar, of a folder of files, or of the Parquet file that lists the downloads."""
        table = self.path / f"{stem}.parquet"
        if (tar := self.path / f"{stem}.tar").is_file():
            yield from read_tar(tar, self.text_fields, drops)
        elif (files := self.path / stem).is_dir():
            images = _select_images(list_files(files), drops)
            for image in _read_folder(files.resolve(), images, self.text_fields, drops):
                yield RawImage(data=image.data, where=f"{stem}/{image.where}", texts=image.texts)
        elif table.is_file() and (column := self.column or _find_picture_column(table)) is not None:
            of_table = Drops()  # rows without bytes are the failures, which are counted by their status
            yield from read_image_table(table, column, self.text_fields, Piece(files=()), of_table)
            for reason, count in of_table:
                if not reason.startswith("image: no bytes"):
                    drops.add(reason, of_table.examples[reason][0], count)


IMAGE_FORMS: Mapping[str, type[ImageForm]] = MappingProxyType(
    {
        "folder": _FolderForm,
        "webdataset": _WebDatasetForm,
        "huggingface": _HuggingFaceForm,
        "img2dataset": _Img2datasetForm,
    }
)
"""Name in a recipe -> form."""


def detect_image_form(path: Path) -> str:
    """Return the name of the form that the names in a folder, or the name of a file, indicate."""
    names = [path.name] if path.is_file() else sorted(child.name for child in path.iterdir())
    if any(name.endswith(_STATS) for name in names):
        return "img2dataset"
    if "state.json" in names or "dataset_dict.json" in names:
        return "huggingface"
    if any(name.lower().endswith(_TAR_SUFFIXES) for name in names):
        return "webdataset"
    return "huggingface" if any(name.lower().endswith(_TABLE_SUFFIXES) for name in names) else "folder"


def _files_ending_in(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the file itself, or the files of a folder, in the order of their names."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    files = [file for file in files if file.is_file() and file.name.lower().endswith(suffixes)]
    if not files:
        raise ValueError(f"{path}: no file in it ends in {', '.join(suffixes)}")
    return files


def _select_images(names: Sequence[str], drops: Drops) -> list[str]:
    """Select the images among a folder's files; files that are neither an image nor an image's text are counted."""
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    used = {text for name in images for text in (name, *_names_beside(name))}
    used |= {text for texts in _match_languages(names).values() for text in texts}
    for name in names:
        if name not in used:
            drops.add("file: neither an image nor the text of one", _as_text(name))
        elif name != _as_text(name):
            drops.add("file: a name that is not UTF-8", _as_text(name))
    return [name for name in images if name == _as_text(name)]


def _match_languages(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return image -> its texts in a language that their name says (`a.de.txt` of `a.png`) -> code of the language."""
    images: dict[str, list[str]] = {}
    others = []
    for name in names:
        if name.lower().endswith(IMAGE_SUFFIXES):
            images.setdefault(os.path.splitext(name)[0], []).append(name)  # noqa: PTH122 - for 10^6 names
        else:
            others.append(name)
    found: dict[str, dict[str, str]] = {}
    for name in others:
        stem = name.rpartition(".")[0]
        if stem not in images:
            stem = stem.rpartition(".")[0]
        if stem in images and (code := find_language(name[len(stem) + 1 :])):
            for image in images[stem]:
                found.setdefault(image, {})[name] = code
    return found


def _read_lines(root: Path, texts: Mapping[str, str], drops: Drops) -> Iterator[tuple[str, str]]:
    """Yield language and text of each line that is not blank."""
    for name, code in texts.items():
        data = _read_inside(root, name, drops)
        text = None if data is None else decode_text(data, name, drops)
        yield from ((code, line) for line in distinct_lines(text or ""))


def _as_text(name: str) -> str:
    """Replace the bytes of a file's name that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _names_beside(image: str) -> list[str]:
    """Return the names of the files that may hold an image's texts."""
    return [os.path.splitext(image)[0] + suffix for suffix in _BESIDE]  # noqa: PTH122 - for 10^6 names


def _read_folder(root: Path, images: Sequence[str], fields: Sequence[str], drops: Drops) -> Iterator[RawImage]:
    for name in images:
        data = _read_inside(root, name, drops)
        if data is not None:
            yield RawImage(data=data, where=name, texts=_read_texts_beside(root, Path(name), fields, drops))


def _read_inside(root: Path, name: str, drops: Drops) -> bytes | None:
    """Read a file below `root`; None, and a drop, if it is outside, too large or cannot be read."""
    try:
        path = resolve_inside(root, name)
        if path is None:
            drops.add("image: a path that leads out of the folder", name)
        elif path.stat().st_size > MAX_FILE_BYTES:
            drops.add("image: too many bytes", name)
        else:
            return path.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        drops.add("image: cannot be read", f"{name}: {error}"[:300])
    return None


def _read_texts_beside(root: Path, image: Path, fields: Sequence[str], drops: Drops) -> tuple[str, ...]:
    values: dict[str, Any] = {}
    for suffix in reversed(_BESIDE):
        name = image.with_suffix(suffix).as_posix()
        if not (root / name).is_file() or (data := _read_inside(root, name, drops)) is None:
            continue
        if suffix == ".json":
            values.update(parse_json_object(data, name, drops))
        elif (text := decode_text(data, name, drops)) is not None:
            values["txt"] = text.split("\n")
    return collect_texts(values, fields)


def _find_picture_column(table: Path) -> str | None:
    try:
        names = set(pq.read_schema(table).names)
    except (pa.ArrowException, OSError):  # counted where the statuses are read
        return None
    return next((name for name in ("jpg", "png", "webp") if name in names), None)


def _count_failures(folder: Path, stem: str, drops: Drops) -> int:
    """Count the downloads that failed, by status; return the number of those that did not."""
    statuses: Counter[str] = Counter()
    table = folder / f"{stem}.parquet"
    if table.is_file():
        try:
            with pq.ParquetFile(table) as file:
                for batch in file.iter_batches(2**14, columns=["status"], use_threads=False):
                    statuses.update(str(status) for status in batch.column("status").to_pylist())
        except (pa.ArrowException, OSError, KeyError) as error:
            drops.add("shard: its table cannot be read", f"{table.name}: {error}"[:300])
    if not statuses:
        stats = parse_json_object((folder / f"{stem}{_STATS}").read_bytes(), f"{stem}{_STATS}", drops)
        counts = {"success": "successes", "failed_to_download": "failed_to_download",
                  "failed_to_resize": "failed_to_resize"}  # fmt: skip
        statuses.update({status: stats[name] for status, name in counts.items() if isinstance(stats.get(name), int)})
    num_downloaded = statuses.pop("success", 0)
    for status, count in statuses.items():
        if count:
            drops.add(f"image: {status}", stem, count)
    return num_downloaded
