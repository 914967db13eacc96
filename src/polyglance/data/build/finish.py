"""Last steps: annotations of each image, and the data sets they become."""

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.data.build.annotate import AnnotateConfig, Description, annotations_of
from polyglance.data.build.describe import DescribeStep, TranslateStep
from polyglance.data.build.files import read_rows, write_rows
from polyglance.data.build.ingest import BuiltImage, kept_images
from polyglance.data.build.match import HubsStep
from polyglance.data.build.tasks import Report, Task, output_digests
from polyglance.data.shard import ShardWriter, read_manifest
from polyglance.records import Annotation, Drops, ImageRecord

__all__ = ["AnnotateStep", "write_data_sets"]

_ANNOTATION = pa.struct(
    [(name, pa.string()) for name in ("task", "language", "text", "source", "style", "origin")]
    + [("score", pa.float64())]
)
_ANNOTATIONS = pa.schema([("key", pa.string()), ("annotations", pa.list_(_ANNOTATION))])
_FIELDS = tuple(field.name for field in _ANNOTATION)
_NO_TEXT = "image: no text is left for it"


@dataclass(frozen=True, kw_only=True)
class AnnotateStep:
    """Annotations of every image: of the texts it came with, its descriptions, their translations, matched bitext."""

    work_dir: Path
    describe: DescribeStep
    translate: TranslateStep | None
    match: HubsStep | None
    config: AnnotateConfig
    seed: int
    name: str = "annotations"
    unit: str = "images"

    @property
    def fingerprint(self) -> str:
        before = [step.fingerprint for step in (self.describe, self.translate, self.match) if step is not None]
        return fingerprint(__version__, self.name, self.config, self.seed, before)

    def parts(self) -> Sequence[str]:
        return self.describe.parts()

    def inputs(self, part: str) -> tuple[str, ...]:
        texts = [step.name for step in (self.describe, self.translate) if step is not None]
        digests = [d for name in texts for d in output_digests(self.work_dir / name, part).values()]
        matched = self.match.matched_digests(part) if self.match is not None else ()
        return (*self.describe.select.kept_digests(part), *digests, *matched)

    def start(self) -> None:
        """Nothing to load."""

    def run(self, task: Task) -> Report:
        descriptions = self._descriptions(task.part)
        pairs = self.match.matched_pairs(task.part) if self.match is not None else {}
        drops, rows = Drops(), []
        for image in kept_images(self.work_dir, task.part):
            own = annotations_of(
                image.key,
                descriptions.get(image.key, []),
                pairs.get(image.key, []),
                config=self.config,
                seed=self.seed,
            )
            made = tuple(dict.fromkeys((*_given(image, self.config), *own)))
            if not made:
                drops.add(_NO_TEXT, image.key)
            annotations = [{name: getattr(annotation, name) for name in _FIELDS} for annotation in made]
            rows.append({"key": image.key, "annotations": annotations})
        write_rows(task.out.with_suffix(".parquet"), _ANNOTATIONS, rows)
        return Report(num_in=len(rows), num_out=len(rows) - drops.counts[_NO_TEXT], drops=drops.to_dict())

    def _descriptions(self, part: str) -> dict[str, list[Description]]:
        """Key of an image -> its English texts with their translations."""
        translations: defaultdict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
        if self.translate is not None:
            for row in read_rows(self.work_dir / "translations" / f"{part}.parquet"):
                if row["text"] is not None:
                    entry = (row["language"], row["text"], row["origin"])
                    translations[row["key"], row["source"]].append(entry)
        found: defaultdict[str, list[Description]] = defaultdict(list)
        for row in read_rows(self.work_dir / "descriptions" / f"{part}.parquet"):
            if row["text"] is not None and not self.describe.is_context_only(row):
                made = tuple(translations[row["key"], row["text"]])
                description = Description(text=row["text"], style=row["style"], origin=row["origin"], translations=made)
                found[row["key"]].append(description)
        return found


def _given(image: BuiltImage, config: AnnotateConfig) -> list[Annotation]:
    """Annotations that an image came with: translations by people, and their captions in other languages. English
    captions are among the descriptions."""
    return [
        Annotation(
            task="caption" if text.source is None else "translation",
            language=text.language,
            text=text.text,
            source=text.source,
            style=text.style or "short",
            origin=text.origin,
        )
        for text in image.texts
        if text.source is not None or (text.language != "en" and text.language in config.captions)
    ]


def write_data_sets(
    step: AnnotateStep,
    out: Path,
    *,
    test_fraction: float,
    rows_per_shard: int,
    source: str,
    licence: str,
    drops: Drops,
) -> dict[str, int]:
    """The data sets `train` and, where a share is held out, `test`: the images' bytes as they are, nothing decoded.

    Which images are held out depends on their content alone, so that the same picture never changes sides.

    Returns:
        Data set -> images.
    """
    contents = [sha256(path.read_bytes()).hexdigest() for path in _annotation_paths(step)]
    mark = fingerprint(step.fingerprint, contents, test_fraction, rows_per_shard, source, licence)
    names = ("train", "test") if test_fraction else ("train",)
    if not test_fraction and (out / "test" / "manifest.json").exists():  # of a build that held images out
        shutil.rmtree(out / "test")
    written = {}
    for name in names:
        folder = out / name
        if (folder / "manifest.json").exists() and read_manifest(folder).fingerprint == mark:
            written[name] = read_manifest(folder).num_images
            continue
        with ShardWriter(
            folder,
            source=source,
            licence=licence,
            rows_per_shard=rows_per_shard,
            drops=drops,
            fingerprint=mark,
            overwrite=True,
        ) as writer:
            for record in _records(step):
                if _is_held_out(record.key, test_fraction) == (name == "test"):
                    writer.write(record)
        written[name] = read_manifest(folder).num_images
    return written


def _records(step: AnnotateStep) -> Iterator[ImageRecord]:
    for part, path in zip(step.parts(), _annotation_paths(step), strict=True):
        rows = read_rows(path)
        for image, row in zip(kept_images(step.work_dir, part), rows, strict=True):
            assert image.key == row["key"]
            if row["annotations"]:
                annotations = tuple(Annotation(**values) for values in row["annotations"])
                yield ImageRecord(key=image.key, image=image.image, annotations=annotations)


def _annotation_paths(step: AnnotateStep) -> list[Path]:
    return [step.work_dir / "annotations" / f"{part}.parquet" for part in step.parts()]


def _is_held_out(key: str, share: float) -> bool:
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") < share * 2**64
