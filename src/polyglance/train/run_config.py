"""The TOML file of `polyglance train`: one run, where it is kept, and how its model is measured."""

from dataclasses import dataclass, fields
from pathlib import Path

from polyglance.train.config import TrainConfig
from polyglance.train.evaluation_config import EvaluationConfig

__all__ = ["RunConfig"]


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """A training run, where it is kept and how it is measured: the TOML file of `polyglance train`."""

    out: Path
    """The run's folder."""
    vocab_size: int = 1024
    """Entries, at most, of the tokenizer that a micro model gets where it is given none."""
    test: Path | None = None
    """Held-out data set that the model is measured on before the first step (T) and after the last; None: it is not."""
    evaluation: EvaluationConfig | None = None
    """How it is measured there."""

    def __post_init__(self) -> None:
        if self.tokenizer is None and self.start.checkpoint is None:
            object.__setattr__(self, "tokenizer", self._own_tokenizer)
        if self.test is not None and self.evaluation is None:
            object.__setattr__(self, "evaluation", EvaluationConfig())
        super().__post_init__()
        if self.evaluation is not None and self.test is None:
            raise ValueError("evaluation needs test, the held-out data set that it measures on")

    @property
    def _own_tokenizer(self) -> Path:
        """Its name tells its size, so that a run with another one is another run."""
        return self.out / f"tokenizer-{self.vocab_size}.json"

    @property
    def makes_tokenizer(self) -> bool:
        """Whether the run has a tokenizer of its own, and none of its weights depends on it yet."""
        return self.tokenizer == self._own_tokenizer and not any(self.out.glob("checkpoints/*"))

    @property
    def training(self) -> TrainConfig:
        """The run alone."""
        return TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})
