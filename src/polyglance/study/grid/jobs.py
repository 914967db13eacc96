"""Jobs of a study: everything that has to be made, with its folder and the jobs that it needs.

The jobs form a small graph: data -> tokenizer -> vision tower and language models -> trunks -> runs. If some
runs are predicted, the prediction comes after the other runs and before them. It needs T of the models with a new
starting point, which jobs of the kind `start` measure. The fingerprint of a job covers its own
settings, the jobs that it needs and the version of the code, so a finished job is done again exactly when something
that it depends on has changed. Inputs that are given by path (data, checkpoints) count by their content.

A trunk is the part of the training that the budgets of one model share. There is one for each budget, up to the
beginning of its cooldown, and each continues the one before it: a larger budget that is added later costs only the
difference. No fingerprint depends on a trunk, because no result does (`polyglance.train.trunk`).
"""

from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from polyglance import __version__
from polyglance.config import WrittenPart, fingerprint, to_dict
from polyglance.coverage import Coverage
from polyglance.mixture.config import MixtureConfig, SourceMasking
from polyglance.study.config import FamilyConfig, StudyConfig
from polyglance.study.grid.inputs import digest_inputs
from polyglance.train.optim import OptimConfig

__all__ = [
    "Job",
    "JobKind",
    "count_shared_samples",
    "find_not_needed",
    "has_new_start",
    "is_held_out",
    "list_jobs",
    "list_runs",
    "list_work",
    "parts_of",
    "training_of",
    "without_masking",
]

JobKind = Literal[
    "data",
    "tokenizer",
    "tower",
    "language_model",
    "start",
    "trunk",
    "prediction",
    "run",
    "training",
    "description",
    "shard",
]
"""`start`: an untrained model is measured. `training`: the first part of a run that is measured by a job of its own.
The last two are of an evaluation (`polyglance.study.work.evaluation_jobs`)."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to make."""

    id: str
    """Name, unique within the study; for runs also the id in runs.csv."""
    kind: JobKind
    folder: Path
    """Folder that it is made in, relative to the study's."""
    needs: tuple[str, ...] = ()
    """Ids of the jobs that have to be done before it."""
    after: tuple[str, ...] = ()
    """Ids of jobs that have to be done or failed before it starts; it does not depend on them."""
    fingerprint: str = ""
    """Fingerprint of its settings and of all jobs that it needs."""
    by_path: str = ""
    """The same with inputs by their paths instead of their content, as older versions wrote it."""
    family: str = ""
    """Runs: name of their family."""
    size: str = ""
    """Runs: `d96`, or the name of a published size."""
    width: int = 0
    """Micro runs, towers and language models: hidden size."""
    start: str = ""
    """Runs and measured starts: starting point. Language models: their name."""
    samples: int = 0
    """Runs, trunks and towers: samples seen, S."""
    seed: int = 0
    """Runs: seed of weights and sample order."""
    trunk: str = ""
    """Runs and trunks: id of the trunk that they go on from; empty where they begin at the first sample."""
    begins_at: int = 0
    """Runs and trunks: samples that their trunk has already seen."""
    trained_by: str = ""
    """Runs: id of the job that trains them; empty where the same job trains and measures."""

    @property
    def mark(self) -> str:
        """Name of the job's work in a queue. A run, its training alone and its measurement alone have one fingerprint
        and one folder, but none of them stands for another one."""
        return f"{self.fingerprint}{'t' if self.kind == 'training' else 'm' if self.trained_by else ''}"

    def is_of(self, mark: object) -> bool:
        """Tell whether a noted fingerprint is that of this job."""
        return mark in (self.fingerprint, self.by_path)


def list_jobs(config: StudyConfig) -> tuple[Job, ...]:
    """List every job of the study, each after those it needs. The same configuration with the same inputs is listed
    once in a process: each job asks for the list (benchmarks/list_jobs.py).

    Raises:
        ValueError: two runs have the same name, or an input cannot be read.
    """
    inputs = digest_inputs(config)
    for listed, *depends, jobs in tuple(_listed):  # another thread may list jobs at the same time
        if listed is config and depends == [inputs, __version__]:
            return jobs
    jobs = _make_jobs(config, inputs)
    _listed.append((config, inputs, __version__, jobs))
    return jobs


