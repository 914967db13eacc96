"""Cost of comparing files with their digests, as a share of the time of reading them.

    OMP_NUM_THREADS=1 python benchmarks/digest_cost.py [--images 100000]

The same files are read with and without their sums or lists, in turn, and the least CPU time of each is compared, all
threads together: a data set of photo-like images (decoded, as training does), the batches of a token cache, features by
row, and a model that is loaded. "first" is the first pass over the data in a process, in which blocks are compared;
later ones compare nothing. The files are in memory, which is the worst case: a disk would only add to the reading. With
the package isal the sums are computed at 14 GB/s, without it at 4.

With `--images`: a table with this number of images of 20 kB as a study's input. Compared is what a start costs that
finds all sizes and times as noted with one that reads the content.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image

from polyglance.coverage import Coverage
from polyglance.data import shard
from polyglance.data.importer import ImportConfig, digest_sources
from polyglance.data.shard import ShardReader, ShardWriter
from polyglance.data.sources.source import list_files, stamp_files
from polyglance.distributed import Runtime
from polyglance.files import DIGESTS_NAME, seal_files
from polyglance.mixture import token_cache
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.features import FeatureStore, write_features
from polyglance.mixture.images import ImageStore, square_pixels
from polyglance.mixture.tokenizer import read_training_texts, train_tokenizer
from polyglance.model.architecture import Polyglance
from polyglance.model.generate import load_polyglance
from polyglance.model.micro import MicroConfig
from polyglance.records import ImageRecord, annotations_from_texts

_NUM_IMAGES, _SIDE, _BATCH = 160, 480, 32


def _write_data(folder: Path) -> Path:
    with ShardWriter(folder, source="noise", licence="CC0") as writer:
        for number in range(_NUM_IMAGES):
            noise = np.random.default_rng(number).integers(0, 256, (60, 60, 3), dtype=np.uint8)
            file = BytesIO()
            Image.fromarray(noise).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
            texts = {code: f"a caption {code} of image {number}" for code in ("en", "fr", "de")}
            writer.write(ImageRecord(key=str(number), image=file.getvalue(), annotations=annotations_from_texts(texts)))
    return folder


def _compare(name: str, checked: Callable[[], object], plain: Callable[[], object], times: int = 7) -> None:
    best = {"checked": float("inf"), "plain": float("inf")}
    wall = dict(best)
    for _ in range(times):
        for kind, read in (("plain", plain), ("checked", checked)):
            since_s, wall_since_s = time.process_time(), time.perf_counter()
            read()
            best[kind] = min(best[kind], time.process_time() - since_s)
            wall[kind] = min(wall[kind], time.perf_counter() - wall_since_s)
    share, wall_share = best["checked"] / best["plain"] - 1, wall["checked"] / wall["plain"] - 1
    cpu = f"{1e3 * best['plain']:9.1f} ms, with digests {1e3 * best['checked']:9.1f} ms: {share:+.1%}"
    print(f"{name:34} {cpu} (wall {1e3 * wall['plain']:.1f}, {1e3 * wall['checked']:.1f} ms: {wall_share:+.1%})")


def _compare_shards(data: Path) -> None:
    rows = range(_NUM_IMAGES)

    def read(*, decode: bool) -> None:
        reader = ShardReader(data)
        for first in range(0, _NUM_IMAGES, _BATCH):
            for image in reader.images(rows[first : first + _BATCH]):
                if decode:
                    square_pixels(image, 224)

    def read_old(*, decode: bool) -> None:
        unsummed = lambda path, info: true_open(path, replace(info, sums_sha256=None))  # noqa: E731
        with mock.patch.object(shard, "_open", unsummed):
            read(decode=decode)

    true_open = shard._open
    size = sum(path.stat().st_size for path in (data / "shards").iterdir()) / 1e6
    _compare(f"shards, read and decoded ({size:.0f} MB)", lambda: read(decode=True), lambda: read_old(decode=True))
    _compare("shards, read only", lambda: read(decode=False), lambda: read_old(decode=False))


def _compare_tokens(data: Path, root: Path) -> None:
    coverage = Coverage(caption=("en",), translation=("fr", "de"))
    tokenizer = train_tokenizer(read_training_texts(data, {"en", "fr", "de"}), vocab_size=1024)
    config = MixtureConfig(batch_size=_BATCH, token_cache=root / "tokens", image_memory_bytes=0)

    def make(*, is_checked: bool) -> Mixture:
        with mock.patch.object(token_cache.TokensInfo, "read_sums", read_sums if is_checked else lambda *_: {}):
            return Mixture(config, coverage, ShardReader(data), tokenizer, image_size=224, seed=0)

    read_sums = token_cache.TokensInfo.read_sums
    make(is_checked=True)

    def batches(*, is_checked: bool) -> None:
        mixture = make(is_checked=is_checked)
        for step in range(8):
            mixture.batch(step)

    _compare("token cache, first 8 batches", lambda: batches(is_checked=True), lambda: batches(is_checked=False), 3)


def _compare_features(data: Path, root: Path) -> None:
    images, folder = ImageStore(ShardReader(data), 64), root / "features"
    tower = lambda pixels: torch.zeros(len(pixels), 197, 768)  # noqa: E731
    write_features(folder, tower, images, fingerprint="", dtype="bfloat16", runtime=Runtime.single())

    def read(*, is_checked: bool, num_passes: int) -> None:
        store = FeatureStore(folder)
        if not is_checked:
            store._is_checked = [bytearray(b"\1" * len(rows)) for rows in store._is_checked]
        for _ in range(num_passes):
            for first in range(0, _NUM_IMAGES, _BATCH):
                store[range(first, min(first + _BATCH, _NUM_IMAGES))]

    for num in (1, 10):
        name = f"features, {num} pass{'es' if num > 1 else ''}, from memory"
        _compare(name, partial(read, is_checked=True, num_passes=num), partial(read, is_checked=False, num_passes=num))


def _compare_models(root: Path) -> None:
    for width in (64, 512):
        folder = root / f"model-{width}"
        Polyglance(MicroConfig(width=width).build(16_000)).save_pretrained(folder)
        listed = root / f"listed-{width}"
        listed.mkdir()
        for path in folder.iterdir():
            (listed / path.name).hardlink_to(path)
        seal_files(listed, [path.name for path in folder.iterdir() if path.name != DIGESTS_NAME])
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        _compare(f"model of {size:.0f} MB, loaded", partial(_load_anew, listed), partial(_load_anew, folder))


def _load_anew(folder: Path) -> None:
    """Load a model as a process does that has not compared its files before: another time, another file."""
    for path in folder.iterdir():
        path.touch()
    load_polyglance(folder)


def _compare_inputs(root: Path, num_images: int) -> None:
    block = os.urandom(20_000)
    for number in range(100):
        (root / f"{number:03d}").mkdir()
    with (root / "table.jsonl").open("w") as table:
        for number in range(num_images):
            name = f"{number % 100:03d}/{number}.png"
            (root / name).write_bytes(number.to_bytes(8, "big") + block)
            table.write(json.dumps({"image": name, "en": f"dog {number} runs", "de": f"Hund {number} rennt"}) + "\n")
    config = ImportConfig(table=root / "table.jsonl", images=root, out=root / "out")
    works: dict[str, Callable[[], str]] = {
        "sizes and times": lambda: stamp_files(root, list_files(root)),
        "content": lambda: digest_sources(config),
    }
    for name, work in works.items():
        start_s = time.process_time()
        work()
        print(f"{num_images:,} images, {name:<16}{time.process_time() - start_s:8.2f} CPU s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=0, help="images of a study's input, and nothing else is measured")
    num_images = parser.parse_args().images
    if num_images:
        with tempfile.TemporaryDirectory() as name:
            _compare_inputs(Path(name), num_images)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data = _write_data(root / "data")
        _compare_shards(data)
        _compare_tokens(data, root)
        _compare_features(data, root)
        _compare_models(root)


if __name__ == "__main__":
    main()
