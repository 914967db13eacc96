"""Pieces that `study plan --cluster` reckons with, measured on this machine: what a core decodes, what a process reads
from a store over HTTP, and what a job costs beside its work.

    OMP_NUM_THREADS=1 python benchmarks/cluster_pieces.py [--images 2000] [--side 500] [--jobs 1000]

Images are JPEGs of blurred noise with one side of `--side` pixels, decoded to 224 x 224 as training does it. Rates are
per second of processor time of one process, so that others on the machine do not change them much. The store is a
server of this machine on loopback, in a process of its own: what is measured is the reader, not a network. A job that
is done already costs its scheduler alone. What a cluster does with these rates is extrapolated.
"""

import argparse
import functools
import http.server
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from PIL import Image, ImageFilter

from polyglance.config import from_dict
from polyglance.data.location import parse_location
from polyglance.data.shard import ShardReader, ShardWriter
from polyglance.mixture.images import square_pixels
from polyglance.records import ImageRecord, annotations_from_texts
from polyglance.study import StudyConfig
from polyglance.study.grid.job_state import finish_job
from polyglance.study.grid.jobs import list_jobs
from polyglance.study.places.schedulers import LocalWorkers


def _picture(index: int, side: int) -> bytes:
    random = np.random.default_rng(index)
    noise = Image.fromarray(random.integers(0, 256, (side, side * 3 // 4, 3), dtype=np.uint8))
    file = io.BytesIO()
    noise.filter(ImageFilter.GaussianBlur(2)).save(file, "JPEG", quality=90)
    return file.getvalue()


def measure_decoding(pictures: list[bytes], num_images: int) -> dict[str, float]:
    """Return kind of decoding -> images per second of processor time."""
    rates = {}
    for decode in ("exact", "reduced"):
        square_pixels(pictures[0], 224, decode)
        since_s = process_time()
        for index in range(num_images):
            square_pixels(pictures[index % len(pictures)], 224, decode)
        rates[decode] = num_images / (process_time() - since_s)
    return rates


class _RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, or the bytes of them that are asked for, as object stores give them."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        size, asked = path.stat().st_size, self.headers.get("Range", "")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = (int(first), min(int(last or size - 1), size - 1)) if asked else (0, size - 1)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(end + 1 - start))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            self.wfile.write(file.read(end + 1 - start))

    def log_message(self, *args: object) -> None:
        pass


def _serve(folder: str, sender: Connection) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_RangeHandler, directory=folder))
    sender.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def _store(folder: Path) -> Iterator[str]:
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(str(folder), sender), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{receiver.recv()}"
    finally:
        process.terminate()
        process.join()


def measure_reading(folder: Path, pictures: list[bytes], num_images: int) -> tuple[float, float]:
    """Return bytes per second of processor time and of wall time at which one process reads a data set's images in
    order, over HTTP."""
    with ShardWriter(folder, source="benchmark", licence="") as writer:
        for index in range(num_images):
            annotations = annotations_from_texts({"en": f"image {index}"})
            writer.write(ImageRecord(key=str(index), image=pictures[index % len(pictures)], annotations=annotations))
    with _store(folder) as address:
        reader = ShardReader(parse_location(address))
        reader.images([0])
        since_s, wall_s = process_time(), perf_counter()
        num_bytes = 0
        for first in range(0, num_images, 32):
            num_bytes += sum(map(len, reader.images(list(range(first, min(first + 32, num_images))))))
        return num_bytes / (process_time() - since_s), num_bytes / (perf_counter() - wall_s)


def measure_jobs(folder: Path, num_jobs: int) -> float:
    """Return seconds of a job that has nothing to do, in a worker process, with one such worker."""
    config = from_dict(
        StudyConfig,
        {
            "out": folder,
            "data": {"world": {}},
            "coverage": {"caption": ["en"]},
            "families": [{"name": "scratch", "widths": [8], "samples": [64]}],
        },
    )
    job = list_jobs(config)[-1]
    finish_job(config.out, job)
    with LocalWorkers(config, num_slots=1) as workers:
        workers.start(job)
        workers.wait()  # the worker has loaded torch
        since_s = perf_counter()
        for _ in range(num_jobs):
            workers.start(job)
            workers.wait()
        return (perf_counter() - since_s) / num_jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--side", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1_000)
    options = parser.parse_args()
    pictures = [_picture(index, options.side) for index in range(64)]
    print(f"images of {options.side} px: {np.mean([len(one) for one in pictures]) / 1e3:.0f} kB")
    for decode, rate in measure_decoding(pictures, options.images).items():
        print(f"decoding, {decode}: {rate:,.0f} images/s of a core")
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("aiohttp") is None:
            print("reading over HTTP: left out, fsspec needs aiohttp for it (pip install aiohttp)")
        else:
            rates = measure_reading(Path(folder) / "data", pictures, options.images)
            print(
                "reading over HTTP: {:,.0f} MB/s of a core, {:,.0f} MB/s by the clock".format(*(r / 1e6 for r in rates))
            )
        print(f"a job without work: {1e3 * measure_jobs(Path(folder) / 'study', options.jobs):.1f} ms")


if __name__ == "__main__":
    main()