_listed: deque[tuple[StudyConfig, Mapping[str, str], str, tuple[Job, ...]]] = deque(maxlen=4)
"""Last configurations with the digests of their inputs and the version, and their jobs."""


def _make_jobs(config: StudyConfig, inputs: Mapping[str, str]) -> tuple[Job, ...]:
    graph = _JobGraph()
    names = _names_of_own_languages(config)
    data = (config.data, names) if names else config.data
    graph.add(_data_settings(config, inputs), data, id="data", kind="data", folder=Path("data"))
    if config.is_micro:
        lengths = (config.vocab_size, config.mixture.max_source_tokens, config.mixture.max_target_tokens)
        settings = (config.coverage, *lengths, *(("language tokens",) if config.language_tokens else ()))
        graph.add(settings, id="tokenizer", kind="tokenizer", folder=Path("tokenizer"), needs=("data",))
    if config.tower is not None:
        coverage = Coverage(caption=(config.tower.language,))
        by_content, by_path = (
            (config.tower, coverage, (config.image_size, config.patch_size, without_masking(mixture)))
            for mixture in (_without_cache(config.mixture), config.mixture)
        )
        graph.add(
            by_content,
            by_path,
            id="tower",
            kind="tower",
            folder=Path("starts/tower"),
            needs=("tokenizer",),
            width=config.tower.width,
            samples=config.tower.samples,
        )
    for name, start in config.language_models.items():
        widths = {w for family in config.families if name in family.starts for w in family.widths}
        for width in sorted(widths):
            job_id = _language_model_id(name, width)
            graph.add(
                (start, width),
                id=job_id,
                kind="language_model",
                folder=Path("starts") / job_id,
                needs=("tokenizer",),
                width=width,
                start=name,
            )
    for family in config.families:
        _add_runs(graph, config, family, inputs)
    return tuple(graph.jobs.values()) if config.prediction is None else _add_prediction(graph, config)


def list_work(config: StudyConfig) -> tuple[Job, ...]:
    """List the jobs as they are handed out: with `cluster.evaluation = "own"` a run is two of them. The first trains
    it; the other one, which has the run's id and marks, measures it."""
    jobs = list_jobs(config)
    if config.cluster.evaluation == "with":
        return jobs
    work: list[Job] = []
    for job in jobs:
        if job.kind == "run":
            work.append(training_of(job))
            work.append(replace(job, needs=(*job.needs, work[-1].id), trained_by=work[-1].id))
        else:
            work.append(job)
    return tuple(work)


def training_of(run: Job) -> Job:
    """Return the training of a run, as a job of its own."""
    return replace(run, id=f"train-{run.id}", kind="training", trained_by="")


def parts_of(job: Job) -> tuple[Job, ...]:
    """Return the jobs that may work in a job's folder: of a run its training and the run, else the job alone."""
    if job.kind == "training":
        job = replace(job, id=job.id.removeprefix("train-"), kind="run")
    return (training_of(job), job) if job.kind == "run" else (job,)


def list_runs(config: StudyConfig) -> tuple[Job, ...]:
    """List the runs alone, in the order of runs.csv: those that are predicted come last."""
    return tuple(job for job in list_jobs(config) if job.kind == "run")


def is_held_out(config: StudyConfig, run: Job) -> bool:
    """Tell whether a run is predicted before it starts: it has its family's largest size and largest budget, or a
    starting point that is new."""
    if config.prediction is None:
        return False
    family = config.family(run.family)
    is_largest = run.width == max(family.widths) if family.widths else run.size == family.sizes[-1]
    return has_new_start(config, run) or (is_largest and run.samples == max(family.samples))


def has_new_start(config: StudyConfig, run: Job) -> bool:
    """Tell whether a run has a starting point that the law of its prediction has not seen."""
    return config.prediction is not None and run.start in config.prediction.starts


