"""The verbs of the package on the emulated GPU (device.py), each compared with the same verb on the CPU.

    python -m tests.emulated_gpu.walk bart out.json WORLD [VERB ...]

Models have the published structure, small: Florence-2's tower and a BART or Gemma-2 decoder, with a vocabulary large
enough for the loss head of accelerators. The result is verb -> traceback, empty where all is well.
"""

import tests.emulated_gpu.device as gpu  # isort: skip  # before torch is imported

import json
import math
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BartConfig, Gemma2Config
from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

from polyglance.distributed import RuntimeConfig
from polyglance.engines.config import ModelConfig
from polyglance.engines.protocol import Picture
from polyglance.mixture.collate import IGNORED, find_places
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model import Polyglance, PolyglanceCaptioner
from polyglance.model.config import GenerateConfig
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.decoding import decode_ids
from polyglance.model.engine import PolyglanceEngine
from polyglance.model.processor import Processor
from polyglance.study.work.measure import train_run
from polyglance.train.config import RunConfig, StartConfig, TrainConfig, VisionCacheConfig
from polyglance.train.loop import Loop
from polyglance.train.micro_batch import Trial
from polyglance.train.phases import Phases
from polyglance.train.profile import profile_training
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from tests.train.runs import (
    assert_identical,
    measured_run,
    read_rows,
    read_weights,
    small_run,
    stop_after,
    write_tokenizer,
)

Family = Literal["bart", "gemma2"]

_IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
_WORK = ("forward", "backward", "optimiser")
_NUM_STEPS = 6
_VERBS: dict[str, Callable[["Walk"], None]] = {}


def verb(function: Callable[["Walk"], None]) -> Callable[["Walk"], None]:
    """Add a function to those that are walked."""
    _VERBS[function.__name__] = function
    return function


def make_config(family: Family, *, dropout: float = 0.0, vocab_size: int = 20_000) -> PolyglanceConfig:
    """Return the published wiring, small."""
    tower = Florence2VisionConfig(
        embed_dim=(16, 32, 48, 64),
        num_heads=(2, 4, 6, 8),
        num_groups=(2, 4, 6, 8),
        depths=(1, 1, 1, 1),
        window_size=4,
        projection_dim=32,
        drop_path_rate=dropout,
    )
    common: dict[str, Any] = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 512}
    common |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "use_cache": False}
    common |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "forced_eos_token_id": None}
    common |= {"dropout": dropout, "attention_dropout": dropout, "activation_dropout": dropout}
    decoder: Any = BartConfig(vocab_size=vocab_size, **common, **_IDS)
    if family == "gemma2":
        decoder = Gemma2Config(
            vocab_size=vocab_size,
            hidden_size=40,
            intermediate_size=80,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            query_pre_attn_scalar=16,
            sliding_window=6,
            cross_attention_hidden_size=32,
            attention_dropout=dropout,
            use_cache=False,
            **_IDS,
        )
    return PolyglanceConfig(tower, BartConfig(vocab_size=1200, **common, **_IDS), decoder)


