"""The built-in world as data sets: training and test shards, rendered and described."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.data.manifest import is_finished
from polyglance.data.shard import ShardWriter
from polyglance.data.world.describe import PREFIXES, CaptionStyle, describe
from polyglance.data.world.grammars import grammar
from polyglance.data.world.layout import MIN_IMAGE_SIZE
from polyglance.data.world.render import render
from polyglance.data.world.scene import LEVELS, LevelName, SplitName, find_level, sample_scene
from polyglance.files import check_output_folder
from polyglance.records import ImageRecord, annotations_from_texts

__all__ = ["WorldConfig", "find_world_level", "generate", "make_record"]

_LICENCE = "Apache-2.0"
_ORIGIN = "world"
_SOURCE = "polyglance world, level "


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Difficulty, size and languages of data sets of the built-in world.

    Raises:
        ValueError: a value outside its range, or a language without grammar.
    """

    level: LevelName = "pairs"
    """Difficulty: which attributes vary (`LEVELS`)."""
    image_size: int = 32
    """Side of the square images in pixels; level `full` needs 64 or more to be legible."""
    languages: tuple[str, ...] = ("en", "de", "fr", "es", "ru", "zh")
    """Languages in which every image is described: any that the world has a grammar for."""
    styles: tuple[CaptionStyle, ...] = ("short",)
    """Styles of captions; every image has one caption of each style per language."""
    num_train_images: int = 20_000
    """Images of the training data set."""
    num_test_images: int = 1_000
    """Images of the test data set."""
    seed: int = 0
    """Seed of scenes and their rendering. The choice of held-out contents does not depend on it."""
    test_share: float = 0.1
    """Share of all contents that is held out for the test."""

    def __post_init__(self) -> None:
        find_level(self.level)
        if self.image_size < MIN_IMAGE_SIZE:
            raise ValueError(f"image_size is {self.image_size}: the world needs {MIN_IMAGE_SIZE} pixels or more")
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share is {self.test_share}: it must lie between 0 and 1")
        for name in ("num_train_images", "num_test_images", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must not be negative")
        object.__setattr__(self, "languages", tuple(grammar(code).code for code in self.languages))
        for name in ("languages", "styles"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} is {list(values)}: name one or more, each once")


def generate(config: WorldConfig, out_dir: str | Path) -> dict[str, Any]:
    """Write `out_dir/train` and `out_dir/test`, two data sets of shards.

    The result is a pure function of the config. A data set with the same config that is finished already stays.

    Returns:
        Folder, level and numbers of scenes and images, as plain values.

    Raises:
        ValueError: there is a finished data set of another origin, or the folder cannot be made.
    """
    check_output_folder(Path(out_dir), "`out`")
    sizes: dict[SplitName, int] = {"train": config.num_train_images, "test": config.num_test_images}
    for split, num_images in sizes.items():
        mark = fingerprint("world", __version__, split, config)
        directory = Path(out_dir) / split
        if is_finished(directory, mark):
            continue
        with ShardWriter(
            directory,
            source=f"{_SOURCE}{config.level}, {split}",
            licence=_LICENCE,
            prefixes={code: PREFIXES[code] for code in config.languages},
            fingerprint=mark,
        ) as writer:
            for index in range(num_images):
                writer.write(make_record(config, split, index))
    return {
        "out_dir": str(out_dir),
        "level": config.level,
        "num_scenes": find_level(config.level).num_scenes,
        **{f"num_{split}_images": num_images for split, num_images in sizes.items()},
    }


def find_world_level(source: str) -> LevelName | None:
    """Return the level of the data set with this source in its manifest; None where it is not the built-in world's."""
    level = source.removeprefix(_SOURCE).partition(",")[0]
    return cast(LevelName, level) if source.startswith(_SOURCE) and level in LEVELS else None


def make_record(config: WorldConfig, split: SplitName, index: int) -> ImageRecord:
    """Make the image with this index, with all its captions and translations; a pure function of the arguments."""
    scene = sample_scene(config.level, config.seed, index, split, test_share=config.test_share)
    annotations = [
        annotation
        for style in config.styles
        for annotation in annotations_from_texts(
            {code: describe(scene, code, style) for code in config.languages}, style=style, origin=_ORIGIN
        )
    ]
    buffer = io.BytesIO()
    Image.fromarray(render(scene, config.image_size)).save(buffer, "PNG", compress_level=1)
    return ImageRecord(key=f"{split}-{index:08d}", image=buffer.getvalue(), annotations=tuple(annotations))
