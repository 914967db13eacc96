"""A user's images and texts, or the paper's published data, as a data set: `polyglance data import`.

A row is an image with texts by language (`polyglance.data.import_rows`); several rows of one image are joined. Real
data is dirty, so every row and every text is either read correctly or dropped with a reason, which is counted, with the
first places, in the manifests. A reason that begins with `text:` counts one text, one that begins with `shard:` an
unknown part of a shard, any other a row.

The test split is chosen by a hash of the pixels: the same picture is never in both splits, whatever its names, and
neither the order of the rows nor new rows move a picture from one split to the other.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar, cast

from polyglance import __version__
from polyglance import config as configs
from polyglance.data.caption_tables import CaptionTable, open_caption_table
from polyglance.data.import_plan import ImportPlan, is_tmx, plan_tmx
from polyglance.data.import_rows import (
    ImportRow,
    RowDrops,
    check_samples,
    check_table_rows,
    count_images,
    join_rows,
)
from polyglance.data.location import parse_location
from polyglance.data.row_sources.row_source import SHARD_PROBLEM
from polyglance.data.shard import ShardWriter
from polyglance.data.shard_table import get_facts
from polyglance.data.sources.images import ImageLimits
from polyglance.data.sources.published import read_baked, read_cc12m
from polyglance.data.sources.raw_images import MAX_FILE_BYTES
from polyglance.data.text_marks import MarkCounter
from polyglance.delimited import Quoting
from polyglance.files import check_output_folder, file_sha256
from polyglance.images import ImageError
from polyglance.language_tags import find_codes
from polyglance.processes import num_cores
from polyglance.records import ImageRecord
from polyglance.tables import TableRow

__all__ = ["ImportConfig", "ImportResult", "digest_sources", "import_data", "plan_import"]

_NUM_THREADS = min(8, num_cores())
_NUM_PLANNED_ROWS = 1000
"""Number of rows, or of units of a TMX file, that a plan looks at."""

_RIGHT = {
    "not UTF-8": "set encoding to the codec of the texts, such as cp1252",
    "a cell without a name above it": "name the column in the header, or quote the texts that have commas",
    "wrong number of cells": "set quoting to none if quotation marks are part of the texts",
}
"""Reason why rows are left out -> what may be right, where no row is left."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, kw_only=True)
class ImportConfig(ImageLimits):
    """Data to import, and the folder for the data sets.

    Raises:
        ValueError: a value outside its range, an unknown language, or neither table nor images given.
    """

    out: Path
    """Folder that gets the data sets `train` and `test`."""
    format: Literal["table", "cc12m-ccmatrix", "baked"] = "table"
    """`table`: a table (or folder) of images and texts. `cc12m-ccmatrix`: `images` is a folder of CC12M's WebDataset
    shards and `table` a folder of the published annotations, a Parquet file per shard. `baked`: `images` is a folder of
    the published code's shards. For the last two, both may be the URL of a folder in an object store."""
    table: Path | None = None
    """JSON lines, CSV, TSV or Parquet; JSON of COCO or Karpathy. None: `images` holds the texts too, see there."""
    images: Path | None = None
    """Folder that the table's image paths start from, and may not lead out of. None: the folder of the table. Without a
    table: images with their texts, as a folder of `<name>.png` and `<name>.<language>.txt` or with Hugging Face's
    metadata.csv, a data set saved by Hugging Face, a tar or folder of tars (WebDataset), or a zip."""
    test_fraction: float = 0.1
    """Share of the pictures in the test split, on average."""
    languages: tuple[str, ...] = ()
    """Languages to keep; empty: all."""
    columns: tuple[str, ...] = ()
    """Roles of columns of the table, as name=role: a language code, `image`, `key`, `style` or `ignore`. Empty: decided
    by their names and content."""
    encoding: str = "auto"
    """Codec of the texts, such as `cp1252`; `auto`: UTF-8, UTF-16 or UTF-32, found from the first bytes."""
    quoting: Quoting = "auto"
    """Quotes in a TSV: `csv` (cells may be quoted as in a CSV), `none` (a quotation mark is part of its text), or
    `auto`: found from its lines."""
    licence: str = ""
    """Licence of images and texts, for the manifest."""
    seed: int = 0
    """Seed of the test split."""
    overwrite: bool = False
    """Replace data sets that are already there."""

    def __post_init__(self) -> None:
        ImageLimits.__post_init__(self)
        object.__setattr__(self, "languages", find_codes(self.languages))
        if self.format == "table" and self.table is None and self.images is None:
            raise ValueError("give table, or images (a folder with text files beside the images)")
        if self.format != "table" and self.images is None:
            raise ValueError(f"format {self.format} needs images: the folder of the shards")
        if self.format == "cc12m-ccmatrix" and self.table is None:
            raise ValueError(
                "format cc12m-ccmatrix needs table: the folder of the annotations, a Parquet file per shard"
            )
        if self.format == "baked" and self.table is not None:
            raise ValueError("format baked takes no table: the annotations are in the shards")
        if (self.columns or self.encoding != "auto" or self.quoting != "auto") and self.format != "table":
            raise ValueError(f"columns, encoding and quoting have no effect with format {self.format}")
        if not 0 <= self.test_fraction < 1:
            raise ValueError(f"test_fraction is {self.test_fraction}; expected at least 0 and less than 1")


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """Counts of an import: `num_rows == num_train + num_test + num_joined + sum(dropped_rows.values())`."""

    num_rows: int
    """Rows that were read, good and bad."""
    num_train: int
    """Images of the data set `train`."""
    num_test: int
    """Images of the data set `test`."""
    num_joined: int
    """Rows whose texts were joined to an earlier row of the same image."""
    dropped_rows: Mapping[str, int]
    """Rows dropped, by reason."""
    dropped_texts: Mapping[str, int]
    """Texts dropped, by reason (also those of rows that were dropped afterwards)."""
    damaged_shards: Mapping[str, int]
    """Shards that were not read to their end, by reason; the number of rows in the rest is unknown."""
    columns: Mapping[str, str]
    """Column of the table -> what it was taken as."""
    notes: tuple[str, ...] = ()
    """Marks of answers and lists in the texts that were kept (`polyglance.data.text_marks`), one line each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    """A row with its image, or the problem of the image."""

    row: ImportRow
    image: bytes = b""
    pixels_sha256: bytes = b""
    problem: str = ""
    detail: str = ""


def import_data(config: ImportConfig) -> ImportResult:
    """Write the data sets `out/train` and `out/test`; both manifests hold the drops of the whole import.

    Raises:
        ValueError: no table or folder, an empty one, a missing column, not a single usable row, or finished data sets
            in `out` that are not to be overwritten, or a folder that cannot be made.
    """
    check_output_folder(config.out, "`out`")
    drops = RowDrops()
    table = _open_table(config)
    num_read: Counter[str] = Counter()
    rows = _read_rows(config, table, drops, num_read)
    if table is not None and not table.source.holds_images:
        rows = join_rows(rows, count_images(table.read()), drops)
    counts, num_joined = {"train": 0, "test": 0}, 0
    marks = MarkCounter()
    with (
        _without_empty_folders(config.out),
        _make_writer(config, "train", table, drops) as train,
        _make_writer(config, "test", table, drops) as test,
    ):
        for picture in _drop_unusable(config, rows, drops):
            split = "test" if _hash_to_unit(picture.pixels_sha256, config.seed) < config.test_fraction else "train"
            writer = test if split == "test" else train
            writer.write(ImageRecord(key=picture.row.key, image=picture.image, annotations=picture.row.annotations))
            counts[split] += 1
            _count_marks(marks, picture.row)
            num_joined += picture.row.num_rows - 1
        if not any(counts.values()):
            right = "".join(f"; {right}" for reason, right in _RIGHT.items() if drops.counts[reason])
            raise ValueError(
                f"{config.table or config.images}: not a single row can be used ({drops.summary()}){right}"
            )
    by_kind: dict[str, dict[str, int]] = {"text": {}, "shard": {}, "row": {}}
    for reason, count in drops:
        kind = reason.partition(": ")[0]
        by_kind[kind if kind in by_kind else "row"][reason] = count
    num_dropped = sum(by_kind["row"].values())
    num_rows = sum(counts.values()) + num_joined + num_dropped
    assert config.format != "table" or num_rows == num_read["rows"], "every row is kept, joined or counted"
    return ImportResult(
        num_rows=num_rows,
        num_train=counts["train"],
        num_test=counts["test"],
        dropped_rows=by_kind["row"],
        dropped_texts=by_kind["text"],
        num_joined=num_joined,
        damaged_shards=by_kind["shard"],
        columns={} if table is None else {column.name: column.describe() for column in table.columns},
        notes=_describe_marks(marks),
    )


def _count_marks(marks: MarkCounter, row: ImportRow) -> None:
    """Look at each text of a row once, in whatever tasks it is."""
    for language, text in dict.fromkeys((one.language, one.text) for one in row.annotations):
        marks.add(language, text)


def _describe_marks(marks: MarkCounter) -> tuple[str, ...]:
    return tuple(
        f"{one}; they are kept: clean the file where they are no part of the texts" for one in marks.describe()
    )


def digest_sources(config: ImportConfig) -> str:
    """Return the SHA-256, in hexadecimal digits, of a table and of the image files that it names.

    With the settings, they determine the import. Files count by their names in the table, so that their folder has no
    influence.

    Raises:
        ValueError: the table cannot be read.
    """
    table = _open_table(config)
    assert table is not None
    files, images = table.source.table_files, _find_image_root(config)
    total = hashlib.sha256("\n".join(map(file_sha256, files)).encode())
    seen: set[Path] = set()
    for row in _read_rows(config, table, RowDrops(), Counter()):
        if not files:  # the texts are not in files of their own
            total.update(f"\n{row.key} {row.annotations}".encode(errors="surrogateescape"))
        if isinstance(row.image, bytes):
            total.update(b"" if files else hashlib.sha256(row.image).digest())
        elif row.image not in seen:
            seen.add(row.image)
            try:
                digest = file_sha256(row.image)
            except OSError:
                digest = "cannot be read"
            total.update(f"\n{row.image.relative_to(images)} {digest}".encode(errors="surrogateescape"))
    return total.hexdigest()


@contextmanager
def _without_empty_folders(out: Path) -> Iterator[None]:
    """Remove the folders of an import that was refused, if they were made for it and nothing is in them."""
    splits = (out / "train", out / "test")
    made = [folder for folder in (*(split / "shards" for split in splits), *splits, out) if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # not empty, or not made
                folder.rmdir()
        raise


def _make_writer(config: ImportConfig, split: str, table: CaptionTable | None, drops: RowDrops) -> ShardWriter:
    source = config.table or config.images
    assert source is not None
    table_sha256 = "" if table is None else ",".join(map(file_sha256, table.source.table_files))
    return ShardWriter(
        config.out / split,
        source=f"import of {source.name}, {split} split (test_fraction {config.test_fraction}, seed {config.seed})",
        licence=config.licence,
        drops=drops,
        fingerprint=configs.fingerprint("import", split, config, table_sha256, __version__),
        overwrite=config.overwrite,
    )


def _open_table(config: ImportConfig) -> CaptionTable | None:
    """Open the rows of a user's own images and texts; None for the published formats."""
    if config.format != "table":
        return None
    path = cast(Path, config.table or config.images)
    if config.table is None and not path.exists():
        raise ValueError(f"{path}: no such folder or file")
    table = open_caption_table(path, encoding=config.encoding, quoting=config.quoting, columns=config.columns)
    if config.table is not None and config.images is not None and table.source.holds_images:
        raise ValueError(f"images has no effect: {config.table} holds its images itself")
    return table


