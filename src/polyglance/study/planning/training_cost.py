"""Samples and compute of all runs of a study, as separate runs and from trunks (counted once); the price of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from polyglance.model.counts import Counts
from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job, count_shared_samples

__all__ = ["ASSUMED_COOLDOWN_SHARE", "TrainingCost", "price_time", "sum_training"]

ASSUMED_COOLDOWN_SHARE = 0.2
"""Cooldown share that is assumed for trunks of a family without a cooldown."""


@dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """Cost of training all runs of a study."""

    samples: int
    """Samples that are trained on, each as often as it is seen."""
    compute_gmac: float
    """Compute of that, in GMAC."""


def sum_training(
    config: StudyConfig, runs: Sequence[Job], counts: Mapping[tuple[str, str], Counts]
) -> dict[str, TrainingCost]:
    """Return `separate` and `trunk` -> cost of all runs with this schedule, whichever the families have.

    Args:
        counts: (family, size) -> P, P_t and F.
    """
    batch_size = config.mixture.batch_size
    samples = {"separate": 0, "trunk": 0}
    compute_gmac = {"separate": 0.0, "trunk": 0.0}
    shared: dict[tuple[str, str, str, int], int] = {}
    for run in sorted(runs, key=lambda run: run.samples):
        optim = config.family(run.family).optim
        cooled = replace(optim, cooldown_share=optim.cooldown_share or ASSUMED_COOLDOWN_SHARE)
        before = count_shared_samples(run.samples, cooled, batch_size)
        model = (run.family, run.start, run.size, run.seed)
        seen = config.mixture.count_seen(run.samples)
        own = {"separate": seen, "trunk": seen - min(before, shared.get(model, 0))}
        shared[model] = max(before, shared.get(model, 0))
        for schedule, number in own.items():
            samples[schedule] += number
            compute_gmac[schedule] += counts[run.family, run.size].compute_gmac(number)
    return {name: TrainingCost(samples=samples[name], compute_gmac=compute_gmac[name]) for name in samples}


def price_time(config: StudyConfig, seconds: float) -> float | None:
    """Return what a time on the whole machine costs; None without a price, and for micro models."""
    price = config.machine.price_per_gpu_hour
    return None if config.is_micro or price is None else seconds / 3600 * config.machine.devices * price
