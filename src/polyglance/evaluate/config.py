"""Settings of evaluations by models; importing them loads no torch. Those of `polyglance score` are in score.py."""

from dataclasses import dataclass, replace
from pathlib import Path

from polyglance.coverage import Coverage, EvaluationTask
from polyglance.data.benchmarks import find_benchmark
from polyglance.distributed import count_launched
from polyglance.engines import ModelConfig
from polyglance.engines.config import Dtype
from polyglance.settings import refuse_unused

__all__ = ["LossConfig", "PredictConfig", "PredictOptions", "ScoringConfig"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """A model and how it is run on benchmarks, and the folders of benchmarks and predictions."""

    model: ModelConfig
    root: Path
    """Folder of all benchmarks; for the project's own shards, of the data sets."""
    out: Path = Path("eval")
    """Folder that gets a folder for the predictions in each language."""
    split: str | None = None
    """Split of the benchmark; its first if not given."""
    batch_size: int = 8
    """Number of rows at a time. It can change predictions by rounding, so it is part of the fingerprint."""
    limit: int | None = None
    """Number of examples, the first ones; all if not given."""
    processes: int = 1
    """Number of processes, each with its own copy of the model. Each predicts every n-th batch; on GPUs, process k uses
    GPU k modulo their number. Under torchrun, on one machine or several, its processes share the batches."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "limit", "processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        refuse_unused(self, processes=(count_launched() == 1, "under torchrun, which has started the processes"))


@dataclass(frozen=True, kw_only=True)
class PredictConfig(PredictOptions):
    """A model and how it is run on one benchmark, in one language."""

    task: EvaluationTask
    """Task of the benchmark."""
    benchmark: str
    """Name of the benchmark (`polyglance eval list`)."""
    language: str
    """Code of the language."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "disambiguation" and self.model.dtype == "auto":
            object.__setattr__(self, "model", replace(self.model, dtype="float32"))  # half precision makes more ties
        writes = (self.task != "disambiguation", "in disambiguation, which writes no text")
        is_caption = (self.task == "caption", "but on captions")
        refuse_unused(self.model, prefix=is_caption, beams=writes, max_new_tokens=writes)

    @property
    def used_split(self) -> str:
        """Split that is predicted."""
        return self.split or find_benchmark(self.benchmark).splits[0]


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Metrics and protocols of predictions."""

    score: bool = True
    """Score the predictions."""
    metrics: tuple[str, ...] = ()
    """Metrics; those that the benchmark is published with if none is given."""
    protocol: tuple[str, ...] = ()
    """Protocols that make captions into words, side by side; those that the benchmark is published with if none is
    given."""
    clip: Path | None = None
    """Folder of a CLIP-like checkpoint that also scores captions; no CLIPScore if not given."""
    clip_prefix: str = ""
    """Words before every caption that the CLIP-like checkpoint reads."""

    def __post_init__(self) -> None:
        unscored = (self.score, "without `score`")
        refuse_unused(
            self, metrics=unscored, protocol=unscored, clip=unscored, clip_prefix=(self.clip, "without `clip`")
        )

    def check_task(self, task: EvaluationTask) -> None:
        """Refuse settings that have no effect on predictions of this task.

        Raises:
            UnusedSettingError: a setting has no effect.
        """
        is_text = (task != "disambiguation", "in disambiguation, whose score is the accuracy")
        refuse_unused(self, metrics=is_text, protocol=is_text, clip=(task == "caption", "but on captions"))


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Model and data of `polyglance eval loss`."""

    model: Path
    """Folder of a model of this project, with its processor; NAME@COMMIT on the hub; or `micro`, the model in the
    package."""
    data: Path
    """Held-out data set: the folder with manifest.json."""
    captioned: tuple[str, ...] = ()
    """Languages that the model was trained to caption in."""
    translated: tuple[str, ...] = ()
    """Languages that it was trained to translate into. With `captioned` this says which cells are measured, and which
    split each belongs to; if neither is given, every cell of the data is measured."""
    initial: Path | None = None
    """Folder of the model before training: its loss on the UC cells is T."""
    samples_per_cell: int = 1000
    """Images of each cell, the first ones."""
    max_target_tokens: int = 512
    """Targets are cut to this many tokens, and to the positions of the decoder."""
    batch_size: int = 32
    """Samples at a time."""
    device: str = "auto"
    """Device to compute on: `cpu`, `cuda` or `cuda:N`; `auto`: on a GPU if there is one."""
    dtype: Dtype = "auto"
    """Precision of the weights. `auto`: float32 on a CPU and bfloat16 on a GPU, which changes losses by rounding, some
    in the third digit: compare models in one precision."""

    def __post_init__(self) -> None:
        for name in ("samples_per_cell", "max_target_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.initial is not None and not self.translated:
            raise ValueError("T is the loss on the UC split: say which languages are captioned and translated")

    @property
    def coverage(self) -> Coverage | None:
        """The cells that the model was trained on; None where no language is given."""
        if not self.captioned and not self.translated:
            return None
        return Coverage(caption=self.captioned, translation=self.translated)