def _find_image_root(config: ImportConfig) -> Path:
    """Return the folder that image paths start from."""
    given = cast(Path, config.images or config.table)
    return (given if given.is_dir() else given.parent).resolve()


def plan_import(config: ImportConfig) -> ImportPlan:
    """Decide what the columns of a table are, and check its first rows, without writing anything.

    Raises:
        ValueError: as `import_data`, or not a table of the user's own.
    """
    if config.table is not None and is_tmx(config.table):
        return plan_tmx(config.table, num_units=_NUM_PLANNED_ROWS)
    table = _open_table(config)
    if table is None:
        raise ValueError(f"a plan is for images and texts of your own (format table), not for {config.format}")
    drops, num_read = RowDrops(), Counter[str]()
    images = _find_image_root(config)
    raw_rows = _count_rows(islice(table.read(), _NUM_PLANNED_ROWS), num_read)
    good = list(check_table_rows(raw_rows, images, config.languages, drops))
    texts: dict[str, list[str]] = {}
    marks = MarkCounter()
    for row in good:
        _count_marks(marks, row)
        for annotation in row.annotations:
            of_language = texts.setdefault(annotation.language, [])
            if annotation.task == "caption" and len(of_language) < 2:
                of_language.append(annotation.text)
    return ImportPlan(
        table=str(table.path),
        format=table.source.describe(),
        columns={column.name: column.describe() for column in table.columns},
        samples=table.samples,
        texts={code: tuple(found) for code, found in texts.items()},
        num_rows=num_read["rows"],
        num_good=len(good),
        dropped=dict(drops),
        notes=_describe_marks(marks),
    )