class Walk:
    """What the verbs of a family share.

    Args:
        world: folder with `train` and `test` of the built-in world.
    """

    def __init__(self, family: Family, folder: Path, world: Path) -> None:
        self.family, self.folder, self.world = family, folder, world
        self.tokenizer_path = write_tokenizer(world, folder)
        self.models = {dropout: self._write_model(dropout) for dropout in (0.0, 0.1)}

    def _write_model(self, dropout: float) -> Path:
        folder, config = self.folder / f"model-{dropout}", make_config(self.family, dropout=dropout)
        torch.manual_seed(3)
        model = Polyglance(config)
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                torch.nn.init.constant_(parameter, 0.7)
            elif "embed_tokens" in name:
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
        model.save_pretrained(folder)
        Processor.for_model(config, load_tokenizer(self.tokenizer_path), image_size=64).save(folder)
        return folder

    def run(self, *, dropout: float = 0.0, **settings: Any) -> TrainConfig:
        """Return the configuration of a few steps."""
        engine = {
            "device": "cuda",
            "micro_batch_size": 4,
            "num_shapes": 4,
            "compile": False,
            **settings.pop("engine", {}),
        }
        return small_run(
            self.world,
            None,
            tokenizer=None,
            start=StartConfig(checkpoint=self.models[dropout], trained="published"),
            engine=RuntimeConfig(**engine),
            **{
                "vision_cache": VisionCacheConfig(use="never"),
                "num_samples": 8 * _NUM_STEPS,
                "log_every_steps": 1,
                "save_every_steps": 4,
                **settings,
            },
        )

    def measured(self, name: str, run: TrainConfig) -> RunConfig:
        """Return the configuration of two steps that are measured on held-out data."""
        settings: dict[str, Any] = {"start": run.start, "engine": run.engine, "tokenizer": None, "num_samples": 16}
        return measured_run(self.world, self.folder / name, **settings)

    def compare_training(self, name: str, bound: float, **settings: Any) -> None:
        """Train on both devices; losses and weights have to agree."""
        config = self.run(**settings)
        with quiet_steps(), gpu.emulate():
            train(config, self.folder / f"{name}-gpu")
        train(replace(config, engine=replace(config.engine, device="cpu")), self.folder / f"{name}-cpu")
        found, expected = (read_rows(self.folder / f"{name}-{device}") for device in ("gpu", "cpu"))
        assert [row["step"] for row in found] == list(range(1, _NUM_STEPS + 1))
        for row, other in zip(found, expected, strict=True):
            for key, tolerance in (("loss_nats", bound), ("grad_norm", 10 * bound), ("num_skipped", 0)):
                np.testing.assert_allclose(row[key], other[key], rtol=tolerance, err_msg=f"{key} of {row['step']}")
        weights, others = (read_weights(self.folder / f"{name}-{device}") for device in ("gpu", "cpu"))
        assert weights.keys() == others.keys()
        for key, weight in weights.items():
            assert weight.dtype == others[key].dtype, key


@contextmanager
def quiet_steps() -> Iterator[None]:
    """Refuse waits in forward pass, backward pass and optimiser of the training loop, and pageable copies of batches.

    The outcome of the step before is read in the last of them, which is the one wait that a step has.
    """
    enter, read = Phases.__call__, Loop._read_outcome

    @contextmanager
    def phase(self: Phases, name: str) -> Iterator[None]:
        with enter(self, name), gpu.DEVICE.quiet() if name in (*_WORK, "host to device") else nullcontext():
            yield

    def read_outcome(self: Loop) -> None:
        before, gpu.DEVICE._is_quiet = gpu.DEVICE._is_quiet, False
        read(self)
        gpu.DEVICE._is_quiet = before

    with mock.patch.object(Phases, "__call__", phase), mock.patch.object(Loop, "_read_outcome", read_outcome):
        yield


@verb
def train_in_float32(walk: Walk) -> None:
    walk.compare_training("fp32", 1e-5)


@verb
def train_with_weights_of_tokens(walk: Walk) -> None:
    walk.compare_training("weighted", 1e-5, mixture=MixtureConfig(batch_size=8, first_token_weight=2.5))


@verb
def train_in_bfloat16(walk: Walk) -> None:
    walk.compare_training("bf16", 2e-2, engine={"precision": "bf16"})


@verb
def train_in_float16(walk: Walk) -> None:
    walk.compare_training("fp16", 2e-2, engine={"precision": "fp16"})


@verb
def train_recomputed(walk: Walk) -> None:
    walk.compare_training("recomputed", 2e-2, engine={"precision": "bf16", "activation_checkpointing": True})


@verb
def train_compiled(walk: Walk) -> None:
    """Compilation itself is left out; the passes before the run, and all that surrounds the layers, are not."""
    sizes: list[int] = []
    compute = Trial._compute
    config = walk.run(engine={"precision": "bf16", "compile": True, "micro_batch_size": "auto"})
    with (
        mock.patch.object(Trial, "_compute", lambda self, size: (sizes.append(size), compute(self, size))[1]),
        quiet_steps(),
        gpu.emulate(),
    ):
        train(config, walk.folder / "compiled")
    assert sizes == [32, 8], "layers are compiled by a pass like those of the run; the longest samples of a pass fit"
    assert len(read_rows(walk.folder / "compiled")) == _NUM_STEPS


@verb
def train_on_cached_features(walk: Walk) -> None:
    cache = VisionCacheConfig(use="always", folder=walk.folder / "features")
    walk.compare_training("cached", 2e-2, engine={"precision": "bf16"}, vision_cache=cache)


