"""An evaluation as jobs of a cluster: one that describes it, and shards of the test set.

Only these jobs open the model: `polyglance eval` itself can run where there is no accelerator. A shard takes every n-th
batch of each language, and writes its rows into the folders of the predictions, as the processes of
`polyglance.evaluate.predict` do: a batch has the same rows whoever makes it.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyglance import __version__
from polyglance.config import fingerprint, from_dict
from polyglance.evaluate.config import PredictConfig
from polyglance.files import read_json, write_json
from polyglance.study.cluster import ClusterConfig
from polyglance.study.grid.jobs import Job

if TYPE_CHECKING:
    from polyglance.engines import EvaluatedModel
    from polyglance.evaluate.prediction_job import DescribedJob

__all__ = ["EVALUATION_NAME", "ShardedEvaluation", "do_evaluation_job", "list_evaluation_jobs", "read_description"]

EVALUATION_NAME = "evaluation.toml"
_DESCRIPTION_NAME = "description.json"


@dataclass(frozen=True, kw_only=True)
class ShardedEvaluation:
    """The content of evaluation.toml: what is evaluated, and how it is divided."""

    predict: PredictConfig
    """Model and benchmark; its language is replaced by each."""
    languages: tuple[str, ...] = ()
    """Codes; none given: all of the benchmark's that the model knows."""
    shards: int = 1
    """Jobs that the test set is divided into."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    @property
    def out(self) -> Path:
        """Folder of the jobs' files: their description, reports and logs."""
        return self.predict.out / f"jobs-{fingerprint(self.predict, self.languages)[:8]}"


def list_evaluation_jobs(config: ShardedEvaluation) -> tuple[Job, ...]:
    """List the description, and the shards of what it says now."""
    settings = (__version__, config.predict, config.languages)
    described = Job(id="description", kind="description", folder=Path(), fingerprint=fingerprint(*settings))
    path = config.out / _DESCRIPTION_NAME
    content = path.read_text(encoding="utf-8") if path.is_file() else ""
    shards = (
        Job(
            id=f"shard-{number}",
            kind="shard",
            folder=Path(),
            needs=(described.id,),
            fingerprint=fingerprint(*settings, content, number, config.shards),
        )
        for number in range(config.shards)
    )
    return (described, *shards)


def read_description(config: ShardedEvaluation) -> dict[str, "DescribedJob"]:
    """Return language -> what the first job has found out.

    Raises:
        ValueError: it is missing or damaged.
    """
    from polyglance.evaluate.prediction_job import DescribedJob

    values = read_json(config.out / _DESCRIPTION_NAME)
    return {one["language"]: from_dict(DescribedJob, one) for one in values}


def do_evaluation_job(config: ShardedEvaluation, job: Job, should_stop: Callable[[], bool]) -> None:
    """Describe the evaluation, or predict a shard; a shard goes on after its last whole batch.

    Raises:
        Stopped: it was asked to stop, after this many of its batches.
        ValueError: as `predict_benchmark`, or a machine on which the model gives other answers.
    """
    import torch

    from polyglance.engines import open_model

    torch.set_num_threads(config.cluster.cpus or 1)
    model = open_model(config.predict.model)
    if job.kind == "description":
        _describe(config, model)
    else:
        _predict_shard(config, int(job.id.removeprefix("shard-")), model, should_stop)


def _describe(config: ShardedEvaluation, model: "EvaluatedModel") -> None:
    from polyglance.evaluate.prediction_job import PredictionJob
    from polyglance.evaluate.run import choose_known_languages

    languages = config.languages or choose_known_languages(config.predict, model)
    jobs = [PredictionJob(replace(config.predict, language=code), model) for code in languages]
    write_json(config.out / _DESCRIPTION_NAME, [asdict(job.describe()) for job in jobs])


def _predict_shard(
    config: ShardedEvaluation, number: int, model: "EvaluatedModel", should_stop: Callable[[], bool]
) -> None:
    from polyglance.evaluate.predict_batches import write_batches
    from polyglance.evaluate.prediction_job import PredictionJob
    from polyglance.evaluate.row_files import find_done_batches
    from polyglance.train.signals import Stopped

    num_done = 0
    for described in read_description(config).values():
        job = PredictionJob(replace(config.predict, language=described.language), model)
        if job.fingerprint != described.fingerprint:
            raise ValueError(_explain_difference(job.facts, described.facts))
        if described.is_done():
            continue
        job.folder.mkdir(parents=True, exist_ok=True)
        done = find_done_batches(job.folder, job.batches)
        own = range(number, len(job.batches), config.shards)
        num_done += sum(batch in done for batch in own)
        for _ in write_batches(job, [batch for batch in own if batch not in done], process=number):
            num_done += 1
            if should_stop():
                raise Stopped(num_done)


def _explain_difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Say why a model gives other answers on this machine than on the one that described it."""
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    facts = ", ".join(f"{name} is {here.get(name)!r} here and {there.get(name)!r} there" for name in names[:3])
    return (
        f"the model or the benchmark is another on {socket.gethostname()} than on the machine of the first job"
        f"{f' ({facts})' if facts else ''}; give device and dtype, and the same files on all nodes"
    )
