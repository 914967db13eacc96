"""Find the form of a user's images and texts by the names of their files."""

from collections.abc import Sequence
from pathlib import Path

from polyglance.data.row_sources.published_texts import (
    Crossmodal3600,
    PublishedJson,
    TokenFile,
    is_crossmodal_3600,
    read_json_object,
)
from polyglance.data.row_sources.row_source import RowSource
from polyglance.data.row_sources.saved_datasets import SavedDataset
from polyglance.data.row_sources.table_files import FolderOfTables, ImageFolder, OneTable
from polyglance.data.row_sources.texts_beside import METADATA, TAR_SUFFIXES, TextsBeside, find_tars
from polyglance.data.sources.raw_images import IMAGE_SUFFIXES
from polyglance.data.sources.source import list_files
from polyglance.delimited import Quoting
from polyglance.encodings import COMPRESSED_SUFFIXES
from polyglance.language_tags import parse_language_tag
from polyglance.tables import TABLE_SUFFIXES

__all__ = ["open_rows"]

_BITEXT_SUFFIXES = (".tmx", ".xliff", ".sgm")


def open_rows(path: Path, *, encoding: str = "auto", quoting: Quoting = "auto") -> RowSource:
    """Open a file or folder of images and texts.

    Args:
        encoding, quoting: as for `polyglance.tables.detect_table_format`.

    Raises:
        ValueError: none of the known forms, with what would be right; or as the form's class.
    """
    rows = _open_folder(path, encoding, quoting) if path.is_dir() else _open_file(path, encoding, quoting)
    if quoting != "auto" and not isinstance(rows, (OneTable, FolderOfTables)):
        raise ValueError(f"{path}: quoting is for CSV and TSV; this is {rows.describe()}")
    if encoding != "auto" and isinstance(rows, SavedDataset):
        raise ValueError(f"{path}: encoding is for files of text; this is {rows.describe()}")
    return rows


def _open_file(path: Path, encoding: str, quoting: Quoting) -> RowSource:
    if not path.exists():
        raise ValueError(f"{path}: no such file, or it may not be read")
    name = path.name.lower()
    bare = next((name.removesuffix(suffix) for suffix in COMPRESSED_SUFFIXES if name.endswith(suffix)), name)
    if name.endswith((*TAR_SUFFIXES, ".zip")):
        return TextsBeside(path, encoding=encoding)
    if name.endswith((".arrow", ".feather")):
        return SavedDataset(path)
    if bare.endswith(".token"):
        return TokenFile(path, encoding=encoding)
    if bare.endswith(".json") and (content := read_json_object(path, encoding)) is not None:
        return PublishedJson(path, content)
    if bare.endswith((".jsonl", ".ndjson")) and is_crossmodal_3600(path, encoding):
        return Crossmodal3600(path, encoding=encoding)
    _refuse_other_files(path, bare)
    return OneTable(path, encoding=encoding, quoting=quoting)


def _refuse_other_files(path: Path, name: str) -> None:
    """Refuse files of known kinds that are no tables of images, with what would be right."""
    suffix = Path(name).suffix
    if suffix in TABLE_SUFFIXES:
        return
    if suffix in _BITEXT_SUFFIXES:
        raise ValueError(f"{path}: bitext has no images; name it under [[bitext]] in a recipe of `data build`")
    if suffix in (".xlsx", ".xls", ".ods"):
        return
    tag = parse_language_tag(suffix[1:]) if len(suffix) > 1 else None
    if suffix == ".txt" or (tag is not None and tag.code):
        raise ValueError(
            f"{path}: lines of text without names of columns; make one table with a header of names, such as "
            f"image, en, de, and the extension .tsv or .csv (parallel files: `paste images.txt a.en a.de`)"
        )


def _open_folder(path: Path, encoding: str, quoting: Quoting) -> RowSource:
    if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return SavedDataset(path)
    names = list_files(path)
    if tars := find_tars(path):
        _check_alone(path, tars[0].name, names, "give the tar by its name, or move the images")
        return TextsBeside(path, encoding=encoding)
    if metadata := [name for name in names if name.rpartition("/")[2].lower() in METADATA]:
        return ImageFolder(path, metadata, encoding=encoding, quoting=quoting)
    if parquet := [name for name in names if name.lower().endswith(".parquet")]:
        _check_alone(path, parquet[0], names, "give the table by its name, and the folder as images")
        return FolderOfTables(path, parquet, encoding=encoding, quoting=quoting)
    if zips := [name for name in names if name.lower().endswith(".zip")]:
        raise ValueError(f"{path}: a folder with {zips[0]}; give the zip itself, or unpack it")
    return TextsBeside(path, encoding=encoding)


def _check_alone(path: Path, file: str, names: Sequence[str], right: str) -> None:
    """Refuse a folder in which it is not clear whether the images are in a file or beside it."""
    beside = next((name for name in names if name.lower().endswith(IMAGE_SUFFIXES)), None)
    if beside is not None:
        raise ValueError(f"{path}: holds both {file} and {beside}; {right}")
