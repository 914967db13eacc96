"""Samples per second from files to batches, beside a plain webdataset pipeline, and beside bare JPEG decoding.

    OMP_NUM_THREADS=1 python benchmarks/input_pipeline.py [--images 6000] [--workers 2] [--sides 64 500] [--cpu]

With `--cpu` everything runs in this process and rates are per second of processor time: for a machine that others use.

The data: JPEGs of noise in blocks, with sides between two bounds, and seven annotations an image (captions in two
languages, translations into five). It is written once as this project's shards and once as the shards that the
published code bakes. The plain pipeline does what that code does (webdataset with a shuffle buffer of 1,000, Pillow,
one annotation drawn by weights, both texts tokenised by a transformers tokenizer, float images, padding); it is left
out where webdataset is not installed. Both run one after the other with equally many processes. The plain pipeline's
images are normalised floats, ours bytes, which the training step turns into floats: the second line of ours has that
done by the consumer too.

Ours keeps the decoded images of a window, which the seven cells show at about the same time, so that an image is
decoded less often than it is shown: once in seven times by one process, more often by several, as each makes other
batches. It is timed over a whole window. What it comes to with nothing kept is timed as well, and set beside decoding
and resizing alone, which is then the most that can be had.
"""

import argparse
import io
import json
import os
import random
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader
from torch.utils.dlpack import from_dlpack
from transformers import PreTrainedTokenizerFast

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader, ShardWriter
from polyglance.data.world import describe, sample_scene
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.images import square_pixels
from polyglance.mixture.loader import Loader
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.tokenizer import load_tokenizer, train_tokenizer
from polyglance.model.vision import normalise_pixels
from polyglance.records import Annotation, ImageRecord

_SIZE, _MAX_TOKENS = 224, 128
_WINDOW_IMAGES, _BATCH_SIZE = 1024, 64
_WINDOW_STEPS = 7 * _WINDOW_IMAGES // _BATCH_SIZE
"""Steps in which every cell goes through a window."""
_TURNS = 8
_COVERAGE = Coverage(caption=("en", "de"), translation=("de", "fr", "es", "ru", "zh"))
_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def _jpeg(number: int, sides: tuple[int, int]) -> bytes:
    random = np.random.default_rng(number)
    width, height = (int(side) for side in random.integers(sides[0], sides[1] + 1, 2))
    blocks = random.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + random.normal(0, 6, smooth.shape).astype(np.int16)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def _annotations(number: int) -> tuple[Annotation, ...]:
    scenes = [sample_scene("full", 0, 3 * number + i, "train") for i in range(3)]
    texts = {code: " ".join(describe(scene, code) for scene in scenes) for code in ("en", *_COVERAGE.translation)}
    captions = [Annotation(task="caption", language=code, text=texts[code]) for code in _COVERAGE.caption]
    return (
        *captions,
        *(
            Annotation(task="translation", language=code, text=texts[code], source=texts["en"])
            for code in _COVERAGE.translation
        ),
    )


def _write(folder: Path, num_images: int, sides: tuple[int, int]) -> None:
    """The data in both forms, and a tokenizer for both pipelines."""
    different = min(num_images, 1500)
    pictures = [_jpeg(number, sides) for number in range(different)]
    texts = [_annotations(number) for number in range(different)]
    words = (text for annotations in texts for a in annotations for text in (a.text, prompt_of(a)))
    tokenizer = train_tokenizer(words, vocab_size=8192)
    tokenizer.save(str(folder / "tokenizer.json"))
    with ShardWriter(folder / "shards", source="benchmark", licence="") as writer:
        for number in range(num_images):
            annotations = texts[number % different]
            writer.write(ImageRecord(key=str(number), image=pictures[number % different], annotations=annotations))
    (folder / "tars").mkdir()
    for first in range(0, num_images, 1000):
        with tarfile.open(folder / "tars" / f"{first // 1000:04d}.tar", "w") as tar:
            for number in range(first, min(first + 1000, num_images)):
                entries = [_baked(annotation, tokenizer) for annotation in texts[number % different]]
                _add(tar, f"{number:09d}.jpg", pictures[number % different])
                _add(tar, f"{number:09d}.data", json.dumps(entries).encode())
    num_bytes = np.mean([len(picture) for picture in pictures])
    print(f"{num_images} images with sides of {sides[0]} to {sides[1]} pixels, {num_bytes:,.0f} bytes on average")


