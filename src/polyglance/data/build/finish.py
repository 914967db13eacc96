"""Last steps: the annotations of each image, and the data sets made of them."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from polyglance.config import fingerprint
from polyglance.data.annotate import AnnotateConfig, Description, make_annotations
from polyglance.data.build.describe import DescribeStep, TranslateStep
from polyglance.data.build.ingest import BitextStep, BuiltImage, ImagesStep, SelectStep
from polyglance.data.build.match import MatchesStep
from polyglance.data.build.parts import PartId, PartReport, PartWork
from polyglance.data.build.row_files import read_rows, write_rows
from polyglance.data.build.step import Step
from polyglance.data.manifest import MANIFEST_NAME, is_finished, read_manifest
from polyglance.data.shard import ShardWriter
from polyglance.data.shard_table import ANNOTATION_TYPE
from polyglance.data.sources.raw_images import TEXT_DROPPED
from polyglance.files import file_sha256
from polyglance.language_tags import find_codes
from polyglance.languages import SOURCE_LANGUAGE
from polyglance.records import Annotation, Drops, ImageRecord

__all__ = ["AnnotateStep", "OutputConfig", "write_data_sets"]

_ANNOTATIONS = pa.schema([("key", pa.string()), ("annotations", pa.list_(ANNOTATION_TYPE))])
_FIELDS = tuple(field.name for field in ANNOTATION_TYPE)
_NO_TEXT = "image: no text is left for it"


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """The data sets that are written.

    Raises:
        ValueError: a value outside its range.
    """

    test_fraction: float = 0.0
    """Share of the images that is held out as `test`, chosen by their content. 0: no `test`."""
    captioned_in: tuple[str, ...] = ()
    """Images with captions of their own in one of these languages are held out too: the few that people described in
    a language that is to be learnt without captions."""
    rows_per_shard: int = 8192
    """Images per shard file."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "captioned_in", find_codes(self.captioned_in))
        if not 0 <= self.test_fraction < 1:
            raise ValueError(f"test_fraction is {self.test_fraction}; expected at least 0 and below 1")

    @property
    def holds_out(self) -> bool:
        """Whether there is a data set `test`."""
        return bool(self.test_fraction or self.captioned_in)


@dataclass(frozen=True, kw_only=True)
class AnnotateStep(Step):
    """Annotations of every image, from given texts, descriptions, their translations and matched bitext; a part is a
    file of images."""

    name = "annotations"
    unit = "images"

    images: ImagesStep
    select: SelectStep
    describe: DescribeStep
    translate: TranslateStep | None
    bitext: BitextStep | None
    matches: MatchesStep | None
    config: AnnotateConfig
    seed: int

    def parts(self) -> Sequence[PartId]:
        return self.select.folder.list_files()

    def run(self, work: PartWork) -> PartReport:
        descriptions = self._read_descriptions(work.part)
        pairs = self.matches.read_pairs(work.part) if self.matches is not None else {}
        drops, rows = Drops(), []
        for image in self.select.read_kept(work.part):
            given = _annotate_given(image, self.config, drops)
            annotations = make_annotations(
                image.key,
                descriptions.get(image.key, []),
                pairs.get(image.key, []),
                config=self.config,
                seed=self.seed,
                drops=drops,
            )
            distinct = list(dict.fromkeys((*given, *annotations)))
            if not distinct:
                drops.add(_NO_TEXT, image.key)
            values = [{name: getattr(annotation, name) for name in _FIELDS} for annotation in distinct]
            rows.append({"key": image.key, "annotations": values})
        with work.writing() as path:
            write_rows(path, _ANNOTATIONS, rows)
        return PartReport(num_in=len(rows), num_out=len(rows) - drops.counts[_NO_TEXT], drops=drops.to_dict())

    def read_records(self) -> Iterator[tuple[ImageRecord, frozenset[str]]]:
        """Yield all images with their annotations, and the languages of the captions that they came with; those without
        annotations are left out."""
        for file in self.folder.list_files():
            rows = read_rows(self.folder.file(file))
            for image, row in zip(self.select.read_kept(file), rows, strict=True):
                assert image.key == row["key"]
                if row["annotations"]:
                    annotations = tuple(Annotation(**values) for values in row["annotations"])
                    captioned = frozenset(text.language for text in image.texts if text.source is None)
                    yield ImageRecord(key=image.key, image=image.image, annotations=annotations), captioned

    def _read_descriptions(self, file: PartId) -> dict[str, list[Description]]:
        """Read the English texts of a file of images with their translations: key -> texts."""
        translations: defaultdict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
        if self.translate is not None:
            for entry in self.translate.read_translations(file):
                if entry.text is not None:
                    translations[entry.key, entry.source].append((entry.language, entry.text, entry.origin))
        descriptions: defaultdict[str, list[Description]] = defaultdict(list)
        for text in self.describe.read_texts(file):
            if not self.describe.is_context_only(text):
                descriptions[text.key].append(
                    Description(
                        text=text.text,
                        style=text.style,
                        origin=text.origin,
                        translations=tuple(translations[text.key, text.text]),
                    )
                )
        return descriptions


