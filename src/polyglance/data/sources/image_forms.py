"""The forms of image data sets, each cut into pieces, which are read to `FoundImage`: in which order, and with what."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.data.sources.arrow_images import arrow_files, read_image_table, table_pieces
from polyglance.data.sources.found import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    FoundImage,
    json_object,
    text_or_none,
    texts_of,
)
from polyglance.data.sources.pieces import Piece, folder_of, stamp, walk
from polyglance.data.sources.webdataset import read_tar
from polyglance.records import Drops

__all__ = ["find_pieces", "form_of", "read_piece"]

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_TABLE_SUFFIXES = (".parquet", ".arrow")
_STATS = "_stats.json"
_BESIDE = (".txt", ".json")
"""Files that may stand beside an image under its name."""

Fields = Sequence[str]


def form_of(path: Path) -> str:
    """The form that the names in a folder, or the name of a file, speak of."""
    names = [path.name] if path.is_file() else sorted(child.name for child in path.iterdir())
    if any(name.endswith(_STATS) for name in names):
        return "img2dataset"
    if "state.json" in names or "dataset_dict.json" in names:
        return "huggingface"
    if any(name.lower().endswith(_TAR_SUFFIXES) for name in names):
        return "webdataset"
    return "huggingface" if any(name.lower().endswith(_TABLE_SUFFIXES) for name in names) else "folder"


def _folder_pieces(path: Path, num_images: int, drops: Drops) -> list[Piece]:
    if not path.is_dir():
        raise ValueError(f"{path}: not a folder")
    names = walk(path)
    present = set(names)
    images = _images_of(names, drops)
    if not images:
        raise ValueError(f"{path}: no image in the folder, known are {', '.join(IMAGE_SUFFIXES)}")
    pieces = []
    for first in range(0, len(images), num_images):
        own = images[first : first + num_images]
        beside = [text for name in own for text in _beside(name) if text in present]
        pieces.append(Piece(files=tuple(own), stamp=stamp(path, [*own, *beside])))
    return pieces


def _images_of(names: Sequence[str], drops: Drops) -> list[str]:
    """The images among a folder's files; what is neither an image nor an image's text is counted."""
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    used = {text for name in images for text in (name, *_beside(name))}
    for name in names:
        if name not in used:
            drops.add("file: neither an image nor the text of one", _shown(name))
        elif name != _shown(name):
            drops.add("file: a name that is not UTF-8", _shown(name))
    return [name for name in images if name == _shown(name)]


def _shown(name: str) -> str:
    """A file's name as text: bytes that are none in UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _beside(image: str) -> list[str]:
    """Names of the files that may hold an image's texts."""
    return [os.path.splitext(image)[0] + suffix for suffix in _BESIDE]  # noqa: PTH122 - for 10^6 names


def _folder_images(root: Path, images: Sequence[str], fields: Fields, drops: Drops) -> Iterator[FoundImage]:
    for name in images:
        file = Path(name)
        data = _read_inside(root, file, drops)
        if data is not None:
            yield FoundImage(data=data, where=name, texts=_texts_beside(root, file, fields, drops))


def _read_inside(root: Path, file: Path, drops: Drops) -> bytes | None:
    """A file's bytes; links are followed, but not out of the folder."""
    where = file.as_posix()
    try:
        path = (root / file).resolve()
        if not path.is_relative_to(root):
            drops.add("image: a path that leads out of the folder", where)
        elif path.stat().st_size > MAX_FILE_BYTES:
            drops.add("image: too many bytes", where)
        else:
            return path.read_bytes()
    except (OSError, RuntimeError) as error:  # the latter: a loop of links
        drops.add("image: cannot be read", f"{where}: {error}"[:300])
    return None


