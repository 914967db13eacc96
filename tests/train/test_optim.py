"""Learning-rate schedule, what decays, and the loss scale."""

import pytest

from polyglance.model.architecture import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.train.optim import LossScale, OptimConfig


def test_the_published_schedule_and_decay() -> None:
    """100 steps of warm-up, then a cosine to zero; gates decay as published only if that is asked for."""
    model = Polyglance(MicroConfig(decoder="gemma2", width=16).build(64))
    optim = OptimConfig(lr=1e-4, warmup_steps=100, beta2=0.999, decay="published")
    optimizer = optim.build(model)
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    shares = [optim.set_lr(optimizer, step, 500) for step in range(500)]
    assert shares[0] == pytest.approx(0.01)
    assert shares[99] == shares[100] == pytest.approx(1.0)
    assert shares[300] == pytest.approx(0.5)
    assert shares[499] < 1e-4
    gate = model.decoder.layers[0].encoder_attn_gate  # type: ignore[index, union-attr]
    for config, expected in ((optim, True), (OptimConfig(), False)):
        groups = config.build(model).param_groups
        assert any(gate is p for group in groups if group["weight_decay"] for p in group["params"]) == expected


def test_the_loss_scale_is_halved_when_gradients_overflow_and_doubled_when_they_have_not_for_long() -> None:
    scale = LossScale(enabled=True)
    assert scale.reduce()
    assert scale.factor == 2.0**15
    for _ in range(LossScale.growth_interval_steps):
        scale.note_good_step()
    assert scale.factor == 2.0**16
    restored = LossScale(enabled=True, state=scale.state())
    assert (restored.factor, restored.good_steps) == (scale.factor, scale.good_steps)
    while scale.reduce():
        pass
    assert scale.factor == 1.0
    assert not LossScale(enabled=False).reduce()
