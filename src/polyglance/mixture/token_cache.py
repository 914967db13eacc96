"""Texts of large data sets as tokens on disk: computed once per data set and tokenizer, then memory-mapped.

A cache is a folder `tokens-<fingerprint>` of raw little-endian arrays, the checksums of their blocks, and
`tokens.json`, which is written last. All processes of a machine share its pages, so that texts take no memory of a
process. Blocks are compared with their sums when they are first read. Annotations are numbered in image order.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Integer
from tokenizers import Tokenizer

from polyglance.block_sums import CheckedArray, compute_sums
from polyglance.config import fingerprint, from_dict, to_dict
from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader
from polyglance.data.shard_table import AnnotationTable
from polyglance.files import DamagedError, locked, read_record, replacing_folder, write_record
from polyglance.languages import LANGUAGES
from polyglance.mixture.prompts import prompt_of, write_prompt
from polyglance.mixture.texts import CellPool, MemoryTexts, Tokens
from polyglance.mixture.tokenizer import encode_prompts, encode_texts
from polyglance.records import STYLES, Annotation

__all__ = ["CachedTexts", "TextStore", "TokensInfo", "open_token_cache", "verify_token_cache"]

_FORMAT = 1
_INFO_NAME = "tokens.json"
_SUMS_NAME = "sums.bin"
_BLOCK_BYTES = 4096
"""Size of a block: one page of memory, which is the least that is fetched from the disk."""
_U4, _U8 = np.dtype("<u4"), np.dtype("<u8")
_COLUMNS: "dict[str, np.dtype[Any]]" = {
    "targets": _U4,
    "target_starts": _U8,
    "prompts": _U4,
    "prompt_starts": _U8,
    "prompt_lengths": _U4,
}
"""Tokens of all targets and each target's first position; the same for prompts. Captions of a cell share a prompt."""


