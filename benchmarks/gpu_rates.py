"""Rates of benchmarks/gpu.py: training, loss head, decoding and losses of models of the true sizes.

Each function is the work of a process of its own, so that neither memory nor compiled code of one is left to the next.
"""

import gc
import importlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_data import COVERAGE, Plan, find_config, make_processor, read_plan
from polyglance.data.shard import ShardReader
from polyglance.distributed import RuntimeConfig, join_processes
from polyglance.evaluate.cells import read_held_out
from polyglance.evaluate.loss import measure_cell
from polyglance.mixture.collate import Batch
from polyglance.mixture.config import MixtureConfig
from polyglance.model.architecture import Polyglance
from polyglance.model.components import PUBLISHED_TRAINED, freeze, set_train_mode
from polyglance.model.decoding import decode_ids
from polyglance.model.flops import build_on_meta, count_macs, count_training_macs
from polyglance.model.loss import token_nats
from polyglance.model.vision import normalise_pixels
from polyglance.train.config import StartConfig, TrainConfig, VisionCacheConfig
from polyglance.train.identity import RunIdentity
from polyglance.train.loop import Hooks, Loop
from polyglance.train.optim import OptimConfig
from polyglance.train.run import make_batch_source, prepare_objective
from polyglance.train.start import make_mixture
from polyglance.train.vision_cache import open_features

SIZES = {"0.4b": 512, "3.5b": 512, "11.2b": 128}
"""Size -> largest number of samples of a step, so that a slow card has the time for a few steps of it."""
_EVEN_SAMPLES = 128
"""Samples of a pass where all passes have the same number, at first; halved while the card's memory is too small."""
_RECOMPUTED = ("11.2b",)
"""Sizes that compute activations again in the backward pass."""
_SOFTCAP = 30.0
_OPTIM = OptimConfig(lr=1e-4, warmup_steps=100, beta2=0.999, decay="published")


def report(found: dict[str, Any]) -> None:
    """Report what was measured so far, in case the work does not come to its end; benchmarks/gpu.py replaces this."""


def measure_product_tflops(folder: Path) -> float:
    """Measure the rate of a bf16 matrix product of 8192 rows (512 of a small plan), in 10^12 FLOP/s."""
    side = 512 if read_plan(folder).is_small else 8192
    left, right = (torch.randn(side, side, dtype=torch.bfloat16, device=_device()) for _ in range(2))
    return 2 * side**3 / _best_s(lambda: left @ right, repeats=10) / 1e12


def compile_layers(folder: Path, size: str) -> float:
    """Compile a size's layers on a GPU, as a run does when it starts, and return the seconds. torch keeps the result.

    Raises:
        ValueError: they cannot be compiled.
    """
    plan = read_plan(folder)
    config = _train_config(plan, folder, size, 1, compiles=torch.cuda.is_available())
    with join_processes(config.engine) as runtime:
        model = _build_model(plan, size)
        since_s = time.perf_counter()
        prepare_objective(config, model, runtime, folder, image_size=plan.image_size, is_cached=False)
        return time.perf_counter() - since_s


def measure_training(
    folder: Path, size: str, *, is_cached: bool = False, is_even: bool = False, compiles: bool = True
) -> dict[str, Any]:
    """Measure the project's own loop: mixture, loader processes and optimiser included. In bf16. Layers are compiled on
    a GPU; where they cannot be the rate is that without it, and says so.

    Args:
        is_cached: train on features of the tower.
        is_even: divide a step into passes of equal size, the largest that the card bears up to 128; if not, as
            `micro_batch_size = "auto"` does.
        compiles: compile the layers.
    """
    plan = _fit_plan(read_plan(folder), size)
    without = {} if compiles else {"without": "NOT COMPILED: it took too long"}
    operations = _count_operations(plan, folder, size, is_cached=is_cached)

    def measure(micro_batch_size: int | None) -> dict[str, Any]:
        is_compiled = torch.cuda.is_available() and not without
        config = _train_config(plan, folder, size, micro_batch_size, compiles=is_compiled)

        def summarise(rows: Sequence[Mapping[str, Any]], passes: str) -> dict[str, Any]:
            measured = rows[1:]  # the first row holds the warm-up
            rate = statistics.median(row["samples_per_s"] for row in measured)
            return {
                "samples_per_s": rate,
                "tflops": operations["training_flop"] * rate / 1e12,
                **operations,
                "first_steps": plan.steps_per_row,
                "warmup_s": plan.batch_size * plan.steps_per_row / rows[0]["samples_per_s"],
                "data_wait_share": statistics.median(row["data_wait_share"] for row in measured),
                "gib": measured[-1]["memory_bytes"] / 2**30,
                "passes": passes,
                **without,
            }

        try:
            return _run_loop(config, plan, folder, size, summarise, is_cached=is_cached)
        except ValueError as error:
            if "cannot be compiled" not in str(error):
                raise
            without["without"] = f"NOT COMPILED: {error}"[:200]
        return measure(micro_batch_size)  # outside the handler, which keeps the failed pass's tensors

    return _while_too_large(measure, min(_EVEN_SAMPLES, plan.batch_size)) if is_even else measure(None)


