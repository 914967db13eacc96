"""One process, two, sharded or not, in one pass or in several: the same steps to the precision of float32.

AdamW divides a gradient by its size, so that a rounding error in an entry that is nearly zero moves a weight by as much
as a real gradient would. The runs here have an eps that is larger than such entries; then weights are as comparable as
losses.
"""

import json
import shutil
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyglance.config import load, save
from polyglance.distributed import RuntimeConfig
from polyglance.mixture import passes as passes_module
from polyglance.mixture.config import MixtureConfig
from polyglance.model.architecture import Polyglance
from polyglance.model.micro import MicroConfig
from polyglance.train.config import StartConfig, TrainConfig, VisionCacheConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.parallel import find_layers
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from tests.train.runs import (
    call_torchrun,
    read_rows,
    read_weights,
    small_run,
    start_torchrun,
    stop_after,
    write_checkpoint,
)

NUM_STEPS = 8


@pytest.fixture(scope="module")
def config(world: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run from a checkpoint with dropout, a large vocabulary and a frozen tower, in four micro-batches of two."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("start"), tokenizer_path)
    return small_run(
        world,
        None,
        tokenizer=None,
        start=StartConfig(checkpoint=checkpoint, trained="published"),
        optim=OptimConfig(eps=1e-2, lr=1e-2),
        engine=RuntimeConfig(device="cpu", micro_batch_size=2),
        vision_cache=VisionCacheConfig(use="never"),
        num_samples=8 * NUM_STEPS,
        log_every_steps=1,
    )


def make_planned(config: TrainConfig, start: Path, tokenizer_path: Path) -> TrainConfig:
    """Make a run whose passes differ in their samples, and whose first tokens have a weight. Without dropout, which
    differs with the division."""
    checkpoint = write_checkpoint(start, tokenizer_path, dropout=0.0)
    return replace(
        config,
        start=StartConfig(checkpoint=checkpoint, trained="published"),
        mixture=MixtureConfig(batch_size=32, first_token_weight=2.5),
        engine=RuntimeConfig(device="cpu", micro_batch_size="auto", num_shapes=6),
        num_samples=32 * NUM_STEPS,
    )


@pytest.fixture(scope="module")
def folder(config: TrainConfig, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two processes, and the same run in one process."""
    folder = tmp_path_factory.mktemp("runs")
    save(config, folder / "run.toml")
    save(make_planned(config, folder / "start", tokenizer_path), folder / "planned.toml")
    train(config, folder / "single")
    with pytest.raises(Stopped):
        train(config, folder / "continued", hooks=stop_after(3))
    call_torchrun(2, "-m", "tests.train.two_processes", str(folder), "main")
    return folder


def losses(run: Path) -> torch.Tensor:
    rows = read_rows(run)
    assert [row["step"] for row in rows] == list(range(1, NUM_STEPS + 1))
    return torch.tensor([[row["loss_nats"], *row["cells"].values()] for row in rows], dtype=torch.float64)


def assert_same(config: TrainConfig, run: Path, other: Path) -> None:
    """Losses of each step and cell to 1e-6; weights to 1e-5 of the largest movement: the gradient of some, such as the
    biases of keys, is only rounding. Norms to 1e-4: the library adds up 320,000 squares in float32."""
    torch.testing.assert_close(losses(run), losses(other), rtol=1e-6, atol=0)
    norms = [[row["grad_norm"] for row in read_rows(folder)] for folder in (run, other)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert config.start.checkpoint is not None
    start = Polyglance.from_pretrained(config.start.checkpoint).state_dict()
    weights, expected = read_weights(run), read_weights(other)
    largest = max(float((tensor - start[name]).abs().max()) for name, tensor in expected.items())
    assert largest > 1e-3
    for name, tensor in expected.items():
        assert float((weights[name] - tensor).abs().max()) <= 1e-5 * largest, name
        assert torch.equal(weights[name], start[name]) == name.startswith(("vision_tower", "projector")), name


@pytest.mark.slow
@pytest.mark.parametrize("run", ["ddp", "continued"])
def test_two_processes_compute_what_one_does(config: TrainConfig, folder: Path, run: str) -> None:
    """Replicas; and shards that recompute activations and go on with a run that one process has begun."""
    assert_same(config, folder / run, folder / "single")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_one_process_goes_on_with_a_run_of_two(config: TrainConfig, folder: Path, name: str) -> None:
    """From a replica's checkpoint and from a sharded one; dropout too is a function of step and micro-batch."""
    stopped = folder / f"{name}-stopped"
    assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["step-00000004"]
    train(config, stopped)
    assert_same(config, stopped, folder / "single")


@pytest.mark.slow
def test_bf16_shards_learn_the_same_to_its_precision(folder: Path) -> None:
    half, full = losses(folder / "bf16")[:, 0], losses(folder / "single")[:, 0]
    torch.testing.assert_close(half, full, rtol=2e-2, atol=0)
    assert not torch.equal(half, full)


@pytest.mark.slow
def test_copies_of_shards_and_gradients_in_bf16(config: TrainConfig, tmp_path: Path) -> None:
    save(config, tmp_path / "run.toml")
    train(config, tmp_path / "single")
    call_torchrun(4, "-m", "tests.train.two_processes", str(tmp_path), "compare_meshes")
    assert_same(config, tmp_path / "hsdp", tmp_path / "single")
    full, sent = (losses(tmp_path / name)[:, 0] for name in ("single", "sent-in-bf16"))
    torch.testing.assert_close(sent, full, rtol=1e-2, atol=0)
    assert not torch.equal(sent, full)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_which_goes_on_from_its_checkpoint(
    config: TrainConfig, folder: Path, tmp_path: Path
) -> None:
    save(config, tmp_path / "run.toml")
    call_torchrun(2, "-m", "tests.train.two_processes", str(tmp_path), "die", fails=True)
    assert [path.name for path in (tmp_path / "died" / "checkpoints").iterdir()] == ["step-00000002"]
    train(config, tmp_path / "died")
    assert_same(config, tmp_path / "died", folder / "single")


@pytest.mark.slow
def test_torchrun_starts_all_processes_again_after_one_died(config: TrainConfig, folder: Path, tmp_path: Path) -> None:
    save(config, tmp_path / "run.toml")
    call_torchrun(2, "--max-restarts=1", "-m", "tests.train.two_processes", str(tmp_path), "die")
    assert_same(config, tmp_path / "died", folder / "single")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_run_of_one_or_two_nodes_goes_on_with_one_when_the_other_is_lost(
    config: TrainConfig, folder: Path, tmp_path: Path, strategy: str
) -> None:
    """torchrun with a number of nodes that changes by itself."""
    save(config, tmp_path / "run.toml")
    place = (
        "--nnodes=1:2 --nproc-per-node=1 --max-restarts=3 --local-addr=127.0.0.1 --rdzv-backend=c10d --rdzv-id=elastic"
    )
    # The nodes find each other by a file: a port chosen here may be taken when the store is opened.
    meeting = [
        "--rdzv-conf=store_type=file,last_call_timeout=10,keep_alive_interval=1,keep_alive_max_attempt=8",
        f"--rdzv-endpoint={tmp_path / 'rendezvous'}",
    ]
    program = ["-m", "tests.train.two_processes", str(tmp_path), "lose_node", strategy]
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                start_torchrun(*place.split(), *meeting, f"--node-rank={number}", *program, str(number))
            )
            for number in range(2)
        ]
        said = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, -signal.SIGKILL], said
    assert sorted((tmp_path / "processes").read_text().splitlines()) == ["0 of 1", "0 of 2", "1 of 2"]
    assert_same(config, tmp_path / "lost", folder / "single")


