"""Models of a study: sizes, trained components, and the counts P, P_t and F.

Counts of the published sizes are made on the meta device. This takes seconds per size and is done once per process.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from polyglance.config import from_dict
from polyglance.files import read_json, write_json
from polyglance.mixture.collate import encode_targets
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.sampler import compute_cell_weights
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.card import Card, make_card
from polyglance.model.components import COMPONENTS, PUBLISHED_TRAINED, Component
from polyglance.model.flops import Counts, count_model, count_training_macs
from polyglance.model.micro import MicroConfig
from polyglance.model.sizes import resolve_size
from polyglance.model.training_setup import TrainingSetup, recommend_setup
from polyglance.records import Annotation
from polyglance.study.config import FamilyConfig, StudyConfig
from polyglance.study.jobs import Job

__all__ = [
    "PublishedCost",
    "TokenLengths",
    "choose_trained_components",
    "count_mean_lengths",
    "count_models",
    "count_published",
    "find_lengths",
    "make_micro_config",
]

_LENGTH_SAMPLES = 2_000
"""Annotations of each cell that the mean lengths are taken over."""


def make_micro_config(config: StudyConfig, family: FamilyConfig, width: int) -> MicroConfig:
    """Return the sizes of a family's micro model, with positions for the longest prompt and target."""
    longest_prompt = (config.image_size // config.patch_size) ** 2 + 1 + config.mixture.max_source_tokens
    return MicroConfig(
        decoder=family.decoder,
        width=width,
        layers=family.layers,
        vision_width=config.tower.width if family.tower and config.tower else None,
        image_size=config.image_size,
        patch_size=config.patch_size,
        max_tokens=max(MicroConfig.max_tokens, longest_prompt, config.mixture.max_target_tokens + 1),
    )


def choose_trained_components(family: FamilyConfig) -> tuple[Component, ...]:
    """Return the components that a family's micro runs update.

    These are the published components for its kind of decoder, and two more: the image projection, which starts from
    random weights here, and the vision tower where no trained one is taken.
    """
    published = COMPONENTS if family.decoder == "bart" and not family.tower else PUBLISHED_TRAINED[family.decoder]
    random_components = {"projection", *(() if family.tower else ("vision",))}
    return tuple(name for name in COMPONENTS if name in published or name in random_components)


@dataclass(frozen=True, kw_only=True)
class TokenLengths:
    """Lengths at which F is counted: the content of lengths.json."""

    source_tokens: int
    """Prompt tokens."""
    target_tokens: int
    """Target tokens."""

    def write(self, path: Path) -> None:
        """Write lengths.json."""
        write_json(path, asdict(self), indent=2)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read lengths.json."""
        return from_dict(cls, read_json(path))


def find_lengths(config: StudyConfig) -> TokenLengths:
    """Return the lengths at which F is counted: for micro models the mean of the data, which the tokenizer's job has
    written; for published sizes the longest, as published (official code section 4.2)."""
    if config.is_micro:
        return TokenLengths.read(config.out / "tokenizer" / "lengths.json")
    mixture = config.mixture
    return TokenLengths(source_tokens=mixture.max_source_tokens, target_tokens=mixture.max_target_tokens)


def count_mean_lengths(config: StudyConfig, tokenizer: Tokenizer, annotations: Iterable[Annotation]) -> TokenLengths:
    """Return the mean prompt and target tokens of a training sample, rounded, each cell with its weight in training."""
    by_cell: dict[str, list[Annotation]] = {str(cell): [] for cell in config.coverage.cells}
    for annotation in annotations:
        chosen = by_cell.get(str(annotation.cell))
        if chosen is not None and len(chosen) < _LENGTH_SAMPLES:
            chosen.append(annotation)
    sources = targets = 0.0
    for cell, weight in compute_cell_weights(config.coverage, config.mixture.balance).items():
        chosen = by_cell[str(cell)]
        prompts = encode_targets(tokenizer, [prompt_of(a) for a in chosen], config.mixture.max_source_tokens)
        texts = encode_targets(tokenizer, [a.text for a in chosen], config.mixture.max_target_tokens)
        sources += weight * sum(map(len, prompts)) / len(chosen)
        targets += weight * sum(map(len, texts)) / len(chosen)
    return TokenLengths(source_tokens=round(sources), target_tokens=round(targets))


def count_models(config: StudyConfig, runs: Sequence[Job]) -> dict[tuple[str, str], Counts]:
    """Return (family, size) -> P, P_t and F, for the models of the runs."""
    models = {(job.family, job.size): job for job in runs}
    if not config.is_micro:
        return {model: count_published(config, job.size).counts for model, job in models.items()}
    vocab_size = load_tokenizer(config.out / "tokenizer" / "tokenizer.json").get_vocab_size()
    lengths = asdict(find_lengths(config))
    counts = {}
    for model, job in models.items():
        family = config.family(job.family)
        sizes = make_micro_config(config, family, job.width).build(vocab_size)
        counts[model] = count_model(sizes, choose_trained_components(family), image_size=config.image_size, **lengths)
    return counts


@dataclass(frozen=True, kw_only=True)
class PublishedCost:
    """Cost of training a published size in a study."""

    counts: Counts
    """P, P_t and F."""
    training_macs: int
    """Multiply-accumulates of forward and backward pass of one sample."""
    strategy: TrainingSetup | None
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
        strategy=recommend_setup(
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
    model = resolve_size(name)
    trained = PUBLISHED_TRAINED[model.decoder_config.model_type]
    return make_card(name, **lengths), count_training_macs(model, trained, **lengths)
