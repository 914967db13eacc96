"""Nearest sentences out of hundreds of millions: an inverted file of product-quantised vectors (FAISS) on disk.

Sentences are sorted into lists by the nearest of many centres, and kept there in a byte for every few dimensions
(Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011). A search looks through the lists
nearest to the image and takes several times as many candidates as asked for, which are then scored from the embeddings
themselves, in float64: scores are exact, only a neighbour may be missing.

Needs the extra `search` (faiss-cpu).
"""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from polyglance.data.align.embeddings import Embeddings
from polyglance.data.align.exact import Neighbours, rescore
from polyglance.files import replacing_folder, write_json

__all__ = ["FaissConfig", "build_index", "num_lists", "search_index"]

_ABOUT = "index.json"
_BLOCK_ROWS = 2**16
_SHARD_ROWS = 2**22
"""Rows whose codes are held in memory while the index is built: 300 MB with codes of 64 bytes."""
_BLOCK_IMAGES = 1024
_TRAIN_PER_LIST = 64
_PURPOSE = 71


@dataclass(frozen=True, kw_only=True)
class FaissConfig:
    """Size and thoroughness of the index.

    Raises:
        ValueError: a value outside its range.
    """

    num_lists: int | None = None
    """Lists the sentences are sorted into; about 4 times the root of their number if None."""
    recall: float | None = 0.95
    """Share of the exact search's pairs to be found: `num_probes` and `refine_factor` are raised until it is, as far as
    a sample of images tells. None: both stay as they are."""
    num_probes: int = 32
    """Lists looked through for an image: more find more and take longer."""
    code_bytes: int | None = None
    """Bytes that a sentence is kept in, a divisor of the embeddings' width; half the width if None."""
    num_train: int | None = None
    """Sentences, drawn at random, that centres and codes are trained on; 64 per list if None."""
    refine_factor: int = 4
    """Candidates per neighbour asked for, which are scored from the embeddings themselves."""

    def __post_init__(self) -> None:
        for name in ("num_lists", "num_probes", "code_bytes", "num_train", "refine_factor"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise ValueError(f"recall is {self.recall}; it must be a share, above 0 and at most 1")


def build_index(sentences: Embeddings, config: FaissConfig, folder: Path, *, seed: int) -> None:
    """Write an index of the sentences into `folder`, which comes into being when it is whole; one that is there stays.

    Only sizes are compared with one that is there, so name the folder after a fingerprint of the embeddings. Memory:
    the training sample, and the codes of 4 million sentences.

    Raises:
        ValueError: no FAISS, fewer sentences than it can be trained on, a code size that does not divide the width, or
            an index of other sentences or another size in `folder`.
    """
    sizes = _sizes(len(sentences), sentences.dim, config)
    about = {"num_sentences": len(sentences), "dim": sentences.dim, "seed": seed, **sizes}
    if folder.exists():
        _check(folder, about)
        return
    faiss = _faiss()
    with replacing_folder(folder) as partial:
        _write_shards(faiss, _train(faiss, sentences, sizes, seed), sentences, partial)
        write_json(partial / _ABOUT, about)


def _faiss() -> Any:
    try:
        return import_module("faiss")
    except ImportError:
        raise ValueError("approximate search needs FAISS: pip install 'polyglance[search]'") from None


def _sizes(num_sentences: int, dim: int, config: FaissConfig) -> dict[str, int]:
    lists = config.num_lists or 2 ** max(0, round(np.log2(4 * np.sqrt(max(num_sentences, 1)))))
    code_bytes = config.code_bytes or max(1, dim // 2)
    num_train = min(config.num_train or max(_TRAIN_PER_LIST * lists, 2**16), num_sentences)
    if dim % code_bytes:
        raise ValueError(f"code_bytes is {code_bytes}; it must divide the width of the embeddings, {dim}")
    if num_train < max(lists, 256):
        raise ValueError(f"{num_train} sentences to train {lists} lists and 256 codes on are too few; use exact search")
    return {"num_lists": lists, "code_bytes": code_bytes, "num_train": num_train}


def _check(folder: Path, about: dict[str, int]) -> None:
    try:
        found = json.loads((folder / _ABOUT).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: is there, but holds no index ({error})") from None
    if found != about:
        raise ValueError(f"{folder}: holds an index of {found}, not of {about}; remove it or name another folder")


def _train(faiss: Any, sentences: Embeddings, sizes: dict[str, int], seed: int) -> Any:
    rng = np.random.default_rng([seed, 0, _PURPOSE])
    numbers = _sample(rng, len(sentences), sizes["num_train"])
    quantizer = faiss.IndexFlatIP(sentences.dim)
    index = faiss.IndexIVFPQ(
        quantizer, sentences.dim, sizes["num_lists"], sizes["code_bytes"], 8, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.min_points_per_centroid = 1  # or it warns on standard error
    index.pq.cp.min_points_per_centroid = 1
    index.train(sentences.take(numbers).astype(np.float32))
    return index


def _sample(rng: np.random.Generator, num_rows: int, num_wanted: int) -> Int64[np.ndarray, "n"]:
    """Distinct numbers in order, without a permutation of all."""
    if 2 * num_wanted >= num_rows:
        return np.sort(rng.permutation(num_rows)[:num_wanted])
    drawn = np.unique(rng.integers(0, num_rows, 2 * num_wanted))
    while len(drawn) < num_wanted:
        drawn = np.unique(np.concatenate((drawn, rng.integers(0, num_rows, num_wanted))))
    return np.sort(rng.permutation(drawn)[:num_wanted])


def _write_shards(faiss: Any, trained: Any, sentences: Embeddings, folder: Path) -> None:
    """Indices of 4 million sentences each, with the same centres and codes."""
    shard, first = faiss.clone_index(trained), 0
    for start, block in sentences.blocks(_BLOCK_ROWS):
        shard.add_with_ids(block, np.arange(start, start + len(block)))
        end = start + len(block)
        if end - first >= _SHARD_ROWS or end == len(sentences):
            faiss.write_index(shard, str(folder / f"shard-{first:012d}.faiss"))
            shard, first = faiss.clone_index(trained), end


def num_lists(folder: Path) -> int:
    """Lists of the index in `folder`, which is there."""
    return int(json.loads((folder / _ABOUT).read_bytes())["num_lists"])


def search_index(
    folder: Path, images: Embeddings, sentences: Embeddings, num_neighbours: int, config: FaissConfig
) -> Neighbours:
    """The nearest sentences of every image, as far as the index leads to them; scores are exact.

    Lists stay on disk: the shards are mapped one after the other.

    Args:
        folder: an index by `build_index` of the same sentences.

    Raises:
        ValueError: no FAISS.
    """
    faiss = _faiss()
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
