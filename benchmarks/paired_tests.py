"""False-positive rates of the paired tests: how often two equally good systems are taken for different ones.

    python benchmarks/paired_tests.py

Compares the permutation test (the default of `polyglance score`) with the paired bootstrap, on segments of which few
differ, each by a chance of one half in favour of either system. A rate above the level says that p-values are too
small.
"""

import numpy as np

from polyglance.evaluate.metrics import Statistics, make_metric
from polyglance.evaluate.metrics.resampling import PairedMethod, Resampling, run_paired_test

_LEVEL = 0.05
_NUM_TRIALS = 400
_NUM_DRAWS = 1000


def measure_rate(method: PairedMethod, num_segments: int, num_different: int) -> float:
    """Return the share of trials in which the test says that equally good systems differ."""
    metric, names = make_metric("rouge"), ("ROUGE_L",)
    num_found = 0
    for trial in range(_NUM_TRIALS):
        rng = np.random.default_rng([num_segments, num_different, trial])
        base = np.full((num_segments, 1), 0.5)
        other = base.copy()
        other[:num_different, 0] += rng.choice([-1, 1], size=num_different) * rng.uniform(0.05, 0.15, num_different)
        one, two = (Statistics(values=values, names=names) for values in (base, other))
        (result,) = run_paired_test(
            metric, two, one, method=method, resampling=Resampling(num_samples=_NUM_DRAWS, seed=trial)
        ).values()
        num_found += result.p_value <= _LEVEL
    return num_found / _NUM_TRIALS


def main() -> None:
    """Print a line for each number of segments that differ."""
    print(f"false positives at {_LEVEL}, {_NUM_TRIALS} trials of {_NUM_DRAWS} draws")
    for num_segments, num_different in ((20, 6), (50, 10), (200, 20), (200, 200)):
        rates = {method: measure_rate(method, num_segments, num_different) for method in ("permutation", "bootstrap")}
        shown = ", ".join(f"{method} {rate:.3f}" for method, rate in rates.items())
        print(f"{num_different} of {num_segments} segments differ: {shown}")


if __name__ == "__main__":
    main()
