"""Costs of the published sizes, counted on the meta device. Counting takes seconds per size and is done once."""

from dataclasses import dataclass
from functools import cache

from polyglance.model.card import Card, card
from polyglance.model.flops import Counts, training_macs
from polyglance.model.parts import PUBLISHED_TRAINED
from polyglance.model.sizes import size
from polyglance.model.strategy import Strategy, recommend
from polyglance.study.config import StudyConfig

__all__ = ["PublishedCost", "count_published"]


@dataclass(frozen=True, kw_only=True)
class PublishedCost:
    """Cost of training a published size in a study."""

    counts: Counts
    """P, P_t and F."""
    training_macs: int
    """Multiply-accumulates of forward and backward pass of one sample."""
    strategy: Strategy | None
    """Recommended way of training on the study's machine; None where not even one sample fits into it."""


def count_published(config: StudyConfig, name: str) -> PublishedCost:
    """Count the cost of a published size at the longest prompts and targets, as published (official code section 4.2).

    Args:
        name: size as `polyglance model card` takes it, or the folder of a model.

    Raises:
        ValueError: an unknown size, or lengths that it has no positions for.
    """
    mixture, machine = config.mixture, config.machine
    model_card, macs = _card_and_training_macs(
        name, config.image_size, mixture.max_source_tokens, mixture.max_target_tokens
    )
    return PublishedCost(
        counts=Counts(
            num_parameters=model_card.num_parameters,
            num_trained=model_card.num_trained["pre-training"],
            macs_per_sample=round(model_card.gmac * 1e9),
        ),
        training_macs=macs,
        strategy=recommend(
            model_card,
            devices=machine.devices,
            device_bytes=int(machine.memory_gb * 1e9),
            batch_size=mixture.batch_size,
        ),
    )


@cache
def _card_and_training_macs(
    name: str, image_size: int, max_source_tokens: int, max_target_tokens: int
) -> tuple[Card, int]:
    lengths = {"image_size": image_size, "source_tokens": max_source_tokens, "target_tokens": max_target_tokens}
    model = size(name)
    trained = PUBLISHED_TRAINED[model.decoder_config.model_type]
    return card(name, **lengths), training_macs(model, trained, **lengths)
