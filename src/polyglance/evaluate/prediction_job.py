"""A prediction job: a model and the examples that it is asked about, in batches, and the folder of the answers.

The folder's name ends in a fingerprint of everything that the answers depend on, so that predictions of another model,
prompt or setting are never mistaken for these.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from polyglance.config import fingerprint
from polyglance.data.benchmarks import BenchmarkExample, find_benchmark
from polyglance.engines import EvaluatedModel
from polyglance.engines.protocol import check_capability
from polyglance.environment import read_versions
from polyglance.evaluate.config import PredictConfig
from polyglance.evaluate.described_rows import ROW_VERSIONS, DescribedRows
from polyglance.evaluate.prediction_set import PREDICTIONS_NAME, PredictionInfo, PredictionRow

__all__ = ["DescribedJob", "PredictionJob", "divide_into_batches", "load_examples"]

_FORMAT = 1
"""Version of the rows' meaning; increased when that changes."""


def load_examples(config: PredictConfig, *, images: bool) -> Sequence[BenchmarkExample]:
    """Read the examples of a configuration.

    Raises:
        ValueError: an unknown benchmark, split or language, files that are missing, or no examples.
    """
    benchmark = find_benchmark(config.benchmark)
    examples = benchmark.load(config.root, split=config.used_split, language=config.language, images=images)
    if not examples:
        raise ValueError(f"{config.benchmark} {config.used_split} {config.language}: holds no examples")
    return examples if config.limit is None else examples[: config.limit]


class PredictionJob:
    """A configuration with its model, its examples and its folder.

    Raises:
        ValueError: the benchmark is of another task, the model cannot do the task or the language, or as
            `load_examples`.
    """

    def __init__(self, config: PredictConfig, model: EvaluatedModel) -> None:
        self.config, self.model = config, model
        task = find_benchmark(config.benchmark).task
        if task != config.task:
            raise ValueError(f"{config.benchmark} is a benchmark of {task}, not of {config.task}")
        check_capability(model, config.task, config.language)
        self.examples = load_examples(config, images=False)
        self.facts: dict[str, Any] = dict(model.facts(config.task, config.language))

    @property
    def batches(self) -> list[list[str]]:
        """The ids of each batch."""
        return divide_into_batches(self.examples, self.config.batch_size)

    @cached_property
    def folder(self) -> Path:
        """Folder of the predictions: `xm3600-all-th-prefix-beams4-768px-first100-1a2b3c4d`."""
        config, facts = self.config, self.facts
        words = [
            config.benchmark,
            config.used_split,
            config.language,
            "prefix" if facts.get("prefix") else "",
            f"beams{facts['beams']}" if "beams" in facts else "",
            f"{facts['resolution']}px" if "resolution" in facts else "",
            f"first{config.limit}" if config.limit else "",
            self.fingerprint[:8],
        ]
        return config.out / "-".join(word for word in words if word)

    @cached_property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change with everything that the answers depend on."""
        config = self.config
        asked = config.task == "disambiguation"  # for other tasks the model does not see the references
        texts = [(one.id, one.source, one.incorrect, one.references if asked else ()) for one in self.examples]
        place = (config.benchmark, config.used_split, config.language, config.task)
        return fingerprint(_FORMAT, place, config.limit, config.batch_size, self.facts, texts)

    def is_done(self) -> bool:
        """Tell whether the folder holds all predictions."""
        return holds_predictions(self.folder, self.fingerprint)

    def load_examples_for_model(self) -> Sequence[BenchmarkExample]:
        """Read the examples with images where the model looks at them."""
        return load_examples(self.config, images=True) if self.model.reads_images else self.examples

    def describe(self) -> "DescribedJob":
        """Return what is known of the job without its model."""
        return DescribedJob(
            name=self.config.language,
            num_rows=len(self.examples),
            folder=str(self.folder),
            model=self.model.name,
            facts=self.facts,
            fingerprint=self.fingerprint,
            versions=read_versions(ROW_VERSIONS),
        )


@dataclass(frozen=True, kw_only=True)
class DescribedJob(DescribedRows):
    """Description of a prediction job, whose name is the code of its language."""

    def is_done(self) -> bool:
        """Tell whether the folder holds all predictions."""
        return holds_predictions(Path(self.folder), self.fingerprint)

    def make_info(self, config: PredictConfig, rows: Sequence[PredictionRow]) -> PredictionInfo:
        """Return the content of prediction.json for these rows."""
        return PredictionInfo(
            benchmark=config.benchmark,
            split=config.used_split,
            language=config.language,
            task=config.task,
            model=self.model,
            prefix=self.facts.get("prefix", ""),
            limit=config.limit,
            batch_size=config.batch_size,
            settings=asdict(config.model),
            facts=self.facts,
            fingerprint=self.fingerprint,
            num_rows=len(rows),
            num_errors=sum(row.error is not None for row in rows),
            versions=self.versions,
        )


def divide_into_batches(examples: Sequence[BenchmarkExample], batch_size: int) -> list[list[str]]:
    """Return the ids of each batch."""
    ids = [example.id for example in examples]
    return [ids[first : first + batch_size] for first in range(0, len(ids), batch_size)]


def holds_predictions(folder: Path, mark: str) -> bool:
    """Tell whether a folder holds all predictions of the job with this fingerprint."""
    try:
        info = PredictionInfo.read(folder)
    except ValueError:
        return False
    return info.fingerprint == mark and (folder / PREDICTIONS_NAME).exists()