@verb
def train_with_automatic_micro_batches(walk: Walk) -> None:
    """The first passes do not fit: their number of samples is halved, and nothing is left of them."""
    sizes: list[int] = []
    make_pass = Trial.make_pass

    def note_pass(self: Trial, num_samples: int) -> None:
        sizes.append(num_samples)
        gpu.DEVICE.room_bytes = 2**20 if num_samples > 2 else math.inf
        try:
            make_pass(self, num_samples)
        finally:
            gpu.DEVICE.room_bytes = math.inf

    config = walk.run(engine={"precision": "bf16", "micro_batch_size": "auto"})
    with mock.patch.object(Trial, "make_pass", note_pass), quiet_steps(), gpu.emulate():
        train(config, walk.folder / "auto")
    assert sizes == [8, 4, 2]
    record = json.loads((walk.folder / "auto" / "micro_batch_size.json").read_text())
    assert (record["micro_batch_size"], record["planned"], record["too_large"]) == (2, 8, [8, 4])
    assert record["is_checked"]
    assert len(read_rows(walk.folder / "auto")) == _NUM_STEPS


@verb
def resume(walk: Walk) -> None:
    """Stopped and gone on with, with dropout and checkpoints in the background: the same bits as without a stop."""
    engine = {"precision": "bf16", "deterministic": True}
    config = walk.run(dropout=0.1, engine=engine, save_in_background=True, save_every_steps=2)
    with gpu.emulate():
        train(config, walk.folder / "whole")
        assert torch.are_deterministic_algorithms_enabled()
        try:
            train(config, walk.folder / "stopped", hooks=stop_after(3))
        except Stopped:
            pass
        else:
            raise AssertionError("the run was not stopped")
        gpu.DEVICE.counts["register"] = 0
        with mock.patch.object(gpu.Runtime, "result", 1):  # the system grants no more page-locked memory
            train(config, walk.folder / "stopped")
        assert gpu.DEVICE.counts["register"] == 1
    torch.use_deterministic_algorithms(False)
    assert_identical(walk.folder / "stopped", walk.folder / "whole")


@verb
def measure_a_run(walk: Walk) -> None:
    """`polyglance train` with held-out data: losses before and after, captions with their scores, ambiguous texts."""
    records = []
    for device in ("cuda", "cpu"):
        base = walk.run(engine={"device": device})
        config = walk.measured(f"measured-{device}", base)
        with gpu.emulate() if device == "cuda" else nullcontext():
            train_run(config, lambda: False)
        records.append(json.loads((config.out / "losses.json").read_text()))
    for name, cell in records[0]["cells"].items():
        for variant, loss in cell["losses"].items():
            expected = records[1]["cells"][name]["losses"][variant]
            assert abs(loss["nats"] / expected["nats"] - 1) < 1e-4, (name, variant, loss, expected)


@verb
def profile_a_run(walk: Walk) -> None:
    """Without the profiler, which has no kernels to see here."""
    base = walk.run(engine={"precision": "bf16"})
    with gpu.emulate(), mock.patch("polyglance.train.kernels.profile"):
        profile_training(walk.measured("profiled", base), num_steps=4)


@verb
def caption_and_translate(walk: Walk) -> None:
    """Texts are those of the CPU, greedily and with beams; on a GPU they are searched for in graphs."""
    images = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (70, 60, 3), dtype=np.uint8)) for n in range(5)]
    texts = ["a red ball", "two cats and a dog", "a house", "a tree beside a house", "it"]
    for beams in (1, 4):
        config = GenerateConfig(max_new_tokens=14, batch_size=3, beams=beams)
        results = []
        for is_gpu in (True, False):
            with gpu.emulate() if is_gpu else nullcontext():
                captioner = PolyglanceCaptioner.load(walk.models[0.0], device="auto", dtype="float32")
                assert captioner.model.device.type == ("cuda" if is_gpu else "cpu")
                assert (torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cudnn.allow_tf32) == (False, False)
                replayed = gpu.DEVICE.counts["replay"]
                found = captioner.caption(images, ["fr", "en"], prefix="none", config=config)
                results.append([*found, *captioner.translate(images, texts, ["fr"], config=config)])
                assert (gpu.DEVICE.counts["replay"] > replayed) == is_gpu
        assert results[0] == results[1]


@verb
def caption_in_bfloat16(walk: Walk) -> None:
    image = Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8))
    with gpu.emulate():
        captioner = PolyglanceCaptioner.load(walk.models[0.0])
        assert captioner.model.dtype == torch.bfloat16
        config = GenerateConfig(max_new_tokens=12, beams=4)
        (result,) = captioner.caption(image, "en", prefix="none", config=config)
    assert result.error is None


