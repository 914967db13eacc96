"""An evaluation as jobs of a cluster: one that describes it, and shards of the test set.

The rows are predictions for a benchmark, captions of image files, or losses on a data set. Only these jobs open the
model: `polyglance eval` and `polyglance caption` themselves can run where there is no accelerator. A shard takes every
n-th batch of all rows of a name, and writes into their folder: a batch has the same rows whoever makes it.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyglance import __version__
from polyglance.config import fingerprint, from_dict
from polyglance.evaluate.config import LossConfig, PredictConfig
from polyglance.files import read_json, write_json
from polyglance.model.caption_request import CaptionRequest
from polyglance.study.cluster import ClusterConfig
from polyglance.study.grid.jobs import Job

if TYPE_CHECKING:
    from polyglance.evaluate.described_rows import DescribedRows
    from polyglance.evaluate.divided_work import DividedCaptions, DividedLosses, DividedWork

__all__ = [
    "EVALUATION_NAME",
    "ShardedEvaluation",
    "do_evaluation_job",
    "list_evaluation_jobs",
    "read_description",
    "write_images",
]

EVALUATION_NAME = "evaluation.toml"
_DESCRIPTION_NAME = "description.json"
_IMAGES_NAME = "images.json"


@dataclass(frozen=True, kw_only=True)
class ShardedEvaluation:
    """The content of evaluation.toml: one of three kinds of rows, and how they are divided."""

    predict: PredictConfig | None = None
    """Model and benchmark; its language is replaced by each."""
    languages: tuple[str, ...] = ()
    """Codes for `predict`; none given: all of the benchmark's that the model knows."""
    captions: CaptionRequest | None = None
    """Captions of the files that images.json, beside evaluation.toml, lists."""
    losses: LossConfig | None = None
    """Model and data set."""
    rows: Path
    """Folder that gets the folders of the rows."""
    mark: str
    """Fingerprint of what is asked for."""
    shards: int = 1
    """Jobs that the test set is divided into."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    @property
    def out(self) -> Path:
        """Folder of the jobs' files: their description, reports and logs."""
        return self.rows / f"jobs-{self.mark[:8]}"

    @property
    def device(self) -> str:
        """Device that the model is asked to run on."""
        if self.predict is not None:
            return self.predict.model.device
        owner = self.captions or self.losses
        assert owner is not None
        return owner.device

    def open_work(self) -> "DividedWork":
        """Return the rows that are asked for."""
        if self.predict is not None:
            from polyglance.evaluate.divided_work import DividedPredictions

            return DividedPredictions(self.predict, self.languages)
        return self.open_losses() if self.captions is None else self.open_captions()

    def open_captions(self) -> "DividedCaptions":
        """Return the captions that are asked for."""
        from polyglance.evaluate.divided_work import DividedCaptions

        assert self.captions is not None
        return DividedCaptions(self.captions, read_json(self.out / _IMAGES_NAME), self.rows)

    def open_losses(self) -> "DividedLosses":
        """Return the losses that are asked for."""
        from polyglance.evaluate.divided_work import DividedLosses

        assert self.losses is not None
        return DividedLosses(self.losses, self.rows)


def list_evaluation_jobs(config: ShardedEvaluation) -> tuple[Job, ...]:
    """List the description, and the shards of what it says now."""
    settings = (__version__, config.mark, config.rows)
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


def write_images(config: ShardedEvaluation, names: Sequence[str]) -> None:
    """Write the list of the image files that are captioned, each once."""
    write_json(config.out / _IMAGES_NAME, list(names))


def read_description(config: ShardedEvaluation) -> "dict[str, DescribedRows]":
    """Return name -> what the first job has found out.

    Raises:
        ValueError: it is missing or damaged.
    """
    from polyglance.evaluate.described_rows import DescribedRows
    from polyglance.evaluate.prediction_job import DescribedJob

    kind = DescribedRows if config.predict is None else DescribedJob
    return {one["name"]: from_dict(kind, one) for one in read_json(config.out / _DESCRIPTION_NAME)}


def do_evaluation_job(config: ShardedEvaluation, job: Job, should_stop: Callable[[], bool]) -> None:
    """Describe the evaluation, or make a shard, which goes on after its last whole batch.

    Raises:
        Stopped: it was asked to stop, after this many of its batches.
        ValueError: as `predict_benchmark`, or a machine on which the model gives other answers.
    """
    import torch

    torch.set_num_threads(config.cluster.cpus or 1)
    work = config.open_work()
    if job.kind == "description":
        described = [asdict(work.open(name).describe()) for name in work.list_names()]
        write_json(config.out / _DESCRIPTION_NAME, described)
    else:
        _make_shard(config, int(job.id.removeprefix("shard-")), work, should_stop)


def _make_shard(config: ShardedEvaluation, number: int, work: "DividedWork", should_stop: Callable[[], bool]) -> None:
    from polyglance.evaluate.row_files import find_done_batches
    from polyglance.train.signals import Stopped

    num_done = 0
    for described in read_description(config).values():
        job = work.open(described.name)
        if job.fingerprint != described.fingerprint:
            raise ValueError(_explain_difference(job.facts, described.facts))
        if described.is_done():
            continue
        job.folder.mkdir(parents=True, exist_ok=True)
        done = find_done_batches(job.folder, job.batches, work.rows_name)
        own = range(number, len(job.batches), config.shards)
        num_done += sum(batch in done for batch in own)
        for _ in work.write_batches(job, [batch for batch in own if batch not in done], process=number):
            num_done += 1
            if should_stop():
                raise Stopped(num_done)


def _explain_difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Say why a model gives other answers on this machine than on the one that described it."""
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    facts = ", ".join(f"{name} is {here.get(name)!r} here and {there.get(name)!r} there" for name in names[:3])
    return (
        f"the model or the test set is another on {socket.gethostname()} than on the machine of the first job"
        f"{f' ({facts})' if facts else ''}; give device and dtype, and the same files on all nodes"
    )
