"""Configuration of a run: how steps are divided, rates, the optimiser, what is asked wrongly."""

from pathlib import Path

import pytest
import torch

from polyglance.config import load, save
from polyglance.distributed import Runtime, RuntimeConfig, join_processes
from polyglance.model.architecture import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.parallel import layers
from tests.train.runs import small_run


def test_parts_of_a_step_are_shared_out_once_each() -> None:
    for world_size in (1, 2, 4):
        engine = RuntimeConfig(micro_batch_size=8)
        assert (num := engine.num_micro_batches(64, world_size)) == 8  # the same parts whatever the number of processes
        processes = [Runtime(rank=r, world_size=world_size, device=torch.device("cpu")) for r in range(world_size)]
        assert [index for process in processes for index in process.local_micro_batches(num)] == list(range(8))
    assert RuntimeConfig().num_micro_batches(64, 4) == 4
    with pytest.raises(ValueError, match="64 samples cannot be divided over 3 processes in micro-batches of 8"):
        RuntimeConfig(micro_batch_size=8).num_micro_batches(64, 3)


def test_strategies_that_do_not_fit_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    with join_processes(RuntimeConfig(device="cpu")) as runtime:
        assert (runtime.strategy, runtime.world_size, runtime.is_main) == ("single", 1, True)
    with (
        pytest.raises(ValueError, match="needs torchrun"),
        join_processes(RuntimeConfig(strategy="fsdp", device="cpu")),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ValueError, match="'single' is for one process"),
        join_processes(RuntimeConfig(strategy="single")),
    ):
        pass


def test_the_published_schedule() -> None:
    """100 steps of warm-up, then a cosine to zero."""
    optim = OptimConfig(lr=1e-4, warmup_steps=100, beta2=0.999, weight_decay=0.01, decay="published")
    optimizer = optim.build(Polyglance(MicroConfig(decoder="gemma2", width=16).build(64)))
    rates = [optim.set_lr(optimizer, step, 500) for step in range(500)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[99] == rates[100] == pytest.approx(1.0)
    assert rates[300] == pytest.approx(0.5)
    assert rates[499] < 1e-4
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    model = Polyglance(MicroConfig(decoder="gemma2", width=16).build(64))
    for kind, with_gates in (("published", True), ("matrices", False)):
        groups = OptimConfig(decay=kind).build(model).param_groups  # type: ignore[arg-type]
        decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
        assert (id(model.decoder.layers[0].encoder_attn_gate) in decayed) == with_gates  # type: ignore[index, union-attr]


def test_layers_are_what_is_sharded_and_recomputed() -> None:
    for decoder, expected in (("bart", "BartDecoderLayer"), ("gemma2", "GatedGemma2Layer")):
        model = Polyglance(MicroConfig(decoder=decoder, width=16, layers=3).build(64))  # type: ignore[arg-type]
        assert [type(layer).__name__ for layer in layers(model)] == ["BartEncoderLayer"] * 3 + [expected] * 3


def test_a_configuration_survives_its_file(world: Path, tmp_path: Path) -> None:
    config = small_run(world, tmp_path / "tokenizer.json", engine=RuntimeConfig(peak_tflops="measured"))
    save(config, tmp_path / "run.toml")
    assert load(type(config), tmp_path / "run.toml") == config
    changed = load(type(config), tmp_path / "run.toml", overrides=["optim.lr=3e-4", "engine.strategy=fsdp"])
    assert (changed.optim.lr, changed.engine.strategy) == (3e-4, "fsdp")
    assert changed.settings != config.settings
    for same in ("engine.strategy=fsdp", "keep_last=7", "engine.micro_batch_size=2", "vision_cache.use=never"):
        assert load(type(config), tmp_path / "run.toml", overrides=[same]).settings == config.settings, same
    for other in ("seed=1", "num_samples=99", "engine.precision=bf16", "start.model.width=24"):
        assert load(type(config), tmp_path / "run.toml", overrides=[other]).settings != config.settings, other
