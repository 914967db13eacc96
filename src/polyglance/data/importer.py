"""A user's own images and texts as a data set: `polyglance data import`.

One row per image, with texts by language; the forms are those of `polyglance.data.raw_rows`, and those in which the
paper's data is published (`polyglance.data.sources.published`). Real data is dirty, so every row and every text is read
right or dropped with a reason that is counted, with the first places, in the manifests. Reasons that begin with `text:`
cost one text, those that begin with `shard:` an unknown part of a shard, all others cost a row.

The test part is chosen by a hash of the pixels: the same picture never stands on both sides, whatever its names, and
neither the order of the rows nor new rows move a picture from one side to the other.
"""

import hashlib
import os
import posixpath
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from polyglance import __version__
from polyglance import config as configs
from polyglance.data.location import location
from polyglance.data.raw_rows import read_caption_table, read_folder
from polyglance.data.shard import ShardWriter
from polyglance.data.sources.published import read_baked, read_cc12m
from polyglance.files import file_sha256
from polyglance.images import MAX_PIXELS, ImageError, encode
from polyglance.languages import LANGUAGES, language
from polyglance.records import STYLES, Annotation, Drops, ImageRecord, Style, annotations_from_texts
from polyglance.tables import TableRow

__all__ = ["ImportConfig", "ImportResult", "import_data"]