def measure_published_training(folder: Path, size: str) -> dict[str, Any]:
    """Measure the published step on these layers: eager attention, all logits, fp16 autocast with a gradient scaler
    (bf16 on a CPU), an AdamW that is not fused, the tower run for every sample, parts of 32 samples at most."""
    plan = read_plan(folder)

    def measure(micro_batch_size: int) -> dict[str, Any]:
        config = _train_config(plan, folder, size, micro_batch_size)
        model = _build_model(plan, size)
        model.set_attn_implementation("eager")
        set_train_mode(model)
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=_OPTIM.lr)
        scaler = torch.amp.GradScaler(_device(), enabled=torch.cuda.is_available())
        dtype = torch.float16 if torch.cuda.is_available() else torch.bfloat16
        seconds = []
        for batches in _steps(config, plan, folder, size):
            _wait()
            since_s = time.perf_counter()
            num_tokens = sum(batch.num_tokens for batch in batches)
            for batch in batches:
                there = batch.to(_device())
                with torch.autocast(_device(), dtype=dtype):
                    pixels = normalise_pixels(there.images)
                    prompts = there.input_ids, there.attention_mask
                    loss = model(pixels, *prompts, labels=there.labels, return_logits=True).loss
                scaler.scale(loss * (batch.num_tokens / num_tokens)).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            _wait()
            seconds.append(time.perf_counter() - since_s)
            if len(seconds) > 1:
                report(summarise(seconds, micro_batch_size))
        return summarise(seconds, micro_batch_size)

    def summarise(seconds: Sequence[float], micro_batch_size: int) -> dict[str, Any]:
        rate = plan.batch_size / statistics.median(seconds[1:])
        passes = f"{plan.batch_size} samples in {plan.batch_size // micro_batch_size} pass(es)"
        return {"samples_per_s": rate, "gib": _peak_bytes() / 2**30, "passes": passes}

    return _while_too_large(measure, min(32, plan.batch_size))


def measure_loss_head(folder: Path, *, kind: str = "own") -> dict[str, Any]:
    """Measure forward and backward pass of the loss head, with weights in float32 and in bf16, and how far the
    gradients of a few positions are from exact ones: the largest difference, as a share of the largest entry.

    Args:
        kind: `own`; `plain`, with all logits in memory; `cut-cross-entropy`, the package of this name, for comparison.

    Raises:
        ValueError: the package is not there.
    """
    positions, width, vocabulary = read_plan(folder).head
    compute = _LOSS_HEADS[kind]
    result: dict[str, Any] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        torch.manual_seed(0)
        states = torch.randn(positions, width, device=_device(), dtype=torch.bfloat16).requires_grad_()
        head = (torch.randn(vocabulary, width, device=_device()) * 0.05).to(dtype).requires_grad_()
        labels = torch.randint(vocabulary, (positions,), device=_device())

        def step(states: Tensor = states, head: Tensor = head, labels: Tensor = labels) -> None:
            states.grad = head.grad = None
            with torch.autocast(_device(), dtype=torch.bfloat16):
                nats = compute(states, head, labels)
            (nats.sum() / len(labels)).backward()

        step()
        before = _allocated_bytes()  # inputs, and the gradients, which are there after a step
        _reset_peak()
        seconds = _best_s(step, repeats=5)
        extra = _peak_bytes() - before
        result |= {f"{name}_ms": 1e3 * seconds, f"{name}_extra_gib": extra / 2**30}
        report(result)
        if dtype == torch.bfloat16:
            result |= _find_errors(step, states[:64].detach().requires_grad_(), head, labels[:64])
        del states, head, labels, step
        gc.collect()
    return result


def _find_errors(step: Callable[..., None], states: Tensor, head: Tensor, labels: Tensor) -> dict[str, float]:
    """Compare the gradients of a step with those of float64."""
    step(states, head, labels)
    exact = [tensor.detach().double().requires_grad_() for tensor in (states, head)]
    (_plain_nats(exact[0], exact[1], labels).sum() / len(labels)).backward()
    errors = {}
    for name, tensor, reference in zip(("states", "head"), (states, head), exact, strict=True):
        assert tensor.grad is not None
        assert reference.grad is not None
        errors[f"{name}_error"] = float((tensor.grad - reference.grad).abs().max() / reference.grad.abs().max())
    return errors


def _plain_nats(states: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    logits = _SOFTCAP * torch.tanh(F.linear(states, head) / _SOFTCAP)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide, labels, reduction="none")


