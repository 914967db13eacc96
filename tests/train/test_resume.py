"""A run that was stopped and gone on with is the run that was never stopped, bit for bit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import train_tokenizer
from polyglance.model.components import COMPONENTS
from polyglance.model.micro import MicroConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.run import (
    LanguageModelConfig,
    StartConfig,
    TrainConfig,
    initial_model,
    train,
    train_language_model,
)


@pytest.fixture(scope="module")
def tokenizer_path(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = ShardReader(world / "train").annotations()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer((t for a in table for x in a for t in (x.text, prompt_of(x))), vocab_size=1024).save(str(path))
    return path


def config(world: Path, tokenizer_path: Path, **settings: object) -> TrainConfig:
    usual = TrainConfig(
        data=world / "train",
        tokenizer=tokenizer_path,
        coverage=Coverage(caption=("en",), translation=("fr", "zh")),
        start=StartConfig(model=MicroConfig(width=16)),
        mixture=MixtureConfig(batch_size=8),
        num_samples=8 * 12,
        save_every_steps=5,
    )
    return replace(usual, **settings)  # type: ignore[arg-type]


class Killed(Exception):
    pass


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make the run die, as a killed process does, when it sets the learning rate of that step."""
    original = OptimConfig.set_lr

    def set_lr(self: OptimConfig, optimizer: torch.optim.Optimizer, at: int, num_steps: int) -> float:
        if at == step:
            raise Killed
        return original(self, optimizer, at, num_steps)

    monkeypatch.setattr(OptimConfig, "set_lr", set_lr)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "final" / "model.safetensors")


def rows(run: Path) -> list[tuple[int, float]]:
    return [(r["step"], r["lr"]) for r in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]


def test_a_stopped_run_goes_on_bit_for_bit(
    world: Path, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(world, tokenizer_path)
    train(settings, tmp_path / "whole")
    for step in (3, 7, 10, 11):  # before any checkpoint, and after some
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            with pytest.raises(Killed):
                train(settings, tmp_path / "stopped")
    # A half-written checkpoint, as a kill in the middle of saving leaves it, is not a checkpoint.
    (tmp_path / "stopped" / "checkpoints" / "step-00000011.partial").mkdir()
    train(settings, tmp_path / "stopped")
    whole, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert whole.keys() == stopped.keys()
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert rows(tmp_path / "whole") == rows(tmp_path / "stopped")
    assert {path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()} == {"final"}


def test_training_moves_what_is_trained_and_nothing_else(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    frozen = ("vision", "decoder")
    start = StartConfig(
        model=MicroConfig(decoder="gemma2", width=16), trained=tuple(part for part in COMPONENTS if part not in frozen)
    )
    settings = config(world, tokenizer_path, start=start, optim=OptimConfig(lr=1e-2))
    from polyglance.mixture.tokenizer import load_tokenizer
    from polyglance.model.components import find_component

    before = initial_model(start, vocab_size=load_tokenizer(tokenizer_path).get_vocab_size(), seed=settings.seed)
    after = train(settings, tmp_path / "run")
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(old, new) == (find_component(name) in frozen), name


def test_the_loss_falls_and_samples_are_counted(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    settings = config(world, tokenizer_path, optim=OptimConfig(lr=1e-2), num_samples=8 * 60)
    train(settings, tmp_path / "run")
    losses = [r["loss_nats"] for r in map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())]
    assert losses[-1] < 0.7 * losses[0]
    counts = json.loads((tmp_path / "run" / "samples.json").read_text())
    assert counts == {"caption-en": 160, "translation-fr": 160, "translation-zh": 160}


def test_a_language_model_becomes_the_start_of_a_decoder(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """With its gates at zero the model is the language model, to the bit, whatever image and prompt say."""
    sizes = MicroConfig(decoder="gemma2", width=16)
    lm = train_language_model(
        LanguageModelConfig(
            data=world / "train", tokenizer=tokenizer_path, model=sizes, languages={"en": 3.0, "fr": 1.0}, num_steps=8
        ),
        tmp_path / "lm",
    )
    start = StartConfig(model=sizes, language_model=tmp_path / "lm" / "checkpoints" / "final")
    model = initial_model(start, vocab_size=lm.config.vocab_size, seed=1).eval()
    ids = torch.randint(5, lm.config.vocab_size, (2, 7))
    with torch.no_grad():
        logits = model(torch.randn(2, 3, 32, 32), ids[:, :4], decoder_input_ids=ids).logits
        assert torch.equal(logits, lm(input_ids=ids).logits)


def test_mistakes_are_one_line(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="less than one batch"):
        config(world, tokenizer_path, num_samples=3)
    sizes = MicroConfig(decoder="gemma2", width=16)
    lm = LanguageModelConfig(data=world / "train", tokenizer=tokenizer_path, model=sizes, languages={"de": 1.0})
    with pytest.raises(ValueError, match="no texts in de"):
        train_language_model(lm, tmp_path / "lm")
    with pytest.raises(ValueError, match="a bart decoder does not start from a language model"):
        replace(lm, model=MicroConfig(width=16))
    with pytest.raises(ValueError, match="try a lower lr"):
        train(config(world, tokenizer_path, optim=OptimConfig(lr=1e30, clip_norm=1e30)), tmp_path / "wild")
