"""Configuration of a run: its file, its fingerprint, and mistakes in it."""

from pathlib import Path

import pytest

from polyglance.config import load, save
from polyglance.coverage import Coverage
from polyglance.distributed import RuntimeConfig
from polyglance.model.micro import MicroConfig
from polyglance.train.config import LanguageModelConfig, StartConfig, TrainConfig
from tests.train.runs import small_run


def test_a_configuration_survives_its_file_and_its_fingerprint_covers_what_weights_depend_on(
    world: Path, tmp_path: Path
) -> None:
    config = small_run(world, tmp_path / "tokenizer.json", engine=RuntimeConfig(peak_tflops="measured"))
    save(config, tmp_path / "run.toml")
    assert load(TrainConfig, tmp_path / "run.toml") == config
    for same in ("engine.strategy=fsdp", "keep_last=7", "engine.micro_batch_size=2", "mixture.max_bad_share=0.5"):
        assert load(TrainConfig, tmp_path / "run.toml", overrides=[same]).settings == config.settings, same
    for other in ("seed=1", "num_samples=99", "engine.precision=bf16", "start.model.width=24", "optim.lr=3e-4"):
        assert load(TrainConfig, tmp_path / "run.toml", overrides=[other]).settings != config.settings, other


def test_the_fingerprint_of_existing_runs_is_kept() -> None:
    """A finished run is known by it: with another one it would be trained again."""
    config = TrainConfig(data=Path("d"), tokenizer=Path("t"), coverage=Coverage(caption=("en",)))
    assert config.settings == "a0d710eceb04"


def test_mistakes_are_one_line(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="less than one batch"):
        small_run(world, tmp_path, num_samples=3)
    with pytest.raises(ValueError, match="save_every_steps is 0; expected at least 1"):
        small_run(world, tmp_path, save_every_steps=0)
    with pytest.raises(ValueError, match="either a checkpoint, or a language_model"):
        StartConfig(checkpoint=tmp_path, language_model=tmp_path)
    with pytest.raises(ValueError, match="a bart decoder does not start from a language model"):
        LanguageModelConfig(data=world, tokenizer=tmp_path, model=MicroConfig(width=16), languages={"en": 1.0})
