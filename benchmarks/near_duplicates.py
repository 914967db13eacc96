"""Rates of different images taken for the same, and of changed copies that are found, by kind of image.

    OMP_NUM_THREADS=1 python benchmarks/near_duplicates.py [--folder IMAGES] [--images 1000] [--index 1000000]

`taken` is the share of images of a set that are found near an earlier one of the set; they are errors, as far as the
set has no duplicates. `photographs` are noise with the spectrum of natural images (amplitude 1 / frequency). Copies:
JPEG of quality 50, half the size, 3 % cut off on every side. Last, the rate of hashing and of searching a large index.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from time import process_time

import numpy as np
from PIL import Image

from polyglance.data.near_duplicates import ImageHash, NearDuplicates, NearDuplicatesConfig, hash_image
from polyglance.data.world.render import render
from polyglance.data.world.scene import LevelName, sample_scene
from polyglance.images import to_rgb

_SETTINGS = (
    NearDuplicatesConfig(max_distance=8, max_colour_difference=255),
    NearDuplicatesConfig(),
    NearDuplicatesConfig(max_distance=10),
    NearDuplicatesConfig(max_distance=4),
    NearDuplicatesConfig(max_distance=0, max_colour_difference=1),
)


def _jpeg(image: Image.Image) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(file).convert("RGB")


def _half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def _crop(image: Image.Image) -> Image.Image:
    x, y = max(1, round(0.03 * image.width)), max(1, round(0.03 * image.height))
    return image.crop((x, y, image.width - x, image.height - y))


_CHANGES: Mapping[str, Callable[[Image.Image], Image.Image]] = {"jpeg": _jpeg, "half": _half, "crop": _crop}


def _photograph(seed: int, side: int = 160) -> Image.Image:
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1 / side
    shared = rng.standard_normal((side, side))
    channels = [0.8 * shared + 0.6 * rng.standard_normal((side, side)) for _ in range(3)]
    pixels = np.stack([np.fft.ifft2(np.fft.fft2(channel) / frequency).real for channel in channels], axis=-1)
    pixels = (pixels - pixels.mean()) / pixels.std() * 50 + rng.integers(80, 176)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _world(level: LevelName, num_images: int) -> Iterator[Image.Image]:
    """Yield different scenes only; the same scene twice would be found, and rightly."""
    seen: set[str] = set()
    for index in range(20 * num_images):
        scene = sample_scene(level, 0, index, "train", test_share=0.1)
        if repr(scene) not in seen and len(seen) < num_images:
            seen.add(repr(scene))
            yield Image.fromarray(render(scene, 64))


def _study(name: str, images: list[Image.Image]) -> None:
    hashes = [hash_image(image) for image in images]
    copies = {change: [hash_image(alter(image)) for image in images[::5]] for change, alter in _CHANGES.items()}
    for config in _SETTINGS:
        near = NearDuplicates(config)
        num_taken = sum(near.add(str(index), hashed) is not None for index, hashed in enumerate(hashes))
        recalls = []
        for change, copied in copies.items():
            num_found = 0
            for hashed, original in zip(copied, hashes[::5], strict=True):
                alone = NearDuplicates(config)
                alone.add("original", original)
                num_found += alone.find(hashed) is not None
            recalls.append(f"{change} {num_found / len(copied):6.1%}")
        limits = f"bits {config.max_distance:>2}, colours {config.max_colour_difference:>3g}"
        print(f"{name:<12} {len(images):>5} images   {limits}   taken {num_taken / len(images):6.2%}   "
              f"found {'  '.join(recalls)}")  # fmt: skip


def _rates(num_images: int) -> None:
    picture = _photograph(0, 512)
    start = process_time()
    for _ in range(200):
        hash_image(picture)
    print(f"hashing 512 x 512: {200 / (process_time() - start):,.0f} images/s of processor time")
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, num_images, dtype=np.uint64, endpoint=False).tolist()
    colours = rng.integers(0, 256, (num_images, 48), dtype=np.uint8)
    near = NearDuplicates()
    start = process_time()
    for index, value in enumerate(bits):
        near.add(str(index), ImageHash(value, colours[index].tobytes()))
    print(f"adding {num_images:,} (each searched for first): {num_images / (process_time() - start):,.0f} images/s")
    start = process_time()
    for value in bits[:2000]:
        near.find(ImageHash(value ^ 0b10010001, colours[0].tobytes()))
    print(f"searching {len(near):,}: {2000 / (process_time() - start):,.0f} images/s of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a folder of images to study as well")
    parser.add_argument("--images", type=int, default=1000, help="images of each generated kind (default %(default)s)")
    parser.add_argument("--index", type=int, default=1_000_000, help="hashes to search through (default %(default)s)")
    arguments = parser.parse_args()
    if arguments.folder:
        paths = sorted(arguments.folder.rglob("*.png"))
        _study(arguments.folder.parent.name, [to_rgb(path.read_bytes()) for path in paths])
    _study("photographs", [_photograph(seed) for seed in range(arguments.images)])
    _study("world pairs", list(_world("pairs", arguments.images)))
    _study("world full", list(_world("full", arguments.images)))
    _rates(arguments.index)


if __name__ == "__main__":
    main()