def _count_rows(rows: Iterable[TableRow], num_read: Counter[str]) -> Iterator[TableRow]:
    for row in rows:
        num_read["rows"] += 0 if row.problem.startswith(SHARD_PROBLEM) else row.num_rows
        yield row


def _read_rows(
    config: ImportConfig, table: CaptionTable | None, drops: RowDrops, num_read: Counter[str]
) -> Iterator[ImportRow]:
    if table is not None:
        raw_rows = _count_rows(table.read(), num_read)
        return check_table_rows(raw_rows, _find_image_root(config), config.languages, drops)
    images_at = parse_location(cast(Path, config.images))
    if config.format == "baked":
        samples = read_baked(images_at, drops=drops)
    else:
        samples = read_cc12m(images_at, parse_location(cast(Path, config.table)), seed=config.seed, drops=drops)
    return check_samples(samples, config.languages, drops)


def _drop_unusable(config: ImportConfig, rows: Iterable[ImportRow], drops: RowDrops) -> Iterator[_Picture]:
    """Yield the rows whose images can be used, in order and without duplicates; all others go to `drops`."""
    keys: set[str] = set()
    contents: set[bytes] = set()
    for picture in _map_in_order(lambda row: _read_picture(row, config), rows):
        row = picture.row
        if picture.problem:
            drops.drop(picture.problem, row.where, picture.detail, row.num_rows)
            continue
        facts = repr([*map(get_facts, row.annotations)])
        content = hashlib.sha256(picture.pixels_sha256 + facts.encode()).digest()
        if row.key in keys:
            drops.drop("a key for the second time", row.where, repr(row.key), row.num_rows)
        elif content in contents:
            drops.drop("the same picture with the same texts", row.where, repr(row.key), row.num_rows)
        else:
            keys.add(row.key)
            contents.add(content)
            yield picture


