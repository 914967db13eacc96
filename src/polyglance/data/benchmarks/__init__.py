"""Benchmarks by name, read in the formats and folders in which they are published.

    examples = find_benchmark("xm3600").load(Path("eval_datasets"), split="all", language="th")

Where files are missing, the error lists all expected files and where they are published. A benchmark is added by one
class (`published.py` says how) and its line in the list below.
"""

from collections.abc import Mapping
from types import MappingProxyType

from polyglance.data.benchmarks.benchmark import Benchmark, BenchmarkExample, EvaluationTask
from polyglance.data.benchmarks.coco import CocoKarpathy
from polyglance.data.benchmarks.commute import CommuteDisambiguation, CommuteTranslation
from polyglance.data.benchmarks.docci import Docci
from polyglance.data.benchmarks.image_paragraphs import ImageParagraphs
from polyglance.data.benchmarks.multi30k import Multi30kTask1, Multi30kTask2
from polyglance.data.benchmarks.shards import ShardBenchmark
from polyglance.data.benchmarks.xm3600 import XM3600
from polyglance.languages import did_you_mean

__all__ = ["BENCHMARKS", "Benchmark", "BenchmarkExample", "EvaluationTask", "find_benchmark"]

_ALL: tuple[Benchmark, ...] = (
    CocoKarpathy(),
    Multi30kTask1(),
    Multi30kTask2(),
    XM3600(),
    CommuteTranslation(),
    CommuteDisambiguation(),
    Docci(),
    ImageParagraphs(),
    ShardBenchmark("caption"),
    ShardBenchmark("translation"),
)
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType({entry.name: entry for entry in _ALL})
"""Name on the command line -> benchmark."""


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark of this name.

    Raises:
        ValueError: there is none; the message names the nearest, or all that begin so.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    longer = [known for known in BENCHMARKS if name and known.startswith(name)]
    hint = f"say which: {', '.join(longer)}" if longer else did_you_mean(name, BENCHMARKS)
    raise ValueError(f"there is no benchmark {name!r}; {hint}")