def test_a_step_in_one_pass_or_in_four(config: TrainConfig, tokenizer_path: Path, tmp_path: Path) -> None:
    """The loss is over the target tokens of the step, however the step is divided. Without dropout, which differs."""
    checkpoint = write_checkpoint(tmp_path / "model", tokenizer_path, dropout=0.0)
    config = replace(config, start=StartConfig(checkpoint=checkpoint, trained="published"))
    train(config, tmp_path / "four")
    train(replace(config, engine=RuntimeConfig(device="cpu")), tmp_path / "one")
    assert_same(config, tmp_path / "four", tmp_path / "one")
    few_shapes = RuntimeConfig(device="cpu", micro_batch_size=2, num_shapes=3)
    train(replace(config, engine=few_shapes), tmp_path / "padded")
    assert_same(config, tmp_path / "padded", tmp_path / "one")


@pytest.mark.slow
def test_passes_that_differ_in_their_samples_make_the_same_step(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, and in two of either kind, whose passes are others; as in one pass."""
    monkeypatch.setattr(passes_module, "_PASS_POSITIONS", 10)  # as in the two processes
    config = load(TrainConfig, folder / "planned.toml")
    train(config, tmp_path / "planned")
    train(replace(config, engine=RuntimeConfig(device="cpu")), tmp_path / "one")
    for run in (tmp_path / "planned", folder / "planned-ddp", folder / "planned-fsdp"):
        passes = json.loads((run / "passes.json").read_text())["passes"]
        assert len({samples for samples, *_ in passes}) > 1
        assert_same(config, run, tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_save_while_they_train(
    folder: Path, tmp_path: Path, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process goes on from what two have written in the background, and ends as an uninterrupted run."""
    monkeypatch.setattr(passes_module, "_PASS_POSITIONS", 10)
    config = load(TrainConfig, folder / "planned.toml")
    run = tmp_path / "run"
    shutil.copytree(folder / f"saved-{strategy}", run)
    assert sorted(path.name for path in run.glob("checkpoints/*")) == [f"step-{step:08d}" for step in (2, 4, 5)]
    shutil.rmtree(run / "checkpoints" / "step-00000005")
    train(config, run)
    assert [row["step"] for row in read_rows(run)] == list(range(1, NUM_STEPS + 1))
    assert_same(config, run, folder / "planned-ddp")


def test_layers_are_the_units_of_sharding_and_recomputing() -> None:
    for decoder, expected in (("bart", "BartDecoderLayer"), ("gemma2", "GatedGemma2Layer")):
        model = Polyglance(MicroConfig(decoder=decoder, width=16, layers=3).build(64))  # type: ignore[arg-type]
        assert [type(layer).__name__ for layer in find_layers(model)] == ["BartEncoderLayer"] * 3 + [expected] * 3
