"""How each kind of job is done. A job that was interrupted is simply done again: what it had finished is kept."""

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from polyglance.config import save
from polyglance.coverage import Coverage
from polyglance.data.importer import ImportConfig, import_data
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import ShardReader
from polyglance.data.world import generate
from polyglance.distributed import RuntimeConfig
from polyglance.evaluate.cells import evaluated_cells
from polyglance.files import write_atomically
from polyglance.mixture.collate import encode_targets
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.sampler import compute_cell_weights
from polyglance.mixture.tokenizer import read_texts, train_tokenizer
from polyglance.model.card import make_card
from polyglance.model.components import COMPONENTS, PUBLISHED_TRAINED, Component
from polyglance.model.micro import MicroConfig
from polyglance.model.training_setup import recommend_setup
from polyglance.processes import run_program
from polyglance.records import Annotation
from polyglance.study.config import FamilyConfig, StudyConfig
from polyglance.study.grid import Job
from polyglance.study.measure import (
    evaluator_for,
    measured_run,
    prefixes_for,
)
from polyglance.study.store import begin, finish, is_done
from polyglance.train.config import LanguageModelConfig, RunConfig, StartConfig, TrainConfig, VisionCacheConfig
from polyglance.train.language_model import train_language_model
from polyglance.train.run import train

__all__ = ["data_dirs", "do", "language_model_config", "prefixes", "published_run", "start_of", "train_config"]


def do(config: StudyConfig, job: Job) -> None:
    """Do a job, unless it is done.

    Raises:
        ValueError: what the user has to change, in one line that names the job.
    """
    if is_done(config.out, job):
        return
    folder = begin(config.out, job)
    try:
        match job.kind:
            case "data":
                _make_data(config, folder)
            case "tokenizer":
                _make_tokenizer(config, folder)
            case "tower":
                train(train_config(config, job), folder)
            case "language_model":
                train_language_model(language_model_config(config, job), folder)
            case "run" if config.is_micro:
                _make_run(config, job, folder)
            case "run":
                _launch_run(config, job, folder)
    except ValueError as error:
        raise ValueError(f"{job.id}: {error}") from None
    finish(config.out, job)


def data_dirs(config: StudyConfig) -> tuple[Path, Path]:
    """The training and the test data set."""
    root = config.data.path or config.out / "data"
    return root / "train", root / "test"


def prefixes(config: StudyConfig) -> dict[str, str]:
    """Language code -> prefix: the configuration's, else the data set's own, else the language's."""
    return prefixes_for(data_dirs(config)[1], config.evaluation)