def _add_prediction(graph: "_JobGraph", config: StudyConfig) -> tuple[Job, ...]:
    """Put the prediction between the runs that it is made from and those that it is about."""
    runs = [job for job in graph.jobs.values() if job.kind == "run"]
    known = [job for job in runs if not is_held_out(config, job)]
    measured = _add_starts(graph, config, runs)
    settings = to_dict(config.prediction)
    if not settings["starts"]:
        del settings["starts"]  # older versions had no such setting: their predictions stay valid
    graph.add(
        (settings, [job.fingerprint for job in known]),
        (settings, [job.by_path for job in known]),
        id="prediction",
        kind="prediction",
        folder=Path("prediction"),
        needs=("tokenizer", *measured) if config.is_micro else (),
        after=tuple(job.id for job in known),
    )
    prediction = graph.jobs["prediction"]
    held_out = [replace(job, after=(*job.after, prediction.id)) for job in runs if is_held_out(config, job)]
    needed_before = {need for job in known for need in job.needs}
    later = {job.id for job in graph.jobs.values() if job.kind == "trunk" and job.id not in needed_before}
    others = [job for job in graph.jobs.values() if job.kind not in ("run", "prediction")]
    trunks = [replace(job, after=(*job.after, prediction.id)) for job in others if job.id in later]
    return (*(job for job in others if job.id not in later), *known, prediction, *trunks, *held_out)


def _add_starts(graph: "_JobGraph", config: StudyConfig, runs: Sequence[Job]) -> tuple[str, ...]:
    """Add a job for each model with a new starting point, which measures it untrained; return the ids of these jobs.

    Such a job depends on everything that the model's runs depend on, except trunks and budgets.
    """
    new = [run for run in runs if has_new_start(config, run)]
    first_runs = {(run.family, run.size, run.start, run.seed): run for run in reversed(new)}
    names = []
    for run in reversed(first_runs.values()):
        family = config.family(run.family)
        names.append(f"start-{run.family}-{run.start}-{run.size}-seed{run.seed}")
        graph.add(
            _run_settings(family, config, _without_cache(config.mixture)),
            _run_settings(family, config, config.mixture),
            id=names[-1],
            kind="start",
            folder=Path("untrained") / names[-1],
            needs=tuple(need for need in run.needs if need != run.trunk),
            **{name: getattr(run, name) for name in ("family", "size", "width", "start", "seed")},
        )
    return tuple(names)


def find_not_needed(jobs: Sequence[Job], done: Set[str]) -> set[str]:
    """Return the ids of trunks that need not be trained, because all runs that need them are done, and of starts that
    need not be measured, because the prediction is."""
    needed = {need for job in jobs if job.id not in done for need in job.needs}
    kinds = ("trunk", "start")
    return {job.id for job in jobs if job.kind in kinds and job.id not in needed and job.id not in done}


def without_masking(mixture: MixtureConfig) -> MixtureConfig:
    """Return the mixture without what concerns translations, or which language a text is in: masking, shares of cells,
    the weight of first tokens. A tower is trained on the captions of one language."""
    balance = mixture.balance if isinstance(mixture.balance, str) else "cell"
    return replace(mixture, source_masking=SourceMasking(), balance=balance, first_token_weight=None)


def _without_cache(mixture: MixtureConfig) -> MixtureConfig:
    """Return the mixture without the folder of its cache, on which no result depends."""
    return replace(mixture, token_cache=None)


