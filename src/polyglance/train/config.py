"""Configurations of training runs, as their TOML files state them; importing them loads no torch.

`RunConfig` is the file of `polyglance train`; `TrainConfig` holds the settings of it that `train` takes.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from polyglance.config import fingerprint
from polyglance.coverage import Coverage
from polyglance.distributed import RuntimeConfig
from polyglance.language_tags import find_code
from polyglance.languages import OwnLanguage, declare_languages, find_declared_languages
from polyglance.mixture.config import MixtureConfig
from polyglance.model.component_names import COMPONENTS, Component
from polyglance.model.micro import MicroConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.sinks import TrackingConfig
from polyglance.train.watch import WatchConfig

__all__ = [
    "EvaluationConfig",
    "LanguageModelConfig",
    "LoopConfig",
    "RunConfig",
    "StartConfig",
    "TrainConfig",
    "VisionCacheConfig",
    "may_change",
]

_MAY_CHANGE = (
    "engine",
    "vision_cache",
    "save_every_steps",
    "save_in_background",
    "keep_last",
    "best",
    "log_every_steps",
    "watch",
    "tracking",
    "trunk",
    "mixture.max_bad_share",
    "mixture.token_cache",
)
"""Settings that no weight depends on, so that they may change while a run goes on; but see `may_change`."""


def may_change(key: str) -> bool:
    """Tell whether a setting (`optim.lr`) may change while a run goes on, because no weight depends on it."""
    return key != "engine.precision" and any(f"{key}.".startswith(f"{name}.") for name in _MAY_CHANGE)


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The model before its first step: a micro model with random weights, or a model that exists."""

    checkpoint: Path | None = None
    """Folder of a model with its processor (`polyglance model assemble`, or `checkpoints/final` of another run). If
    given, `model`, `language_model` and `vision_tower` are not used."""
    model: MicroConfig = field(default_factory=MicroConfig)
    """Sizes of a micro model."""
    language_model: Path | None = None
    """Folder of a trained Gemma-2 to put into the decoder. If not given, the decoder's weights are random."""
    vision_tower: Path | None = None
    """Folder of a model whose vision tower is copied. If not given, the tower's weights are random."""
    trained: tuple[Component, ...] | Literal["published"] = COMPONENTS
    """Components that training updates; the others keep their weights. `published`: as published for the kind of
    decoder."""

    def __post_init__(self) -> None:
        if self.checkpoint is not None and (self.language_model or self.vision_tower):
            raise ValueError("a start has either a checkpoint, or a language_model and a vision_tower")

    def checkpoint_folder(self) -> Path | None:
        """Return the checkpoint's folder if one is given.

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
    """When to use a cache. `auto`: if the tower is frozen, and the features are there already or cost less than they
    save and fit on the disk."""
    folder: Path | None = None
    """Folder of the caches. If not given: `features` in the folder of the training data set."""
    shared_samples: int | None = None
    """Samples that all runs which share the features see together, for `auto` to weigh. If not given: those of this
    run."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Number format of the features. If not given: float32 for runs in fp32 and bfloat16 for others."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Settings of the training loop, for any kind of model."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser and learning rate."""
    seed: int = 0
    """Seed of initial weights, sample order and dropout."""
    save_every_steps: int = 200
    """Steps between checkpoints."""
    save_in_background: bool | None = None
    """Write checkpoints while training goes on. If not given: no. The run waits only until the tensors are copied to
    main memory, which takes as much of it as a checkpoint has bytes."""
    keep_last: int = 2
    """Number of checkpoints that are kept while the run goes on."""
    best: str | None = None
    """Name of a loss. The checkpoint with its lowest value is kept too, and becomes `checkpoints/best`. `loss_nats`
    (training loss), a cell such as `caption-de`, or a loss on held-out data (`UC`, `ST`, `SC`)."""
    log_every_steps: int = 25
    """Steps between rows of metrics.jsonl."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    """When a run reports a problem, and when it stops."""

    def __post_init__(self) -> None:
        for name in ("save_every_steps", "keep_last", "log_every_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def num_steps(self) -> int:
        """Number of optimiser steps of the whole run."""
        raise NotImplementedError

    @property
    def is_trunk(self) -> bool:
        """Whether the learning rate never falls, so that the last checkpoint is kept for other runs to go on from."""
        return self.optim.cooldown_share == 0

    def dependencies(self) -> tuple["LoopConfig", *tuple[str, ...]]:
        """Return the settings that the weights depend on, the others at their defaults, and further values that they
        depend on. How a run is divided, watched and saved may change while it goes on; this may not."""
        return (_with_defaults(self, _MAY_CHANGE),)

    @property
    def settings(self) -> str:
        """Fingerprint of everything that the weights depend on, with paths as they are written. `identify_run` makes
        the one that a run is recognised by."""
        return fingerprint(*self.dependencies())


_Loop = TypeVar("_Loop", bound=LoopConfig)


def _with_defaults(config: _Loop, names: tuple[str, ...]) -> _Loop:
    """Return the configuration with the default values of the fields called `names`."""
    return replace(config, **{f.name: _default(f) for f in fields(config) if f.name in names})


def _default(f: "Field[Any]") -> Any:
    return f.default if f.default_factory is MISSING else f.default_factory()


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """One training run."""

    data: Path
    """Folder of the training data set."""
    tokenizer: Path | None = None
    """tokenizer.json of a micro model. A start from a checkpoint brings its own."""
    coverage: Coverage
    """Cells that are trained."""
    start: StartConfig = field(default_factory=StartConfig)
    """The model before its first step."""
    image_size: int | None = None
    """Side of the square images, in pixels. If not given: the model's own (published: 224, then 768)."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """How batches are drawn."""
    num_samples: int = 10_000
    """S: samples seen in training, rounded down to whole batches."""
    engine: RuntimeConfig = field(default_factory=RuntimeConfig)
    """How the work is divided and computed."""
    vision_cache: VisionCacheConfig = field(default_factory=VisionCacheConfig)
    """Cached features of a frozen vision tower."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """Experiment trackers that the rows of metrics.jsonl are sent to."""
    trunk: Path | None = None
    """Folder of a finished run with the same settings, but for `num_samples` and `optim.cooldown_share = 0`. This run
    goes on from its last step, and its weights are those that it would have without it. `num_samples` counts what both
    have seen."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_samples < self.mixture.batch_size:
            raise ValueError(f"num_samples {self.num_samples} is less than one batch of {self.mixture.batch_size}")
        if (self.tokenizer is None) == (self.start.checkpoint is None):
            raise ValueError("give a tokenizer for a micro model, or else start.checkpoint, which brings its own")
        self.optim.check_length(self.num_steps)
        if self.trunk is not None and (self.optim.cooldown_share is None or self.optim.warmup_steps is None):
            raise ValueError(
                "a run with a trunk needs optim.warmup_steps and optim.cooldown_share: its learning rate before the "
                "cooldown must not depend on its length"
            )

    @property
    def num_steps(self) -> int:
        return self.num_samples // self.mixture.batch_size

    def dependencies(self) -> tuple[LoopConfig, *tuple[str, ...]]:
        mixture = replace(self.mixture, max_bad_share=0.0, token_cache=None)
        own = find_declared_languages(self.coverage.languages) or {}
        others = (self.engine.precision, *(f"{code} {one.name}" for code, one in own.items()))  # prompts have the names
        return (replace(_with_defaults(self, _MAY_CHANGE), mixture=mixture), *others)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How the model of a run is measured on held-out data."""

    samples_per_cell: int = 256
    """Held-out samples of each cell for its loss."""
    captions_per_cell: int = 64
    """Held-out images of each caption cell that are captioned, with and without prefix."""
    translations_per_cell: int = 32
    """Held-out samples of each translation cell that are translated, for BLEU."""
    ambiguous_per_cell: int = 32
    """Sentences without a colour, each with two pictures, that are put to each translation cell: does the picture
    settle which translation is right? Built-in world only; other data has none."""
    examples: int = 6
    """Captions of each cell that are kept for the report."""
    max_new_tokens: int = 48
    """Largest length of a generated caption, in tokens."""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """Language code -> prefix, if it is neither the data set's own nor the language's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefixes", {find_code(code): words for code, words in self.prefixes.items()})


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """A training run, its folder, and how its model is measured: the TOML file of `polyglance train`."""

    out: Path
    """The run's folder."""
    languages: Mapping[str, OwnLanguage] = field(default_factory=dict, metadata={"on_read": declare_languages})
    """Languages that polyglance does not know, by code: `[languages.yo]` with `name = "Yoruba"` (docs/languages.md)."""
    vocab_size: int = 1024
    """Largest number of entries of the tokenizer that is made for a micro model if no `tokenizer` is given."""
    language_tokens: bool | None = None
    """Whether the encoder reads, before each prompt, a token of the asked language. A tokenizer that the run makes gets
    the tokens; one that is given must agree (`polyglance model assemble --language-tokens`). If not given: as the
    tokenizer has it; one that is made has none."""
    test: Path | None = None
    """Held-out data set that the model is measured on before the first step (T) and after the last. If not given, the
    model is not measured."""
    evaluation: EvaluationConfig | None = None
    """How the model is measured on `test`."""
    measured_as: int | None = None
    """Number of processes whose digits the measurement is to have, where fewer measure: each then makes the passes of
    several. If not given: as many as there are."""

    def __post_init__(self) -> None:
        if self.tokenizer is None and self.start.checkpoint is None:
            object.__setattr__(self, "tokenizer", self._default_tokenizer)
        if self.test is not None and self.evaluation is None:
            object.__setattr__(self, "evaluation", EvaluationConfig())
        super().__post_init__()
        if self.evaluation is not None and self.test is None:
            raise ValueError("evaluation needs test, the held-out data set that it measures on")
        if self.measured_as is not None and (self.measured_as < 1 or self.test is None):
            raise ValueError(f"measured_as is {self.measured_as}; expected 1 or more, and `test`")

    @property
    def _default_tokenizer(self) -> Path:
        """Path of the tokenizer that the run makes; the name contains its settings, so that others are another run."""
        return self.out / f"tokenizer-{self.vocab_size}{'-languages' if self.language_tokens else ''}.json"

    @property
    def makes_tokenizer(self) -> bool:
        """Whether the run makes its tokenizer, and none of its weights depends on it yet."""
        return self.tokenizer == self._default_tokenizer and not any(self.out.glob("checkpoints/*"))

    @property
    def training(self) -> TrainConfig:
        """The training run without folder and measuring."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(LoopConfig):
    """A decoder trained as a language model on the captions of a data set, before it sees any image."""

    data: Path
    """Data set whose captions are the texts."""
    tokenizer: Path
    """tokenizer.json."""
    model: MicroConfig
    """Sizes of the model that the decoder is for."""
    languages: Mapping[str, float]
    """Language code -> share of the texts; a higher share of more languages makes the start more multilingual."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-3))
    """Optimiser and learning rate."""
    num_steps: int = 500
    """Number of optimiser steps."""
    batch_size: int = 64
    """Texts per step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.decoder != "gemma2":
            raise ValueError(f"a {self.model.decoder} decoder does not start from a language model; gemma2 does")
        self.optim.check_length(self.num_steps)