def _annotate_given(image: BuiltImage, config: AnnotateConfig, drops: Drops) -> list[Annotation]:
    """Return the annotations that an image came with: translations by people, and captions in other languages than
    English. English captions are among the descriptions. Captions in languages that are not asked for go to `drops`."""
    for text in image.texts:
        if text.source is None and text.language not in (SOURCE_LANGUAGE, *config.captions):
            reason = f"{text.language}: caption in a language that annotate.captions does not name"
            drops.add(f"{TEXT_DROPPED}{reason}", f"{image.key}: {text.text}"[:300])
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
        if text.source is not None or (text.language != SOURCE_LANGUAGE and text.language in config.captions)
    ]


def write_data_sets(
    step: AnnotateStep,
    out: Path,
    *,
    output: OutputConfig,
    source: str,
    licence: str,
    drops: Drops,
    check: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Write the data sets `train` and, if a share is held out, `test`. The images' bytes are copied, not decoded.

    The content of an image and its own texts decide whether it is held out, so the same picture never changes its data
    set.

    Args:
        check: called before files of the steps are read.

    Returns:
        Data set -> number of images.

    Raises:
        ValueError: all images are held out, so that none is left for training.
    """
    contents = [file_sha256(step.folder.file(file)) for file in step.folder.list_files()]
    settings = (output.test_fraction, output.rows_per_shard, *([output.captioned_in] if output.captioned_in else []))
    mark = fingerprint(step.fingerprint, contents, *settings, source, licence)
    names = ("train", "test") if output.holds_out else ("train",)
    if not output.holds_out and (out / "test" / MANIFEST_NAME).exists():  # left by a build that held images out
        shutil.rmtree(out / "test")
    for name in names:
        if is_finished(out / name, mark):
            continue
        check()
        num_read = num_written = 0
        with ShardWriter(
            out / name,
            source=source,
            licence=licence,
            rows_per_shard=output.rows_per_shard,
            drops=drops,
            fingerprint=mark,
            overwrite=True,
        ) as writer:
            for record, captioned in step.read_records():
                num_read += 1
                held_out = not captioned.isdisjoint(output.captioned_in)
                if (held_out or _is_held_out(record.key, output.test_fraction)) == (name == "test"):
                    writer.write(record)
                    num_written += 1
            if name == "train" and num_read and not num_written:
                raise ValueError(
                    f"{out / name}: not a single image is left for training: all are held out by output.test_fraction "
                    f"or output.captioned_in ({', '.join(output.captioned_in) or 'none'})"
                )
    return {name: read_manifest(out / name).num_images for name in names}


def _is_held_out(key: str, share: float) -> bool:
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big") < share * 2**64
