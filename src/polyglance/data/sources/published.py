"""Readers of the paper's data in the forms in which it is published, image by image, for `polyglance data import`.

`read_cc12m`: CC12M as WebDataset shards (`<key>.jpg`), joined by key with the published annotations, one Parquet file
of the same base name per shard (official code sections 2.1 and 2.3). `read_baked`: the shards that the published code
makes from both (`<key>.jpg`, `<key>.data`), for pre-training and for fine-tuning. Both read a folder or an object
store.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.coverage import Task
from polyglance.data.annotate import AnnotateConfig, Description, MatchedPair, make_annotations
from polyglance.data.location import Location
from polyglance.data.sources.raw_images import IMAGE_SUFFIXES
from polyglance.data.sources.webdataset import Member, read_samples
from polyglance.files import parse_json
from polyglance.languages import LANGUAGES
from polyglance.records import Annotation, Drops, Style

__all__ = ["PublishedSample", "read_baked", "read_cc12m"]

_ORIGIN = "spravil/cc12m_ccmatrix_captions_and_translations"
_TABLE_SUFFIX = ".parquet"
_PAIRS = re.compile(r"(caption|translation)_en_([a-z]+)")
_CAPTION = re.compile(r"caption_([a-z]{2})")
"""Column of the held-out tables: one caption; its style is in the column of the same name with `_style`."""
_STYLES: Mapping[str, Style] = {"short": "short", "detailed": "detailed", "more_detailed": "paragraph"}
_REQUESTS: Mapping[str, Style] = {
    "<CAPTION>": "short",
    "<DETAILED_CAPTION>": "detailed",
    "<MORE_DETAILED_CAPTION>": "paragraph",
    "What does the image describe?": "short",
    "Describe in detail what is shown in the image.": "detailed",
    "Describe with a paragraph what is shown in the image.": "paragraph",
}
"""End of a baked caption prompt (a tag, or the sentence it stands for) -> style."""
_TRANSLATE = re.compile(r"(?:<TRANSLATE>|Translate the following text: )(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedSample:
    """An encoded image as published, and its annotations."""

    where: str
    key: str
    image: bytes
    annotations: tuple[Annotation, ...]


def read_cc12m(images: Location, tables: Location, *, seed: int, drops: Drops) -> Iterator[PublishedSample]:
    """Yield the images of CC12M with the published annotations, shard by shard; one table in memory at a time.

    The rules are those of official code section 2.3. Pairs need more than 25 English characters. Captions in English
    and German are the first sentence and the whole. Translations are of captions and of matched sentences, also of some
    of them in random order. English keeps its capital letters (published: lower-cased after the first), and random
    choices depend on the seed and the key alone.

    Args:
        images: folder with the shards.
        tables: folder with `<shard>.parquet`.
        seed: seed of the random selections of sentences.
        drops: counts of everything left out. A reason that begins with `shard:` costs the rest of a shard, one that
            begins with `text:` a text, others cost an image.

    Raises:
        ValueError: no such folder, or no shard in it.
    """
    for shard in _list_shards(images):
        table = tables / (shard.name.partition(".")[0] + _TABLE_SUFFIX)
        rows = _read_annotation_table(table, drops)
        for where, key, image, _ in _read_samples(shard, drops):
            row = rows.get(key)
            if row is None:
                drops.add("no annotation of this key", where)
                continue
            yield PublishedSample(where=where, key=key, image=image, annotations=_annotate(key, row, seed, drops))


def read_baked(images: Location, *, drops: Drops) -> Iterator[PublishedSample]:
    """Yield the images in shards of the published code with their texts; the token ids in them are not used.

    Args:
        images: folder with the shards.
        drops: as for `read_cc12m`; reasons that begin with `text:` cost an annotation.

    Raises:
        ValueError: no such folder, or no shard in it.
    """
    for shard in _list_shards(images):
        for where, key, image, members in _read_samples(shard, drops):
            data = next((member.data for member in members if member.suffix == "data"), None)
            yield PublishedSample(where=where, key=key, image=image, annotations=_parse_baked(data, where, drops))


def _list_shards(folder: Location) -> list[Location]:
    try:
        shards = sorted(path for path in folder.iterdir() if ".tar" in path.name)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be read as a folder ({error.strerror or error})") from None
    if not shards:
        raise ValueError(f"{folder}: no .tar file in it")
    return shards


def _read_samples(shard: Location, drops: Drops) -> Iterator[tuple[str, str, bytes, Sequence[Member]]]:
    """Yield place, key, image and all files of each sample that has an image."""
    for path, members in read_samples(shard, drops):
        key = path.rpartition("/")[2]
        where = f"{shard.name}:{key}"
        image = next((member.data for member in members if f".{member.suffix}" in IMAGE_SUFFIXES), None)
        if image is None:
            drops.add("image: a sample without one", where)
        else:
            yield where, key, image, members


def _read_annotation_table(table: Location, drops: Drops) -> dict[str, dict[str, Any]]:
    """Read a table: key -> columns of pairs. If it is missing or damaged, each image of its shard is dropped."""
    try:
        with table.open("rb") as file:
            parquet = pq.ParquetFile(file)
            names = [name for name in parquet.schema_arrow.names if _is_annotation_column(name)]
            key = next((name for name in ("__key__", "key") if name in parquet.schema_arrow.names), None)
            if key is None:
                raise pa.ArrowInvalid("no column __key__ or key")
            values = parquet.read([key, *names]).to_pydict()
    except (pa.ArrowException, OSError) as error:
        drops.add("shard: no annotations to read", f"{table.name}: {error}".partition("\n")[0][:300])
        return {}
    keys = [f"{value:09d}" if isinstance(value, int) else str(value) for value in values[key]]
    return {key: {name: values[name][i] for name in names} for i, key in enumerate(keys)}


def _is_annotation_column(column: str) -> bool:
    return any(pattern.fullmatch(column.removesuffix("_style")) for pattern in (_PAIRS, _CAPTION))


def _annotate(key: str, row: Mapping[str, Any], seed: int, drops: Drops) -> tuple[Annotation, ...]:
    config = AnnotateConfig()
    descriptions, pairs = [], []
    for name, value in row.items():
        if (match := _PAIRS.fullmatch(name)) is None:
            continue
        kind, code = match.groups()
        for source, target in _parse_pairs(value):
            if code not in LANGUAGES:
                drops.add("text: pair in a language that is not known", f"{key}: {name}")
                continue
            if len(source) < config.min_source_characters:
                drops.add("text: pair with a short English side", f"{key}: {source}"[:300])
                continue
            if kind == "caption":
                translations = ((code, target, _ORIGIN),)
                descriptions.append(Description(text=source, origin=_ORIGIN, translations=translations))
            else:
                pairs.append(MatchedPair(language=code, source=source, target=target, origin=_ORIGIN, score=0.0))
    annotations = make_annotations(key, descriptions, pairs, config=config, seed=seed, drops=drops)
    without_scores = (replace(annotation, score=None) for annotation in annotations)  # the scores are not published
    return (*_held_out_captions(row), *without_scores)


def _held_out_captions(row: Mapping[str, Any]) -> Iterator[Annotation]:
    """Yield the captions of a held-out table unchanged: UC and SC are measured on them (paper section 5.1)."""
    for name, value in row.items():
        match = _CAPTION.fullmatch(name)
        if match is None or match[1] not in LANGUAGES or not isinstance(value, str) or not value.strip():
            continue
        style = _STYLES.get(str(row.get(f"{name}_style")), "short")
        yield Annotation(task="caption", language=match[1], text=value.strip(), style=style, origin=_ORIGIN)


def _parse_pairs(value: Any) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a cell: a list of pairs or, in held-out tables, one pair."""
    pairs = value if isinstance(value, list) else []
    for pair in [pairs] if all(isinstance(text, str) for text in pairs) else pairs:
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) and text.strip() for text in pair):
            yield pair[0].strip(), pair[1].strip()


