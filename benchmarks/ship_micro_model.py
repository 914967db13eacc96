"""Make the small trained model that the package holds (`--model micro`) from a run of the demo.

    polyglance study run examples/micro.toml
    python benchmarks/ship_micro_model.py out/micro/runs/scratch-d96-s20000-seed0/checkpoints/final
    python benchmarks/ship_micro_model.py       # measures the model in the package alone

Weights are rounded to float16, which halves the file. Prints the share of captions of held-out scenes that are right
word for word, by language, before and after rounding; and writes examples/scene.png, the first of these scenes with two
objects.
"""

import sys
from pathlib import Path

import torch
from PIL import Image

from polyglance.data.world import WorldConfig, describe, render, sample_scene
from polyglance.engines.folders import MICRO_MODEL
from polyglance.model.checkpoint import new_folder
from polyglance.model.config import GenerateConfig
from polyglance.model.generate import PolyglanceCaptioner, load_polyglance
from polyglance.model.processor import Processor

SCENES = 100
LANGUAGES = WorldConfig().languages
PICTURE = Path(__file__).parents[1] / "examples" / "scene.png"


def measure(folder: Path) -> dict[str, float]:
    """Return language -> share of the scenes whose caption is the grammar's."""
    scenes = [sample_scene("pairs", seed=1, index=index, split="test") for index in range(SCENES)]
    captioner = PolyglanceCaptioner.load(folder, device="cpu")
    texts = captioner.caption([render(scene) for scene in scenes], LANGUAGES, config=GenerateConfig(beams=1))
    right = dict.fromkeys(LANGUAGES, 0)
    for number, result in enumerate(texts):
        right[result.language] += result.text == describe(scenes[number // len(LANGUAGES)], result.language)
    return {code: count / SCENES for code, count in right.items()}


def main(source: Path) -> None:
    """Write the model and the picture.

    Raises:
        ValueError: the model is there already.
    """
    with new_folder(MICRO_MODEL) as folder:
        load_polyglance(source).to(torch.float16).save_pretrained(folder)
        Processor.load(source).save(folder)
    Image.fromarray(render(sample_scene("pairs", seed=1, index=1, split="test"))).save(PICTURE)
    size = sum(path.stat().st_size for path in MICRO_MODEL.iterdir())
    print(f"{MICRO_MODEL}: {size / 1e6:.1f} MB")
    for name, where in (("float32", source), ("float16", MICRO_MODEL)):
        print(name, measure(where))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        print("float16", measure(MICRO_MODEL))
