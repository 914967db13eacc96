"""No operation inside a step makes the host wait for the device; what a step has come to is read one step late."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from polyglance.distributed import Runtime, RuntimeConfig
from polyglance.mixture.collate import Batch
from polyglance.model import Polyglance, loss
from polyglance.model.components import PUBLISHED_TRAINED, freeze, set_train_mode
from polyglance.model.micro import MicroConfig
from polyglance.model.sizes import resolve_size
from polyglance.train import run as run_module
from polyglance.train.config import LoopConfig, StartConfig, VisionCacheConfig
from polyglance.train.frozen import FrozenWeights
from polyglance.train.identity import RunIdentity
from polyglance.train.late_values import LateValues
from polyglance.train.loop import BatchSource, Loop
from polyglance.train.phases import Phases
from polyglance.train.run import train
from polyglance.train.step import CaptionObjective
from tests.train.runs import assert_identical, read_weights, small_run, write_checkpoint

WAITING = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "bincount")

WORK = ("forward", "backward", "optimiser")
"""Phases of the device."""


class NoWaits(TorchDispatchMode):
    """Refuse every operator whose result, or its size, the host has to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        self.calls[name] += 1
        assert not name.startswith(WAITING), f"{function} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), (
                f"{function} by a mask waits for the device"
            )
        assert torch.Tag.data_dependent_output not in function.tags, f"{function} waits for the device"
        return function(*args, **(kwargs or {}))


def make_batch(num_samples: int, *, device: str, features: torch.Tensor | None = None) -> Batch:
    with torch.device(device):
        return Batch(
            images=torch.zeros(num_samples, 64, 64, 3, dtype=torch.uint8),
            input_ids=torch.ones(num_samples, 8, dtype=torch.long),
            attention_mask=torch.ones(num_samples, 8, dtype=torch.long),
            labels=torch.ones(num_samples, 16, dtype=torch.long),
            cell=np.zeros(num_samples, dtype=np.int64),
            features=features,
            places=torch.arange(num_samples * 8),
        )


@pytest.mark.parametrize("size", ["0.4b", "3.5b"])
@pytest.mark.parametrize("is_cached", [False, True])
def test_forward_and_backward_of_published_sizes_wait_for_nothing(size: str, is_cached: bool) -> None:
    """On the meta device: it has no values to be read, and is no CPU, so that the code is that of an accelerator."""
    config = resolve_size(size)
    with torch.device("meta"):
        model = Polyglance(config)
    freeze(model, PUBLISHED_TRAINED[config.decoder_config.model_type])
    set_train_mode(model)
    features = torch.empty(4, 4, config.vision_config.embed_dim[-1], device="meta") if is_cached else None
    with NoWaits() as mode:
        nats, sample_nats = CaptionObjective(model)(make_batch(4, device="meta", features=features), 32.0)
        nats.backward()
    assert sample_nats.shape == (4,)
    assert mode.calls["mm"] > 100
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


class Regression(nn.Module):
    """The smallest objective: a model that predicts nothing from nothing, whose nats depend on its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(3, 3)

    def forward(self, batch: Batch, denominator: float) -> tuple[torch.Tensor, torch.Tensor]:
        nats = self.model(torch.ones(len(batch.cell), 3)).square().sum(1)
        return nats.sum() / denominator, nats.detach()


def make_loop(folder: Path, num_steps: int) -> Loop:
    class Config(LoopConfig):
        num_steps = 0

    Config.num_steps = num_steps

    @contextlib.contextmanager
    def open_batches(first_step: int) -> Iterator[Any]:
        yield ((step, 0, make_batch(2, device="cpu")) for step in range(first_step, num_steps))

    source = BatchSource(cells=("a",), num_micro_batches=1, open=open_batches)
    identity = RunIdentity(settings="a", inputs={})
    return Loop(Regression(), source, Config(log_every_steps=4), folder, Runtime.single(), identity=identity)


def test_a_step_of_the_loop_waits_for_nothing_and_its_outcome_is_read_one_step_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    loop = make_loop(tmp_path, 8)
    events: list[str] = []
    update, read, enter_phase = Loop._update_weights, LateValues.read, Phases.__call__

    def note(event: str) -> None:
        events.append(f"{event} {loop.step}")

    @contextlib.contextmanager
    def phase_without_waits(self: Phases, phase: str) -> Iterator[None]:
        with enter_phase(self, phase), NoWaits() if phase in WORK else contextlib.nullcontext():
            yield

    monkeypatch.setattr(Loop, "_update_weights", lambda self: (note("step"), update(self))[1])
    monkeypatch.setattr(LateValues, "read", lambda self: (note("read"), read(self))[1])
    monkeypatch.setattr(Phases, "__call__", phase_without_waits)
    loop.run()
    assert events[:8] == ["step 0", "step 1", "read 1", "step 2", "read 2", "step 3", "read 3", "read 3"]
    assert events[8:] == ["step 4", "step 5", "read 5", "step 6", "read 6", "step 7", "read 7", "read 7"]


def test_frozen_weights_in_half_precision_change_no_bit_of_a_run(
    world: Path, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16, in two micro-batches; and the model that is saved has the frozen weights that it started with."""
    start = write_checkpoint(tmp_path / "start", tokenizer_path)
    config = small_run(
        world,
        None,
        tokenizer=None,
        start=StartConfig(checkpoint=start, trained="published"),
        engine=RuntimeConfig(device="cpu", precision="bf16", micro_batch_size=4),
        vision_cache=VisionCacheConfig(use="never"),
        num_samples=8 * 6,
        log_every_steps=1,
    )
    train(config, tmp_path / "half")
    frozen: list[FrozenWeights] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            run_module,
            "FrozenWeights",
            lambda model, dtype: frozen.append(w := FrozenWeights(model, torch.float32)) or w,
        )
        train(config, tmp_path / "full")
    assert len(frozen) == 1
    assert_identical(tmp_path / "half", tmp_path / "full")
    before = Polyglance.from_pretrained(start).state_dict()
    for name, weight in read_weights(tmp_path / "half").items():
        assert weight.dtype == torch.float32
        if name.startswith(("vision_tower", "projector")):
            assert torch.equal(weight, before[name]), name


def test_only_weights_that_autocast_would_cast_are_cast_and_come_back() -> None:
    torch.manual_seed(0)
    model = Polyglance(MicroConfig(decoder="gemma2", width=16).build(64))
    freeze(model, PUBLISHED_TRAINED["gemma2"])
    exact = model.decoder.layers[0].mlp.up_proj.weight
    exact.data = exact.data.bfloat16().float()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frozen = FrozenWeights(model, torch.bfloat16)
    cast = {name for name, p in model.named_parameters() if p.dtype == torch.bfloat16}
    assert "decoder.layers.0.mlp.up_proj.weight" in cast
    assert {name.rpartition(".")[0] for name in cast} <= {
        name for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))
    }
    assert not any("embed" in name or "lm_head" in name for name in cast)
    assert not any(p.requires_grad for name, p in model.named_parameters() if name in cast)
    frozen.restore()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name
        assert p.dtype == torch.float32


def test_a_large_vocabulary_is_read_in_blocks_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the tests above would not see the loss of the published sizes."""
    sizes: list[int] = []
    blocks = loss._token_blocks
    monkeypatch.setattr(loss, "_token_blocks", lambda *args: sizes.append(args[1]) or blocks(*args))
    with torch.device("meta"):
        model = Polyglance(resolve_size("0.4b"))
    CaptionObjective(model)(make_batch(1, device="meta"), 1.0)
    assert sizes == [model.config.vocab_size]