def micro_config(config: StudyConfig, family: FamilyConfig, width: int) -> MicroConfig:
    """Sizes of a family's model at a width, with room for the longest prompt and target."""
    longest_prompt = (config.image_size // config.patch_size) ** 2 + 1 + config.mixture.max_source_tokens
    return MicroConfig(
        decoder=family.decoder,
        width=width,
        layers=family.layers,
        vision_width=config.tower.width if family.tower and config.tower else None,
        image_size=config.image_size,
        patch_size=config.patch_size,
        max_tokens=max(MicroConfig.max_tokens, longest_prompt, config.mixture.max_target_tokens + 1),
    )


def trained_parts(family: FamilyConfig) -> tuple[Component, ...]:
    """Parts that the family's runs update.

    As published for its kind of decoder, except that the image projection, which is random here, is trained too, and
    that where no trained vision tower is given the tower is trained along.
    """
    published = COMPONENTS if family.decoder == "bart" and not family.tower else PUBLISHED_TRAINED[family.decoder]
    own = {"projection", *(() if family.tower else ("vision",))}
    return tuple(part for part in COMPONENTS if part in published or part in own)


def start_of(config: StudyConfig, job: Job) -> StartConfig:
    """The model of a run before its first step."""
    family = next(family for family in config.families if family.name == job.family)
    starts = config.out / "starts"
    return StartConfig(
        model=micro_config(config, family, job.width),
        language_model=None if job.start == "random" else starts / f"lm-{job.start}-d{job.width}" / _FINAL,
        vision_tower=starts / "tower" / _FINAL if family.tower else None,
        trained=trained_parts(family),
    )


_FINAL = Path("checkpoints/final")


def train_config(config: StudyConfig, job: Job) -> TrainConfig:
    """The training run of a `run` or `tower` job."""
    if job.kind == "tower":
        assert config.tower is not None
        sizes = micro_config(config, FamilyConfig(name="tower", widths=(job.width,), samples=(job.samples,)), job.width)
        coverage, optim = Coverage(caption=(config.tower.language,)), config.tower.optim
        start = StartConfig(model=sizes)
    else:
        family = next(family for family in config.families if family.name == job.family)
        coverage, start, optim = config.coverage, start_of(config, job), family.optim
    return TrainConfig(
        data=data_dirs(config)[0],
        tokenizer=config.out / "tokenizer" / "tokenizer.json",
        coverage=coverage,
        start=start,
        mixture=config.mixture,
        optim=optim,
        num_samples=job.samples,
        seed=job.seed,
        engine=RuntimeConfig(strategy="single", device="cpu"),  # a worker of the study is one core
        vision_cache=VisionCacheConfig(use="never"),
        save_every_steps=config.save_every_steps,
    )


def language_model_config(config: StudyConfig, job: Job) -> LanguageModelConfig:
    start = config.language_models[job.start]
    family = next(family for family in config.families if job.start in family.starts)
    return LanguageModelConfig(
        data=data_dirs(config)[0],
        tokenizer=config.out / "tokenizer" / "tokenizer.json",
        model=micro_config(config, family, job.width),
        languages=start.languages,
        optim=start.optim,
        num_steps=start.steps,
        save_every_steps=config.save_every_steps,
    )


def _make_data(config: StudyConfig, folder: Path) -> None:
    data = config.data
    if data.world is not None:
        generate(data.world, folder)
    elif data.table is not None:
        import_data(ImportConfig(out=folder, overwrite=True, **vars(data.table)))
    train_dir, test_dir = data_dirs(config)
    have = read_manifest(train_dir).rows_per_cell
    if missing := [str(cell) for cell in config.coverage.cells if not have.get(str(cell))]:
        raise ValueError(f"{train_dir} has no {', '.join(missing)}; the coverage asks for it")
    try:
        evaluated_cells(config.coverage, read_manifest(test_dir).rows_per_cell)
    except ValueError as error:
        raise ValueError(f"{test_dir}: {error}") from None


def _make_tokenizer(config: StudyConfig, folder: Path) -> None:
    """Train the tokenizer and note how long prompts and targets are with it."""
    data = data_dirs(config)[0]
    texts = read_texts(data, set(config.coverage.languages))
    tokenizer = train_tokenizer(texts, vocab_size=config.vocab_size)
    write_atomically(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    annotations = (a for of_image in ShardReader(data).annotations() for a in of_image)
    lengths = _mean_lengths(config, tokenizer, annotations)
    write_atomically(folder / "lengths.json", json.dumps(lengths, indent=2) + "\n")


def _mean_lengths(config: StudyConfig, tokenizer: Tokenizer, annotations: Iterable[Annotation]) -> dict[str, int]:
    """Mean prompt and target tokens of a training sample, rounded: the lengths at which F is counted."""
    by_cell: dict[str, list[Annotation]] = {str(cell): [] for cell in config.coverage.cells}
    for annotation in annotations:
        found = by_cell.get(str(annotation.cell))
        if found is not None and len(found) < _LENGTH_SAMPLES:
            found.append(annotation)
    sources = targets = 0.0
    for cell, weight in compute_cell_weights(config.coverage, config.mixture.balance).items():
        chosen = by_cell[str(cell)]
        prompts = encode_targets(tokenizer, [prompt_of(a) for a in chosen], config.mixture.max_source_tokens)
        texts = encode_targets(tokenizer, [a.text for a in chosen], config.mixture.max_target_tokens)
        sources += weight * sum(map(len, prompts)) / len(chosen)
        targets += weight * sum(map(len, texts)) / len(chosen)
    return {"source_tokens": round(sources), "target_tokens": round(targets)}


_LENGTH_SAMPLES = 2_000
"""Annotations of each cell that the mean lengths are taken over."""


def _make_run(config: StudyConfig, job: Job, folder: Path) -> None:
    """Measure the untrained model, train it, measure it again."""
    settings = train_config(config, job)
    evaluator = evaluator_for(settings, config.evaluation, data_dirs(config)[1])
    measured_run(settings, folder, lambda: evaluator, run_id=job.id)


def published_run(config: StudyConfig, job: Job, folder: Path) -> RunConfig:
    """The run of a published size, as `polyglance train` takes it (official code sections 1.10 and 3)."""
    family = next(family for family in config.families if family.name == job.family)
    train_dir, test_dir = data_dirs(config)
    return RunConfig(
        out=folder,
        data=train_dir,
        test=test_dir,
        evaluation=config.evaluation,
        coverage=config.coverage,
        start=StartConfig(checkpoint=Path(family.checkpoint.format(size=job.size)), trained="published"),
        image_size=config.image_size,
        mixture=config.mixture,
        optim=family.optim,
        num_samples=job.samples,
        seed=job.seed,
        engine=_engine(config, job),
        save_every_steps=config.save_every_steps,
    )


def _engine(config: StudyConfig, job: Job) -> RuntimeConfig:
    """The configured engine; what it leaves open as recommended for the size and the machine."""
    engine, machine = config.engine, config.machine
    if engine.micro_batch_size is not None or engine.strategy != "auto":
        return engine
    lengths = {"source_tokens": config.mixture.max_source_tokens, "target_tokens": config.mixture.max_target_tokens}
    how = recommend_setup(
        make_card(job.size, image_size=config.image_size, **lengths),
        devices=machine.devices,
        device_bytes=int(machine.memory_gb * 1e9),
        batch_size=config.mixture.batch_size,
    )
    if how is None:
        raise ValueError(f"{job.size} does not fit into {machine.devices} devices of {machine.memory_gb:g} GB")
    return replace(
        engine,
        strategy=how.strategy,
        micro_batch_size=how.micro_batch_size,
        activation_checkpointing=engine.activation_checkpointing or how.activation_checkpointing,
    )


def _launch_run(config: StudyConfig, job: Job, folder: Path) -> None:
    """Train a published size with `polyglance train`, under torchrun where the machine has several devices."""
    path = folder / "run.toml"
    save(published_run(config, job, folder), path)
    several = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.machine.devices}")
    command = [sys.executable, *(several if config.machine.devices > 1 else ()), "-m", "polyglance", "train", str(path)]
    done = run_program(command)
    if done.returncode or not (folder / "losses.json").exists():
        said = [line for line in done.stderr.splitlines() if line.startswith("polyglance: ")]
        raise ValueError(said[-1].removeprefix("polyglance: ") if said else f"`polyglance train {path}` did not finish")
