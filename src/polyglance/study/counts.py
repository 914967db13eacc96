"""P, P_t and F of a study's models, and the lengths of prompts and targets at which F is counted."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from polyglance.config import from_dict
from polyglance.files import read_json, write_json
from polyglance.mixture.collate import target_ids
from polyglance.mixture.prompts import prompt_of
from polyglance.mixture.sampler import cell_weights
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.flops import Counts, count
from polyglance.records import Annotation
from polyglance.study.config import StudyConfig
from polyglance.study.job_configs import choose_trained_parts, make_micro_config
from polyglance.study.jobs import Job
from polyglance.study.published import count_published

__all__ = ["TokenLengths", "count_mean_lengths", "count_models", "find_lengths"]

_LENGTH_SAMPLES = 2_000
"""Annotations of each cell that the mean lengths are taken over."""


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
    for cell, weight in cell_weights(config.coverage, config.mixture.balance).items():
        chosen = by_cell[str(cell)]
        prompts = target_ids(tokenizer, [prompt_of(a) for a in chosen], config.mixture.max_source_tokens)
        texts = target_ids(tokenizer, [a.text for a in chosen], config.mixture.max_target_tokens)
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
        counts[model] = count(sizes, choose_trained_parts(family), image_size=config.image_size, **lengths)
    return counts
