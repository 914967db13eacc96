"""Training runs: a model on a mixture, and a language model on texts alone."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import Gemma2ForCausalLM

from polyglance.config import save, write_atomically
from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture.collate import IGNORED, pad, target_ids
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.tokenizer import BOS, load_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.assemble import language_model, with_language_model, with_vision_tower
from polyglance.model.micro import MicroConfig
from polyglance.model.parts import PARTS, Part, freeze
from polyglance.train.log import environment
from polyglance.train.loop import optimise
from polyglance.train.optim import OptimConfig
from polyglance.train.step import caption_loss, language_model_loss

__all__ = ["LanguageModelConfig", "StartConfig", "TrainConfig", "initial_model", "train", "train_language_model"]


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The model before its first step."""

    model: MicroConfig = field(default_factory=MicroConfig)
    """Its sizes."""
    language_model: Path | None = None
    """Folder of a trained Gemma-2 to put into the decoder; None: random weights."""
    vision_tower: Path | None = None
    """Folder of a model whose vision tower is taken; None: random weights."""
    trained: tuple[Part, ...] = PARTS
    """Parts that training updates; the others stay as they start."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    data: Path
    """The training data set."""
    tokenizer: Path
    """tokenizer.json."""
    coverage: Coverage
    """The cells that are trained."""
    start: StartConfig = field(default_factory=StartConfig)
    """The model before its first step."""
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    """How batches are drawn."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How they are learned from."""
    num_samples: int = 10_000
    """S: samples seen, rounded down to whole batches."""
    seed: int = 0
    """Of initial weights and sample order."""
    save_every_steps: int = 200
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        if self.num_samples < self.mixture.batch_size:
            raise ValueError(f"num_samples {self.num_samples} is less than one batch of {self.mixture.batch_size}")

    @property
    def num_steps(self) -> int:
        return self.num_samples // self.mixture.batch_size


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """A decoder trained as a language model on the texts of a data set, before any image is shown to it."""

    data: Path
    """The data set whose captions are the texts."""
    tokenizer: Path
    """tokenizer.json."""
    model: MicroConfig
    """Sizes of the model whose decoder it becomes."""
    languages: Mapping[str, float]
    """Language code -> share of the texts; what makes the starting point more or less multilingual."""
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=3e-3))
    """How it is learned."""
    num_steps: int = 500
    """Optimiser steps."""
    batch_size: int = 64
    """Texts per step."""
    seed: int = 0
    """Of initial weights and text order."""
    save_every_steps: int = 200
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        if self.model.decoder != "gemma2":
            raise ValueError(f"a {self.model.decoder} decoder does not start from a language model; gemma2 does")


def initial_model(start: StartConfig, *, vocab_size: int, seed: int) -> Polyglance:
    """The model before its first step: random weights from the seed, then the parts that are given."""
    torch.manual_seed(seed)
    model = Polyglance(start.model.build(vocab_size))
    if start.language_model is not None:
        with_language_model(model, start.language_model)
    if start.vision_tower is not None:
        with_vision_tower(model, start.vision_tower)
    freeze(model, start.trained)
    return model


def train(config: TrainConfig, run_dir: str | Path, *, show_progress: bool = False) -> Polyglance:
    """Train a model and leave its record in `run_dir`; goes on from a checkpoint there.

    Writes config.toml, env.json, metrics.jsonl, samples.json (S per cell) and checkpoints/final (a folder that
    `from_pretrained` reads).

    Raises:
        ValueError: data, coverage and configuration do not fit each other, or the loss is no longer finite.
    """
    run_dir = Path(run_dir)
    tokenizer = load_tokenizer(config.tokenizer)
    model = initial_model(config.start, vocab_size=tokenizer.get_vocab_size(), seed=config.seed)
    mixture = Mixture(
        config.mixture,
        config.coverage,
        ShardReader(config.data),
        tokenizer,
        image_size=config.start.model.image_size,
        seed=config.seed,
    )
    _describe(run_dir, config)
    write_atomically(run_dir / "samples.json", json.dumps(mixture.samples_per_cell(config.num_steps), indent=2) + "\n")
    optimise(
        model,
        lambda step: caption_loss(model, mixture.batch(step)),
        optim=config.optim,
        num_steps=config.num_steps,
        run_dir=run_dir,
        save_every_steps=config.save_every_steps,
        show_progress=show_progress,
    )
    _keep_final(run_dir, model)
    return model.eval()


def train_language_model(
    config: LanguageModelConfig, run_dir: str | Path, *, show_progress: bool = False
) -> Gemma2ForCausalLM:
    """Train a stock Gemma-2 of the decoder's sizes on captions as texts; leaves in `run_dir` what `train` leaves."""
    run_dir = Path(run_dir)
    tokenizer = load_tokenizer(config.tokenizer)
    torch.manual_seed(config.seed)
    model = language_model(config.model.build(tokenizer.get_vocab_size()))
    texts = _texts_by_language(config)
    codes, shares = list(config.languages), np.array(list(config.languages.values()))

    def loss_of_step(step: int) -> tuple[torch.Tensor, int]:
        random = np.random.default_rng([config.seed, 4, step])
        chosen = random.choice(len(codes), size=config.batch_size, p=shares / shares.sum())
        drawn = [texts[codes[c]][random.integers(len(texts[codes[c]]))] for c in chosen.tolist()]
        ids = target_ids(tokenizer, drawn, config.model.max_tokens - 1)
        return language_model_loss(model, pad([[BOS, *row] for row in ids], IGNORED))

    _describe(run_dir, config)
    optimise(
        model,
        loss_of_step,
        optim=config.optim,
        num_steps=config.num_steps,
        run_dir=run_dir,
        save_every_steps=config.save_every_steps,
        show_progress=show_progress,
    )
    _keep_final(run_dir, model)
    return model.eval()


def _texts_by_language(config: LanguageModelConfig) -> dict[str, list[str]]:
    table = ShardReader(config.data).annotations()
    texts: dict[str, list[str]] = {code: [] for code in config.languages}
    for task, code, text in zip(table.task, table.language, table.text, strict=True):
        if task == "caption" and code in texts:
            texts[code].append(text)
    if empty := [code for code, found in texts.items() if not found]:
        raise ValueError(f"{config.data}: no texts in {', '.join(empty)} for a language model")
    return texts


def _describe(run_dir: Path, config: TrainConfig | LanguageModelConfig) -> None:
    save(config, run_dir / "config.toml")
    write_atomically(run_dir / "env.json", json.dumps(environment(), indent=2) + "\n")


def _keep_final(run_dir: Path, model: Polyglance | Gemma2ForCausalLM) -> None:
    """Save the trained model under its final name and drop the checkpoints that led to it."""
    folder = run_dir / "checkpoints"
    partial = folder / "final.partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    shutil.rmtree(folder / "final", ignore_errors=True)
    partial.replace(folder / "final")
    for path in folder.glob("step-*"):
        shutil.rmtree(path)
