"""Small training runs, for tests and for the processes that tests start."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader
from polyglance.distributed import RuntimeConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import load_tokenizer, train_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.processor import Processor
from polyglance.train.config import StartConfig, TrainConfig

LARGE_VOCABULARY = 20_000
"""So many that the loss is computed in chunks."""


def write_tokenizer(world: Path, folder: Path) -> Path:
    table = ShardReader(world / "train").annotations()
    path = folder / "tokenizer.json"
    train_tokenizer((t for a in table for x in a for t in (x.text, prompt_of(x))), vocab_size=1024).save(str(path))
    return path


def write_checkpoint(folder: Path, tokenizer_path: Path, *, dropout: float = 0.1) -> Path:
    """A model to start from, with a large vocabulary, and dropout where the library has it."""
    config = MicroConfig(width=16).build(LARGE_VOCABULARY)
    for part in (config.encoder_config, config.decoder_config):
        part.dropout = part.attention_dropout = part.activation_dropout = dropout
    torch.manual_seed(3)
    Polyglance(config).save_pretrained(folder)
    Processor.for_model(config, load_tokenizer(tokenizer_path)).save(folder)
    return folder


def small_run(world: Path, tokenizer_path: Path | None, **settings: Any) -> TrainConfig:
    """Twelve steps of eight samples; replaced by what is given."""
    usual = TrainConfig(
        data=world / "train",
        tokenizer=tokenizer_path or Path("unused"),
        coverage=Coverage(caption=("en",), translation=("fr", "zh")),
        start=StartConfig(model=MicroConfig(width=16)),
        mixture=MixtureConfig(batch_size=8),
        engine=RuntimeConfig(device="cpu"),
        num_samples=8 * 12,
        save_every_steps=5,
    )
    return replace(usual, **settings)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "final" / "model.safetensors")
