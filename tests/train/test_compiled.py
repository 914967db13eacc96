"""Compiled layers: whole, compiled once for all lengths, and the same computation."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from polyglance.distributed import Runtime, RuntimeConfig
from polyglance.mixture.config import SourceMasking
from polyglance.model import Polyglance, attention
from polyglance.model.micro import MicroConfig
from polyglance.model.vision import build_vision_tower
from polyglance.train import run as run_module
from polyglance.train.compiled import CompiledLayers
from polyglance.train.config import StartConfig, VisionCacheConfig
from polyglance.train.run import train
from tests.train.runs import read_rows, small_run, write_checkpoint

# torch looks at the gradients of all arguments while it compiles; it hides its own warning, unless that is an error.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Compile anew, and without the checks of shapes, which cannot be traced with sizes that vary."""
    torch.compiler.reset()
    counters.clear()
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["bart", "gemma2"])
def test_layers_compile_whole_and_never_again_in_200_steps(
    decoder: Any, world: Path, tokenizer_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the built-in world's mixture, with words hidden, in two micro-batches a step of any lengths. Traced to torch's
    own operators, which is where graphs break."""
    start = StartConfig(model=MicroConfig(decoder=decoder, width=16, layers=2))
    config = small_run(
        world,
        tokenizer_path,
        start=start,
        engine=RuntimeConfig(device="cpu", compile=True, micro_batch_size=4),
        vision_cache=VisionCacheConfig(use="never"),
        num_samples=8 * 200,
    )
    config = replace(config, mixture=replace(config.mixture, source_masking=SourceMasking(samples=0.3)))
    compiled_at: list[int] = []
    warm_up = CompiledLayers.warm_up

    def counted(self: CompiledLayers, *args: Any, **kwargs: Any) -> None:
        warm_up(self, *args, **kwargs)
        compiled_at.append(counters["stats"]["unique_graphs"])

    always = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}  # masks as on a GPU
    for name in ("sdpa_mask", "eager_mask"):
        make_mask = getattr(attention, name)
        monkeypatch.setattr(attention, name, lambda make=make_mask, **kwargs: make(**{**kwargs, **always}))
    monkeypatch.setattr(CompiledLayers, "warm_up", counted)
    monkeypatch.setattr(run_module, "CompiledLayers", partial(CompiledLayers, backend="aot_eager"))
    train(config, tmp_path / "compiled")
    assert compiled_at == [2], "one graph for each kind of layer"
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


@pytest.mark.slow
def test_a_run_with_layers_compiled_by_inductor(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """The compiler of GPUs too, here for a CPU. Without dropout, whose numbers differ."""
    checkpoint = write_checkpoint(tmp_path / "start", tokenizer_path, dropout=0.0, vocab_size=1024)
    config = small_run(
        world,
        None,
        tokenizer=None,
        start=StartConfig(checkpoint=checkpoint),
        vision_cache=VisionCacheConfig(use="never"),
        num_samples=8 * 3,
        log_every_steps=1,
    )
    for name, compiled in (("compiled", True), ("plain", False)):
        engine = RuntimeConfig(device="cpu", compile=compiled, activation_checkpointing=True)
        train(replace(config, engine=engine), tmp_path / name)
    losses = [[row["loss_nats"] for row in read_rows(tmp_path / name)] for name in ("compiled", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_layers_that_cannot_be_compiled_are_said_to_run_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler\nat all")

    model = Polyglance(MicroConfig(width=16).build(64)).train()
    layer = model.encoder.layers[0]
    expected = layer(states := torch.randn(2, 3, 16), None)
    compiled = CompiledLayers(model, backend=failing)
    make_pass = partial(layer, states, None)
    with pytest.raises(ValueError, match=r"cannot be compiled here \(.*no compiler.*engine.compile = false"):
        compiled.warm_up(make_pass, Runtime.single(), is_required=True)
    compiled.warm_up(make_pass, Runtime.single(), is_required=False)
    assert "layers are not compiled, which is slower: " in capsys.readouterr().err
    assert torch.equal(layer(states, None), expected)


def test_evaluation_runs_layers_as_they_are() -> None:
    compiled = 0

    def counting(graph: Any, inputs: Any) -> Any:
        nonlocal compiled
        compiled += 1
        return graph.forward

    model = Polyglance(MicroConfig(width=16).build(64)).eval()
    CompiledLayers(model, backend=counting)
    layer, states = model.encoder.layers[0], torch.randn(2, 3, 16)
    layer(states, None)
    assert compiled == 0
    model.train()
    layer(states, None)
    assert compiled > 0


def make_tower() -> nn.Module:
    """Make a DaViT of four stages, two of which have two blocks; blocks drop paths in training."""
    torch.manual_seed(0)
    config = Florence2VisionConfig(
        embed_dim=(8, 16, 16, 16), depths=(1, 1, 2, 2), num_heads=(2, 2, 2, 2), num_groups=(2, 2, 2, 2), window_size=4
    )
    return build_vision_tower(config)


def test_a_frozen_tower_compiles_one_graph_for_each_size_of_block_and_any_number_of_images() -> None:
    model = nn.ModuleDict({"tower": make_tower()})
    images = [torch.randn(count, 3, 64, 64) for count in (2, 5, 3)]
    model.train()
    model["tower"].eval()
    with torch.no_grad():
        expected = [model["tower"](pixels) for pixels in images]
        CompiledLayers(model, backend="aot_eager")
        for pixels, features in zip(images, expected, strict=True):
            torch.testing.assert_close(model["tower"](pixels), features)
    # Stages differ in width or in the size of their grid.
    assert counters["stats"]["unique_graphs"] == 4
    assert not counters["graph_break"]


def test_a_tower_that_is_trained_runs_as_it_is() -> None:
    """Each of its blocks drops another share of paths, for which torch would compile each by itself, up to a limit."""
    model = nn.ModuleDict({"tower": make_tower()}).train()
    CompiledLayers(model, backend="aot_eager")
    model["tower"](torch.randn(2, 3, 64, 64)).sum().backward()
    assert counters["stats"]["unique_graphs"] == 0