_MAX_FILE_BYTES = 2**28
_NUM_THREADS = min(8, os.cpu_count() or 1)
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029][ \x00-\x1f\x7f-\x9f\u2028\u2029]*")
_TEXT, _SHARD = "text: ", "shard: "
"""What the reasons begin with that do not drop a row."""
Form = Literal["table", "cc12m-ccmatrix", "baked"]

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """What to import, and where to.

    Raises:
        ValueError: a value outside its range, an unknown language, or neither table nor images given.
    """

    out: Path
    """Folder that gets the data sets `train` and `test`."""
    format: Form = "table"
    """`table`: see there. `cc12m-ccmatrix`: `images` is a folder of CC12M's WebDataset shards and `table` one of the
    published annotations, a Parquet file per shard. `baked`: `images` is a folder of the published code's shards. With
    these two, both may be the URL of a folder in an object store."""
    table: Path | None = None
    """JSON lines, CSV, TSV or Parquet. Without one, `images` is a folder of `<name>.png`, `<name>.<language>.txt`."""
    images: Path | None = None
    """Folder that the table's image paths start from, and may not lead out of; the table's own folder if not given."""
    test_fraction: float = 0.1
    """Share of the pictures that goes to the test part, on average."""
    languages: tuple[str, ...] = ()
    """Languages to keep; all of them if empty."""
    background: tuple[int, int, int] = (255, 255, 255)
    """Colour (red, green, blue; 0 to 255) that shows through where an image is transparent."""
    max_pixels: int = MAX_PIXELS
    """Images with more pixels (width times height) are dropped undecoded."""
    max_side: int | None = None
    """Larger images are reduced until their longer side is this, in pixels."""
    licence: str = ""
    """Licence of images and texts, for the manifest."""
    seed: int = 0
    """Another seed chooses another test part."""
    overwrite: bool = False
    """Replace data sets that are already there."""

    def __post_init__(self) -> None:
        for code in self.languages:
            language(code)
        if self.format == "table" and self.table is None and self.images is None:
            raise ValueError("give a table, or a folder of images with texts beside them")
        if self.format != "table" and self.images is None:
            raise ValueError(f"format {self.format} needs images: the folder of the shards")
        if self.format == "cc12m-ccmatrix" and self.table is None:
            raise ValueError(
                "format cc12m-ccmatrix needs table: the folder of the annotations, a Parquet file per shard"
            )
        if self.format == "baked" and self.table is not None:
            raise ValueError("format baked takes no table: the annotations are in the shards")
        if not 0 <= self.test_fraction < 1:
            raise ValueError(f"test_fraction is {self.test_fraction}; it must be at least 0 and less than 1")
        if any(not 0 <= part <= 255 for part in self.background):
            raise ValueError(f"background is {self.background}; each of red, green, blue is 0 to 255")
        if self.max_pixels < 1 or (self.max_side is not None and self.max_side < 1):
            raise ValueError("max_pixels and max_side must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What became of every row: `num_rows == num_train + num_test + sum(dropped_rows.values())`."""

    num_rows: int
    """Rows that were read, good and bad."""
    num_train: int
    num_test: int
    dropped_rows: Mapping[str, int]
    """Rows dropped, by reason."""
    dropped_texts: Mapping[str, int]
    """Texts dropped, by reason (also those of rows that were dropped afterwards)."""
    damaged_shards: Mapping[str, int]
    """Shards that were not read to their end, by reason: how many rows were in the rest is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """A row whose values are in order; its image has not been looked at."""

    where: str
    key: str
    image: Path | bytes
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Picture:
    """A row with its image: `problem` says why there is none."""

    row: _Row
    image: bytes = b""
    pixels_sha256: bytes = b""
    problem: str = ""
    detail: str = ""


def import_data(config: ImportConfig) -> ImportResult:
    """Write the data sets `out/train` and `out/test`; both manifests hold the drops of the whole import.

    Raises:
        ValueError: no table or folder, an empty one, a missing column, not a single usable row, or finished data sets
            in `out` that are not to be overwritten.
    """
    drops = _RowDrops()
    rows = _table_rows(config, drops) if config.format == "table" else _published_rows(config, drops)
    counts = {"train": 0, "test": 0}
    with _writer(config, "train", drops) as train, _writer(config, "test", drops) as test:
        for picture in _kept(config, rows, drops):
            part = "test" if _fraction_of(picture.pixels_sha256, config.seed) < config.test_fraction else "train"
            writer = test if part == "test" else train
            writer.write(ImageRecord(key=picture.row.key, image=picture.image, annotations=picture.row.annotations))
            counts[part] += 1
        if not any(counts.values()):
            raise ValueError(f"{config.table or config.images}: not a single row can be used ({drops.summary()})")
    dropped_rows = {reason: count for reason, count in drops if not reason.startswith((_TEXT, _SHARD))}
    return ImportResult(
        num_rows=sum(counts.values()) + sum(dropped_rows.values()),
        num_train=counts["train"],
        num_test=counts["test"],
        dropped_rows=dropped_rows,
        dropped_texts={reason: count for reason, count in drops if reason.startswith(_TEXT)},
        damaged_shards={reason: count for reason, count in drops if reason.startswith(_SHARD)},
    )


class _RowDrops(Drops):
    """Drops whose places are fit for a JSON file: one line, not too long, whatever bytes were in a file's name."""

    def drop(self, reason: str, where: str, detail: str = "", count: int = 1) -> None:
        place = f"{where}: {detail}" if detail else where
        self.add(reason, _one_line(place.encode("utf-8", "backslashreplace").decode())[:300], count)

    def summary(self) -> str:
        """Every reason with its count and first place, on one line."""
        return "; ".join(f"{reason}: {count}, first {self.examples[reason][0]}" for reason, count in self) or "no rows"


def _writer(config: ImportConfig, part: str, drops: Drops) -> ShardWriter:
    source = config.table or config.images
    assert source is not None
    table_sha256 = ""
    if config.table is not None and config.format == "table":
        table_sha256 = file_sha256(config.table)
    return ShardWriter(
        config.out / part,
        source=f"import of {source.name}, {part} part (test_fraction {config.test_fraction}, seed {config.seed})",
        licence=config.licence,
        drops=drops,
        fingerprint=configs.fingerprint("import", part, config, table_sha256, __version__),
        overwrite=config.overwrite,
    )


def _table_rows(config: ImportConfig, drops: _RowDrops) -> Iterator[_Row]:
    """The rows of a table, or of a folder of images with texts, whose values are in order."""
    raw_rows = read_folder(cast(Path, config.images)) if config.table is None else read_caption_table(config.table)
    images = (config.images or cast(Path, config.table).parent).resolve()
    return (row for raw in raw_rows if (row := _check(raw, images, config.languages, drops)) is not None)


def _published_rows(config: ImportConfig, drops: _RowDrops) -> Iterator[_Row]:
    """The images of published shards that have an annotation."""
    images = location(cast(Path, config.images))
    if config.format == "baked":
        samples = read_baked(images, drops=drops)
    else:
        samples = read_cc12m(images, location(cast(Path, config.table)), seed=config.seed, drops=drops)
    for sample in samples:
        cleaned = (_cleaned(annotation, sample.where, config.languages, drops) for annotation in sample.annotations)
        annotations = tuple(annotation for annotation in cleaned if annotation is not None)
        if annotations:
            yield _Row(where=sample.where, key=sample.key, image=sample.image, annotations=annotations)
        else:
            drops.drop("no text", sample.where)


def _cleaned(annotation: Annotation, where: str, languages: Sequence[str], drops: _RowDrops) -> Annotation | None:
    if languages and annotation.language not in languages:
        _drop_texts("language not asked for", [annotation.text], where, annotation.language, drops)
        return None
    text = _text(annotation.text, where, annotation.language, drops)
    source = annotation.source and _text(annotation.source, where, annotation.language, drops)
    if not text or (annotation.source is not None and not source):
        return None
    return replace(annotation, text=text, source=source)


def _kept(config: ImportConfig, rows: Iterable[_Row], drops: _RowDrops) -> Iterator[_Picture]:
    """The usable rows with their images, in order; everything else goes to `drops`."""
    keys: set[str] = set()
    contents: set[bytes] = set()
    for picture in _in_order(lambda row: _picture(row, config), rows):
        row = picture.row
        if picture.problem:
            drops.drop(picture.problem, row.where, picture.detail)
            continue
        content = hashlib.sha256(picture.pixels_sha256 + repr(row.annotations).encode()).digest()
        if row.key in keys:
            drops.drop("a key for the second time", row.where, repr(row.key))
        elif content in contents:
            drops.drop("the same picture with the same texts", row.where, repr(row.key))
        else:
            keys.add(row.key)
            contents.add(content)
            yield picture


def _in_order(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """`map`, on a few threads, a few items ahead."""
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        pending: deque[Future[U]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 4 * _NUM_THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _picture(row: _Row, config: ImportConfig) -> _Picture:
    name = row.image.name if isinstance(row.image, Path) else row.key
    try:
        size_bytes = row.image.stat().st_size if isinstance(row.image, Path) else len(row.image)
        if size_bytes > _MAX_FILE_BYTES:
            return _Picture(row=row, problem="image: too many bytes", detail=f"{size_bytes}")
        image, rgb = encode(
            row.image.read_bytes() if isinstance(row.image, Path) else row.image,
            background=config.background,
            max_pixels=config.max_pixels,
            max_side=config.max_side,
        )
    except OSError as error:
        return _Picture(row=row, problem="image: cannot be read", detail=f"{name}: {error.strerror}")
    except ImageError as error:
        return _Picture(row=row, problem=f"image: {error.code}", detail=f"{name}: {error}")
    pixels = hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode())
    pixels.update(rgb.tobytes())
    return _Picture(row=row, image=image, pixels_sha256=pixels.digest())


def _fraction_of(digest: bytes, seed: int) -> float:
    """A number from 0 to 1 that only the picture and the seed decide."""
    mixed = hashlib.sha256(f"{seed}:".encode() + digest).digest()
    return int.from_bytes(mixed[:6], "big") / 2**48


def _check(raw: TableRow, images: Path, languages: Sequence[str], drops: _RowDrops) -> _Row | None:
    """The row with its values in order, or None after counting why it is dropped."""
    if raw.problem:
        drops.drop(raw.problem, raw.where, raw.detail, raw.num_rows)
        return None
    image, style = raw.values.get("image"), raw.values.get("style")
    if style is None or style == "":
        style = "short"
    if not isinstance(image, str) or not image:
        drops.drop("no image path", raw.where, repr(image))
        return None
    if style not in STYLES:
        drops.drop("unknown style", raw.where, f"{style!r}; known: {', '.join(STYLES)}")
        return None
    key = _key(raw.values.get("key"), image)
    if key is None:
        drops.drop("a key that is not text", raw.where, repr(raw.values.get("key")))
        return None
    path, problem = _path(image, images)
    if path is None:
        drops.drop(problem, raw.where, image)
        return None
    annotations = _annotations(_texts(raw, languages, drops), style)
    if not annotations:
        drops.drop("no text", raw.where)
        return None
    return _Row(where=raw.where, key=key, image=path, annotations=annotations)


def _key(key: Any, image: str) -> str | None:
    """The key, or the image's path for want of one; None where it cannot be one."""
    if key is None or key == "":
        key = posixpath.normpath(image)
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    return _clean(key) or None if isinstance(key, str) else None


def _path(image: str, images: Path) -> tuple[Path | None, str]:
    """The image's file, or None and why not; links are followed, but not out of the folder."""
    try:
        path = (images / image).resolve()
        if Path(image).is_absolute() or not path.is_relative_to(images):
            return None, "a path that leads out of the folder"
        if path.is_file():
            return path, ""
    except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte in it, a loop of links
        pass
    return None, "no such image"


def _texts(raw: TableRow, languages: Sequence[str], drops: _RowDrops) -> dict[str, list[str | None]]:
    """Clean texts by language. A dropped one leaves a None, so that the others keep their partners."""
    texts = raw.values.get("texts")
    if texts is None:
        return {}
    if not isinstance(texts, Mapping):
        drops.drop(f"{_TEXT}not a table of language and text", raw.where, repr(texts))
        return {}
    clean: dict[str, list[str | None]] = {}
    for code, value in texts.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        given = [text for text in values if text is not None]
        if code not in LANGUAGES:
            _drop_texts("unknown language", given, raw.where, code, drops)
        elif languages and code not in languages:
            _drop_texts("language not asked for", given, raw.where, code, drops)
        else:
            clean[code] = [_text(text, raw.where, code, drops) for text in values]
    return clean


def _drop_texts(reason: str, texts: Sequence[Any], where: str, code: Any, drops: _RowDrops) -> None:
    if texts:
        drops.drop(f"{_TEXT}{reason}", where, repr(code), len(texts))


def _text(text: Any, where: str, code: str, drops: _RowDrops) -> str | None:
    if text is None:
        return None
    clean = _clean(text) if isinstance(text, str) else None
    if clean is None:
        reason = "not UTF-8" if isinstance(text, (str, bytes)) else "not a string"
        drops.drop(f"{_TEXT}{reason}", where, f"{code}: {text!r}")
    elif all(unicodedata.category(character)[0] in "CZ" for character in clean):
        drops.drop(f"{_TEXT}empty", where, code)
        return None
    return clean


def _clean(text: str) -> str | None:
    """The text in NFC on one line; None where it holds half a surrogate pair, which no UTF-8 file can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return unicodedata.normalize("NFC", _one_line(text))


def _one_line(text: str) -> str:
    """Runs of control characters and line breaks become one space; other white space stays (French needs its own)."""
    return _BREAKS.sub(" ", text).lstrip("\ufeff").strip()


def _annotations(texts: Mapping[str, Sequence[str | None]], style: Style) -> tuple[Annotation, ...]:
    """The annotations of all texts; the i-th English text is the source of the i-th of every other language."""
    annotations: list[Annotation] = []
    for index in range(max((len(values) for values in texts.values()), default=0)):
        at_index = {code: values[index] for code, values in texts.items() if index < len(values)}
        parallel = {code: text for code, text in at_index.items() if text is not None}
        annotations += annotations_from_texts(parallel, style=style)
    return tuple(annotations)
