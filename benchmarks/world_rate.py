"""Images per second that the built-in world makes, on one core.

    OMP_NUM_THREADS=1 python benchmarks/world_rate.py [--num-images 5000] [--image-size 32]

Prints the rate of each step alone (describe: six short captions; read: the attributes of one), of rendering, describing
and encoding together, and of whole records with scenes and annotations.
"""

import argparse
import gc
import io
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyglance.data.world import (
    LEVELS,
    PREFIXES,
    LevelName,
    WorldConfig,
    describe,
    read_attributes,
    render,
    sample_scene,
)
from polyglance.data.world.generate import make_record

_NUM_WARM_UP = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=5000)
    parser.add_argument("--image-size", type=int, default=32)
    arguments = parser.parse_args()
    num_images, image_size = arguments.num_images, arguments.image_size
    print(f"images/s at {image_size} pixels, one core, {num_images} images")
    for level in LEVELS:
        rates = {name: rate(step, num_images) for name, step in steps_of(level, num_images, image_size).items()}
        print(f"{level:7}" + "".join(f"  {name} {value:6.0f}" for name, value in rates.items()))


def steps_of(level: LevelName, num_images: int, image_size: int) -> dict[str, Callable[[int], object]]:
    config = WorldConfig(level=level, image_size=image_size)
    scenes = [sample_scene(level, 0, index) for index in range(max(num_images, _NUM_WARM_UP))]
    images = [render(scene, image_size) for scene in scenes]
    texts = [describe(scene, "ru") for scene in scenes]

    def described(index: int) -> list[str]:
        return [describe(scenes[index], code) for code in PREFIXES]

    return {
        "sample": lambda index: sample_scene(level, 0, index),
        "render": lambda index: render(scenes[index], image_size),
        "png": lambda index: png(images[index]),
        "describe": described,
        "read": lambda index: read_attributes(texts[index], "ru"),
        "render+describe+png": lambda index: (png(render(scenes[index], image_size)), described(index)),
        "record": lambda index: make_record(config, "train", index),
    }


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def rate(step: Callable[[int], object], num_images: int) -> float:
    """Calls per second of this process's CPU time."""
    for index in range(_NUM_WARM_UP):
        step(index)
    gc.collect()
    gc.freeze()  # the scenes kept here for measuring would slow down every collection
    start_s = time.process_time()
    for index in range(num_images):
        step(index)
    return num_images / (time.process_time() - start_s)


if __name__ == "__main__":
    main()