@verb
def decode_with_every_option(walk: Walk) -> None:
    """Ids equal those of the loops for CPUs, with texts that end early: images leave and smaller buckets take over."""
    for seed, options in enumerate(_decoding_options()):
        torch.manual_seed(seed)
        model = Polyglance(make_config(walk.family, vocab_size=13)).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.25)
            elif name.endswith("gate"):
                torch.nn.init.constant_(parameter, 0.7)
        pixels, prompts = torch.randn(5, 3, 64, 64), torch.randint(3, 13, (5, 7))
        mask = (torch.arange(7) < torch.tensor([7, 3, 5, 7, 2])[:, None]).long()
        start = torch.tensor([[2, 5]] * 5)
        with torch.no_grad():
            expected = decode_ids(model, *model.encode(pixels, prompts, mask), start, **options)
        with torch.no_grad(), gpu.emulate():
            model.to("cuda")
            states, states_mask = model.encode(*(tensor.to("cuda") for tensor in (pixels, prompts, mask)))
            for _ in range(2):  # in a new bucket, then in a kept one
                found = decode_ids(model, states, states_mask, start.to("cuda"), **options).cpu()
                assert torch.equal(found, expected), (options, found, expected)


def _decoding_options() -> list[dict[str, Any]]:
    return [
        {"max_new_tokens": 20},
        {"max_new_tokens": 20, "num_beams": 3, "num_return_sequences": 2},
        {"max_new_tokens": 17, "num_beams": 4, "no_repeat_ngram_size": 2, "min_new_tokens": 3, "length_penalty": 0.5},
        {"max_new_tokens": 17, "num_beams": 2, "early_stopping": True},
        {"max_new_tokens": 17, "num_beams": 2, "early_stopping": "never", "length_penalty": 2.0},
    ]


@verb
def decode_where_graphs_fail(walk: Walk) -> None:
    """A capture that fails costs speed alone, and leaves the stream that was current before."""

    def fail(self: gpu.Graph) -> None:
        gpu.DEVICE.graph = None
        raise RuntimeError("operation failed due to a previous error during capture")

    model = Polyglance(make_config(walk.family)).eval()
    pixels, prompts = torch.randn(2, 3, 64, 64), torch.randint(3, 100, (2, 7))
    start = torch.tensor([[2]] * 2)
    with torch.no_grad():
        expected = decode_ids(model, *model.encode(pixels, prompts), start, max_new_tokens=9)
        with gpu.emulate(), mock.patch.object(gpu.Graph, "capture_end", fail):
            model.to("cuda")
            before = torch.cuda.current_stream()
            states = model.encode(pixels.to("cuda"), prompts.to("cuda"))
            found = decode_ids(model, *states, start.to("cuda"), max_new_tokens=9)
            assert torch.cuda.current_stream() is before
            assert torch.equal(found.cpu(), expected)


