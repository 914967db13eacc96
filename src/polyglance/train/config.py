"""What a training run is, as its TOML file says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from polyglance.config import fingerprint
from polyglance.coverage import Coverage
from polyglance.distributed import RuntimeConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.model.components import COMPONENTS, Component
from polyglance.model.micro import MicroConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.sinks import TrackingConfig
from polyglance.train.watch import WatchConfig

__all__ = ["LanguageModelConfig", "StartConfig", "TrainConfig", "VisionCacheConfig", "may_change"]

_MAY_CHANGE = (
    "engine",
    "vision_cache",
    "save_every_steps",
    "keep_last",
    "best",
    "log_every_steps",
    "watch",
    "tracking",
    "mixture.max_bad_share",
    "mixture.token_cache",
)


def may_change(key: str) -> bool:
    """Whether a setting (`optim.lr`) may be another one when a run goes on, because no weight depends on it."""
    return key != "engine.precision" and any(f"{key}.".startswith(f"{name}.") for name in _MAY_CHANGE)


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The model before its first step: a micro model, or one that exists."""

    checkpoint: Path | None = None
    """Folder of a model with its processor (`polyglance model assemble`, or `checkpoints/final` of another run); what
    follows up to `vision_tower` is then not used."""
    model: MicroConfig = field(default_factory=MicroConfig)
    """Sizes of a micro model."""
    language_model: Path | None = None
    """Folder of a trained Gemma-2 to put into the decoder; None: random weights."""
    vision_tower: Path | None = None
    """Folder of a model whose vision tower is taken; None: random weights."""
    trained: tuple[Component, ...] | Literal["published"] = COMPONENTS
    """Parts that training updates; the others stay as they start. `published`: as published for its decoder's kind."""

    def __post_init__(self) -> None:
        if self.checkpoint is not None and (self.language_model or self.vision_tower):
            raise ValueError("a start has either a checkpoint, or a language_model and a vision_tower")

    def checkpoint_folder(self) -> Path | None:
        """The checkpoint's folder, looked at.

        Raises:
            ValueError: there is no model in it.
        """
        if self.checkpoint is not None and not (self.checkpoint / "config.json").is_file():
            raise ValueError(f"{self.checkpoint}: no model there to start from; `polyglance model assemble` makes one")
        return self.checkpoint


@dataclass(frozen=True, kw_only=True)
class VisionCacheConfig:
    """Features of a frozen vision tower, computed once for all images and kept on disk for all runs that share it."""

    use: Literal["auto", "always", "never"] = "auto"
    """`auto`: where the tower is frozen, they are there already or cost less than they save, and fit on the disk."""
    folder: Path | None = None
    """Where they are kept; if not given, `features` in the training data set's folder."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the numbers kept; if not given, float32 for runs in fp32 and bfloat16 for others."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    data: Path
    """The training data set."""
    tokenizer: Path | None = None
    """tokenizer.json of a micro model; a start from a checkpoint brings its own."""
    coverage: Coverage
    """The cells that are trained."""
    start: StartConfig = field(default_factory=StartConfig)
    """The model before its first step."""
    image_size: int | None = None
    """Side of the square images, in pixels; if not given, what the model is made for (published: 224, then 768)."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """How batches are drawn."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How they are learned from."""
    num_samples: int = 10_000
    """S: samples seen, rounded down to whole batches."""
    seed: int = 0
    """Of initial weights, sample order and dropout."""
    engine: RuntimeConfig = field(default_factory=RuntimeConfig)
    """How the work is divided and computed."""
    vision_cache: VisionCacheConfig = field(default_factory=VisionCacheConfig)
    """Features of a frozen tower."""
    save_every_steps: int = 200
    """Steps between checkpoints."""
    keep_last: int = 2
    """Checkpoints that are kept while the run goes on."""
    best: str | None = None
    """A loss whose best checkpoint is kept besides, and becomes `checkpoints/best`: `loss_nats` (training), a cell such
    as `caption-de`, or one that is measured on held-out data (`UC`, `ST`, `SC`)."""
    log_every_steps: int = 25
    """Steps between rows of metrics.jsonl."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """When a run says something, and when it gives up."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Who else is told of it."""

    def __post_init__(self) -> None:
        if self.num_samples < self.mixture.batch_size:
            raise ValueError(f"num_samples {self.num_samples} is less than one batch of {self.mixture.batch_size}")
        if (self.tokenizer is None) == (self.start.checkpoint is None):
            raise ValueError("give a tokenizer for a micro model, or else start.checkpoint, which brings its own")
        for name in ("save_every_steps", "keep_last", "log_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def num_steps(self) -> int:
        return self.num_samples // self.mixture.batch_size

    @property
    def settings(self) -> str:
        """Stands for everything that the weights depend on. How a run is divided, watched and saved may change while
        it goes on; this may not."""
        plain = TrainConfig(data=Path(), tokenizer=Path(), coverage=self.coverage)
        same = {name: getattr(plain, name) for name in _MAY_CHANGE if "." not in name}
        mixture = replace(self.mixture, max_bad_share=0.0, token_cache=None)
        return fingerprint(replace(self, mixture=mixture, **same), self.engine.precision)


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """A decoder trained as a language model on the texts of a data set, before any image is shown to it."""

    data: Path
    """The data set whose captions are the texts."""
    tokenizer: Path
    """tokenizer.json."""
    model: MicroConfig
    """Sizes of the model whose decoder it becomes."""
    languages: Mapping[str, float]
    """Language code -> share of the texts; what makes the starting point more or less multilingual."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-3))
    """How it is learned."""
    num_steps: int = 500
    """Optimiser steps."""
    batch_size: int = 64
    """Texts per step."""
    seed: int = 0
    """Of initial weights and text order."""
    save_every_steps: int = 200
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        if self.model.decoder != "gemma2":
            raise ValueError(f"a {self.model.decoder} decoder does not start from a language model; gemma2 does")
