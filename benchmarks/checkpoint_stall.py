"""How long a run stands still for a checkpoint, written at once and in the background, against the time of a step.

    OMP_NUM_THREADS=1 python benchmarks/checkpoint_stall.py [WIDTH]

A Gemma-2 micro model of this width (384, if not given) is trained on the built-in world, all of it, in float32; three
checkpoints. Seconds of the wall clock, of one run after the other: use a quiet machine with two cores. What the thread
computes (checksums, and on a slow disk little else) goes on beside the steps.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from polyglance.coverage import Coverage
from polyglance.data.world import WorldConfig, generate
from polyglance.distributed import RuntimeConfig
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.tokenizer import read_training_texts, train_tokenizer
from polyglance.model.micro import MicroConfig
from polyglance.train.config import StartConfig, TrainConfig
from polyglance.train.loop import Hooks
from polyglance.train.run import train

STEPS, SAVE_EVERY = 24, 6


def measure(config: TrainConfig, run_dir: Path) -> tuple[float, float, float]:
    """Return the seconds of a step, the seconds that the run stands still for a checkpoint, and its size in bytes."""
    seconds: dict[str, float] = {}
    sizes: list[int] = []

    def note(phases: Mapping[str, float]) -> None:
        seconds.update(phases)
        sizes.extend(path.stat().st_size for path in run_dir.glob("checkpoints/step-*/*.safetensors"))

    train(config, run_dir, hooks=Hooks(on_phases=note))
    saves = (STEPS - 1) // SAVE_EVERY
    return (sum(seconds.values()) - seconds["checkpoint"]) / STEPS, seconds["checkpoint"] / saves, sum(sizes)


def main() -> None:
    width = int(sys.argv[1]) if len(sys.argv) > 1 else 384
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(WorldConfig(languages=("en", "fr"), num_train_images=64, num_test_images=4), folder / "world")
        texts = read_training_texts(folder / "world" / "train", {"en", "fr"})
        train_tokenizer(texts, vocab_size=1024).save(str(folder / "tokenizer.json"))
        for in_background in (False, True, False, True):
            config = TrainConfig(
                data=folder / "world" / "train",
                tokenizer=folder / "tokenizer.json",
                coverage=Coverage(caption=("en",), translation=("fr",)),
                start=StartConfig(model=MicroConfig(decoder="gemma2", width=width, layers=6)),
                mixture=MixtureConfig(batch_size=32),
                engine=RuntimeConfig(device="cpu"),
                num_samples=32 * STEPS,
                save_every_steps=SAVE_EVERY,
                save_in_background=in_background,
                keep_last=1,
            )
            step_s, stall_s, size = measure(config, folder / f"run-{in_background}-{len(list(folder.iterdir()))}")
            print(
                f"{'in the background' if in_background else 'at once'}: checkpoint of {size / 1e6:.0f} MB, step "
                f"{step_s:.2f} s, run stands still {stall_s:.2f} s = {stall_s / step_s:.2f} steps",
                flush=True,
            )


if __name__ == "__main__":
    main()
