"""The stated rules: what is not finite is left out, what jumps is reported, what hangs says so."""

import json
import math
import threading
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from polyglance.distributed import RuntimeConfig
from polyglance.train.config import TrainConfig, VisionCacheConfig
from polyglance.train.loop import LossScale
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from polyglance.train.step import CaptionObjective
from polyglance.train.watch import LossWatch, WatchConfig, stall_notice
from tests.train.runs import small_run, weights, write_tokenizer


@pytest.fixture(scope="module")
def config(world: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    tokenizer_path = write_tokenizer(world, tmp_path_factory.mktemp("tokenizer"))
    return small_run(world, tokenizer_path, vision_cache=VisionCacheConfig(use="never"), log_every_steps=1)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 3 and 4 go wrong: the weights after step 4 are those after step 2, and the run goes on."""
    forward, calls = CaptionObjective.forward, 0

    def broken(self: CaptionObjective, batch: object, denominator: float) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal calls
        calls += 1
        loss, nats = forward(self, batch, denominator)  # type: ignore[arg-type]
        return loss * (math.nan if calls in (3, 4) else 1), nats

    short = replace(config, optim=OptimConfig(warmup_steps=1, final_share=1.0))
    train(replace(short, num_samples=8 * 2), tmp_path / "two")
    monkeypatch.setattr(CaptionObjective, "forward", broken)
    train(replace(short, num_samples=8 * 4), tmp_path / "four")
    found, expected = weights(tmp_path / "four"), weights(tmp_path / "two")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert '"num_skipped": 2' in (tmp_path / "four" / "metrics.jsonl").read_text().splitlines()[-1]


def test_too_many_in_a_row_stop_the_run() -> None:
    watch = LossWatch(WatchConfig(max_bad_steps=3), where="runs/x")
    watch.bad(1, math.nan)
    watch.bad(2, math.inf)
    watch.good(2.0)
    watch.bad(4, math.nan)
    watch.bad(5, math.nan)
    with pytest.raises(ValueError, match=r"runs/x: the gradient was not finite .* in 3 steps in a row, up to step 6"):
        watch.bad(6, math.nan)


def test_a_spike_is_a_loss_far_above_the_median() -> None:
    watch = LossWatch(WatchConfig(spike_factor=3.0), where="x")
    usual = [2.0 + 0.01 * (i % 7) for i in range(50)]
    assert [watch.good(loss) for loss in usual] == [None] * 50
    assert watch.good(5.9) is None
    assert watch.good(6.5) == pytest.approx(2.03, abs=0.02)
    assert watch.num_spikes == 1


def test_what_is_usual_is_known_after_a_new_start(config: TrainConfig, tmp_path: Path) -> None:
    """Losses that do not fall and scatter, so that there are spikes before the stop and soon after it."""
    config = replace(config, num_samples=8 * 40, optim=OptimConfig(lr=1e-9), watch=WatchConfig(spike_factor=1.001))
    train(config, tmp_path / "whole")
    asked = count(1)
    with pytest.raises(Stopped):
        train(config, tmp_path / "stopped", should_stop=lambda: next(asked) == 30)
    train(config, tmp_path / "stopped")
    whole, stopped = (
        [json.loads(line)["num_spikes"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "stopped")
    )
    assert stopped == whole
    assert 0 < whole[29] < whole[39]


def test_a_run_that_hangs_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    said = threading.Event()
    with stall_notice(0.01, where="runs/x") as pulse, pytest.MonkeyPatch.context() as patch:
        pulse(7, "data wait")
        patch.setattr("builtins.print", lambda line, **kwargs: (lines.append(line), said.set()))
        lines: list[str] = []
        assert said.wait(20)
    assert lines[0].startswith("runs/x: no progress for 0 s; step 7, data wait")


def test_the_loss_scale_falls_when_gradients_overflow_and_rises_when_they_do_not() -> None:
    scale = LossScale(enabled=True)
    assert scale.factor == 2.0**16
    assert scale.overflowed()
    assert scale.factor == 2.0**15
    for _ in range(LossScale.growth_interval_steps):
        scale.fitted()
    assert scale.factor == 2.0**16
    again = LossScale(enabled=True, state=scale.state())
    assert (again.factor, again.good_steps) == (scale.factor, scale.good_steps)
    while scale.overflowed():
        pass
    assert scale.factor == 1.0
    assert not LossScale(enabled=False).overflowed()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_nearly_the_same(config: TrainConfig, tmp_path: Path, precision: str) -> None:
    """fp16 begins with overflows, which are skipped until the scale fits; then both follow float32."""
    steps = replace(config, num_samples=8 * 40, optim=OptimConfig(lr=3e-3), log_every_steps=20)
    train(steps, tmp_path / "fp32")
    model = train(replace(steps, engine=RuntimeConfig(device="cpu", precision=precision)), tmp_path / "half")  # type: ignore[arg-type]
    full, half = (
        [json.loads(line)["loss_nats"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("fp32", "half")
    )
    assert full[1] < 0.9 * full[0]
    assert half == pytest.approx(full, rel=0.02)
    assert half != full
    assert all(p.dtype == torch.float32 for p in model.parameters())
