"""Alignment of images with sentences: rate, peak memory and recall of exact and approximate search.

    OMP_NUM_THREADS=2 python benchmarks/alignment.py exact [--images 100000] [--sentences 1000000]
    OMP_NUM_THREADS=2 python benchmarks/alignment.py faiss [--data isotropic] [--recall 0.95] [--probes 64] ...
    OMP_NUM_THREADS=2 python benchmarks/alignment.py hubs

`clustered` embeddings are points around 20,000 centres whose numbers of points follow Zipf's law, with images and
sentences around the same centres, as in embeddings of real data. `isotropic` ones have no near neighbours: all are
nearly at right angles, which is the worst case for any index. Sentences are float16 in ten files. Another process
makes the embeddings; the peak memory is that of the process that aligns.
"""

import argparse
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from polyglance.data.align import (
    AlignConfig,
    AlignResult,
    Embeddings,
    FaissConfig,
    HubConfig,
    build_index,
    search,
    select,
    tune_search,
)

_NUM_CENTRES = 20_000
_NUM_FILES = 10


def _rows(data: str, num_rows: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([1, seed])
    noise = rng.standard_normal((num_rows, dim), dtype=np.float32)
    if data == "isotropic":
        return noise
    centres = np.random.default_rng(0).standard_normal((_NUM_CENTRES, dim), dtype=np.float32)
    weights = 1 / np.arange(10, _NUM_CENTRES + 10)
    noise *= 0.5
    noise += centres[rng.choice(_NUM_CENTRES, num_rows, p=weights / weights.sum())]
    return noise


def _write(folder: Path, arguments: argparse.Namespace) -> None:
    for number in range(_NUM_FILES):
        rows = _rows(arguments.data, arguments.sentences // _NUM_FILES, arguments.dim, number + 1)
        np.save(folder / f"sentences-{number}.npy", rows.astype(np.float16))
    np.save(folder / "images.npy", _rows(arguments.data, arguments.images, arguments.dim, 0).astype(np.float16))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class _Clock:
    """Wall time and processor time; the latter counts on a machine that others use too."""

    def __init__(self) -> None:
        self._start, self._start_cpu = perf_counter(), process_time()

    def __str__(self) -> str:
        return f"{self.wall_s:.1f} s ({process_time() - self._start_cpu:.1f} s of processor time)"

    @property
    def wall_s(self) -> float:
        return perf_counter() - self._start


def _search(folder: Path, config: AlignConfig) -> AlignResult:
    images, sentences = _embeddings(folder)
    clock = _Clock()
    if config.method == "faiss":
        build_index(sentences, config.faiss, folder / "index", seed=config.seed)
        size_mb = sum(path.stat().st_size for path in (folder / "index").iterdir()) / 2**20
        print(f"index: {clock}, {size_mb:,.0f} MB on disk, peak {_peak_mb():,.0f} MB", flush=True)
        config = _tune(images, sentences, config, folder / "index")
    clock = _Clock()
    result = search(images, sentences, config, folder / "index")
    print(f"search: {clock}, {len(images) / clock.wall_s:,.0f} images/s, peak {_peak_mb():,.0f} MB")
    return result


def _tune(images: Embeddings, sentences: Embeddings, config: AlignConfig, index: Path) -> AlignConfig:
    """Make the search as thorough as it has to be."""
    clock = _Clock()
    tuned = tune_search(images, sentences, config, index)
    sizes = f"{tuned.config.num_probes} probes, {tuned.config.refine_factor} candidates a neighbour"
    print(f"tuning: {clock}, {sizes}, peak {_peak_mb():,.0f} MB")
    print(f"recall@{config.top_n} {tuned.recall:.4f} on {tuned.num_images:,} others; {tuned.warning}", flush=True)
    return replace(config, faiss=tuned.config)


def _embeddings(folder: Path) -> tuple[Embeddings, Embeddings]:
    return Embeddings(folder / "images.npy"), Embeddings(sorted(folder.glob("sentences-*.npy")))


def _run(arguments: argparse.Namespace, folder: Path) -> None:
    method = arguments.method
    faiss = FaissConfig(
        num_lists=arguments.lists,
        recall=arguments.recall or None,
        num_probes=arguments.probes,
        code_bytes=arguments.code_bytes,
        num_train=arguments.train,
        refine_factor=arguments.refine,
    )
    config = AlignConfig(
        method="faiss" if method == "faiss" else "exact",
        faiss=faiss,
        num_recall_images=arguments.recall_images if method == "faiss" else 0,
        hubs=HubConfig(max_per_sentence=20, rescaling="csls") if method == "hubs" else HubConfig(),
    )
    print(
        f"{arguments.data}: {arguments.images:,} images, {arguments.sentences:,} sentences, {arguments.dim} numbers",
        flush=True,
    )
    result = _search(folder, config)
    if method == "hubs":
        clock = _Clock()
        selected = select(result, *_embeddings(folder), config)
        busiest = [int(np.unique(r.sentence_id, return_counts=True)[1].max()) for r in (result, selected)]
        print(f"hub control: {clock}, peak {_peak_mb():,.0f} MB, busiest sentence {busiest}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=["exact", "faiss", "hubs"])
    parser.add_argument("--data", choices=["clustered", "isotropic"], default="clustered")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--sentences", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    for name in ("lists", "code-bytes", "train"):
        parser.add_argument(f"--{name}", type=int, help="chosen by the library if not given")
    parser.add_argument("--recall", type=float, default=FaissConfig().recall, help="0: the search is not tuned")
    parser.add_argument("--recall-images", type=int, default=AlignConfig().num_recall_images)
    parser.add_argument("--probes", type=int, default=FaissConfig().num_probes)
    parser.add_argument("--refine", type=int, default=FaissConfig().refine_factor)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        with ProcessPoolExecutor(1) as writer:
            writer.submit(_write, Path(name), arguments).result()
        _run(arguments, Path(name))


if __name__ == "__main__":
    main()
