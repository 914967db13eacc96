"""The texts of large data as tokens on disk: computed once per data set and tokenizer, memory-mapped ever after.

A folder `tokens-<fingerprint>` of raw little-endian arrays and `tokens.json`, which is written last. All processes of a
machine share its pages, and a text costs no memory of their own. Annotations are numbered in the order of the images.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Integer
from tokenizers import Tokenizer

from polyglance.config import fingerprint, from_dict, to_dict
from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader
from polyglance.data.shard_table import AnnotationTable
from polyglance.files import locked, write_atomically
from polyglance.languages import LANGUAGES
from polyglance.mixture.prompts import prompt, prompt_of
from polyglance.mixture.texts import CellPool, Tokens
from polyglance.mixture.tokenizer import encode
from polyglance.records import STYLES, Annotation

__all__ = ["CachedTexts", "cached_texts"]

_FORMAT = 1
_INFO_NAME = "tokens.json"
_U4, _U8 = np.dtype("<u4"), np.dtype("<u8")
_COLUMNS: "dict[str, np.dtype[Any]]" = {
    "targets": _U4,
    "target_starts": _U8,
    "prompts": _U4,
    "prompt_starts": _U8,
    "prompt_lengths": _U4,
}
"""Tokens of all texts and the place of each one's first; the same for prompts, of which equal captions share one."""


@dataclass(frozen=True, kw_only=True)
class _Info:
    """What tokens.json holds."""

    format: int
    cells: tuple[str, ...]
    sizes_bytes: dict[str, int]
    """File -> size, to tell a folder that was copied in part."""


