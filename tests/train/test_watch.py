"""Rules for problems: a step that is not finite is left out, a jump is reported, a run that hangs reports it."""

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from polyglance.train.config import VisionCacheConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from polyglance.train.step import CaptionObjective
from polyglance.train.watch import LossWatch, NotFiniteError, WatchConfig, watch_for_stalls
from tests.train.runs import assert_same_tensors, read_rows, read_weights, small_run, stop_after


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    world: Path, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 3 and 4 go wrong: the weights after step 4 are those after step 2. A third such step ends the run, and a
    run of four steps that ends so is refused."""
    forward, calls = CaptionObjective.forward, 0

    def broken(self: CaptionObjective, batch: object, denominator: float) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal calls
        calls += 1
        loss, nats = forward(self, batch, denominator)  # type: ignore[arg-type]
        return loss * (math.nan if calls >= 3 else 1), nats

    config = small_run(
        world,
        tokenizer_path,
        optim=OptimConfig(warmup_steps=1, final_share=1.0),
        watch=WatchConfig(max_bad_steps=3),
        vision_cache=VisionCacheConfig(use="never"),
        log_every_steps=1,
    )
    train(replace(config, num_samples=8 * 2), tmp_path / "two")
    monkeypatch.setattr(CaptionObjective, "forward", broken)
    with pytest.raises(Stopped):
        train(config, tmp_path / "four", hooks=stop_after(4))
    kept = load_file(tmp_path / "four" / "checkpoints" / "step-00000004" / "model.safetensors")
    two = read_weights(tmp_path / "two")
    assert_same_tensors(
        {name.removeprefix("model."): tensor for name, tensor in kept.items()},
        {name.removeprefix("model."): two[name.removeprefix("model.")] for name in kept},
    )
    assert read_rows(tmp_path / "four")[-1]["num_skipped"] == 2
    calls = 0
    with pytest.raises(NotFiniteError, match=r"the gradient was not finite in the last 2 steps of 4; .*lower lr"):
        train(replace(config, num_samples=8 * 4), tmp_path / "short")
    assert not (tmp_path / "short" / "checkpoints" / "final").exists()
    calls = 0
    with pytest.raises(ValueError, match=r"not finite .* in 3 steps in a row, up to step 5; .*: try a lower lr"):
        train(config, tmp_path / "wild")


def test_only_bad_steps_in_a_row_end_a_run() -> None:
    watch = LossWatch(WatchConfig(max_bad_steps=3), where="runs/x")
    watch.note_bad_step(1, math.nan)
    watch.note_bad_step(2, math.inf)
    watch.note_loss(2.0)
    watch.note_bad_step(4, math.nan)
    watch.note_bad_step(5, math.nan)
    with pytest.raises(ValueError, match=r"runs/x: the gradient was not finite .* in 3 steps in a row, up to step 6"):
        watch.note_bad_step(6, math.nan)


def test_a_spike_is_a_loss_far_above_the_median() -> None:
    watch = LossWatch(WatchConfig(spike_factor=3.0), where="x")
    losses = [2.0 + 0.01 * (i % 7) for i in range(50)]
    assert [watch.note_loss(loss) for loss in losses] == [None] * 50
    assert watch.note_loss(5.9) is None
    assert watch.note_loss(6.5) == pytest.approx(2.03, abs=0.02)
    assert watch.num_spikes == 1


def test_a_run_that_hangs_reports_it() -> None:
    reported = threading.Event()
    with watch_for_stalls(0.01, where="runs/x") as pulse, pytest.MonkeyPatch.context() as patch:
        pulse(7, "data wait")
        patch.setattr("builtins.print", lambda line, **kwargs: (lines.append(line), reported.set()))
        lines: list[str] = []
        assert reported.wait(20)
    assert lines[0].startswith("runs/x: no progress for 0 s; step 7, data wait")


@pytest.mark.parametrize("lr", [1e30, 1e38])
def test_a_run_that_diverges_leaves_no_model(world: Path, tokenizer_path: Path, tmp_path: Path, lr: float) -> None:
    """At once, and by its last step alone; of a short run and with a checkpoint on the way."""
    config = small_run(world, tokenizer_path, optim=OptimConfig(lr=lr, warmup_steps=0), save_every_steps=4)
    for num_steps in (1, 2, 3, 5, 12):
        with pytest.raises(NotFiniteError, match=r"not finite .*lower lr") as caught:
            train(replace(config, num_samples=8 * num_steps), tmp_path / str(num_steps))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / str(num_steps) / "checkpoints" / "final").exists()


def test_a_loss_that_is_not_finite_in_the_last_step_ends_the_run(
    world: Path, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = CaptionObjective.forward, 0

    def broken(self: CaptionObjective, batch: object, denominator: float) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal calls
        calls += 1
        loss, nats = forward(self, batch, denominator)  # type: ignore[arg-type]
        return loss, nats * (math.inf if calls == 12 else 1)

    monkeypatch.setattr(CaptionObjective, "forward", broken)
    config = small_run(world, tokenizer_path, vision_cache=VisionCacheConfig(use="never"))
    with pytest.raises(NotFiniteError, match=r"the loss at the last step is not finite \(inf\)"):
        train(config, tmp_path)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"step-00000005", "step-00000010"}
