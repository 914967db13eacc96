"""From a study's configuration to its jobs: what has to be made, in which folder, out of what.

Jobs form a small graph: data -> tokenizer -> vision tower and language models -> runs. A job's fingerprint covers its
own settings, those of the jobs it needs and the version of the code, so a finished job is done again exactly when
something that it depends on has changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polyglance import __version__
from polyglance.config import fingerprint, to_dict
from polyglance.coverage import Coverage
from polyglance.study.config import FamilyConfig, StudyConfig

__all__ = ["Job", "JobKind", "jobs", "runs"]

JobKind = Literal["data", "tokenizer", "tower", "language_model", "run"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to make."""

    id: str
    """Unique within the study; for runs, what runs.csv calls them."""
    kind: JobKind
    folder: Path
    """Where it is made, relative to the study's folder."""
    needs: tuple[str, ...] = ()
    """Jobs that come before it."""
    fingerprint: str
    """Of its settings and of all that it needs."""
    family: str = ""
    """Runs: name of their family."""
    size: str = ""
    """Runs: `d96`, or the name of a published size."""
    width: int = 0
    """Micro runs and language models: hidden size."""
    start: str = ""
    """Runs: starting point; language models: their name."""
    samples: int = 0
    """Runs and towers: S."""
    seed: int = 0
    """Runs: seed of weights and sample order."""


def jobs(config: StudyConfig) -> tuple[Job, ...]:
    """Every job of the study, each after those it needs.

    Raises:
        ValueError: two runs have the same name.
    """
    made: dict[str, Job] = {}
    for job in _jobs(config, made):
        if job.id in made:
            raise ValueError(f"two runs are called {job.id}; change widths, samples, starts or a family's name")
        made[job.id] = job
    return tuple(made.values())


def runs(config: StudyConfig) -> tuple[Job, ...]:
    """The runs alone, in the order of runs.csv."""
    return tuple(job for job in jobs(config) if job.kind == "run")


def _jobs(config: StudyConfig, made: Mapping[str, Job]) -> Iterator[Job]:
    yield _job(made, "data", "data", Path("data"), settings=config.data)
    if config.is_micro:
        shared = (config.vocab_size, config.mixture.max_source_tokens, config.mixture.max_target_tokens)
        settings = (config.coverage, *shared)
        yield _job(made, "tokenizer", "tokenizer", Path("tokenizer"), needs=("data",), settings=settings)
    model = (config.image_size, config.patch_size, config.mixture)
    if config.tower is not None:
        coverage = Coverage(caption=(config.tower.language,))
        yield _job(
            made,
            "tower",
            "tower",
            Path("starts/tower"),
            needs=("tokenizer",),
            settings=(config.tower, coverage, model),
            width=config.tower.width,
            samples=config.tower.samples,
        )
    for name, start in config.language_models.items():
        widths = {w for family in config.families if name in family.starts for w in family.widths}
        for width in sorted(widths):
            yield _job(
                made,
                f"lm-{name}-d{width}",
                "language_model",
                Path(f"starts/lm-{name}-d{width}"),
                needs=("tokenizer",),
                settings=(start, width),
                width=width,
                start=name,
            )
    for family in config.families:
        yield from _runs_of(config, family, made)


def _runs_of(config: StudyConfig, family: FamilyConfig, made: Mapping[str, Job]) -> Iterator[Job]:
    for seed in config.seeds:
        for start in family.starts:
            for size, width in [*((f"d{w}", w) for w in family.widths), *((name, 0) for name in family.sizes)]:
                for samples in family.samples:
                    random = start == "random"
                    label = Path(size).name  # of a size that is a folder
                    name = f"{family.name}{'' if random else f'-{start}'}-{label}-s{samples}-seed{seed}"
                    needs = ["tokenizer" if config.is_micro else "data"]
                    needs += [] if random else [f"lm-{start}-d{width}"]
                    needs += ["tower"] if family.tower else []
                    yield _job(
                        made,
                        name,
                        "run",
                        Path("runs") / name,
                        needs=tuple(needs),
                        settings=(
                            {key: value for key, value in to_dict(family).items() if key in _RUN_SETTINGS},
                            (config.coverage, config.mixture, config.image_size, config.patch_size),
                            config.evaluation,
                            *(() if config.is_micro else (config.engine.precision,)),
                        ),
                        family=family.name,
                        size=size,
                        width=width,
                        start=start,
                        samples=samples,
                        seed=seed,
                    )


_RUN_SETTINGS = ("decoder", "tower", "optim", "layers", "checkpoint")
"""Of a family, what its runs depend on: adding a width does not make the others again."""


def _job(
    made: Mapping[str, Job],
    name: str,
    kind: JobKind,
    folder: Path,
    *,
    settings: object,
    needs: tuple[str, ...] = (),
    family: str = "",
    size: str = "",
    width: int = 0,
    start: str = "",
    samples: int = 0,
    seed: int = 0,
) -> Job:
    inputs = [made[need].fingerprint for need in needs]
    mark = fingerprint(__version__, kind, settings, inputs, family, size, start, samples, seed)
    return Job(
        id=name,
        kind=kind,
        folder=folder,
        needs=needs,
        fingerprint=mark,
        family=family,
        size=size,
        width=width,
        start=start,
        samples=samples,
        seed=seed,
    )
