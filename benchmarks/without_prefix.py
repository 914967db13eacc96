"""Take apart what makes the asked language come out without prefix: examples/without-prefix.toml, one switch at a time.

    python benchmarks/without_prefix.py out/without-prefix [SAMPLES [VARIANT ...]]

Switches: the reconstruction cell, masked sources, the weight of first tokens, language tokens. Variants: none of them,
each alone, all, and all but one. Each variant is a study of its own in a folder under the first argument. All have the
data and the vision tower of the first, so that they differ in nothing else; a second call goes on from what is there.
Prints a row for each: the share of captions in the asked language (mean over seeds, range of seeds, and the language
with the least), UC and the loss of its first token without prefix, UC after it (nats per token), and the attributes
right without and with it.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch

from many_languages import share_tower, take_over
from polyglance.config import load
from polyglance.mixture.config import SourceMasking
from polyglance.run_records import CellRecord, LossRecord
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import is_done
from polyglance.study.grid.jobs import list_jobs
from polyglance.study.work.do_job import do_job

EXAMPLE = Path(__file__).parents[1] / "examples" / "without-prefix.toml"
COLUMNS: dict[str, Callable[[LossRecord], float | None]] = {
    "UC": lambda record: record.split_loss("UC"),
    "first token": lambda record: fmean(cell.losses["plain"].first_nats for cell in unseen_cells(record)),
    "UC after the prefix": lambda record: record.split_loss("UC", "prefix"),
    "attributes": lambda record: fmean(cell.score("attribute_accuracy") or 0 for cell in unseen_cells(record)),
    "after the prefix": lambda record: fmean(
        cell.score("attribute_accuracy", "prefix") or 0 for cell in unseen_cells(record)
    ),
    "ST": lambda record: record.split_loss("ST"),
    "SC": lambda record: record.split_loss("SC"),
}
"""Columns after the share of captions in the asked language."""


Change = Callable[[StudyConfig], StudyConfig]


def unseen_cells(record: LossRecord) -> list[CellRecord]:
    return [cell for cell in record.cells.values() if cell.split == "UC"]


def no_reconstruction(config: StudyConfig) -> StudyConfig:
    others = tuple(code for code in config.coverage.translation if code != "en")
    return replace(config, coverage=replace(config.coverage, translation=others))


def no_masking(config: StudyConfig) -> StudyConfig:
    return replace(config, mixture=replace(config.mixture, source_masking=SourceMasking()))


def no_weight(config: StudyConfig) -> StudyConfig:
    return replace(config, mixture=replace(config.mixture, first_token_weight=None))


def no_tokens(config: StudyConfig) -> StudyConfig:
    return replace(config, language_tokens=None)


SWITCHES: dict[str, Change] = {
    "reconstruction": no_reconstruction,
    "masking": no_masking,
    "weight": no_weight,
    "token": no_tokens,
}
"""Switch -> how it is turned off."""


def make_variants(base: StudyConfig) -> dict[str, StudyConfig]:
    """Return name -> study."""
    kept = {"none": (), **{name: (name,) for name in SWITCHES}, "all": tuple(SWITCHES)}
    kept |= {f"all but {name}": tuple(other for other in SWITCHES if other != name) for name in SWITCHES}
    return {name: keep_only(base, switches) for name, switches in kept.items()}


def keep_only(base: StudyConfig, switches: Sequence[str]) -> StudyConfig:
    """Return the study with these switches alone."""
    for name, turn_off in SWITCHES.items():
        base = base if name in switches else turn_off(base)
    return base


def make_runs(config: StudyConfig, first: StudyConfig, seed: int) -> None:
    """Train and measure the runs of a study with one seed, unless they are done."""
    for job in list_jobs(config):
        if job.kind == "tower" and config.out != first.out and not is_done(config.out, job):
            share_tower(config, first, job)
        elif job.kind == "run" and job.seed != seed:
            continue
        elif not is_done(config.out, job):
            started_s = time.process_time()
            do_job(config, job)
            print(f"{config.out.name}: {job.id} in {time.process_time() - started_s:.0f} CPU s", file=sys.stderr)


def describe(name: str, config: StudyConfig) -> str:
    """Return the row of a variant."""
    records = [LossRecord.read(path) for path in sorted(config.out.glob("runs/*/losses.json"))]
    shares: dict[str, list[float]] = {}
    for record in records:
        for cell, measured in record.cells.items():
            if measured.split == "UC":
                shares.setdefault(cell.language, []).append(100 * (measured.score("right_language") or 0))
    of_seeds = [fmean(of_languages) for of_languages in zip(*shares.values(), strict=True)]
    code, least = min(((code, fmean(of_code)) for code, of_code in shares.items()), key=lambda pair: pair[1])
    values = [f"{fmean(value(record) or 0 for record in records):.3f}" for value in COLUMNS.values()]
    asked = f"{fmean(of_seeds):.1f} ({min(of_seeds):.1f} to {max(of_seeds):.1f})"
    return f"| {' | '.join([name, str(len(records)), asked, f'{least:.1f} ({code})', *values])} |"


def main(folder: Path, samples: int, chosen: Sequence[str]) -> None:
    """Run all variants, or the chosen ones, and print the table."""
    torch.set_num_threads(1)
    base = load(StudyConfig, EXAMPLE)
    base = replace(base, families=(replace(base.families[0], samples=(samples,)),))
    variants = {
        name: replace(config, out=folder / name.replace(" ", "-"))
        for name, config in make_variants(base).items()
        if name in (chosen or (name,))
    }
    first, *others = variants.values()
    for seed in base.seeds:
        make_runs(first, first, seed)
        for config in others:
            take_over(config, [first])
            make_runs(config, first, seed)
    print(f"| variant | runs | asked language, % | least | {' | '.join(COLUMNS)} |")
    print("|---" * (4 + len(COLUMNS)) + "|")
    for name, config in variants.items():
        print(describe(name, config))


if __name__ == "__main__":
    _folder, *_rest = sys.argv[1:]
    main(Path(_folder), int(_rest[0]) if _rest else 10_000, _rest[1:])
