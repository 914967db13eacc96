"""Training configurations of a study's jobs."""

from dataclasses import replace
from pathlib import Path

from polyglance.coverage import Coverage
from polyglance.distributed import RuntimeConfig
from polyglance.study.config import FamilyConfig, StudyConfig
from polyglance.study.grid.jobs import Job, list_runs, without_masking
from polyglance.study.grid.models import choose_trained_components, make_micro_config
from polyglance.study.grid.published import count_published
from polyglance.train.config import LanguageModelConfig, RunConfig, StartConfig, TrainConfig, VisionCacheConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.watch import WatchConfig

__all__ = ["make_language_model_config", "make_run_config", "make_train_config"]

_FINAL = Path("checkpoints/final")
_WATCH = WatchConfig(spike_factor=100.0)
"""Micro runs: near a loss of 0.005 nats, a small batch often has ten times the median loss; no warning is needed."""


def make_train_config(config: StudyConfig, job: Job, trunk: Path | None = None) -> TrainConfig:
    """Return the training run of a micro run, of a trunk or of the shared tower.

    Args:
        trunk: folder of the finished run that it goes on from.
    """
    if job.kind == "tower":
        assert config.tower is not None
        sizes = make_micro_config(
            config, FamilyConfig(name="tower", tower=True, widths=(job.width,), samples=(job.samples,)), job.width
        )
        coverage, optim = Coverage(caption=(config.tower.language,)), config.tower.optim
        start = StartConfig(model=sizes)
    else:
        family = config.family(job.family)
        coverage, start, optim = config.coverage, _micro_start(config, family, job), _optim_of(family, job)
    mixture = without_masking(config.mixture) if job.kind == "tower" else config.mixture
    return TrainConfig(
        data=config.train_dir,
        tokenizer=config.out / "tokenizer" / "tokenizer.json",
        coverage=coverage,
        start=start,
        mixture=mixture,
        optim=optim,
        num_samples=job.samples,
        seed=job.seed,
        engine=_micro_engine(config),
        vision_cache=_vision_cache(config, job),
        save_every_steps=config.save_every_steps,
        save_in_background=config.save_in_background,
        watch=_WATCH,
        trunk=trunk,
    )


def _micro_engine(config: StudyConfig) -> RuntimeConfig:
    """Return how a worker of the study computes: on one core, or on the card that it shares with others."""
    return (
        replace(config.engine, strategy="single")
        if config.is_on_card
        else RuntimeConfig(strategy="single", device="cpu")
    )


def _vision_cache(config: StudyConfig, job: Job) -> VisionCacheConfig:
    """Share the features of the shared tower among all runs that have it; they are the same bit for bit."""
    if job.kind == "tower" or not config.family(job.family).tower:
        return VisionCacheConfig(use="never")
    samples = sum(other.samples for other in list_runs(config) if config.family(other.family).tower)
    return VisionCacheConfig(folder=config.out / "features", shared_samples=samples)


def _optim_of(family: FamilyConfig, job: Job) -> OptimConfig:
    """Return the optimiser of a family's run, at the learning rate of its width; for a trunk without its cooldown."""
    optim = family.optim
    if family.lr_width is not None:
        optim = replace(optim, lr=optim.lr * family.lr_width / job.width)
    return replace(optim, cooldown_share=0.0, final_share=0.0) if job.kind == "trunk" else optim


def _micro_start(config: StudyConfig, family: FamilyConfig, job: Job) -> StartConfig:
    starts = config.out / "starts"
    return StartConfig(
        model=make_micro_config(config, family, job.width),
        language_model=None if job.start == "random" else starts / f"lm-{job.start}-d{job.width}" / _FINAL,
        vision_tower=starts / "tower" / _FINAL if family.tower else None,
        trained=choose_trained_components(family),
    )


def make_language_model_config(config: StudyConfig, job: Job) -> LanguageModelConfig:
    """Return the training of a language model that decoders start from."""
    start = config.language_models[job.start]
    family = next(family for family in config.families if job.start in family.starts)
    return LanguageModelConfig(
        data=config.train_dir,
        tokenizer=config.out / "tokenizer" / "tokenizer.json",
        model=make_micro_config(config, family, job.width),
        languages=start.languages,
        optim=start.optim,
        num_steps=start.steps,
        save_every_steps=config.save_every_steps,
        save_in_background=config.save_in_background,
    )


def make_run_config(config: StudyConfig, job: Job, folder: Path, trunk: Path | None = None) -> RunConfig:
    """Return the run of a published size, as `polyglance train` takes it (official code sections 1.10 and 3). Trunks
    are not measured, and runs that another job measures neither.

    Args:
        folder: folder of the run.
        trunk: folder of the finished run that it goes on from.

    Raises:
        ValueError: the model does not fit into the machine.
    """
    family = config.family(job.family)
    return RunConfig(
        out=folder,
        languages=config.languages,
        language_tokens=config.language_tokens,
        data=config.train_dir,
        test=config.test_dir if job.kind == "run" else None,
        evaluation=config.evaluation if job.kind == "run" else None,
        coverage=config.coverage,
        start=StartConfig(checkpoint=family.checkpoint_of(job.size), trained="published"),
        image_size=config.image_size,
        mixture=config.mixture,
        optim=_optim_of(family, job),
        num_samples=job.samples,
        seed=job.seed,
        engine=_engine(config, job),
        save_every_steps=config.save_every_steps,
        save_in_background=config.save_in_background,
        trunk=trunk,
        measured_as=config.machine.devices if job.trained_by else None,
    )


def _engine(config: StudyConfig, job: Job) -> RuntimeConfig:
    """Return the configured engine, with the strategy that is recommended where the configuration leaves it open."""
    engine, machine = config.engine, config.machine
    if job.trained_by:  # its one process only measures
        return replace(engine, strategy="single", shard_size=None)
    if engine.micro_batch_size is not None or engine.strategy != "auto":
        return engine
    recommended = count_published(config, job.size).strategy
    if recommended is None:
        raise ValueError(f"{job.size} does not fit into {machine.devices} devices of {machine.memory_gb:g} GB")
    return replace(
        engine,
        strategy=recommended.strategy,
        micro_batch_size=recommended.micro_batch_size,
        activation_checkpointing=engine.activation_checkpointing or recommended.activation_checkpointing,
    )
