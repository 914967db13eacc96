"""Captions that are requested of a model; importing this loads neither torch nor transformers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from polyglance.engines.config import Dtype
from polyglance.model.config import GenerateConfig
from polyglance.records import Style

if TYPE_CHECKING:
    from polyglance.model.generate import Generated, PolyglanceCaptioner

__all__ = ["CaptionRequest"]


@dataclass(frozen=True, kw_only=True)
class CaptionRequest:
    """A model, and the captions that are requested for every image."""

    model: Path
    """Folder of the model, or what else `PolyglanceCaptioner.load` takes."""
    languages: tuple[str, ...]
    prefix: str = "auto"
    style: Style = "short"
    config: GenerateConfig = field(default_factory=GenerateConfig)
    device: str = "auto"
    dtype: Dtype = "auto"

    def load(self) -> "PolyglanceCaptioner":
        """Load the model."""
        from polyglance.model.generate import PolyglanceCaptioner

        return PolyglanceCaptioner.load(self.model, device=self.device, dtype=self.dtype)

    def caption(self, captioner: "PolyglanceCaptioner", files: Sequence[str]) -> "list[Generated]":
        """Caption files in all languages."""
        return captioner.caption(files, self.languages, prefix=self.prefix, style=self.style, config=self.config)
