"""An optimiser step of a mid-size model with a vocabulary of 257,024: this project's against the plain one.

    python benchmarks/train_step.py

`ours`: loss in chunks, features of the frozen tower from a cache, micro-batches of similar lengths, each padded to its
longest. `plain`: all logits at once, the tower run for every sample, prompts and targets padded to 128, as in the
published code, but without its data loading and its eager attention. Same model, same samples with the published
lengths (official code section 2.3), same AdamW, float32. Each runs in a process of its own, because a peak of memory
cannot be reset. Times are CPU seconds of the second step.

The last line compares with the limit: the rate of the multiply-accumulates that the model needs for the real tokens of
`ours`, optimiser and padding not counted, with the rate of a large matrix product in the same process.
"""

import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polyglance.mixture.collate import IGNORED, Batch, collate
from polyglance.model.architecture import Polyglance
from polyglance.model.components import PUBLISHED_TRAINED, freeze, set_train_mode
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.flops import build_on_meta, count_macs, count_training_macs
from polyglance.model.sizes import resolve_size
from polyglance.model.vision import normalise_pixels
from polyglance.train.optim import OptimConfig
from polyglance.train.step import CaptionObjective

WIDTH, LAYERS, IMAGE_SIZE, MAX_TOKENS = 512, 4, 224, 128
SAMPLES, MICRO_BATCHES, STEPS = 32, 2, 2
MEAN_TOKENS = ((16, 61), (17, 58), (60, 55), (47, 40), (45, 32), (44, 41), (45, 41))
"""Mean prompt and target tokens of the seven published cells."""


def make_config() -> PolyglanceConfig:
    """The 0.4B model, narrower and with fewer layers; tower and vocabulary as they are."""
    config = resolve_size("0.4b")
    for side in (config.encoder_config, config.decoder_config):
        side.d_model, side.encoder_layers, side.decoder_layers = WIDTH, LAYERS, LAYERS
        side.encoder_attention_heads = side.decoder_attention_heads = WIDTH // 64
        side.encoder_ffn_dim = side.decoder_ffn_dim = 4 * WIDTH
    config.vision_config.projection_dim = WIDTH
    return config


def make_batches(vocab_size: int, source_vocab_size: int, *, padded: bool) -> list[Batch]:
    """Make the micro-batches of a step: samples of similar length together, or in order and padded to the limit."""
    random = np.random.default_rng(0)
    means = np.array(MEAN_TOKENS)[np.arange(SAMPLES) % len(MEAN_TOKENS)]
    lengths = np.clip(random.gamma(6, means / 6).round().astype(int), 4, MAX_TOKENS)
    order = np.arange(SAMPLES) if padded else np.lexsort((lengths[:, 0], lengths[:, 1]))
    batches = []
    for chosen in order.reshape(MICRO_BATCHES, -1):
        batch = collate(
            random.integers(0, 256, (len(chosen), IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8),
            [random.integers(5, source_vocab_size, n).tolist() for n in lengths[chosen, 0]],
            [random.integers(5, vocab_size, n).tolist() for n in lengths[chosen, 1]],
            np.zeros(len(chosen), dtype=np.int64),
        )
        batches.append(_to_limit(batch) if padded else batch)
    return batches


def _to_limit(batch: Batch) -> Batch:
    def wider(tensor: Tensor, value: int) -> Tensor:
        return torch.nn.functional.pad(tensor, (0, MAX_TOKENS - tensor.shape[1]), value=value)

    return replace(
        batch,
        input_ids=wider(batch.input_ids, 0),
        attention_mask=wider(batch.attention_mask, 0),
        labels=wider(batch.labels, IGNORED),
    )


class Plain(torch.nn.Module):
    """All logits at once; the tower runs for every sample."""

    def __init__(self, model: Polyglance) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, denominator: float) -> tuple[Tensor, None]:
        loss = self.model(
            normalise_pixels(batch.images), batch.input_ids, batch.attention_mask, labels=batch.labels
        ).loss
        return loss * (batch.num_tokens / denominator), None


def measure(variant: str) -> dict[str, float]:
    """Measure seconds, peak bytes and, for `ours`, rates. The whole of a process."""
    torch.manual_seed(0)
    config = make_config()
    model = Polyglance(config)
    trained = PUBLISHED_TRAINED["bart"]
    freeze(model, trained)
    set_train_mode(model)
    optim = OptimConfig(lr=1e-4, warmup_steps=100)
    optimizer = optim.build(model)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    batches = make_batches(config.vocab_size, 50_000, padded=variant == "plain")
    if variant == "ours":
        side = config.num_image_tokens(IMAGE_SIZE) - 1
        batches = [
            replace(b, features=torch.randn(len(b.cell), side, 1024), images=b.images[:, :0, :0]) for b in batches
        ]
    objective = (CaptionObjective if variant == "ours" else Plain)(model)
    num_tokens = sum(batch.num_tokens for batch in batches)
    seconds = []
    for step in range(STEPS):
        since_s = time.process_time()
        optim.set_lr(optimizer, step, 1000)
        for batch in batches:
            objective(batch, float(num_tokens))[0].backward()
        torch.nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - since_s)
    result = {"seconds": min(seconds[1:]), "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if variant == "ours":
        prompts = sum(int(batch.attention_mask.sum()) for batch in batches)
        lengths = {"source_tokens": round(prompts / SAMPLES), "target_tokens": round(num_tokens / SAMPLES)}
        macs = count_training_macs(config, trained, image_size=IMAGE_SIZE, **lengths)
        macs -= count_macs(build_on_meta(config), image_size=IMAGE_SIZE, **lengths)["vision"]
        result |= {"macs_per_s": SAMPLES * macs / result["seconds"], "product_macs_per_s": measure_product()} | lengths
    return result


def measure_product(side: int = 4096) -> float:
    """Measure the rate of a large matrix product, in CPU seconds."""
    left, right = torch.randn(side, side), torch.randn(side, side)
    best_s = float("inf")
    for _ in range(4):
        since_s = time.process_time()
        left @ right
        best_s = min(best_s, time.process_time() - since_s)
    return side**3 / best_s


def main() -> None:
    result = {}
    for variant in ("plain", "ours"):
        done = subprocess.run([sys.executable, __file__, variant], check=True, capture_output=True, text=True)
        result[variant] = json.loads(done.stdout.splitlines()[-1])
    plain, ours = result["plain"], result["ours"]
    print(
        f"{SAMPLES} samples in {MICRO_BATCHES} micro-batches, on average {ours['source_tokens']} prompt tokens and "
        f"{ours['target_tokens']} target tokens, width {WIDTH}, {LAYERS} + {LAYERS} layers, "
        f"{torch.get_num_threads()} threads"
    )
    print(
        f"CPU s per step: plain {plain['seconds']:.1f}, ours {ours['seconds']:.1f}: "
        f"{plain['seconds'] / ours['seconds']:.2f} times as fast (goal 1.5)"
    )
    print(
        f"peak memory, GB: plain {plain['bytes'] / 1e9:.2f}, ours {ours['bytes'] / 1e9:.2f}: "
        f"{ours['bytes'] / plain['bytes']:.2f} of it (goal 0.5)"
    )
    print(
        f"10^9 MAC per CPU s: step {ours['macs_per_s'] / 1e9:.1f}, matrix product "
        f"{ours['product_macs_per_s'] / 1e9:.1f}: {ours['macs_per_s'] / ours['product_macs_per_s']:.2f} (goal 0.5)"
    )


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1]))) if len(sys.argv) > 1 else main()