@verb
def answer_as_an_engine(walk: Walk) -> None:
    """Captions, answers and losses of candidates in an evaluation."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 50, 60, 3), dtype=np.uint8)
    pictures = [Picture(rgb=Image.fromarray(image), encoded=b"") for image in noise]
    config = ModelConfig(model=str(walk.models[0.0]), dtype="float32", max_new_tokens=12)
    answers: list[Any] = []
    for is_gpu in (True, False):
        with gpu.emulate() if is_gpu else nullcontext():
            engine = PolyglanceEngine(walk.models[0.0], config)
            written = [engine.write_captions(pictures, "fr"), engine.answer(pictures, ["a cat"] * 4)]
            candidates = [("a cat", "a dog and a cat")] * 2 + [("it", "they", "we")] * 2
            losses = engine.measure_losses(pictures, ["cat"] * 4, candidates, "fr")
            answers.append((written, [loss.nats for row in losses for loss in row]))  # type: ignore[union-attr]
    assert answers[0][0] == answers[1][0]
    np.testing.assert_allclose(answers[0][1], answers[1][1], rtol=1e-5)


@verb
def compute_gradients_of_the_loss_head(walk: Walk) -> None:
    """The model's own loss with places that count, against all logits in float64."""
    torch.manual_seed(0)
    model = Polyglance(make_config(walk.family))
    labels = torch.randint(3, 20_000, (4, 9))
    labels[1, 5:] = IGNORED
    states = torch.randn(4, 6, 32)
    expected = model.double().nats(states.double(), None, labels)
    (gradient,) = torch.autograd.grad(expected.sum(), model.lm_head.weight)
    expected = expected.detach()
    with gpu.emulate():
        model.float().to("cuda")
        inputs: list[Tensor] = [tensor.to("cuda") for tensor in (states, labels, find_places(labels))]
        with gpu.DEVICE.quiet():
            found = model.nats(inputs[0], None, inputs[1], places=inputs[2])
            (of_head,) = torch.autograd.grad(found.sum(), model.lm_head.weight)
        torch.testing.assert_close(found.cpu().double(), expected.double(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(of_head.cpu().double(), gradient, rtol=1e-3, atol=1e-4)


@verb
def refuse_what_a_gpu_refuses(walk: Walk) -> None:
    """Or the other verbs would prove nothing."""
    with gpu.emulate() as device:
        values = torch.arange(4.0, device="cuda")
        faults: list[Callable[[], object]] = [
            lambda: values + torch.ones(4),
            lambda: torch.cat([values, torch.ones(1)]),
            lambda: values.numpy(),
            lambda: torch.cuda.synchronize(number=0),  # type: ignore[call-arg]
        ]
        waits: list[Callable[[], object]] = [
            lambda: values.sum().item(),
            lambda: values[values > 1],
            lambda: values.nonzero(),
            lambda: values[torch.tensor([0])],
            lambda: values.cpu(),
            lambda: torch.ones(2).to("cuda", non_blocking=True),
            lambda: torch.tensor([1, 2], device="cuda"),
            torch.cuda.synchronize,
        ]
        for fault in faults:
            assert _fails(fault)
        for wait in waits:
            assert not _fails(wait)
            with device.quiet():
                assert _fails(wait)
        with device.quiet():
            assert not _fails(lambda: torch.ones(2).pin_memory().to("cuda", non_blocking=True))
        host = torch.zeros(4, pin_memory=True)
        host.copy_(values, non_blocking=True)
        assert host.tolist() != values.tolist(), "a late copy has not arrived"
        torch.cuda.synchronize()
        assert host.tolist() == values.tolist()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            doubled = values * 2
            values.add_(1)
            assert all(_fails(wait) for wait in waits[:7])
        assert values.tolist() == [0, 1, 2, 3], "what is captured is not computed"
        for _ in range(2):
            graph.replay()
        assert (values.tolist(), doubled.tolist()) == ([2, 3, 4, 5], [2, 4, 6, 8])


def _fails(work: Callable[[], object]) -> bool:
    try:
        work()
    except (AssertionError, RuntimeError, TypeError):
        return True
    return False


class _InThisProcess:
    """Workers of benchmarks/gpu.py, without processes."""

    def left_s(self) -> float:
        return 0.0

    def call(self, limit_s: float, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return work(*args, **options)


@verb
def measure_all_rates(walk: Walk) -> None:
    """The rates of benchmarks/gpu.py, small, and its checks that need no further process."""
    if walk.family == "gemma2":  # they take both
        return
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    import gpu as benchmark  # type: ignore[import-not-found]
    import gpu_checks
    import gpu_data

    folder = walk.folder / "benchmark"
    gpu_data.prepare(folder, small=True, golden=Path(__file__).parents[3] / "shared" / "golden")
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"num_workers": 0}))
    results = benchmark.Results(environment={"date": "2026-11-28"})
    with gpu.emulate():
        benchmark.run_rates(folder, _InThisProcess(), results, (), folder / "results")
        checked = [gpu_checks.check_waits(), gpu_checks.compare_loss_head(), gpu_checks.compare_compiled()]
        checked += [gpu_checks.check_golden(folder)] if (folder / "golden").is_dir() else []
    torch.use_deterministic_algorithms(False)
    problems = {name: found["problem"] for name, found in results.rates.items() if "problem" in found}
    assert problems.keys() <= {"cut-cross-entropy"}, problems
    assert all(passed for passed, _ in checked), checked


def main(family: Family, out: Path, world: Path, names: list[str]) -> None:
    """Walk the verbs, and write their tracebacks."""
    torch.set_num_threads(1)
    problems: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(family, Path(folder), world)
        for name, function in _VERBS.items():
            if names and name not in names:
                continue
            try:
                function(walk)
            except BaseException:  # noqa: BLE001 - each verb has its own answer
                problems[name] = traceback.format_exc()
            else:
                problems[name] = ""
            out.write_text(json.dumps(problems))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])  # type: ignore[arg-type]
