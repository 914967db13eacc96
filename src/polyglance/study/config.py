"""Configuration of a study: its TOML file as dataclasses."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from polyglance.coverage import Coverage
from polyglance.data.importer import ImportConfig
from polyglance.data.world import WorldConfig
from polyglance.distributed import RuntimeConfig
from polyglance.language_tags import find_code
from polyglance.languages import OwnLanguage, declare_languages, did_you_mean
from polyglance.laws import FitConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.model.scaling import Network
from polyglance.run_records import NUMBER_COLUMNS
from polyglance.settings import refuse_unknown_slots
from polyglance.study.cluster import StudyClusterConfig
from polyglance.table_text import is_formula
from polyglance.train.config import EvaluationConfig
from polyglance.train.optim import OptimConfig

__all__ = [
    "DataConfig",
    "FamilyConfig",
    "LanguageModelStart",
    "LawsConfig",
    "MachineConfig",
    "PredictionConfig",
    "StudyConfig",
    "TableConfig",
    "TowerConfig",
]


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """A table of images and texts that is imported into the study, as `polyglance data import` does."""

    table: Path
    """JSON lines, CSV, TSV or Parquet."""
    images: Path
    """Folder that the table's image paths start from."""
    test_fraction: float = ImportConfig.test_fraction
    """Share of the images that goes to the test set."""
    max_side: int | None = ImportConfig.max_side
    """Larger images are reduced until their longer side is this, in pixels. If not given, they keep their size."""
    licence: str = ImportConfig.licence
    """Licence of images and texts."""

    def import_config(self, out: Path) -> ImportConfig:
        """Return the settings of an import into a folder."""
        return ImportConfig(out=out, overwrite=True, **vars(self))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Source of the data; exactly one of three.

    Raises:
        ValueError: none of them is given, or several are.
    """

    world: WorldConfig | None = None
    """The built-in world, generated into the study."""
    table: TableConfig | None = None
    """A table of images and texts, imported into the study."""
    path: Path | None = None
    """A folder with existing data sets `train` and `test`."""

    def __post_init__(self) -> None:
        given = [name for name in ("world", "table", "path") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of world, table and path, not {', '.join(given) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """A vision tower that is trained once, on captions of one language. Families with `tower = true` share it,
    frozen."""

    width: int = 96
    """Hidden size of the tower, and of the model that it is trained in."""
    blocks: int = 0
    """Residual convolutions after each of its strided convolutions. They help to distinguish shapes."""
    samples: int = 20_000
    """Samples that it is trained on. They do not count in any run's S."""
    language: str = "en"
    """Language of the captions."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser of its training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "language", find_code(self.language))
        for name, least in (("width", 1), ("blocks", 0), ("samples", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {least} or more")


@dataclass(frozen=True, kw_only=True)
class LanguageModelStart:
    """A language model that decoders start from. It is trained once for each width that needs it."""

    languages: Mapping[str, float]
    """Language code -> share of the texts: the multilinguality of the starting point."""
    steps: int = 500
    """Optimiser steps."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-3))
    """Optimiser of its training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", {find_code(code): share for code, share in self.languages.items()})
        if not self.languages or any(share <= 0 for share in self.languages.values()):
            raise ValueError("languages must have a positive share for at least one language")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class FamilyConfig:
    """Models that differ in size, samples, starting point and seed only. Each combination is a run."""

    name: str
    """Name in tables and figures."""
    decoder: Literal["bart", "gemma2"] = "bart"
    """`bart`: trained from scratch. `gemma2`: a frozen language model with gated cross-attention (paper section 1)."""
    widths: tuple[int, ...] = ()
    """Micro models: their hidden sizes."""
    sizes: tuple[str, ...] = ()
    """Sizes of models of the published family, by the names of `polyglance model card`, or folders; in place of
    `widths`."""
    checkpoint: str = ""
    """With `sizes`: folder of the model that runs start from; `{size}` in it stands for the size."""
    layers: int = 2
    """Micro models: layers of the encoder, and of the decoder."""
    samples: tuple[int, ...]
    """S: samples seen. Each number is a run with a learning-rate schedule of its own."""
    schedule: Literal["separate", "trunk"] = "separate"
    """`separate`: each budget is trained from the start, as in the paper. `trunk`: the budgets of one size, start and
    seed branch off one run at a constant learning rate, each with a cooldown; needs `optim.warmup_steps` and
    `optim.cooldown_share`. With the same optimiser both give the same results, but a trunk is trained once."""
    starts: tuple[str, ...] = ("random",)
    """Starting points of the decoder: `random`, or names under [language_models] (gemma2 only)."""
    tower: bool = False
    """Take the vision tower of [tower], frozen. If not, each run trains its own."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimiser of all its runs."""
    lr_width: int | None = None
    """Micro models: width that `optim.lr` is for. Other widths are trained at optim.lr * lr_width / width, as the best
    learning rate of Adam falls with width (Yang et al. 2022, arXiv 2203.03466). If not given, all are trained at
    `optim.lr`."""

    def __post_init__(self) -> None:
        for name in (self.name, *self.starts, *(Path(size).name for size in self.sizes)):
            if is_formula(name) or not name.isprintable():
                raise ValueError(
                    f"family {self.name!r}: {name!r} is written to runs.csv, and a spreadsheet would read it as a "
                    "formula; begin it with a letter or digit"
                )
        for name in (self.name, *self.starts):
            if not name.strip() or name.startswith(".") or set(name) & set("/\\"):
                raise ValueError(
                    f"family {self.name!r}: {name!r} is part of the names of folders; expected letters, digits and "
                    "hyphens, without / and a dot at the beginning"
                )
        if bool(self.widths) == bool(self.sizes) or not self.samples or not self.starts:
            raise ValueError(f"family {self.name!r} needs widths (or else sizes), samples and starts")
        self._check_grid()
        if bool(self.sizes) != bool(self.checkpoint):
            raise ValueError(
                f"family {self.name!r}: give sizes and checkpoint (the folder that they start from) together"
            )
        self._check_checkpoint()
        if self.lr_width is not None and (self.sizes or self.lr_width < 1):
            wrong = f"lr_width is {self.lr_width}; expected 1 or more" if self.widths else "lr_width is for widths"
            raise ValueError(f"family {self.name!r}: {wrong}")
        if self.sizes and self.layers != 2:
            raise ValueError(f"family {self.name!r}: layers has no effect on sizes; it is for widths")
        if self.schedule == "trunk" and (self.optim.warmup_steps is None or not self.optim.cooldown_share):
            raise ValueError(
                f"family {self.name!r}: schedule 'trunk' needs optim.warmup_steps (a number for all budgets) and "
                "optim.cooldown_share (the share of a budget over which its learning rate falls, such as 0.2)"
            )
        if self.decoder == "bart" and self.starts != ("random",):
            raise ValueError(f"family {self.name!r}: a bart decoder starts from random weights only")

    def _check_grid(self) -> None:
        """Refuse numbers of the grid that no run can have, and those that are given twice."""
        for name, numbers in (("widths", self.widths), ("samples", self.samples), ("layers", (self.layers,))):
            if wrong := [number for number in numbers if number < 1]:
                raise ValueError(f"family {self.name!r}: {name} has {wrong[0]}; expected 1 or more")
        for name in ("widths", "sizes", "samples", "starts"):
            values = getattr(self, name)
            if twice := [value for i, value in enumerate(values) if value in values[:i]]:
                raise ValueError(f"family {self.name!r}: {name} has {twice[0]!r} twice; expected each once")

    def _check_checkpoint(self) -> None:
        """Refuse a checkpoint with another word in braces than the size, or with one folder for several sizes."""
        refuse_unknown_slots(f"family {self.name!r}: checkpoint", self.checkpoint, ("size",))
        if re.search(r"[{}]", self.checkpoint.replace("{size}", "")):
            raise ValueError(f"family {self.name!r}: checkpoint is {self.checkpoint!r}; expected braces as in {{size}}")
        if len(self.sizes) > 1 and "{size}" not in self.checkpoint:
            raise ValueError(
                f"family {self.name!r}: checkpoint is {self.checkpoint!r} for all of {len(self.sizes)} sizes; put "
                "{size} into it, which stands for the size"
            )

    def checkpoint_of(self, size: str) -> Path:
        """Return the folder of the model that runs of a size start from."""
        return Path(self.checkpoint.replace("{size}", size))


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """Machine of runs of published sizes, for which their hours are estimated. One run takes all of it."""

    name: str = "8 x H100"
    """Name in tables and messages."""
    card: str = "H100"
    """Word of the accelerator's name (`H100`, `H200`), by which its measured rates are found."""
    devices: int = 8
    """Number of accelerators."""
    peak_tflops: float = 989.0
    """Peak of one device at the training precision, dense, in 10^12 FLOP/s (H100 SXM, bfloat16: 989)."""
    memory_gb: float = 80.0
    """Memory of one device, in 10^9 bytes."""
    price_per_gpu_hour: float | None = None
    """Price of one device for one hour. If not given, `study plan` shows no money."""
    currency: str = "USD"
    """Currency of the price, as it is printed; nothing is converted."""
    mfu: float | None = None
    """Share of the peak that your own runs have logged. If not given, hours are computed from the package's table of
    measured rates; sizes and cards that are not in it are estimated from those that are."""
    network: Network = field(default_factory=Network)
    """Bandwidths between the devices."""

    def __post_init__(self) -> None:
        if self.devices < 1 or self.peak_tflops <= 0 or not (self.mfu is None or 0 < self.mfu <= 1):
            raise ValueError("machine needs one or more devices, a positive peak and an mfu between 0 and 1")
        if not 0 < self.memory_gb < math.inf or not self.peak_tflops < math.inf:
            raise ValueError(
                f"memory_gb is {self.memory_gb:g} and peak_tflops {self.peak_tflops:g}; expected positive numbers"
            )
        if not self.currency.strip():
            raise ValueError("machine.currency is empty; expected the name of a currency, such as USD")
        if self.price_per_gpu_hour is not None and not 0 < self.price_per_gpu_hour < math.inf:
            raise ValueError(f"machine.price_per_gpu_hour is {self.price_per_gpu_hour:g}; expected a positive number")


