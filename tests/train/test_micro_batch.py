"""`micro_batch_size = "auto"`: as large as fits, found before any weight changes, kept by a run that goes on."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from polyglance.distributed import Runtime, RuntimeConfig
from polyglance.mixture import dataset
from polyglance.mixture import passes as passes_module
from polyglance.mixture.passes import Pass
from polyglance.model import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.training_setup import find_divisors
from polyglance.train import micro_batch
from polyglance.train.config import StartConfig, TrainConfig
from polyglance.train.micro_batch import Trial, _halve_until_it_fits
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from polyglance.train.step import CaptionObjective
from tests.train.runs import assert_identical, small_run, stop_after, write_checkpoint


@pytest.fixture(scope="module")
def config(world: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """With dropout, so that the size of the micro-batches shows in the weights."""
    start = write_checkpoint(tmp_path_factory.mktemp("start"), tokenizer_path, vocab_size=1024)
    engine = RuntimeConfig(device="cpu", micro_batch_size="auto")
    return small_run(world, None, tokenizer=None, start=StartConfig(checkpoint=start), engine=engine)


def read_record(run: Path) -> dict[str, Any]:
    return json.loads((run / "micro_batch_size.json").read_text())


def test_the_size_follows_the_memory_and_a_run_that_goes_on_keeps_it(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four of eight samples fit; later less memory is free."""
    needed: list[int] = []
    count = micro_batch._plan_bytes_per_sample
    monkeypatch.setattr(micro_batch, "_plan_bytes_per_sample", lambda *a: needed.append(count(*a)) or needed[-1])
    train(config, tmp_path / "all")
    assert read_record(tmp_path / "all")["micro_batch_size"] == 8
    state = micro_batch._count_state_bytes(Polyglance.from_pretrained(config.start.checkpoint), Runtime.single())
    free = state + int(5 * needed[0] / 0.85)
    monkeypatch.setattr(micro_batch, "measure_free_bytes", lambda device: free)
    with pytest.raises(Stopped):
        train(config, tmp_path / "four", hooks=stop_after(5))
    assert "micro-batches of 4 samples: planned 4" in capsys.readouterr().err
    record = read_record(tmp_path / "four")
    assert (record["micro_batch_size"], record["planned"], record["is_checked"]) == (4, 4, False)
    monkeypatch.setattr(micro_batch, "measure_free_bytes", lambda device: 0)
    train(config, tmp_path / "four")
    train(replace(config, engine=RuntimeConfig(device="cpu", micro_batch_size=4)), tmp_path / "given")
    assert_identical(tmp_path / "four", tmp_path / "given")
    with pytest.raises(AssertionError):
        assert_identical(tmp_path / "four", tmp_path / "all")
    monkeypatch.undo()
    train(config, tmp_path / "new")
    assert read_record(tmp_path / "new")["micro_batch_size"] == 8


def test_a_run_whose_passes_differ_goes_on_with_them_bit_for_bit(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, and although another version would plan them otherwise. Another run plans its own."""
    monkeypatch.setattr(passes_module, "_PASS_POSITIONS", 10)  # or such small steps would be one pass
    engine = replace(config.engine, num_shapes=6)
    config = replace(config, engine=engine, mixture=replace(config.mixture, batch_size=32), num_samples=32 * 12)
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "stopped", hooks=stop_after(5))
    passes = json.loads((tmp_path / "whole" / "passes.json").read_text())["passes"]
    assert len(passes) > 1
    monkeypatch.setattr(dataset, "plan_passes", lambda *args, **options: (Pass(16, 96, 64),) * 2)
    train(config, tmp_path / "stopped")
    assert_identical(tmp_path / "stopped", tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "other", hooks=stop_after(2))
    assert json.loads((tmp_path / "other" / "passes.json").read_text())["passes"] == [[16, 96, 64]] * 2


@given(share=st.integers(1, 500), fits=st.integers(1, 500), planned=st.integers(0, 30))
def test_the_size_is_halved_until_a_pass_fits(share: int, fits: int, planned: int) -> None:
    sizes = find_divisors(share)
    tried: list[int] = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")

    size, too_large = _halve_until_it_fits(sizes, sizes[planned % len(sizes)], attempt)
    assert size in sizes
    assert size <= fits
    assert tried == [*too_large, size]
    assert all(b <= a // 2 for a, b in pairwise(tried))


def test_a_model_that_does_not_fit_at_all_is_refused() -> None:
    def attempt(size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ValueError, match="not even one sample fits"):
        _halve_until_it_fits([1, 2, 4], 4, attempt)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("is_cached", [False, True])
def test_a_trial_leaves_nothing_behind(config: TrainConfig, fails: bool, is_cached: bool) -> None:
    """Neither a gradient nor another weight, whether it fits or not. It sees the longest samples that there can be."""
    model = Polyglance(MicroConfig(width=16, image_size=32).build(64))
    before = {name: p.clone() for name, p in model.state_dict().items()}
    gradients: list[bool] = []

    class Failing(CaptionObjective):
        def forward(self, batch: Any, denominator: float) -> Any:
            loss, nats = super().forward(batch, denominator)
            loss.register_hook(lambda _: gradients.append(True))
            if fails:
                loss.backward(retain_graph=True)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss, nats

    trial = Trial(config, Failing(model), Runtime.single(), image_size=32, is_cached=is_cached)
    batch = trial.make_batch(3)
    assert batch.input_ids.shape == (3, config.mixture.max_source_tokens)
    assert batch.labels.shape == (3, config.mixture.max_target_tokens)
    assert batch.num_tokens == batch.labels.numel()
    try:
        trial.make_pass(3)
    except torch.OutOfMemoryError:
        assert fails
    assert gradients == [True], "a backward pass was made"
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