def _parse_baked(data: bytes | None, where: str, drops: Drops) -> tuple[Annotation, ...]:
    try:
        entries = parse_json((data or b"").decode("utf-8-sig"), where)
    except ValueError:
        entries = None
    if not isinstance(entries, list):
        drops.add("text: not a JSON list of annotations", where)
        return ()
    annotations: dict[Annotation, None] = {}
    for entry in entries:
        annotation = _parse_baked_entry(entry) if isinstance(entry, dict) else None
        if annotation is None:
            drops.add("text: not an annotation of a known form", f"{where}: {entry!r}"[:300])
        else:
            annotations[annotation] = None
    return tuple(annotations)


def _parse_baked_entry(entry: Mapping[str, Any]) -> Annotation | None:
    task, code, prompt, text = (entry.get(name) for name in ("type", "lang", "prompt", "output"))
    if not all(isinstance(value, str) for value in (task, code, prompt, text)) or str(code).lower() not in LANGUAGES:
        return None
    style = next((style for request, style in _REQUESTS.items() if str(prompt).endswith(request)), None)
    source = _TRANSLATE.search(str(prompt))
    if (task == "caption" and style is None) or (task == "translation" and source is None) or not str(text).strip():
        return None
    if task not in ("caption", "translation"):
        return None
    return Annotation(
        task=cast(Task, task),
        language=str(code).lower(),
        text=str(text).strip(),
        source=source[1].strip() if task == "translation" and source else None,
        style=style if task == "caption" and style else "short",
        origin="published code",
    )