@dataclass(frozen=True, kw_only=True)
class PredictionConfig:
    """Prediction of the runs with each family's largest size and budget, and of those with a new starting point, made
    before these runs start."""

    starts: tuple[str, ...] = ()
    """Starting points that are new to the law: all runs from them are predicted from the others as well. Their T is the
    loss of their untrained models, which are measured for it. Micro models only."""
    targets: tuple[str, ...] = ("UC_prefix", "ST", "SC")
    """Columns of runs.csv that are predicted."""
    form: Literal["product", "saturating", "additive"] | None = None
    """Form of the law. If not given: for each family and loss the one that predicts smaller corners of the grid best.
    The candidates are product and saturating laws in P, S and T or in P and S, and the additive law in P and S, each
    with and without offset."""
    bootstrap: int = 200
    """Refits for the intervals; 0 for no intervals."""

    def __post_init__(self) -> None:
        LawsConfig(targets=self.targets, bootstrap=self.bootstrap)  # its checks


@dataclass(frozen=True, kw_only=True)
class LawsConfig:
    """Scaling laws that are fitted to the finished runs."""

    targets: tuple[str, ...] = ("UC_prefix", "UC", "ST", "SC")
    """Columns of runs.csv that laws are fitted to."""
    bootstrap: int = 200
    """Refits for the intervals; 0 for no intervals."""

    def __post_init__(self) -> None:
        for target in self.targets:
            if target not in NUMBER_COLUMNS:
                raise ValueError(
                    f"{target!r} is not a column of numbers in runs.csv; {did_you_mean(target, NUMBER_COLUMNS)}"
                )
            FitConfig(form="compute", columns={"y": target}, bootstrap=self.bootstrap)  # the fit's own checks, early


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study.

    Raises:
        ValueError: a family asks for a starting point or a tower that is not described, or two families have one name.
    """

    title: str = "A study of emergence"
    """Heading of the report."""
    out: Path
    """Folder of the study."""
    languages: Mapping[str, OwnLanguage] = field(default_factory=dict, metadata={"on_read": declare_languages})
    """Languages that polyglance does not know, by code: `[languages.yo]` with `name = "Yoruba"` (docs/languages.md)."""
    seeds: tuple[int, ...] = (0,)
    """Every combination is run once with each seed."""
    data: DataConfig
    """Images and texts."""
    coverage: Coverage
    """The cells that are trained."""
    families: tuple[FamilyConfig, ...]
    """The grid of runs."""
    language_models: Mapping[str, LanguageModelStart] = field(default_factory=dict)
    """Starting points of decoders, by name."""
    tower: TowerConfig | None = None
    """The shared vision tower."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """How batches are drawn."""
    vocab_size: int = 1024
    """Micro models: entries of the tokenizer, at most."""
    language_tokens: bool | None = None
    """Whether the encoder reads a token of the asked language before each prompt. If not given: no. Published sizes: as
    the tokenizers of their checkpoints have it (`polyglance model assemble --language-tokens`)."""
    image_size: int = 32
    """Side of the square images, in pixels."""
    patch_size: int = 8
    """Micro models: side of a patch, in pixels."""
    save_every_steps: int = 100
    """Steps between checkpoints. A kill loses at most this many."""
    save_in_background: bool | None = None
    """Write checkpoints while training goes on, as `save_in_background` of a run does. If not given: no."""
    machine: MachineConfig = field(default_factory=MachineConfig)
    """Machine that published sizes, and micro models with `engine.device = "cuda"`, are trained on."""
    cluster: StudyClusterConfig = field(default_factory=StudyClusterConfig)
    """Resources that each job asks a cluster for (`study run --on`), and how often it is tried."""
    engine: RuntimeConfig = field(default_factory=RuntimeConfig)
    """How a step is divided and computed. A run of micro models is one process on the CPU or, with `device = "cuda"`,
    one of several that share a card."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """How each run is measured."""
    laws: LawsConfig = field(default_factory=LawsConfig)
    """Laws that are fitted."""
    prediction: PredictionConfig | None = None
    """Predictions of some runs from the others, before these runs start. If not given, none are made."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must have one or more numbers, each once")
        if wrong := [seed for seed in self.seeds if not 0 <= seed < 2**63]:
            raise ValueError(f"seeds has {wrong[0]}; expected 0 to 2^63 - 1")
        names = [family.name for family in self.families]
        if not names or len(set(names)) != len(names):
            raise ValueError("families must have one or more entries with different names")
        for family in self.families:
            self._check_family(family)
        if len({bool(family.sizes) for family in self.families}) > 1:
            raise ValueError("one family has widths and another sizes; make two studies, of micro and published models")
        self._check_new_starts()
        if self.is_micro and not self.is_on_card and replace(self.engine, device="auto") != RuntimeConfig():
            raise ValueError("engine has no effect on micro models unless engine.device is 'cuda'")
        if self.cluster.nodes > 1 and (self.is_micro or self.machine.devices % self.cluster.nodes):
            raise ValueError(
                f"cluster.nodes is {self.cluster.nodes}: a micro run is one process, and machine.devices "
                f"({self.machine.devices}) of a published size must be divisible by it"
            )
        self._check_share_of_gpus()
        if self.is_on_card and (self.engine.strategy not in ("auto", "single") or self.machine.devices != 1):
            raise ValueError(
                "micro runs share one card: machine.devices must be 1, and engine.strategy 'auto' or 'single'"
            )

    def _check_share_of_gpus(self) -> None:
        """Refuse GPUs that do not divide evenly: a process, or the measurement of a run, would get a part of a GPU."""
        cluster = self.cluster
        if self.is_micro or cluster.gpus is None:
            return
        is_divided = cluster.nodes > 1 or cluster.evaluation == "own"
        devices = self.machine.devices // cluster.nodes
        if is_divided and cluster.gpus > devices and cluster.gpus % devices:
            raise ValueError(
                f"cluster.gpus is {cluster.gpus:g} on each node, where a run has {devices} processes "
                f"(machine.devices / cluster.nodes); expected a multiple of {devices}, or {devices} or less"
            )

    def _check_new_starts(self) -> None:
        new = () if self.prediction is None else self.prediction.starts
        if new and not self.is_micro:
            raise ValueError("prediction.starts is for micro models: T of a published size is measured by its own run")
        known = [start for family in self.families for start in family.starts]
        for start in new:
            if start not in known:
                raise ValueError(
                    f"prediction.starts has {start!r}, which no family starts from; {did_you_mean(start, known)}"
                )

    def _check_family(self, family: FamilyConfig) -> None:
        for samples in family.samples:
            try:
                family.optim.check_length(samples // self.mixture.batch_size)
            except ValueError as error:
                raise ValueError(f"family {family.name!r}, {samples} samples: {error}") from None
        if (least := min(family.samples)) < self.mixture.batch_size:
            raise ValueError(
                f"family {family.name!r}: {least} samples are less than one batch of {self.mixture.batch_size} "
                "(mixture.batch_size)"
            )
        known = ("random", *self.language_models)
        for start in family.starts:
            if start not in known:
                raise ValueError(f"family {family.name!r} starts from {start!r}; {did_you_mean(start, known)}")
        if family.tower and self.tower is None:
            raise ValueError(f"family {family.name!r} asks for the shared tower; describe it under [tower]")
        num_sizes = len(set(family.widths or family.sizes))
        if self.prediction is not None and (num_sizes < 2 or len(set(family.samples)) < 2):
            raise ValueError(f"[prediction] needs two sizes and two budgets; family {family.name!r} has fewer")
        new = set(() if self.prediction is None else self.prediction.starts)
        if new & set(family.starts) and len(set(family.starts) - new) < 2:
            raise ValueError(
                f"prediction.starts leaves family {family.name!r} fewer than two starting points, from which the "
                "influence of T could be told"
            )

    @property
    def is_micro(self) -> bool:
        """Whether the models are micro models, which have neither a checkpoint nor a tokenizer before the study."""
        return not self.families[0].sizes

    @property
    def is_on_card(self) -> bool:
        """Whether micro models are trained on a GPU, several runs side by side."""
        return self.is_micro and self.engine.device == "cuda"

    @property
    def train_dir(self) -> Path:
        """Folder of the training data set."""
        return (self.data.path or self.out / "data") / "train"

    @property
    def test_dir(self) -> Path:
        """Folder of the held-out data set."""
        return (self.data.path or self.out / "data") / "test"

    def family(self, name: str) -> FamilyConfig:
        """Return the family of this name."""
        return next(family for family in self.families if family.name == name)
