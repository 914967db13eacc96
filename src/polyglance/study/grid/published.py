"""Costs of the published sizes on a study's machine. Importing this loads no torch."""

from dataclasses import dataclass
from typing import Literal

from polyglance.model.card import make_card
from polyglance.model.card_record import Card
from polyglance.model.counts import Counts
from polyglance.model.rates import Rate, find_rate
from polyglance.model.scaling import StepTime, estimate_step
from polyglance.model.training_setup import TrainingSetup, recommend_setup
from polyglance.study.config import StudyConfig
from polyglance.study.grid.waiting import estimate_waiting

__all__ = ["PublishedCost", "count_published"]

_STRIDE = 32
"""Pixels per position of the published towers' grid, along a side; one more token is the mean."""


@dataclass(frozen=True, kw_only=True)
class PublishedCost:
    """Cost of training a published size in a study."""

    counts: Counts
    """P, P_t and F."""
    training_gmac: float
    """Multiply-accumulates of forward and backward pass of one sample, in 10^9."""
    strategy: TrainingSetup | None
    """Recommended way of training on the study's machine; None where not even one sample fits into it."""
    rate: Rate
    """Rate of one device."""
    samples_per_s: float
    """Samples per second of the whole machine."""
    efficiency: float
    """Rate as a share of the devices' rates without messages and waiting (estimated)."""


def count_published(config: StudyConfig, name: str) -> PublishedCost:
    """Count the cost of a published size at the longest prompts and targets, as published (official code section 4.2).

    Args:
        name: size as `polyglance model card` takes it, or the folder of a model.

    Raises:
        ValueError: an unknown size, or lengths that it has no positions for.
    """
    mixture, machine = config.mixture, config.machine
    card = make_card(
        name,
        image_size=config.image_size,
        source_tokens=mixture.max_source_tokens,
        target_tokens=mixture.max_target_tokens,
    )
    strategy = recommend_setup(
        card,
        devices=machine.devices,
        device_bytes=int(machine.memory_gb * 1e9),
        batch_size=mixture.batch_size,
    )
    rate = find_rate(machine.card, name, card.training_gmac, peak_tflops=machine.peak_tflops)
    if machine.mfu is not None:
        tflops = machine.mfu * machine.peak_tflops
        rate = Rate(tflops=tflops, is_measured=True, basis=f"MFU {machine.mfu:g}, as machine.mfu says")
    step = _estimate_step(config, card, strategy, rate)
    return PublishedCost(
        counts=Counts(
            num_parameters=card.num_parameters,
            num_trained=card.num_trained["pre-training"],
            macs_per_sample=round(card.gmac * 1e9),
        ),
        training_gmac=card.training_gmac,
        strategy=strategy,
        rate=rate,
        samples_per_s=mixture.batch_size / step.seconds,
        efficiency=step.efficiency,
    )


def _estimate_step(config: StudyConfig, card: Card, strategy: TrainingSetup | None, rate: Rate) -> StepTime:
    """Estimate the time of an optimiser step on the study's machine; without a setup that fits, as if fully sharded."""
    mixture, machine = config.mixture, config.machine
    share_s = mixture.batch_size / machine.devices / rate.samples_per_s(card.training_gmac)
    kind: Literal["single", "ddp", "fsdp"] = "fsdp" if strategy is None else strategy.strategy
    passes = 1 if strategy is None else strategy.accumulation
    waiting_share = estimate_waiting(
        kind,
        devices=machine.devices,
        passes=passes,
        samples=max(1, mixture.batch_size // (machine.devices * passes)),
        image_tokens=(card.image_size // _STRIDE) ** 2 + 1,
    )
    return estimate_step(
        kind,
        devices=machine.devices,
        compute_s=share_s,
        passes=passes,
        waiting_share=waiting_share,
        num_parameters=card.num_parameters,
        num_trained=card.num_trained["pre-training"],
        network=machine.network,
    )