def _map_in_order(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Apply a function on a few threads, a few items ahead; results come in the order of the items."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        pending: deque[Future[U]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 4 * _NUM_THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _read_picture(row: ImportRow, config: ImportConfig) -> _Picture:
    name = row.image.name if isinstance(row.image, Path) else row.key
    try:
        size_bytes = row.image.stat().st_size if isinstance(row.image, Path) else len(row.image)
        if size_bytes > MAX_FILE_BYTES:
            return _Picture(row=row, problem="image: too many bytes", detail=f"{size_bytes}")
        image, rgb = config.encode(row.image.read_bytes() if isinstance(row.image, Path) else row.image)
    except OSError as error:
        return _Picture(row=row, problem="image: cannot be read", detail=f"{name}: {error.strerror}")
    except ImageError as error:
        return _Picture(row=row, problem=f"image: {error.code}", detail=f"{name}: {error}")
    pixels = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    pixels.update(rgb.tobytes())
    return _Picture(row=row, image=image, pixels_sha256=pixels.digest())


def _hash_to_unit(digest: bytes, seed: int) -> float:
    """Map a picture's digest and the seed to a number from 0 to 1."""
    mixed = hashlib.sha256(f"{seed}:".encode() + digest).digest()
    return int.from_bytes(mixed[:6], "big") / 2**48
