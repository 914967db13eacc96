"""Images per second written to shards, read back in every way, and imported from a table.

    OMP_NUM_THREADS=1 python benchmarks/shard_rate.py [--images 20000] [--side 64]

The images are noise in blocks (PNG), each with texts in six languages (12 annotations), all different.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from polyglance.data.importer import ImportConfig, import_data
from polyglance.data.shard import ShardReader, ShardWriter, read_annotations, read_records
from polyglance.languages import LANGUAGES
from polyglance.records import ImageRecord, annotations_from_texts

_BATCH = 32


def _picture(index: int, side: int) -> bytes:
    blocks = np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(blocks).resize((side, side), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def _texts(index: int) -> dict[str, str]:
    return {code: f"{language.prefix} {index} ..." for code, language in LANGUAGES.items()}


def _report(name: str, num_images: int, work: Callable[[], object]) -> None:
    start = perf_counter()
    work()
    elapsed_s = perf_counter() - start
    print(f"{name:<32} {num_images / elapsed_s:>10,.0f} images/s   ({elapsed_s:.2f} s)")


def _write(out: Path, pictures: list[bytes], num_images: int) -> None:
    with ShardWriter(out, source="benchmark", licence="") as writer:
        for index in range(num_images):
            image = pictures[index % len(pictures)]
            writer.write(ImageRecord(key=str(index), image=image, annotations=annotations_from_texts(_texts(index))))


def _import(folder: Path, pictures: list[bytes]) -> None:
    rows = []
    for index, picture in enumerate(pictures):
        (folder / f"{index}.png").write_bytes(picture)
        rows.append(json.dumps({"image": f"{index}.png", "texts": _texts(index)}))
    table = folder / "captions.jsonl"
    table.write_text("\n".join(rows), encoding="utf-8")
    config = ImportConfig(table=table, images=folder, out=folder / "imported")
    _report("import", len(pictures), lambda: import_data(config))


def _read(out: Path, num_images: int) -> None:
    _report("read_records", num_images, lambda: sum(1 for _ in read_records(out)))
    _report("read_annotations", num_images, lambda: sum(1 for _ in read_annotations(out)))
    reader = ShardReader(out)
    _report("ShardReader.annotations", num_images, reader.annotations)
    rng = random.Random(0)
    batches = [[rng.randrange(num_images) for _ in range(_BATCH)] for _ in range(100)]
    _report("ShardReader.images, any rows", 100 * _BATCH, lambda: [reader.images(batch) for batch in batches])
    runs = [range(start, start + _BATCH) for start in (rng.randrange(num_images - _BATCH) for _ in range(100))]
    _report("ShardReader.images, in a row", 100 * _BATCH, lambda: [reader.images(run) for run in runs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="images in the data set (default %(default)s)")
    parser.add_argument("--side", type=int, default=64, help="side of an image in pixels (default %(default)s)")
    arguments = parser.parse_args()
    pictures = [_picture(index, arguments.side) for index in range(min(arguments.images, 3000))]
    print(f"{arguments.images} images of {np.mean([len(picture) for picture in pictures]):,.0f} bytes")
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "set"
        _report("write", arguments.images, lambda: _write(out, pictures, arguments.images))
        _read(out, arguments.images)
        _import(Path(name), pictures)


if __name__ == "__main__":
    main()
