"""Sentence pairs read and checked per second, in every form, and the memory of the search for duplicates.

    OMP_NUM_THREADS=1 python benchmarks/bitext_rate.py [--pairs 1000000]

The pairs are made of ten words per side, all different: invented ones, and `the` and `and` in English. Seconds are CPU
seconds of this process.
"""

import argparse
import gzip
import resource
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from time import process_time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from polyglance.data.sources.bitext import BitextSource
from polyglance.data.sources.seen import SeenHashes
from polyglance.records import Drops

_CHUNK_PAIRS = 100_000
_BATCH_PAIRS = 4096


def _chunks(num_pairs: int) -> Iterator[list[tuple[str, str]]]:
    words = np.array([f"{first}{last}" for first in "bdfgklmnprst" for last in ("al", "en", "is", "or", "um", "été")])
    for start in range(0, num_pairs, _CHUNK_PAIRS):
        rng = np.random.default_rng([0, start])
        size = min(_CHUNK_PAIRS, num_pairs - start)
        rows, others = (words[rng.integers(0, len(words), (size, number))].tolist() for number in (8, 10))
        english = [f"the {' '.join(row[:4])} and {' '.join(row[4:])}" for row in rows]
        yield list(zip(english, map(" ".join, others), strict=True))


def _write(folder: Path, num_pairs: int) -> dict[str, Path]:
    paths = {"tsv": "a.tsv", "tsv.gz": "a.tsv.gz", "tmx": "a.tmx", "parquet": "a.parquet", "opus": "a.zip"}
    files = {name: folder / path for name, path in paths.items()}
    schema = pa.schema([("translation", pa.struct([("en", pa.string()), ("fr", pa.string())]))])
    moses = [(folder / f"moses.{code}").open("w", encoding="utf-8") for code in ("en", "fr")]
    with (
        files["tsv"].open("w", encoding="utf-8") as tsv,
        gzip.open(files["tsv.gz"], "wt", compresslevel=1, encoding="utf-8") as packed,
        files["tmx"].open("w", encoding="utf-8") as tmx,
        pq.ParquetWriter(files["parquet"], schema) as parquet,
    ):
        tmx.write("<tmx><body>\n")
        for pairs in _chunks(num_pairs):
            text = "".join(f"{english}\t{other}\n" for english, other in pairs)
            tsv.write(text)
            packed.write(text)
            for side, file in enumerate(moses):
                file.writelines(f"{pair[side]}\n" for pair in pairs)
            for pair in pairs:
                variants = zip(("en", "fr"), pair, strict=True)
                tuvs = "".join(f'<tuv xml:lang="{code}"><seg>{side}</seg></tuv>' for code, side in variants)
                tmx.write(f"<tu>{tuvs}</tu>\n")
            rows = [{"translation": {"en": english, "fr": other}} for english, other in pairs]
            parquet.write_table(pa.Table.from_pylist(rows, schema))
        tmx.write("</body></tmx>\n")
    for file in moses:
        file.close()
    with zipfile.ZipFile(files["opus"], "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for code in ("en", "fr"):
            archive.write(folder / f"moses.{code}", f"OPUS.en-fr.{code}")
    return {**files, "moses": folder / "moses"}


def _report(name: str, num_pairs: int, work: Callable[[], int]) -> None:
    start = process_time()
    num_good = work()
    elapsed_s = process_time() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<28} {num_pairs / elapsed_s:>10,.0f} pairs/s   {num_good:,} good   peak so far {peak_mb:,.0f} MB")


def _count(path: Path, *, keep_duplicates: bool = False) -> int:
    source, drops = BitextSource(path=path, language="fr"), Drops()
    pairs = (pair for piece in source.find_pieces(10**9, drops) for pair in source.read_piece(piece, drops))
    if keep_duplicates:
        return sum(1 for _ in pairs)
    seen, num_new = SeenHashes(), 0
    while batch := list(islice(pairs, _BATCH_PAIRS)):
        num_new += int(seen.add(np.array([pair.hash for pair in batch], dtype=np.uint64)).sum())
    return num_new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs in each file (default %(default)s)")
    num_pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as name:
        with ProcessPoolExecutor(1) as writer:  # its memory is not counted
            paths = writer.submit(_write, Path(name), num_pairs).result()
        _report("tsv, duplicates not looked for", num_pairs, lambda: _count(paths["tsv"], keep_duplicates=True))
        for form, path in paths.items():
            _report(form, num_pairs, lambda path=path: _count(path))  # type: ignore[misc]


if __name__ == "__main__":
    main()