def _own_nats(states: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    return token_nats(states, head, labels, softcap=_SOFTCAP)


def _cut_nats(states: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    try:
        package: Any = importlib.import_module("cut_cross_entropy")
    except ImportError as error:
        raise ValueError(f"not measured: {error}") from None
    if not states.is_cuda:
        raise ValueError("not measured: cut-cross-entropy computes on GPUs")
    return package.linear_cross_entropy(states, head.to(states.dtype), labels, softcap=_SOFTCAP, reduction="none")


_LOSS_HEADS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "own": _own_nats,
    "plain": _plain_nats,
    "cut-cross-entropy": _cut_nats,
}


@torch.no_grad()
def measure_decoding(folder: Path, size: str, *, as_published: bool = False) -> dict[str, Any]:
    """Measure captioning of a batch, from pixels to ids, in bf16. As published: without a cache, in eager attention."""
    plan = read_plan(folder)
    images, beams, new_tokens = plan.decoded
    if as_published and size != "0.4b":
        images = max(1, images // 4)  # every step computes the logits of all tokens again
    model = _build_model(plan, size).to(torch.bfloat16).eval()
    pixels = torch.randn(images, 3, plan.image_size, plan.image_size, device=_device(), dtype=torch.bfloat16)
    prompts = torch.randint(4, plan.words, (images, 16), device=_device())
    options: dict[str, Any] = {"num_beams": beams, "max_new_tokens": new_tokens, "min_new_tokens": new_tokens}
    start = torch.full((images, 1), model.config.decoder_start_token_id, device=_device())
    if as_published:
        model.set_attn_implementation("eager")
        options |= {"do_sample": False, "use_cache": False}
        work = lambda: model.generate(pixels, prompts, decoder_input_ids=start, **options)  # noqa: E731
        return {"images_per_s": images / _best_s(work, repeats=1)}

    def decode(rows: int = images) -> Tensor:
        states, mask = model.encode(pixels[:rows], prompts[:rows])
        return decode_ids(model, states, mask, start[:rows], **options)

    batch_s = _best_s(decode, repeats=3)
    result = {"images_per_s": images / batch_s, "step_ms": 1e3 * batch_s / new_tokens}
    report(result)
    single_s = _best_s(lambda: decode(1), repeats=3)
    encode_s = _best_s(lambda: model.encode(pixels[:1], prompts[:1]), repeats=3)
    num_bytes = sum(p.nbytes for name, p in model.decoder.named_parameters() if "embed_positions" not in name)
    return {
        **result,
        "single_step_ms": 1e3 * (single_s - encode_s) / new_tokens,
        "reading_ms": 1e3 * num_bytes / _measure_bandwidth(plan),
        "gib": _peak_bytes() / 2**30,
    }


@torch.no_grad()
def measure_losses(folder: Path, size: str) -> dict[str, Any]:
    """Measure the losses of held-out samples, in bf16, as `polyglance eval loss` does for one cell and variant."""
    plan = read_plan(folder)
    model = _build_model(plan, size).to(torch.bfloat16).eval()
    processor = make_processor(plan, model.config, folder)
    (samples,) = read_held_out(
        ShardReader(folder / "data"),
        [COVERAGE.cells[-1]],
        image_size=plan.image_size,
        samples_per_cell=plan.eval_samples,
    )

    def measure() -> Any:
        longest = 96 if plan.is_small else 128
        return measure_cell(
            model, processor, samples, prefix="", variants=("plain",), max_target_tokens=longest, batch_size=128
        )

    return {"samples_per_s": len(samples) / _best_s(measure, repeats=2)}


def _train_config(
    plan: Plan,
    folder: Path,
    size: str,
    micro_batch_size: int | None,
    *,
    compiles: bool = False,
) -> TrainConfig:
    longest = 96 if plan.is_small else 128
    return TrainConfig(
        data=folder / "data",
        tokenizer=folder / "words.json",
        coverage=COVERAGE,
        start=StartConfig(trained="published"),
        mixture=MixtureConfig(
            batch_size=plan.batch_size,
            max_source_tokens=longest,
            max_target_tokens=longest,
            image_memory_bytes=2**26,  # less than the images take: they are decoded as in a large data set
        ),
        optim=_OPTIM,
        engine=RuntimeConfig(
            micro_batch_size=micro_batch_size or "auto",
            precision="bf16",
            num_workers=plan.num_workers,
            compile=compiles,
            activation_checkpointing=size in _RECOMPUTED,
        ),
        vision_cache=VisionCacheConfig(use="never", folder=folder / "features" / size),
        num_samples=plan.batch_size * plan.rows * plan.steps_per_row,
        log_every_steps=plan.steps_per_row,
        save_every_steps=10**6,
    )


def _run_loop(
    config: TrainConfig,
    plan: Plan,
    folder: Path,
    size: str,
    summarise: Callable[[Sequence[Mapping[str, Any]], str], dict[str, Any]],
    *,
    is_cached: bool,
) -> dict[str, Any]:
    """Return what a run's rows come to, given them and the passes of a step in words. It is reported as they come."""
    rows: list[Mapping[str, Any]] = []
    with join_processes(config.engine) as runtime:
        model = _build_model(plan, size)
        processor = make_processor(plan, model.config, folder)
        features = None
        if is_cached:
            cache = replace(config, vision_cache=replace(config.vision_cache, use="always"))
            features = open_features(cache, model, processor, runtime)
        mixture = make_mixture(config, processor, model.config, features)
        run_dir = folder / "rates" / f"{size}-{time.monotonic_ns()}"
        run_dir.mkdir(parents=True)
        _reset_peak()
        objective, _, max_samples = prepare_objective(
            config, model, runtime, run_dir, image_size=plan.image_size, is_cached=is_cached
        )
        source = make_batch_source(config, mixture, model.config, runtime, run_dir, max_samples=max_samples)
        passes = f"{plan.batch_size} samples in {source.num_micro_batches} pass(es)"

        def note_row(row: Mapping[str, Any]) -> None:
            rows.append(row)
            if len(rows) > 1:
                report(summarise(rows, passes))

        identity = RunIdentity(settings=config.settings, inputs={})  # nothing goes on from its checkpoints
        Loop(objective, source, config, run_dir, runtime, identity, hooks=Hooks(on_row=note_row)).run()
    return summarise(rows, passes)


def _fit_plan(plan: Plan, size: str) -> Plan:
    return replace(plan, batch_size=min(plan.batch_size, SIZES[size]))


def _steps(config: TrainConfig, plan: Plan, folder: Path, size: str) -> Iterator[list[Batch]]:
    """Yield the micro-batches of a few steps, which are made beforehand."""
    processor = make_processor(plan, find_config(plan, size), folder)
    mixture = make_mixture(config, processor, find_config(plan, size))
    number = config.engine.num_micro_batches(plan.batch_size, 1)
    num_steps = 3 if plan.is_small else 4
    # All at once: the images of a step are not to be decoded while the one before is timed.
    yield from [[mixture.micro_batch(step, index, number) for index in range(number)] for step in range(num_steps)]


def _build_model(plan: Plan, size: str) -> Polyglance:
    """Draw the model at random on the device, its published components trained."""
    torch.manual_seed(0)
    config = find_config(plan, size)
    with torch.device(_device()):
        model = Polyglance(config)
    freeze(model, PUBLISHED_TRAINED[config.decoder_config.model_type])
    with torch.no_grad():  # a published Gemma-2 is in bf16
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.copy_(parameter.bfloat16())
    return model


def _count_operations(plan: Plan, folder: Path, size: str, *, is_cached: bool) -> dict[str, Any]:
    """Count the model's own operations for a sample in training, at the mean real lengths, which are given too: padding
    and recomputing are left out."""
    config = find_config(plan, size)
    mixture = make_mixture(_train_config(plan, folder, size, None), make_processor(plan, config, folder), config)
    batch = mixture.batch(0)
    lengths = {
        "image_size": plan.image_size,
        "source_tokens": round(int(batch.attention_mask.sum()) / plan.batch_size),
        "target_tokens": round(batch.num_tokens / plan.batch_size),
    }
    macs = count_training_macs(config, PUBLISHED_TRAINED[config.decoder_config.model_type], **lengths)
    if is_cached:
        macs -= count_macs(build_on_meta(config), **lengths)["vision"]
    return {"training_flop": 2 * macs, **lengths}


def _while_too_large(measure: Callable[[int], dict[str, Any]], size: int) -> dict[str, Any]:
    """Measure with the largest power-of-two share of `size` samples a pass that the card's memory holds."""
    while True:
        try:
            return measure(size)
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
        size //= 2  # outside the handler, which keeps the failed pass's tensors
        gc.collect()
        torch.cuda.empty_cache()


def _measure_bandwidth(plan: Plan) -> float:
    """Measure bytes per second of reading memory: the largest number of a large block."""
    block = torch.ones(2**20 if plan.is_small else 2**30, dtype=torch.bfloat16, device=_device())
    return block.nbytes / _best_s(lambda: block.amax(), repeats=5)


def _best_s(work: Callable[[], Any], *, repeats: int) -> float:
    """Return the shortest seconds of `repeats` calls after one to warm up."""
    work()
    best = float("inf")
    for _ in range(repeats):
        _wait()
        since_s = time.perf_counter()
        work()
        _wait()
        best = min(best, time.perf_counter() - since_s)
    return best


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_bytes() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def _allocated_bytes() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
