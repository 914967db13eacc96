"""Nearest sentences of hundreds of millions: an inverted file of product-quantised vectors (FAISS) on disk.

Sentences are sorted into lists by the nearest of many centres, and stored there in a byte for every few dimensions
(Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011). A search looks through the lists
nearest to the image and takes several times as many candidates as asked for, which are then scored with the embeddings
themselves, in float64: scores are exact, only a neighbour may be missing.

Needs the extra `search` (faiss-cpu).
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from polyglance.data.align.config import FaissConfig
from polyglance.data.align.embeddings import Embeddings
from polyglance.data.align.exact import Neighbours, rescore
from polyglance.files import read_json, replacing_folder, write_json

__all__ = ["build_index", "count_lists", "search_index"]

_INFO = "index.json"
_BLOCK_ROWS = 2**16
_SHARD_ROWS = 2**22
"""Rows per file of the index. Their codes are held in memory while it is built: 300 MB with codes of 64 bytes."""
_BLOCK_IMAGES = 1024
_TRAIN_PER_LIST = 64
_PURPOSE = 71
"""Number of this module's random stream."""


def build_index(sentences: Embeddings, config: FaissConfig, folder: Path, *, seed: int) -> None:
    """Write an index of the sentences into `folder`, whole or not at all; an index that is there is replaced.

    Memory: the training sample, and the codes of 4 million sentences.

    Raises:
        ValueError: no FAISS, fewer sentences than it can be trained on, or a code size that does not divide the width.
    """
    sizes = _choose_sizes(len(sentences), sentences.dim, config)
    faiss = _import_faiss()
    with replacing_folder(folder) as partial:
        _write_shards(faiss, _train(faiss, sentences, sizes, seed), sentences, partial)
        write_json(partial / _INFO, {"num_sentences": len(sentences), "dim": sentences.dim, "seed": seed, **sizes})


def _import_faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError:
        raise ValueError("approximate search needs FAISS: pip install 'polyglance[search]'") from None


def _choose_sizes(num_sentences: int, dim: int, config: FaissConfig) -> dict[str, int]:
    lists = config.num_lists or 2 ** max(0, round(np.log2(4 * np.sqrt(max(num_sentences, 1)))))
    code_bytes = config.code_bytes or max(1, dim // 2)
    num_train = min(config.num_train or max(_TRAIN_PER_LIST * lists, 2**16), num_sentences)
    if dim % code_bytes:
        raise ValueError(f"code_bytes is {code_bytes}; it must divide the width of the embeddings, {dim}")
    if num_train < max(lists, 256):
        raise ValueError(f"{num_train} sentences to train {lists} lists and 256 codes on are too few; use exact search")
    return {"num_lists": lists, "code_bytes": code_bytes, "num_train": num_train}


def _train(faiss: Any, sentences: Embeddings, sizes: dict[str, int], seed: int) -> Any:
    rng = np.random.default_rng([seed, 0, _PURPOSE])
    numbers = _draw_rows(rng, len(sentences), sizes["num_train"])
    quantizer = faiss.IndexFlatIP(sentences.dim)
    index = faiss.IndexIVFPQ(
        quantizer, sentences.dim, sizes["num_lists"], sizes["code_bytes"], 8, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = 1  # otherwise it warns on standard error
    index.pq.cp.min_points_per_centroid = 1
    index.train(sentences.take(numbers).astype(np.float32))
    return index


def _draw_rows(rng: np.random.Generator, num_rows: int, num_wanted: int) -> Int64[np.ndarray, "n"]:
    """Draw distinct numbers below `num_rows`, in order, without a permutation of all."""
    if 2 * num_wanted >= num_rows:
        return np.sort(rng.permutation(num_rows)[:num_wanted])
    drawn = np.unique(rng.integers(0, num_rows, 2 * num_wanted))
    while len(drawn) < num_wanted:
        drawn = np.unique(np.concatenate((drawn, rng.integers(0, num_rows, num_wanted))))
    return np.sort(rng.permutation(drawn)[:num_wanted])


def _write_shards(faiss: Any, trained: Any, sentences: Embeddings, folder: Path) -> None:
    """Write indices of 4 million sentences each, with the same centres and codes."""
    shard, first = faiss.clone_index(trained), 0
    for start, block in sentences.blocks(_BLOCK_ROWS):
        shard.add_with_ids(block, np.arange(start, start + len(block)))
        end = start + len(block)
        if end - first >= _SHARD_ROWS or end == len(sentences):
            faiss.write_index(shard, str(folder / f"shard-{first:012d}.faiss"))
            shard, first = faiss.clone_index(trained), end


def count_lists(folder: Path) -> int:
    """Return the number of lists of the index in `folder`."""
    return int(read_json(folder / _INFO)["num_lists"])


def search_index(
    folder: Path, images: Embeddings, sentences: Embeddings, num_neighbours: int, config: FaissConfig
) -> Neighbours:
    """Find the nearest sentences of every image; some may be missed, but scores are exact.

    Lists stay on disk: the shards are mapped one after the other.

    Args:
        folder: an index of the same sentences by `build_index`.

    Raises:
        ValueError: no FAISS.
    """
    faiss = _import_faiss()
    info = read_json(folder / _INFO)
    assert (info["num_sentences"], info["dim"]) == (len(sentences), sentences.dim), "an index of other sentences"
    num_best = min(num_neighbours, len(sentences))
    num_candidates = min(num_best * config.refine_factor, len(sentences))
    ids = np.full((len(images), num_candidates), -1)
    scores = np.full((len(images), num_candidates), -np.inf, dtype=np.float32)
    for path in sorted(folder.glob("shard-*.faiss")):
        shard = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
        parameters = faiss.SearchParametersIVF(nprobe=min(config.num_probes, shard.nlist))
        for start, queries in images.blocks(_BLOCK_IMAGES):
            rows = slice(start, start + len(queries))
            found_scores, found_ids = shard.search(queries, num_candidates, params=parameters)
            joined_scores = np.concatenate((scores[rows], found_scores), axis=1)
            joined_ids = np.concatenate((ids[rows], found_ids), axis=1)
            joined_scores[joined_ids < 0] = -np.inf
            best = np.argsort(-joined_scores, axis=1, kind="stable")[:, :num_candidates]
            scores[rows] = np.take_along_axis(joined_scores, best, axis=1)
            ids[rows] = np.take_along_axis(joined_ids, best, axis=1)
    return rescore(images, sentences, ids, num_best)
