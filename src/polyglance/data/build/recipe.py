"""What a data set is built of, as a recipe's TOML file says it."""

from dataclasses import dataclass, field
from pathlib import Path

from polyglance.data.build.annotate import AnnotateConfig
from polyglance.data.build.describe import RecaptionConfig, TranslateConfig
from polyglance.data.build.ingest import DuplicatesConfig
from polyglance.data.build.match import MatchConfig
from polyglance.data.sources.bitext import BitextSource
from polyglance.data.sources.captioned import CaptionedSource, ImagesSource

__all__ = ["OutputConfig", "Recipe"]


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """The data sets that come out."""

    test_fraction: float = 0.0
    """Share of the images that are held out, told by their content."""
    rows_per_shard: int = 8192
    """Images per shard file."""

    def __post_init__(self) -> None:
        if not 0 <= self.test_fraction < 1:
            raise ValueError(f"test_fraction must be a share below 1, not {self.test_fraction}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data set from images, bitext and engines.

    Raises:
        ValueError: no images, or bitext without a way to match it, or the reverse.
    """

    out: Path
    """Folder that gets the data sets `train` and `test`, and `work` with every step's files."""
    seed: int = 0
    """Of what is drawn at random."""
    images_per_part: int = 1000
    """Images of one task, as near as a source's form allows; a kill costs at most the tasks that were running."""
    pairs_per_part: int = 100_000
    """Bitext pairs of one task, likewise."""
    images: tuple[ImagesSource, ...] = ()
    """Where images are from."""
    captioned: tuple[CaptionedSource, ...] = ()
    """Published sets of images with human captions or translations; the same image in several of them is one image."""
    bitext: tuple[BitextSource, ...] = ()
    """Where sentence pairs are from."""
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    """Which images are left out because they are there already, or belong to an evaluation set."""
    recaption: RecaptionConfig | None = None
    """Descriptions by an engine; None: only the texts that images come with."""
    translate: TranslateConfig | None = None
    """Translations of descriptions and captions; None: none."""
    match: MatchConfig | None = None
    """How bitext is matched to images."""
    annotate: AnnotateConfig = field(default_factory=AnnotateConfig)
    """Which annotations are made of all that."""
    output: OutputConfig = field(default_factory=OutputConfig)
    """What is written."""

    def __post_init__(self) -> None:
        if not self.images and not self.captioned:
            raise ValueError("images and captioned are empty: name at least one source")
        if bool(self.bitext) != (self.match is not None):
            raise ValueError("bitext and match go together: sentences, and the engine that matches them to images")
        if self.images_per_part < 1 or self.pairs_per_part < 1:
            raise ValueError("images_per_part and pairs_per_part must be at least 1")