@dataclass(frozen=True, kw_only=True)
class TokensInfo:
    """Content of tokens.json."""

    format: int = _FORMAT
    cells: tuple[str, ...]
    sizes_bytes: dict[str, int]
    """File name -> size, by which an incompletely copied folder is noticed."""
    sums_sha256: str | None = None
    """SHA-256 of the file with the sums of the blocks of all files, in the order of their names; None for a cache that
    an older version has made."""

    def __post_init__(self) -> None:
        if self.format != _FORMAT:
            raise ValueError(f"format {self.format}; this polyglance reads {_FORMAT}")
        for name, size_bytes in self.sizes_bytes.items():
            if Path(name).name != name or not name.endswith(".bin") or size_bytes < 0:  # names become paths
                raise ValueError(f"{name!r} is not the name of a file of tokens")

    @classmethod
    def read(cls, folder: Path) -> "TokensInfo":
        """Read tokens.json of a folder and compare the sizes of its files.

        Raises:
            DamagedError: the cache is damaged.
        """
        try:
            info = from_dict(cls, read_record(folder / _INFO_NAME))
            for name, size_bytes in info.sizes_bytes.items():
                if (folder / name).stat().st_size != size_bytes:
                    raise ValueError(f"{name} is not of {size_bytes} bytes")
            info.read_sums(folder)
        except (OSError, ValueError) as error:
            raise DamagedError(f"{folder}: a damaged token cache ({error})") from None
        return info

    def read_sums(self, folder: Path) -> dict[str, np.ndarray]:
        """Return file name -> sums of its blocks; empty for a cache that an older version has made.

        Raises:
            DamagedError: the sums are damaged.
        """
        if self.sums_sha256 is None:
            return {}
        content = (folder / _SUMS_NAME).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sums_sha256:
            raise DamagedError(f"{_SUMS_NAME} differs from what was written")
        counts = {name: -(-size // _BLOCK_BYTES) for name, size in sorted(self.sizes_bytes.items())}
        sums = np.frombuffer(content, _U4)
        if sum(counts.values()) != len(sums):
            raise DamagedError(f"{_SUMS_NAME} has not as many sums as there are blocks")
        ends = np.cumsum(list(counts.values()))
        return dict(zip(counts, np.split(sums, ends[:-1]), strict=True)) if counts else {}


class CachedTexts:
    """Texts of a data set from its token cache; methods as in `MemoryTexts`.

    Args:
        folder: a finished cache.
        reader: the data set, for annotations as they are written.

    Raises:
        DamagedError: the cache is damaged; also when texts are read. Its record is then removed, so that the next
            process makes it again.
    """

    def __init__(self, folder: Path, reader: ShardReader) -> None:
        self.folder = folder
        self._info = TokensInfo.read(folder)
        self._sums = self._info.read_sums(folder)
        self._reader = reader
        self._targets, self._target_starts = self._map("targets", _U4), self._map("target_starts", _U8)
        self._prompts, self._prompt_starts = self._map("prompts", _U4), self._map("prompt_starts", _U8)
        self._prompt_lengths = self._map("prompt_lengths", _U4)
        self._image_starts = self._map("image_starts", _U8)

    def group_starts(self) -> Int[np.ndarray, " _"]:
        return np.asarray(self._map("group_starts", _U8), dtype=np.int64)

    def pools(self, cells: Sequence[Cell]) -> dict[Cell, CellPool]:
        return {cell: self._pool(cell) for cell in cells}

    def tokens(self, annotations: Integer[np.ndarray, " N"]) -> list[Tokens]:
        prompt_starts = self._prompt_starts[annotations].astype(np.int64)
        prompt_ends = prompt_starts + self._prompt_lengths[annotations]
        target_starts = self._target_starts[annotations].astype(np.int64)
        target_ends = self._target_starts[annotations + 1].astype(np.int64)
        sides = []
        for array, starts, ends in (
            (self._prompts, prompt_starts, prompt_ends),
            (self._targets, target_starts, target_ends),
        ):
            bounds = list(zip(starts.tolist(), ends.tolist(), strict=True))
            sides.append([array[first:end].tolist() for first, end in bounds])
        return list(zip(*sides, strict=True))

    def lengths(self, annotations: Integer[np.ndarray, " N"]) -> Int[np.ndarray, "N 2"]:
        targets = self._target_starts[annotations + 1] - self._target_starts[annotations]
        return np.stack([self._prompt_lengths[annotations], targets], axis=1).astype(np.int64)

    def annotation(self, row: int, annotation: int) -> Annotation:
        return self._reader.annotations_of(row)[annotation - int(self._image_starts[row])]

    def _pool(self, cell: Cell) -> CellPool:
        if str(cell) not in self._info.cells:
            empty = np.zeros(0, _U4)
            return CellPool(rows=empty, first=np.zeros(1, _U4), annotations=empty)
        rows, first, annotations = (self._map(f"{cell}.{name}", _U4) for name in ("rows", "first", "annotations"))
        return CellPool(rows=rows, first=first, annotations=annotations)

    def _map(self, name: str, dtype: "np.dtype[Any]") -> CheckedArray:
        path = self.folder / f"{name}.bin"
        sums = self._sums.get(path.name)
        return CheckedArray(path, dtype, sums, block_bytes=_BLOCK_BYTES, on_damage=self._forget)

    def _forget(self) -> None:
        """Remove the record of the cache. Processes that have it open keep their files."""
        with suppress(OSError):
            (self.folder / _INFO_NAME).unlink()


TextStore = MemoryTexts | CachedTexts


def open_token_cache(
    reader: ShardReader, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer, *, root: Path
) -> CachedTexts:
    """Open the token cache of a data set; make it if it is not there, or damaged. One process makes it, others wait.

    Args:
        root: folder that holds, or gets, the cache's folder.

    Raises:
        ValueError: `root` cannot be written to, or a shard is damaged.
    """
    digests = [shard.sha256 for shard in reader.manifest.shards]
    tokenizers = [prompt_tokenizer.to_str(), target_tokenizer.to_str()]
    folder = root / f"tokens-{fingerprint('tokens', _FORMAT, digests, tokenizers, _list_prompts())}"
    if not _is_whole(folder):
        try:
            with locked(root, "polyglance train", wait=True):
                if not _is_whole(folder):
                    _build(folder, reader, prompt_tokenizer, target_tokenizer)
        except OSError as error:
            raise ValueError(
                f"{folder}: cannot be written ({error.strerror}); set mixture.token_cache to a writable folder"
            ) from None
    return CachedTexts(folder, reader)


def _is_whole(folder: Path) -> bool:
    """Tell whether there is a whole cache; a damaged one is reported on standard error."""
    if not (folder / _INFO_NAME).exists():
        return False
    try:
        TokensInfo.read(folder)
    except DamagedError as error:
        print(f"{error}; it is made again", file=sys.stderr, flush=True)
        return False
    return True


def verify_token_cache(folder: Path) -> Iterator[tuple[Path, str]]:
    """Compare every block of a cache with its sum; yield each file and its problem (empty if there is none).

    Raises:
        DamagedError: the record, a size or the checksums are damaged.
    """
    sums = TokensInfo.read(folder).read_sums(folder)
    if sums:
        yield folder / _SUMS_NAME, ""
    for name, expected in sums.items():
        found = np.frombuffer(_compute_sums(folder / name), _U4)
        is_same = np.array_equal(found, expected)
        yield folder / name, "" if is_same else f"{folder / name}: damaged or changed (sums of its blocks differ)"


def _list_prompts() -> list[str]:
    """Return every sentence that prompts are made of. They are part of the fingerprint, so that a cache of other
    prompts is not used."""
    captions = [write_prompt("caption", code, style=style) for code in LANGUAGES for style in STYLES]
    return captions + [write_prompt("translation", code, source="") for code in LANGUAGES]


def _build(folder: Path, reader: ShardReader, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> None:
    with replacing_folder(folder) as partial:
        cells, cell_numbers, image_starts = _write_tokens(partial, reader, prompt_tokenizer, target_tokenizer)
        _write_pools(partial, cells, cell_numbers, image_starts)
        _write_array(partial, "group_starts", reader.group_starts(), _U8)
        paths = sorted(partial.glob("*.bin"))
        sizes_bytes = {path.name: path.stat().st_size for path in paths}
        sums = b"".join(_compute_sums(path) for path in paths)
        (partial / _SUMS_NAME).write_bytes(sums)
        info = TokensInfo(
            cells=tuple(map(str, cells)), sizes_bytes=sizes_bytes, sums_sha256=hashlib.sha256(sums).hexdigest()
        )
        write_record(partial / _INFO_NAME, to_dict(info))


def _compute_sums(path: Path) -> bytes:
    with path.open("rb") as file:
        return compute_sums(file, block_bytes=_BLOCK_BYTES).tobytes()


def _write_tokens(
    folder: Path, reader: ShardReader, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer
) -> tuple[list[Cell], Integer[np.ndarray, " A"], Integer[np.ndarray, " _"]]:
    """Write the token columns, table by table.

    Returns:
        The cells of the data set, the cell of each annotation (an index into them) and the first annotation of each
        image, followed by the number of annotations.
    """
    cells: dict[Cell, int] = {}
    numbers, image_starts = [], [np.zeros(1, np.uint64)]
    ends = dict.fromkeys(("targets", "prompts", "annotations"), 0)
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in _COLUMNS}
        for table in reader.annotation_tables():
            for name, column in _make_columns(table, prompt_tokenizer, target_tokenizer, ends).items():
                files[name].write(column.astype(_COLUMNS[name]).tobytes())
            pairs = zip(table.task, table.language, strict=True)
            numbers.append(np.array([cells.setdefault(Cell(*pair), len(cells)) for pair in pairs], np.uint16))
            image_starts.append(np.array(table.offsets[1:], np.uint64) + np.uint64(ends["annotations"]))
            ends["annotations"] += len(table.text)
        files["target_starts"].write(np.array([ends["targets"]], _U8).tobytes())
    starts = np.concatenate(image_starts)
    _write_array(folder, "image_starts", starts, _U8)
    return list(cells), np.concatenate([np.zeros(0, np.uint16), *numbers]), starts


def _make_columns(
    table: AnnotationTable, prompt_tokenizer: Tokenizer, target_tokenizer: Tokenizer, ends: dict[str, int]
) -> dict[str, Integer[np.ndarray, " _"]]:
    """Return the token columns of a table; `ends` holds the numbers of tokens written before it, and is updated."""
    targets = encode_texts(target_tokenizer, table.text)
    places: dict[str, int] = {}
    texts = [prompt_of(table.annotation(index)) for index in range(len(table.text))]
    chosen = np.array([places.setdefault(text, len(places)) for text in texts], dtype=np.int64)
    # A data set may have more languages than a tokenizer has tokens for; `Mixture` refuses to train them.
    prompts = encode_prompts(prompt_tokenizer, list(places), must_know=False)
    target_starts = np.cumsum([ends["targets"], *map(len, targets)])
    prompt_starts = np.cumsum([ends["prompts"], *map(len, prompts)])
    ends["targets"], ends["prompts"] = int(target_starts[-1]), int(prompt_starts[-1])
    return {
        "targets": _flatten(targets),
        "target_starts": target_starts[:-1],
        "prompts": _flatten(prompts),
        "prompt_starts": prompt_starts[:-1][chosen],
        "prompt_lengths": np.diff(prompt_starts)[chosen],
    }


def _write_pools(
    folder: Path, cells: list[Cell], cell_numbers: Integer[np.ndarray, " A"], image_starts: Integer[np.ndarray, " _"]
) -> None:
    """Write the pool of each cell."""
    row_of = np.repeat(np.arange(len(image_starts) - 1, dtype=np.uint32), np.diff(image_starts).astype(np.int64))
    for number, cell in enumerate(cells):
        annotations = np.flatnonzero(cell_numbers == number)
        rows, first = np.unique(row_of[annotations], return_index=True)
        _write_array(folder, f"{cell}.rows", rows, _U4)
        _write_array(folder, f"{cell}.first", np.append(first, len(annotations)), _U4)
        _write_array(folder, f"{cell}.annotations", annotations, _U4)


def _flatten(sequences: Sequence[Sequence[int]]) -> Integer[np.ndarray, " _"]:
    return np.fromiter(chain.from_iterable(sequences), np.uint32, count=sum(map(len, sequences)))


def _write_array(folder: Path, name: str, values: Integer[np.ndarray, " _"], dtype: "np.dtype[Any]") -> None:
    values.astype(dtype).tofile(folder / f"{name}.bin")