def _baked(annotation: Annotation, tokenizer: Any) -> dict[str, Any]:
    asked, text = prompt_of(annotation), annotation.text
    entry = {"type": annotation.task, "lang": annotation.language, "prompt": asked, "output": text}
    return entry | {"prompt_ids": tokenizer.encode(asked).ids, "output_ids": tokenizer.encode(text).ids}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


class _Plain:
    """A sample as the plain pipeline makes it."""

    def __init__(self, tokenizer_path: Path) -> None:
        self._tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_path), pad_token="<pad>")
        self._counts: Counter[str] = Counter()

    def __call__(self, sample: tuple[bytes, bytes]) -> dict[str, torch.Tensor]:
        picture = Image.open(io.BytesIO(sample[0])).convert("RGB")
        resized = picture.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous().div(255)
        pixels = pixels.sub_(_MEAN[:, None, None]).div_(_STD[:, None, None])
        entry = self._chosen(json.loads(sample[1]))
        found = {"pixel_values": pixels}
        for name, text in (("input_ids", entry["prompt"]), ("labels", entry["output"])):
            ids = self._tokenizer(text, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")["input_ids"][0]
            found[name] = ids
        return found

    def _chosen(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        total = self._counts.total()
        cells = [f"{entry['type']}-{entry['lang']}" for entry in entries]
        weights = [1 + 1e-6 if total / len(_COVERAGE.cells) >= self._counts[cell] else 1e-6 for cell in cells]
        index = random.choices(range(len(entries)), weights)[0]
        self._counts[cells[index]] += 1
        return entries[index]


def _collate(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    pad = torch.nn.utils.rnn.pad_sequence
    ids = pad([sample["input_ids"] for sample in samples], batch_first=True)
    labels = pad([sample["labels"] for sample in samples], batch_first=True, padding_value=-100)
    images = torch.stack([sample["pixel_values"] for sample in samples])
    return {"pixel_values": images, "input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def _plain(folder: Path, num_workers: int) -> Iterator[int]:
    wds = import_module("webdataset")

    tars = sorted(map(str, (folder / "tars").glob("*.tar")))
    dataset = wds.WebDataset(tars, resampled=True, shardshuffle=False, handler=wds.warn_and_continue)
    dataset = dataset.shuffle(1000).to_tuple("jpg", "data").map(_Plain(folder / "tokenizer.json"))
    loader = DataLoader(dataset, batch_size=_BATCH_SIZE, num_workers=num_workers, collate_fn=_collate)
    return (len(batch["labels"]) for batch in loader)


def _mixture(folder: Path, num_processes: int) -> Mixture:
    """As for data that does not fit into memory; with 0 processes nothing is kept decoded."""
    config = MixtureConfig(
        batch_size=_BATCH_SIZE,
        max_source_tokens=_MAX_TOKENS,
        max_target_tokens=_MAX_TOKENS,
        image_memory_bytes=num_processes * _WINDOW_IMAGES * _SIZE**2 * 3,
        shuffle_window_images=_WINDOW_IMAGES,
        token_cache=folder,
    )
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    return Mixture(config, _COVERAGE, ShardReader(folder / "shards"), tokenizer, image_size=_SIZE, seed=0)


def _ours(mixture: Mixture, num_steps: int, num_workers: int, *, floats: bool = False) -> Iterator[int]:
    ahead = 2 * num_workers or 1
    with Loader(
        mixture,
        first_step=0,
        num_steps=num_steps,
        micro_batches=[0],
        num_micro_batches=1,
        num_workers=num_workers,
        prefetch_batches=ahead,
    ) as batches:
        for _, _, batch in batches:
            if floats:
                normalise_pixels(batch.images)
            yield len(batch.cell)


def _rate(what: str, batches: Iterable[int], num_steps: int, warm_up: int, clock: Callable[[], float]) -> float:
    """Samples per second after some batches that fill buffers and start processes."""
    counts = iter(batches)
    for _ in range(warm_up):
        next(counts)
    start = clock()
    num_samples = sum(next(counts) for _ in range(num_steps))
    rate = num_samples / (clock() - start)
    print(f"{what:<58} {rate:>8,.0f} samples/s")
    return rate


def _bare(images: Sequence[bytes], *, resize: bool, clock: Callable[[], float]) -> float:
    """Images per second decoded in this process from memory, at the reduced size, and perhaps resized."""
    start = clock()
    for image in images:
        picture = Image.open(io.BytesIO(image))
        picture.draft(None, (2 * _SIZE, 2 * _SIZE))
        picture.load()
        if resize:  # by the fastest filter at hand, on Pillow's own memory
            pixels = from_dlpack(pa.array(picture).flatten()).view(1, picture.height, picture.width, 4)
            interpolate(pixels.permute(0, 3, 1, 2), (_SIZE, _SIZE), mode="bicubic", antialias=True)
    return len(images) / (clock() - start)


def _psnr(folder: Path, num_images: int) -> None:
    """What reduced decoding does to the pixels."""
    found = []
    for image in ShardReader(folder / "shards").images(range(num_images)):
        exact, reduced = (square_pixels(image, _SIZE, decode).astype(np.float64) for decode in ("exact", "reduced"))
        found.append(10 * np.log10(255**2 / max(((exact - reduced) ** 2).mean(), 1e-6)))
    print(f"reduced against exact pixels: PSNR {min(found):.1f} dB at least, {np.mean(found):.1f} dB on average")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000, help="images in the data set (default %(default)s)")
    parser.add_argument("--sides", type=int, nargs=2, default=(64, 500), help="sides in pixels (default %(default)s)")
    steps = "batches that are timed (default %(default)s: a window)"
    parser.add_argument("--steps", type=int, default=_WINDOW_STEPS, help=steps)
    parser.add_argument("--workers", type=int, default=2, help="processes of each pipeline (default %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="no processes; rates per second of processor time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.cpu:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    clock = process_time if arguments.cpu else perf_counter
    workers = 0 if arguments.cpu else arguments.workers
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, arguments.images, tuple(arguments.sides))
        start = clock()
        mixture, num_texts = _mixture(folder, max(1, workers)), 7 * arguments.images
        print(f"token cache, made once per data set: {num_texts / (clock() - start):,.0f} texts/s of {num_texts:,}")
        _compare(folder, mixture, arguments.steps, workers, clock)
        _beside_decoding(folder, arguments.steps, clock)
        _psnr(folder, 200)


def _beside_decoding(folder: Path, num_steps: int, clock: Callable[[], float]) -> None:
    """One process beside decoding alone: medians of turns, as a shared machine's pace changes."""
    mixtures = {"kept": _mixture(folder, 1), "not kept": _mixture(folder, 0)}
    batches = {name: iter(_ours(mixture, 4 + num_steps, 0)) for name, mixture in mixtures.items()}
    images = ShardReader(folder / "shards").images(range(300))
    rates: dict[str, list[float]] = defaultdict(list)
    for turn in range(_TURNS + 1):
        for name, counts in batches.items():
            start = clock()
            num_samples = sum(next(counts) for _ in range(num_steps // _TURNS if turn else 4))
            rates[name].append(num_samples / (clock() - start))
        rates["bare"].append(_bare(images, resize=False, clock=clock))
        rates["floor"].append(_bare(images, resize=True, clock=clock))
    # Over a window the rate is that of the times' sum: it grows as more of the window is kept.
    kept = 1 / np.mean([1 / rate for rate in rates["kept"][1:]])
    fresh, bare, floor = (float(np.median(rates[name][1:])) for name in ("not kept", "bare", "floor"))
    for what, rate in (
        ("this project's loader, one process", kept),
        ("this project's loader, one process, nothing kept", fresh),
        ("decode + resize alone, one process", floor),
        ("bare decoding, one process", bare),
    ):
        print(f"{what:<58} {rate:>8,.0f} images/s")
    print(
        f"(d) {kept / bare:.2f} of the rate of bare decoding; {fresh / bare:.2f} with nothing kept, "
        f"where decode + resize alone is {floor / bare:.2f}"
    )


def _compare(folder: Path, mixture: Mixture, num_steps: int, workers: int, clock: Callable[[], float]) -> None:
    warm_up = 2 * workers + 4
    total = num_steps + warm_up
    ours = _rate("this project's loader", _ours(mixture, total, workers), num_steps, warm_up, clock)
    again = _mixture(folder, max(1, workers))  # with nothing kept yet
    floats = _ours(again, total, workers, floats=True)
    as_floats = _rate("this project's loader, with float images", floats, num_steps, warm_up, clock)
    if find_spec("webdataset"):
        # Fewer batches: its rate is the same all the time.
        batches = _plain(folder, workers)
        plain = _rate("plain webdataset pipeline", batches, num_steps // 4, 1000 // _BATCH_SIZE + warm_up, clock)
        print(f"(a) {ours / plain:.2f} times the plain pipeline's rate, {as_floats / plain:.2f} with float images")


if __name__ == "__main__":
    main()
