"""The forms of image data sets, each brought to `FoundImage`: which files to read, in which order, and with what."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.data.sources.arrow_images import arrow_files, read_image_table
from polyglance.data.sources.found import (
    IMAGE_SUFFIXES,
    MAX_FILE_BYTES,
    FoundImage,
    json_object,
    text_or_none,
    texts_of,
)
from polyglance.data.sources.webdataset import read_tar
from polyglance.records import Drops

__all__ = ["find_images", "form_of"]

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


def _read_folder(path: Path, fields: Fields, drops: Drops) -> Iterator[FoundImage]:
    if not path.is_dir():
        raise ValueError(f"{path}: not a folder")
    files = sorted(file.relative_to(path) for file in path.rglob("*") if not file.is_dir())
    if not any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        raise ValueError(f"{path}: no image in the folder, known are {', '.join(IMAGE_SUFFIXES)}")
    return _folder_images(path.resolve(), files, fields, drops)


def _folder_images(root: Path, files: list[Path], fields: Fields, drops: Drops) -> Iterator[FoundImage]:
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    stems = {file.with_suffix("") for file in images}
    for file in files:
        if file.suffix.lower() not in IMAGE_SUFFIXES and not (file.suffix in _BESIDE and file.with_suffix("") in stems):
            drops.add("file: neither an image nor the text of one", file.as_posix())
    for file in images:
        data = _read_inside(root, file, drops)
        if data is not None:
            yield FoundImage(data=data, where=file.as_posix(), texts=_texts_beside(root, file, fields, drops))


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


def _read_webdataset(path: Path, fields: Fields, drops: Drops) -> Iterator[FoundImage]:
    shards = _files(path, _TAR_SUFFIXES)
    return (image for shard in shards for image in read_tar(shard, fields, drops))


def _read_huggingface(path: Path, column: str | None, fields: Fields, drops: Drops) -> Iterator[FoundImage]:
    is_saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
    files = arrow_files(path) if is_saved else _files(path, _TABLE_SUFFIXES)
    tables = [read_image_table(file, column, fields, drops) for file in files]  # all are looked into before the first
    return (image for table in tables for image in table)


def _read_img2dataset(path: Path, column: str | None, fields: Fields, drops: Drops) -> Iterator[FoundImage]:
    stems = [file.name.removesuffix(_STATS) for file in _files(path, (_STATS,))]
    begun = {file.stem for file in path.iterdir() if file.suffix in (".tar", ".parquet")}
    for stem in sorted(begun - set(stems)):
        drops.add("shard: without its _stats.json, so not finished", stem)
    return (image for stem in stems for image in _img2dataset_shard(path, stem, column, fields, drops))


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
        images = _folder_images(files.resolve(), sorted(f.relative_to(files) for f in files.iterdir()), fields, drops)
        yield from (FoundImage(data=image.data, where=f"{stem}/{image.where}", texts=image.texts) for image in images)
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


def find_images(form: str, path: Path, column: str | None, fields: Fields, drops: Drops) -> Iterator[FoundImage]:
    """The images of a data set of this form, undecoded.

    Args:
        column: of images, where they are in tables.
        fields: where to look for texts.
    """
    match form:
        case "folder":
            return _read_folder(path, fields, drops)
        case "webdataset":
            return _read_webdataset(path, fields, drops)
        case "huggingface":
            return _read_huggingface(path, column, fields, drops)
        case _:
            assert form == "img2dataset", form
            return _read_img2dataset(path, column, fields, drops)