class CachedTexts:
    """The texts of a data set from its token cache.

    Args:
        folder: a finished cache.
        reader: the data set, for annotations as they are written.

    Raises:
        ValueError: the cache is damaged.
    """

    def __init__(self, folder: Path, reader: ShardReader) -> None:
        self.folder = folder
        self._info = _read_info(folder)
        self._reader = reader
        self._targets, self._target_starts = self._mapped("targets", _U4), self._mapped("target_starts", _U8)
        self._prompts, self._prompt_starts = self._mapped("prompts", _U4), self._mapped("prompt_starts", _U8)
        self._prompt_lengths = self._mapped("prompt_lengths", _U4)
        self._image_starts = self._mapped("image_starts", _U8)

    def group_starts(self) -> Int[np.ndarray, " _"]:
        """First row of each row group of the data set, and the number of rows."""
        return np.asarray(self._mapped("group_starts", _U8), dtype=np.int64)

    def pools(self, cells: Sequence[Cell]) -> dict[Cell, CellPool]:
        """For each cell the images that can show it."""
        return {cell: self._pool(cell) for cell in cells}

    def tokens(self, annotations: Integer[np.ndarray, " N"]) -> list[Tokens]:
        """Token ids of the prompts and texts of annotations."""
        found: list[Tokens] = []
        for index in annotations.tolist():
            first = int(self._prompt_starts[index])
            prompt_ids = self._prompts[first : first + int(self._prompt_lengths[index])]
            target_ids = self._targets[int(self._target_starts[index]) : int(self._target_starts[index + 1])]
            found.append((prompt_ids.tolist(), target_ids.tolist()))
        return found

    def lengths(self, annotations: Integer[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        """Number of tokens of prompt and text of each annotation."""
        targets = self._target_starts[annotations + 1] - self._target_starts[annotations]
        return np.stack([self._prompt_lengths[annotations], targets], axis=1).astype(np.int64)

    def annotation(self, row: int, annotation: int) -> Annotation:
        """An annotation, whole; `row` is its image's."""
        return self._reader.annotations_of(row)[annotation - int(self._image_starts[row])]

    def _pool(self, cell: Cell) -> CellPool:
        if str(cell) not in self._info.cells:
            empty = np.zeros(0, _U4)
            return CellPool(rows=empty, first=np.zeros(1, _U4), annotations=empty)
        rows, first, annotations = (self._mapped(f"{cell}.{name}", _U4) for name in ("rows", "first", "annotations"))
        return CellPool(rows=rows, first=first, annotations=annotations)

    def _mapped(self, name: str, dtype: "np.dtype[Any]") -> np.ndarray:
        path = self.folder / f"{name}.bin"
        if not self._info.sizes_bytes[path.name]:
            return np.zeros(0, dtype)  # an empty file cannot be mapped
        return np.asarray(np.memmap(path, dtype, "r"))  # a plain array is indexed several times faster


def cached_texts(
    reader: ShardReader, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer, *, root: Path
) -> CachedTexts:
    """The token cache of a data set, made if it is not there. One process makes it; others wait.

    Args:
        root: folder that holds, or gets, the cache's own folder.

    Raises:
        ValueError: `root` cannot be written to, or a shard is damaged.
    """
    digests = [shard.sha256 for shard in reader.manifest.shards]
    tokenizers = [prompt_tokenizer.to_str(), target_tokenizer.to_str()]
    folder = root / f"tokens-{fingerprint('tokens', _FORMAT, digests, tokenizers, _all_prompts())}"
    if not (folder / _INFO_NAME).exists():
        try:
            with locked(root, "polyglance train", wait=True):
                if not (folder / _INFO_NAME).exists():
                    _build(folder, reader, prompt_tokenizer, target_tokenizer)
        except OSError as error:
            raise ValueError(
                f"{folder}: cannot be written ({error.strerror}); set mixture.token_cache to a folder that can"
            ) from None
    return CachedTexts(folder, reader)


def _all_prompts() -> list[str]:
    """Every sentence a prompt is made of: what is cached under other ones is of no use."""
    captions = [prompt("caption", code, style=style) for code in LANGUAGES for style in STYLES]
    return captions + [prompt("translation", code, source="") for code in LANGUAGES]


def _build(folder: Path, reader: ShardReader, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> None:
    partial = folder.with_name(folder.name + ".partial")
    for old in (partial, folder):  # left by a process that was killed, or damaged
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir()
    columns = _write_tokens(partial, reader, prompt_tokenizer, target_tokenizer)
    names = _write_pools(partial, *columns)
    _write(partial, "group_starts", reader.group_starts(), _U8)
    info = _Info(
        format=_FORMAT,
        cells=names,
        sizes_bytes={path.name: path.stat().st_size for path in sorted(partial.glob("*.bin"))},
    )
    write_atomically(partial / _INFO_NAME, json.dumps(to_dict(info), indent=2) + "\n")
    partial.replace(folder)


def _write_tokens(
    folder: Path, reader: ShardReader, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer
) -> tuple[list[Cell], Integer[np.ndarray, " A"], Integer[np.ndarray, " _"]]:
    """Write the token columns, table by table; returns the cells there are, each annotation's (an index into them) and
    the first annotation of each image."""
    cells: dict[Cell, int] = {}
    numbers, images, ends = [], [np.zeros(1, np.uint64)], dict.fromkeys(("targets", "prompts", "annotations"), 0)
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in _COLUMNS}
        for table in reader.annotation_tables():
            for name, column in _columns(table, prompt_tokenizer, target_tokenizer, ends).items():
                files[name].write(column.astype(_COLUMNS[name]).tobytes())
            pairs = zip(table.task, table.language, strict=True)
            numbers.append(np.array([cells.setdefault(Cell(*pair), len(cells)) for pair in pairs], np.uint16))
            images.append(np.array(table.offsets[1:], np.uint64) + np.uint64(ends["annotations"]))
            ends["annotations"] += len(table.text)
        files["target_starts"].write(np.array([ends["targets"]], _U8).tobytes())
    image_starts = np.concatenate(images)
    _write(folder, "image_starts", image_starts, _U8)
    return list(cells), np.concatenate([np.zeros(0, np.uint16), *numbers]), image_starts


def _columns(
    table: AnnotationTable, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer, ends: dict[str, int]
) -> dict[str, Integer[np.ndarray, " _"]]:
    """The token columns of a table; `ends` are the tokens written before it, and are moved on."""
    targets = encode(target_tokenizer, table.text)
    places: dict[str, int] = {}
    texts = [prompt_of(table.annotation(index)) for index in range(len(table.text))]
    chosen = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
    prompts = encode(prompt_tokenizer, list(places))
    target_starts = np.cumsum([ends["targets"], *map(len, targets)])
    prompt_starts = np.cumsum([ends["prompts"], *map(len, prompts)])
    ends["targets"], ends["prompts"] = int(target_starts[-1]), int(prompt_starts[-1])
    return {
        "targets": _flat(targets),
        "target_starts": target_starts[:-1],
        "prompts": _flat(prompts),
        "prompt_starts": prompt_starts[:-1][chosen],
        "prompt_lengths": np.diff(prompt_starts)[chosen],
    }


def _write_pools(
    folder: Path, cells: list[Cell], numbers: Integer[np.ndarray, " A"], image_starts: Integer[np.ndarray, " _"]
) -> tuple[str, ...]:
    """Write each cell's pool; returns the cells' names."""
    rows = np.repeat(np.arange(len(image_starts) - 1, dtype=np.uint32), np.diff(image_starts).astype(np.int64))
    for number, cell in enumerate(cells):
        annotations = np.flatnonzero(numbers == number)
        own, first = np.unique(rows[annotations], return_index=True)
        _write(folder, f"{cell}.rows", own, _U4)
        _write(folder, f"{cell}.first", np.append(first, len(annotations)), _U4)
        _write(folder, f"{cell}.annotations", annotations, _U4)
    return tuple(map(str, cells))


def _flat(sequences: Sequence[Sequence[int]]) -> Integer[np.ndarray, " _"]:
    return np.fromiter(chain.from_iterable(sequences), np.uint32, count=sum(map(len, sequences)))


def _write(folder: Path, name: str, values: Integer[np.ndarray, " _"], dtype: "np.dtype[Any]") -> None:
    values.astype(dtype).tofile(folder / f"{name}.bin")


def _read_info(folder: Path) -> _Info:
    path = folder / _INFO_NAME
    try:
        info = from_dict(_Info, json.loads(path.read_bytes()))
        for name, size_bytes in info.sizes_bytes.items():
            if (folder / name).stat().st_size != size_bytes:
                raise ValueError(f"{name} is not of {size_bytes} bytes")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: a damaged token cache ({error}); remove it to have it made anew") from None
    return info