def _texts_beside(root: Path, image: Path, fields: Fields, drops: Drops) -> tuple[str, ...]:
    values: dict[str, Any] = {}
    for suffix in reversed(_BESIDE):
        beside = image.with_suffix(suffix)
        if not (root / beside).is_file() or (data := _read_inside(root, beside, drops)) is None:
            continue
        if suffix == ".json":
            values.update(json_object(data, beside.as_posix(), drops))
        elif (text := text_or_none(data, beside.as_posix(), drops)) is not None:
            values["txt"] = text.split("\n")
    return texts_of(values, fields)


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file itself, or those of a folder, in the order of their names."""
    files = [path] if path.is_file() else sorted(path.iterdir())
    files = [file for file in files if file.is_file() and file.name.lower().endswith(suffixes)]
    if not files:
        raise ValueError(f"{path}: no file in it ends in {', '.join(suffixes)}")
    return files


def _tar_pieces(path: Path) -> list[Piece]:
    """Each shard is one; those in subfolders count only where there are none beside them."""
    root = folder_of(path)
    tars = [name for name in walk(path) if name.lower().endswith(_TAR_SUFFIXES)] if path.is_dir() else [path.name]
    beside = [name for name in tars if "/" not in name]
    if not tars:
        raise ValueError(f"{path}: no file in it ends in {', '.join(_TAR_SUFFIXES)}")
    return [Piece(files=(name,), stamp=stamp(root, [name])) for name in beside or tars]


def _huggingface_pieces(path: Path, column: str | None, num_images: int) -> list[Piece]:
    root = folder_of(path)
    is_saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
    files = arrow_files(path) if is_saved else _files(path, _TABLE_SUFFIXES)
    pieces = []
    for file in files:
        name = file.relative_to(root).as_posix()
        own = stamp(root, [name])
        cuts = table_pieces(file, column, num_images)
        pieces += [Piece(files=(name,), first=first, count=count, stamp=own) for first, count in cuts]
    return pieces


def _img2dataset_pieces(path: Path, drops: Drops) -> list[Piece]:
    """Each shard is one: its table of what was downloaded has to be seen beside all its images."""
    stems = [file.name.removesuffix(_STATS) for file in _files(path, (_STATS,))]
    begun = {file.stem for file in path.iterdir() if file.suffix in (".tar", ".parquet")}
    for stem in sorted(begun - set(stems)):
        drops.add("shard: without its _stats.json, so not finished", stem)
    own = {stem: [stem + _STATS, *_shard_files(path, stem)] for stem in stems}
    return [Piece(files=(names[0],), stamp=stamp(path, names)) for names in own.values()]


def _shard_files(folder: Path, stem: str) -> list[str]:
    names = [name for name in (f"{stem}.parquet", f"{stem}.tar") if (folder / name).is_file()]
    return names + [f"{stem}/{name}" for name in walk(folder / stem)]


def _img2dataset_shard(
    folder: Path, stem: str, column: str | None, fields: Fields, drops: Drops
) -> Iterator[FoundImage]:
    """One shard: a tar, a folder of files, or the Parquet file that else holds no images but what became of each."""
    table = folder / f"{stem}.parquet"
    num_expected = _count_failures(folder, stem, table, drops)
    num_found = 0
    for image in _img2dataset_images(folder, stem, table, column, fields, drops):
        num_found += 1
        yield image
    if num_expected > num_found:
        drops.add("image: downloaded, but not in its shard", stem, num_expected - num_found)


def _img2dataset_images(
    folder: Path, stem: str, table: Path, column: str | None, fields: Fields, drops: Drops
) -> Iterator[FoundImage]:
    if (tar := folder / f"{stem}.tar").is_file():
        yield from read_tar(tar, fields, drops)
    elif (files := folder / stem).is_dir():
        for image in _folder_images(files.resolve(), _images_of(walk(files), drops), fields, drops):
            yield FoundImage(data=image.data, where=f"{stem}/{image.where}", texts=image.texts)
    elif table.is_file() and (name := column or _picture_column(table)) is not None:
        silent = Drops()  # rows without bytes are the failures, which are counted by their status
        yield from read_image_table(table, name, fields, silent)
        for reason, count in silent:
            if not reason.startswith("image: no bytes"):
                drops.add(reason, silent.examples[reason][0], count)


def _picture_column(table: Path) -> str | None:
    try:
        names = set(pq.read_schema(table).names)
    except (pa.ArrowException, OSError):  # counted where the statuses are read
        return None
    return next((name for name in ("jpg", "png", "webp") if name in names), None)


def _count_failures(folder: Path, stem: str, table: Path, drops: Drops) -> int:
    """Count what was not downloaded by its status; returns how many images were."""
    statuses: Counter[str] = Counter()
    if table.is_file():
        try:
            with pq.ParquetFile(table) as file:
                for batch in file.iter_batches(2**14, columns=["status"], use_threads=False):
                    statuses.update(str(status) for status in batch.column("status").to_pylist())
        except (pa.ArrowException, OSError, KeyError) as error:
            drops.add("shard: its table cannot be read", f"{table.name}: {error}"[:300])
    if not statuses:
        stats = json_object((folder / f"{stem}{_STATS}").read_bytes(), f"{stem}{_STATS}", drops)
        counts = {"success": "successes", "failed_to_download": "failed_to_download",
                  "failed_to_resize": "failed_to_resize"}  # fmt: skip
        statuses.update({status: stats[name] for status, name in counts.items() if isinstance(stats.get(name), int)})
    num_downloaded = statuses.pop("success", 0)
    for status, count in statuses.items():
        if count:
            drops.add(f"image: {status}", stem, count)
    return num_downloaded


def find_pieces(form: str, path: Path, column: str | None, *, num_images: int, drops: Drops) -> list[Piece]:
    """The pieces of a data set of this form, in order.

    Args:
        column: of images, where they are in tables.
        num_images: images of a piece, as near as the form allows: a tar and a shard of img2dataset are one piece.
        drops: gets files that are in no piece.

    Raises:
        ValueError: nothing of the form there, or no column of images.
    """
    match form:
        case "folder":
            return _folder_pieces(path, num_images, drops)
        case "webdataset":
            return _tar_pieces(path)
        case "huggingface":
            return _huggingface_pieces(path, column, num_images)
        case _:
            assert form == "img2dataset", form
            return _img2dataset_pieces(path, drops)


def read_piece(
    form: str, path: Path, column: str | None, fields: Fields, piece: Piece, drops: Drops
) -> Iterator[FoundImage]:
    """The images of a piece, undecoded.

    Args:
        fields: where to look for texts.
    """
    file = folder_of(path) / piece.files[0]
    match form:
        case "folder":
            return _folder_images(path.resolve(), piece.files, fields, drops)
        case "webdataset":
            return read_tar(file, fields, drops)
        case "huggingface":
            return read_image_table(file, column, fields, drops, first=piece.first, count=piece.count)
        case _:
            assert form == "img2dataset", form
            return _img2dataset_shard(path, piece.files[0].removesuffix(_STATS), column, fields, drops)
