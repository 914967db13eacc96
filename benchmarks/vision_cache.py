"""Time that cached features of a frozen vision tower save in a study: the same runs with the cache and without it.

    OMP_NUM_THREADS=1 python benchmarks/vision_cache.py [--runs 4] [--steps 200] [--images 2000]

The runs differ in their seed only and share a ViT that is about 40 % of a forward pass (published: 5 to 48 %), over the
built-in world at 64 pixels. Runs with and without the cache alternate, so that a busy machine is busy for both; the
time to make the cache is counted. The larger the tower is beside what is trained, the more is saved: a frozen tower
has no backward pass, the rest has, so the printed limit is the tower's share of a whole training step.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader
from polyglance.data.world import WorldConfig, generate
from polyglance.distributed import Runtime, RuntimeConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import load_tokenizer, train_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.components import COMPONENTS
from polyglance.model.flops import build_on_meta, count_macs, count_training_macs
from polyglance.model.micro import MicroConfig
from polyglance.train.config import StartConfig, TrainConfig, VisionCacheConfig
from polyglance.train.run import train
from polyglance.train.start import make_mixture, make_model, make_processor
from polyglance.train.vision_cache import open_features

IMAGE_SIZE, BATCH_SIZE, VOCABULARY = 64, 32, 2048
MODEL = MicroConfig(width=128, vision="vit", vision_layers=3, image_size=IMAGE_SIZE)
TRAINED = tuple(component for component in COMPONENTS if component != "vision")
COVERAGE = Coverage(caption=("en", "de"), translation=("de", "fr", "zh"))


@dataclass(frozen=True)
class Seconds:
    """Time that a piece of work took."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)

    def __str__(self) -> str:
        return f"{self.wall_s:8.1f} s wall {self.cpu_s:8.1f} s CPU"


def timed(work: Callable[[], object]) -> Seconds:
    """Do the work in this process and return its time."""
    wall_s, cpu_s = perf_counter(), process_time()
    work()
    return Seconds(perf_counter() - wall_s, process_time() - cpu_s)


def prepare(folder: Path, *, num_images: int, num_steps: int) -> TrainConfig:
    """Make data, tokenizer and the tower that all runs share; return a run without the cache."""
    config = WorldConfig(level="full", image_size=IMAGE_SIZE, num_train_images=num_images, num_test_images=1)
    generate(config, folder / "world")
    table = ShardReader(folder / "world" / "train").annotations()
    tokenizer = train_tokenizer((t for a in table for x in a for t in (x.text, prompt_of(x))), vocab_size=VOCABULARY)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    Polyglance(MODEL.build(tokenizer.get_vocab_size())).save_pretrained(folder / "tower")
    return TrainConfig(
        data=folder / "world" / "train",
        tokenizer=folder / "tokenizer.json",
        coverage=COVERAGE,
        start=StartConfig(model=MODEL, vision_tower=folder / "tower", trained=TRAINED),
        mixture=MixtureConfig(batch_size=BATCH_SIZE),
        engine=RuntimeConfig(device="cpu"),
        vision_cache=VisionCacheConfig(use="never"),
        num_samples=num_steps * BATCH_SIZE,
        save_every_steps=num_steps,
    )


def vocabulary(config: TrainConfig) -> int:
    assert config.tokenizer is not None
    return load_tokenizer(config.tokenizer).get_vocab_size()


def make_cache(config: TrainConfig) -> None:
    """Make the cache as the first run would."""
    model = make_model(config)
    open_features(config, model, make_processor(config, model.config), Runtime.single())


def print_shares(config: TrainConfig) -> None:
    """Print the tower's share of the work, for the mean lengths of a few of the run's batches."""
    model = build_on_meta(MODEL.build(vocabulary(config)))
    mixture = make_mixture(config, make_processor(config, model.config), model.config)
    batches = [mixture.batch(step) for step in range(8)]
    num_samples = len(batches) * BATCH_SIZE
    source_tokens = round(sum(int(batch.attention_mask.sum()) for batch in batches) / num_samples)
    target_tokens = round(sum(batch.num_tokens for batch in batches) / num_samples)
    lengths = {"source_tokens": source_tokens, "target_tokens": target_tokens}
    macs = count_macs(model, image_size=IMAGE_SIZE, **lengths)
    total, tower = sum(macs.values()), macs["vision"]
    step = count_training_macs(model.config, TRAINED, image_size=IMAGE_SIZE, **lengths)
    shares = ", ".join(f"{component} {value / total:.0%}" for component, value in macs.items())
    print(f"forward pass of a sample: {total / 1e6:.0f} MMAC ({shares}); tokens: {source_tokens} + {target_tokens}")
    print(f"the tower is {tower / step:.1%} of a training step: at most {step / (step - tower):.2f} times as fast")


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss_nats"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def compare(folder: Path, without: TrainConfig, num_runs: int) -> None:
    """Train every run both ways and print the times."""
    print_shares(without)
    cache = folder / "features"
    config = replace(without, vision_cache=VisionCacheConfig(use="always", folder=cache))
    train(replace(without, num_samples=2 * BATCH_SIZE), folder / "warm-up")
    making = timed(lambda: make_cache(config))
    num_bytes = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    num_images = len(ShardReader(config.data))
    print(f"cache of {num_images:,} images, made once: {making}, {num_bytes / 1e6:.1f} MB", flush=True)
    never, always, differences = Seconds(), Seconds(), []
    for seed in range(num_runs):
        folders = {use: folder / f"{use}-{seed}" for use in ("never", "always")}
        plain = timed(lambda: train(replace(without, seed=seed), folders["never"]))  # noqa: B023
        cached = timed(lambda: train(replace(config, seed=seed), folders["always"]))  # noqa: B023
        never, always = never + plain, always + cached
        differences += np.subtract(losses(folders["always"]), losses(folders["never"])).tolist()
        print(f"run {seed}   without {plain}   with {cached}", flush=True)
    print(f"{num_runs} runs of {without.num_steps} steps of {BATCH_SIZE} samples, without the cache: {never}")
    print(f"{num_runs} runs with it, its making counted:         {making + always}")
    print(f"times as fast: wall {never.wall_s / (making + always).wall_s:.2f}, ", end="")
    print(f"CPU {never.cpu_s / (making + always).cpu_s:.2f}; without the making, CPU {never.cpu_s / always.cpu_s:.2f}")
    print(f"largest difference of a logged loss: {np.abs(differences).max():.1e} nats")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4, help="number of runs that share the tower (default %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of each (default %(default)s)")
    parser.add_argument("--images", type=int, default=2_000, help="images of the data set (default %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare(
            Path(name),
            prepare(Path(name), num_images=arguments.images, num_steps=arguments.steps),
            arguments.runs,
        )


if __name__ == "__main__":
    main()
