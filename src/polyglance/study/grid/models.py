"""Models of a study: sizes, trained components, and the counts P, P_t and F."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from tokenizers import Tokenizer

from polyglance.mixture.collate import encode_targets
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.sampler import compute_cell_weights
from polyglance.mixture.tokenizer import encode_prompts, load_tokenizer
from polyglance.model.components import COMPONENTS, PUBLISHED_TRAINED, Component
from polyglance.model.counts import Counts
from polyglance.model.flops import count_model
from polyglance.model.micro import MicroConfig
from polyglance.records import Annotation
from polyglance.study.config import FamilyConfig, StudyConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.grid.lengths import TokenLengths, find_lengths
from polyglance.study.grid.published import count_published

__all__ = [
    "choose_trained_components",
    "count_mean_lengths",
    "count_models",
    "make_micro_config",
]

_LENGTH_SAMPLES = 2_000
"""Number of annotations of each cell from which the mean lengths are computed."""


def make_micro_config(config: StudyConfig, family: FamilyConfig, width: int) -> MicroConfig:
    """Return the sizes of a family's micro model, with positions for the longest prompt and target."""
    tower = config.tower if family.tower else None
    longest_prompt = (config.image_size // config.patch_size) ** 2 + 1 + config.mixture.max_source_tokens
    return MicroConfig(
        decoder=family.decoder,
        width=width,
        layers=family.layers,
        vision_width=tower.width if tower else None,
        vision_blocks=(tower.blocks or None) if tower else None,
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
        prompts = encode_prompts(tokenizer, [prompt_of(a) for a in chosen])
        texts = encode_targets(tokenizer, [a.text for a in chosen], config.mixture.max_target_tokens)
        framed = (min(len(ids) + 1, config.mixture.max_source_tokens) for ids in prompts)
        sources += weight * sum(framed) / len(chosen)
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
        counts[model] = count_model(
            sizes, choose_trained_components(family), image_size=config.image_size, name=" ".join(model), **lengths
        )
    return counts
