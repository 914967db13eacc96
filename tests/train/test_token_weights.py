"""The weight of first tokens: it changes gradients as computed by hand, and no loss that is reported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from polyglance.data.shard import ShardReader
from polyglance.distributed import RuntimeConfig
from polyglance.mixture.collate import IGNORED, Batch, collate
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.texts import Frames
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model import architecture, loss
from polyglance.model.components import set_train_mode
from polyglance.model.generate import load_polyglance
from polyglance.model.micro import MicroConfig
from polyglance.model.vision import normalise_pixels
from polyglance.train.config import StartConfig, TrainConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.step import CaptionObjective
from tests.train.runs import assert_identical, read_rows, read_weights, small_run, write_checkpoint

WEIGHT = 2.5
WEIGHTED = MixtureConfig(batch_size=8, first_token_weight=WEIGHT)


def make_mixture(config: TrainConfig, tokenizer_path: Path, frames: Frames = Frames()) -> Mixture:  # noqa: B008
    tokenizer = load_tokenizer(tokenizer_path)
    reader = ShardReader(config.data)
    return Mixture(config.mixture, config.coverage, reader, tokenizer, image_size=32, seed=0, frames=frames)


@pytest.fixture(scope="module")
def batch(world: Path, tokenizer_path: Path) -> Batch:
    return make_mixture(small_run(world, tokenizer_path, mixture=WEIGHTED), tokenizer_path).batch(0)


def test_the_first_token_of_a_text_has_the_weight_and_padding_none(
    world: Path, tokenizer_path: Path, batch: Batch
) -> None:
    config = small_run(world, tokenizer_path, mixture=WEIGHTED)
    assert batch.weights is not None
    assert (batch.weights[:, 0] == WEIGHT).all()
    assert torch.equal(batch.weights[:, 1:], (batch.labels[:, 1:] != IGNORED).float())
    assert batch.total_weight == batch.num_tokens + (WEIGHT - 1) * len(batch.labels)
    framed = make_mixture(config, tokenizer_path, Frames(target_start=(2,))).batch(0)
    assert framed.weights is not None
    assert (framed.labels[:, 0] == 2).all()
    assert (framed.weights[:, :2] == torch.tensor([1.0, WEIGHT])).all(), "<bos> says nothing about a language"
    without = make_mixture(small_run(world, tokenizer_path), tokenizer_path).batch(0)
    assert without.weights is None
    assert without.total_weight == without.num_tokens == batch.num_tokens
    assert torch.equal(without.labels, batch.labels)


@pytest.mark.parametrize("backend", ["plain", "chunked", "blocked"])
def test_the_gradient_is_that_of_the_weighted_mean(batch: Batch, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: softmax minus one-hot at every position, times its weight, over the sum of the weights."""

    def nats_by_backend(*arguments: Any, **options: Any) -> torch.Tensor:
        return loss.token_nats(*arguments, **{**options, "backend": backend})

    monkeypatch.setattr(architecture, "token_nats", nats_by_backend)
    torch.manual_seed(0)
    model = architecture.Polyglance(MicroConfig(width=16).build(1024)).eval()
    loss_value, sample_nats = CaptionObjective(model)(batch, batch.total_weight)
    loss_value.backward()
    head = model.lm_head.weight
    assert head.grad is not None
    found = head.grad.clone()
    model.zero_grad()

    logits = model(
        pixel_values=normalise_pixels(batch.images),
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        decoder_input_ids=torch.cat([torch.full_like(batch.labels[:, :1], 2), batch.labels[:, :-1].clamp(min=0)], 1),
    ).logits
    counts = batch.labels != IGNORED
    weights = counts.float()
    weights[:, 0] = WEIGHT
    targets = batch.labels.clamp(min=0)
    by_hand = (logits.softmax(-1) - F.one_hot(targets, logits.shape[-1])) * (weights / weights.sum())[..., None]
    logits.backward(by_hand.detach())
    torch.testing.assert_close(found, head.grad, rtol=1e-4, atol=1e-7)
    nats = -logits.detach().log_softmax(-1).gather(-1, targets[..., None])[..., 0] * counts
    torch.testing.assert_close(sample_nats, nats.sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss_value.detach(), (nats * weights).sum() / weights.sum(), rtol=1e-5, atol=1e-6)


def test_reported_losses_are_without_weights(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """Before the first step the model is the same: the losses of the first row are those of a run without weights."""
    config = small_run(world, tokenizer_path, log_every_steps=1)
    train(replace(config, mixture=WEIGHTED), tmp_path / "weighted")
    train(config, tmp_path / "plain")
    first, plain = (read_rows(tmp_path / name)[0] for name in ("weighted", "plain"))
    assert (first["loss_nats"], first["cells"]) == (plain["loss_nats"], plain["cells"])
    assert first["grad_norm"] != plain["grad_norm"]
    weights, others = (read_weights(tmp_path / name) for name in ("weighted", "plain"))
    assert any(not torch.equal(weights[name], others[name]) for name in weights)


def test_a_weight_of_one_is_the_run_without_weights(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    config = small_run(world, tokenizer_path)
    one = replace(config, mixture=MixtureConfig(batch_size=8, first_token_weight=1.0))
    assert one.settings == config.settings != replace(config, mixture=WEIGHTED).settings
    train(one, tmp_path / "one")
    train(config, tmp_path / "plain")
    assert_identical(tmp_path / "one", tmp_path / "plain")


def test_a_weighted_step_in_one_pass_or_in_four(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """The gradient is that of the weighted mean over the tokens of the step, however it is divided; here a large
    vocabulary is read in chunks."""
    checkpoint = write_checkpoint(tmp_path / "model", tokenizer_path, dropout=0.0)
    settings = {"tokenizer": None, "start": StartConfig(checkpoint=checkpoint), "optim": OptimConfig(eps=1e-2, lr=1e-2)}
    for name, size in (("one", None), ("four", 2)):
        engine = RuntimeConfig(device="cpu", micro_batch_size=size)
        config = small_run(world, None, mixture=WEIGHTED, engine=engine, log_every_steps=1, **settings)
        train(config, tmp_path / name)
    one, four = (read_rows(tmp_path / name) for name in ("one", "four"))
    assert [row["loss_nats"] for row in one] == pytest.approx([row["loss_nats"] for row in four], rel=1e-6)
    assert [row["grad_norm"] for row in one] == pytest.approx([row["grad_norm"] for row in four], rel=1e-4)
    model = load_polyglance(checkpoint)
    set_train_mode(model)
    batch = make_mixture(config, tokenizer_path).batch(0)
    CaptionObjective(model)(batch, batch.total_weight)[0].backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    assert one[0]["grad_norm"] == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=r"first_token_weight is .*; expected a positive number \(1: none\)"):
        MixtureConfig(first_token_weight=weight)


def test_a_batch_takes_its_weights_along() -> None:
    images, cell = np.zeros((1, 0, 0, 3), np.uint8), np.zeros(1, np.int64)
    moved = collate(images, [[5]], [[6, 7]], cell, token_weights={0: 3.0}).to("meta").weights
    assert moved is not None
    assert moved.device.type == "meta"
