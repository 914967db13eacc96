"""The table of runs: one row each, everything that laws and report read."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from polyglance.coverage import SPLITS, Split
from polyglance.files import write_atomically
from polyglance.mixture.tokenizer import load_tokenizer
from polyglance.model.components import PUBLISHED_TRAINED
from polyglance.model.flops import Counts, count_model
from polyglance.model.sizes import resolve_size
from polyglance.study.config import StudyConfig
from polyglance.study.grid import Job, runs
from polyglance.study.work import micro_config, trained_parts

__all__ = ["COLUMNS", "counts_of", "lengths", "vocab_size_of", "write_table"]

COLUMNS = [
    "id",
    "family",
    "size",
    "start",
    "seed",
    "P",
    "P_t",
    "F",
    "S",
    "C",
    "T",
    "T_prefix",
    "UC",
    "UC_prefix",
    "ST",
    "SC",
    "UC_shuffled",
    "UC_prefix_shuffled",
    "UC_bits_per_byte",
    "UC_first",
    "right_language",
    "right_language_prefix",
    "exact_match",
    "exact_match_prefix",
    "attribute_accuracy",
    "attribute_accuracy_prefix",
]
"""F in GMAC per sample, C in GMAC, losses in nats per token; P, P_t and S are counts."""


_CellValue = Callable[[Mapping[str, Any]], float | None]
"""What is read off one cell of losses.json."""


def lengths(config: StudyConfig) -> dict[str, int]:
    """Prompt and target tokens at which F is counted: the mean of the data for micro models; for those of published
    sizes, as published, the longest (official code section 4.2)."""
    if not config.is_micro:
        mixture = config.mixture
        return {"source_tokens": mixture.max_source_tokens, "target_tokens": mixture.max_target_tokens}
    return json.loads((config.out / "tokenizer" / "lengths.json").read_text())


def vocab_size_of(config: StudyConfig) -> int:
    """Entries of the study's tokenizer; 0 where models bring their own."""
    path = config.out / "tokenizer" / "tokenizer.json"
    return load_tokenizer(path).get_vocab_size() if config.is_micro else 0


def counts_of(config: StudyConfig, job: Job, vocab_size: int) -> Counts:
    """P, P_t and F of a run's model.

    Args:
        vocab_size: as `vocab_size_of` gives it.
    """
    if not config.is_micro:
        model = resolve_size(job.size)
        trained = PUBLISHED_TRAINED[model.decoder_config.model_type]
        return count_model(model, trained, image_size=config.image_size, **lengths(config))
    family = next(family for family in config.families if family.name == job.family)
    model = micro_config(config, family, job.width).build(vocab_size)
    return count_model(model, trained_parts(family), image_size=config.image_size, **lengths(config))


def write_table(config: StudyConfig) -> Path:
    """Write runs.csv from what the runs left; the same runs give the same bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    vocab_size = vocab_size_of(config)
    known: dict[tuple[str, str], Counts] = {}
    for job in runs(config):
        model = (job.family, job.size)
        if model not in known:
            known[model] = counts_of(config, job, vocab_size)
        writer.writerow(_row(config, job, known[model]))
    path = config.out / "runs.csv"
    write_atomically(path, text.getvalue())
    return path


def _row(config: StudyConfig, job: Job, counts: Counts) -> dict[str, Any]:
    record = json.loads((config.out / job.folder / "losses.json").read_text())
    samples = job.samples // config.mixture.batch_size * config.mixture.batch_size
    row: dict[str, Any] = {
        "id": job.id,
        "family": job.family,
        "size": Path(job.size).name,
        "start": job.start,
        "seed": job.seed,
        "P": counts.num_parameters,
        "P_t": counts.num_trained,
        "F": counts.macs_per_sample / 1e9,
        "S": samples,
        "C": counts.compute_gmac(samples),
    }
    cells, initial = record["cells"], record["initial"]
    row["T"] = _mean(initial, "UC", _loss("plain"))
    row["T_prefix"] = _mean(initial, "UC", _loss("prefix"))
    for split in SPLITS:
        row[split] = _mean(cells, split, _loss("plain"))
    for variant in ("prefix", "shuffled", "prefix_shuffled"):
        row[f"UC_{variant}"] = _mean(cells, "UC", _loss(variant))
    row["UC_first"] = _mean(cells, "UC", _loss("plain", "first_nats"))
    row["UC_bits_per_byte"] = _mean(cells, "UC", lambda cell: _bits_per_byte(cell["losses"]["plain"]))
    for variant, ending in (("plain", ""), ("prefix", "_prefix")):
        for name in ("right_language", "exact_match"):
            row[name + ending] = _mean(cells, "UC", _score(variant, name))
        row[f"attribute_accuracy{ending}"] = _mean(cells, "UC", _score(variant, "attributes"))
    return row


def _mean(cells: Mapping[str, Any], split: Split, value: _CellValue) -> float | str:
    """Mean over the split's cells, each alike; empty where the split, or the value in any cell, is not there."""
    values = [value(cell) for cell in cells.values() if cell["split"] == split]
    return "" if not values or None in values else fmean(v for v in values if v is not None)


def _loss(variant: str, name: str = "mean_nats") -> _CellValue:
    return lambda cell: cell["losses"][variant][name]


def _score(variant: str, name: str) -> _CellValue:
    def value(cell: Mapping[str, Any]) -> float | None:
        score = cell["generation"][variant][name]
        if isinstance(score, dict):  # of several attributes, each alike
            return fmean(score.values()) if score else None
        return score

    return value


def _bits_per_byte(loss: Mapping[str, float]) -> float:
    return loss["nats"] / 0.6931471805599453 / loss["bytes"]
