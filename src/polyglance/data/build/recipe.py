"""Recipe of a data set: the TOML file of `polyglance data build`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyglance.data.annotate import AnnotateConfig
from polyglance.data.build.describe import RecaptionConfig, TranslateConfig
from polyglance.data.build.finish import OutputConfig
from polyglance.data.build.ingest import DuplicatesConfig
from polyglance.data.build.match import MatchConfig
from polyglance.data.sources.bitext import BitextSource
from polyglance.data.sources.captioned import CaptionedSource
from polyglance.data.sources.images import ImagesSource
from polyglance.languages import OwnLanguage, declare_languages

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A data set from images, bitext and engines.

    Raises:
        ValueError: no images, only one of bitext and match, or texts to match by words from no source.
    """

    out: Path
    """Folder that gets the data sets `train` and `test`, and `work` with the files of every step."""
    languages: Mapping[str, OwnLanguage] = field(default_factory=dict, metadata={"on_read": declare_languages})
    """Languages that polyglance does not know, by code: `[languages.yo]` with `name = "Yoruba"` (docs/languages.md)."""
    seed: int = 0
    """Seed of all random choices."""
    images_per_part: int = 1000
    """Images per part of the work, as near as a source's form allows. A kill costs at most the parts that were
    running."""
    pairs_per_part: int = 100_000
    """Bitext pairs per part of the work, as near as a source's form allows."""
    images: tuple[ImagesSource, ...] = ()
    """Sources of images."""
    captioned: tuple[CaptionedSource, ...] = ()
    """Published sets of images with human captions or translations. The same image in several of them is one image."""
    bitext: tuple[BitextSource, ...] = ()
    """Sources of sentence pairs."""
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    """Images that are left out because they are duplicates or belong to an evaluation set."""
    recaption: RecaptionConfig | None = None
    """Descriptions by an engine. None: only the texts that images come with."""
    translate: TranslateConfig | None = None
    """Translations of descriptions and captions. None: no translations."""
    match: MatchConfig | None = None
    """Matching of bitext to images. None: no bitext."""
    annotate: AnnotateConfig = field(default_factory=AnnotateConfig)
    """Rules by which texts become annotations."""
    output: OutputConfig = field(default_factory=OutputConfig)
    """The data sets that are written."""

    def __post_init__(self) -> None:
        if not self.images and not self.captioned:
            raise ValueError("images and captioned are empty: name at least one source")
        if bool(self.bitext) != (self.match is not None):
            raise ValueError("bitext and match go together: sentences, and the engine that matches them to images")
        if (
            self.match is not None
            and self.match.engine.kind == "words"
            and self.recaption is None
            and not self.captioned
            and all(source.texts == "ignore" for source in self.images)
        ):
            raise ValueError(
                "match.engine is words, which compares English texts of the images, and they have none: set "
                'images.texts to "captions", name a set in captioned, describe the images (recaption), or '
                "match with the engine clip"
            )
        if unused := [code for code in self.output.captioned_in if code not in self.annotate.captions]:
            raise ValueError(
                f"output.captioned_in has {', '.join(unused)}, which annotate.captions does not have; add it there"
            )
        if self.images_per_part < 1 or self.pairs_per_part < 1:
            raise ValueError("images_per_part and pairs_per_part must be at least 1")