def _data_settings(config: StudyConfig, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the data, with the digest of its source in place of paths."""
    values = to_dict(config.data)
    if "data" in inputs and config.data.path is not None:
        values["path"] = inputs["data"]
    if "data" in inputs and config.data.table is not None:
        values["table"] = {**values["table"], "table": inputs["data"], "images": ""}
    if names := _names_of_own_languages(config):
        values["languages"] = names
    return values


def _names_of_own_languages(config: StudyConfig) -> dict[str, str]:
    """Return code -> name of the languages that the study declares: prompts have their names."""
    return {code: own.name for code, own in config.languages.items()}


class _JobGraph:
    """Jobs by id, each added after those it needs."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def add(self, settings: Any, by_path: Any = None, **details: Any) -> None:
        """Add a job with a fingerprint of its settings, of its details and of the jobs that it needs.

        Args:
            by_path: the settings with inputs by path, if they differ.
        """
        job = Job(**details)
        if job.id in self.jobs:
            raise ValueError(f"two runs have the name {job.id}; change widths, samples, starts or a family's name")
        needed = [self.jobs[need] for need in job.needs]
        needed = [other for other in needed if other.kind != "trunk"]
        self.jobs[job.id] = replace(
            job,
            fingerprint=fingerprint(
                *(__version__, job.kind, settings, [need.fingerprint for need in needed]),
                *(job.family, Path(job.size).name, job.start, job.samples, job.seed),
            ),
            by_path=fingerprint(
                *(__version__, job.kind, by_path or settings, [need.by_path for need in needed]),
                *(job.family, job.size, job.start, job.samples, job.seed),
            ),
        )


def _add_runs(graph: _JobGraph, config: StudyConfig, family: FamilyConfig, inputs: Mapping[str, str]) -> None:
    sizes = [*((f"d{width}", width) for width in family.widths), *((name, 0) for name in family.sizes)]
    for seed, start, (size, width) in product(config.seeds, family.starts, sizes):
        by_digest = replace(family, checkpoint=inputs.get(f"{family.name} {size}", family.checkpoint))
        by_content = WrittenPart(_run_settings(by_digest, config, _without_cache(config.mixture)))
        by_path = WrittenPart(_run_settings(family, config, config.mixture))
        is_random = start == "random"
        label = f"{family.name}{'' if is_random else f'-{start}'}-{Path(size).name}"  # a size may be a folder
        needs = ["tokenizer" if config.is_micro else "data"]
        needs += [] if is_random else [_language_model_id(start, width)]
        needs += ["tower"] if family.tower else []
        model = {"family": family.name, "size": size, "width": width, "start": start, "seed": seed}
        trunks = _add_trunks(graph, config, (by_content, by_path), label, tuple(needs), model)
        for samples in family.samples:
            name = f"{label}-s{samples}-seed{seed}"
            trunk = trunks.get(samples)
            graph.add(
                by_content,
                by_path,
                id=name,
                kind="run",
                folder=Path("runs") / name,
                needs=(*needs, *([trunk.id] if trunk else ())),
                samples=samples,
                trunk=trunk.id if trunk else "",
                begins_at=trunk.samples if trunk else 0,
                **model,
            )


def _add_trunks(
    graph: _JobGraph,
    config: StudyConfig,
    settings: tuple[Any, Any],
    label: str,
    needs: tuple[str, ...],
    model: Mapping[str, Any],
) -> dict[int, Job]:
    """Add the trunks of one model, from the shortest to the longest; return budget -> the trunk of its branch.

    Args:
        settings: of its runs, by content and by path.
        label: first part of the runs' names.
        needs: jobs that its runs need.
        model: details that all of its jobs have.
    """
    trunks: dict[int, Job] = {}
    family = config.family(model["family"])
    if family.schedule != "trunk":
        return trunks
    last: Job | None = None
    for budget in sorted(family.samples):
        samples = count_shared_samples(budget, family.optim, config.mixture.batch_size)
        if samples and (last is None or samples > last.samples):
            name = f"trunk-{label}-s{samples}-seed{model['seed']}"
            graph.add(
                *settings,
                id=name,
                kind="trunk",
                folder=Path("trunks") / name,
                needs=needs,
                after=(last.id,) if last else (),
                samples=samples,
                trunk=last.id if last else "",
                begins_at=last.samples if last else 0,
                **model,
            )
            last = graph.jobs[name]
        if last is not None:
            trunks[budget] = last
    return trunks


def count_shared_samples(budget: int, optim: OptimConfig, batch_size: int) -> int:
    """Return the samples of a budget that are seen before its cooldown begins."""
    return optim.first_cooldown_step(budget // batch_size) * batch_size


def _run_settings(family: FamilyConfig, config: StudyConfig, mixture: MixtureConfig) -> tuple[Any, ...]:
    return (
        {key: value for key, value in to_dict(family).items() if key in _FAMILY_SETTINGS_OF_RUNS},
        (config.coverage, mixture, config.image_size, config.patch_size),
        config.evaluation,
        *config.languages.items(),
        *(() if config.is_micro and config.engine.precision == "fp32" else (config.engine.precision,)),
    )


_FAMILY_SETTINGS_OF_RUNS = ("decoder", "tower", "optim", "lr_width", "layers", "checkpoint")
"""Settings of a family that all of its runs depend on. Widths, samples and starts are not among them, so that an added
one does not change the other runs."""


def _language_model_id(start: str, width: int) -> str:
    return f"lm-{start}-d{width}"
