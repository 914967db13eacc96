"""Sets that models are compared on, read in the formats and folders they are published in.

    examples = benchmark("xm3600").load(Path("eval_datasets"), split="all", language="th")

Where files are missing, the error lists all that is expected and where it is published.
"""

from collections.abc import Mapping
from types import MappingProxyType

from polyglance.data.benchmarks.benchmark import Benchmark, Example, ExpectedFile
from polyglance.data.benchmarks.coco import CocoKarpathy
from polyglance.data.benchmarks.commute import CommuteDisambiguation, CommuteTranslation
from polyglance.data.benchmarks.docci import Docci
from polyglance.data.benchmarks.image_paragraphs import ImageParagraphs
from polyglance.data.benchmarks.multi30k import Multi30kTask1, Multi30kTask2
from polyglance.data.benchmarks.shards import ShardBenchmark
from polyglance.data.benchmarks.xm3600 import XM3600
from polyglance.languages import did_you_mean

__all__ = ["BENCHMARKS", "Benchmark", "Example", "ExpectedFile", "benchmark"]

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
"""Every benchmark under the name that the command line takes."""


def benchmark(name: str) -> Benchmark:
    """The benchmark of this name.

    Raises:
        ValueError: there is none; the message names the nearest, or all that begin so.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    begun = [known for known in BENCHMARKS if name and known.startswith(name)]
    hint = f"say which: {', '.join(begun)}" if begun else did_you_mean(name, BENCHMARKS)
    raise ValueError(f"there is no benchmark {name!r}; {hint}")
