"""Answer three questions with the twelve languages of examples/many.toml, on one size and budget.

    python benchmarks/many_languages.py out/many-questions [WIDTH [SAMPLES [SEEDS [VARIANT ...]]]]

Does UC of a language depend on its own translation samples or on all? Finnish gets a quarter of the usual share, and
four times as much. Does a related language help? Russian, without which Ukrainian has none, is left out. What do more
languages cost the others? Finnish is left out; and four languages are set against twelve, once with the same samples in
all, once with the same samples for each cell, as `law plan --cells` assumes. Each variant is a study of its own in a
folder under the first argument. All have the data and the vision tower of the first: towers that were trained the same
way on the texts of other languages differ by more than the variants do. A second call goes on from what is there.
Prints UC after the prefix (nats per token) of each language and variant, mean over the seeds, and in brackets the
samples of its translation.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from polyglance.config import load
from polyglance.coverage import Cell
from polyglance.mixture.sampler import compute_cell_weights
from polyglance.run_records import LossRecord
from polyglance.study import run_study
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import begin_job, finish_job, is_done
from polyglance.study.grid.jobs import Job, list_jobs

EXAMPLE = Path(__file__).parents[1] / "examples" / "many.toml"
CHANGED, RELATED = "translation-fi", "ru"
FEW = ("en", "fr", "ru", "ja", "sw")
"""Translations of the variants with four languages and the reconstruction cell."""


def make_variants(base: StudyConfig) -> dict[str, StudyConfig]:
    """Return name -> study."""
    shares = _shares(base)
    variants = {"twelve": base}
    for name, share in (("fi x 1/4", 0.25), ("fi x 4", 4.0)):
        variants[name] = replace(base, mixture=replace(base.mixture, balance={**shares, CHANGED: share}))
    for code in (RELATED, "fi"):
        codes = tuple(other for other in base.coverage.translation if other != code)
        variants[f"without {code}"] = translate_only(base, codes)
    few = translate_only(base, FEW)
    part = sum(_shares(few).values()) / sum(shares.values())
    samples = tuple(round(part * number) for number in base.families[0].samples)
    variants["four"] = few
    variants["four, cells alike"] = replace(few, families=(replace(few.families[0], samples=samples),))
    return variants


def translate_only(base: StudyConfig, codes: tuple[str, ...]) -> StudyConfig:
    """Return the study with translations into these languages alone, at the shares they had."""
    wanted = {f"translation-{code}" for code in codes}
    left = {name: share for name, share in _shares(base).items() if name.startswith("caption") or name in wanted}
    coverage = replace(base.coverage, translation=codes)
    return replace(base, coverage=coverage, mixture=replace(base.mixture, balance=left))


def _shares(config: StudyConfig) -> dict[str, float]:
    assert not isinstance(config.mixture.balance, str)
    return dict(config.mixture.balance)


def take_over(config: StudyConfig, earlier: list[StudyConfig]) -> None:
    """Copy what earlier studies have made for all runs and this one would make again."""
    made = {job.fingerprint: other.out / job.folder for other in earlier for job in list_jobs(other)}
    for job in list_jobs(config):
        folder = config.out / job.folder
        if job.kind in ("data", "tokenizer", "tower") and job.fingerprint in made and not folder.exists():
            shutil.copytree(made[job.fingerprint], folder)


def share_tower(config: StudyConfig, first: StudyConfig, tower: Job) -> None:
    """Give a study the tower of the first one and its features as its own. With another coverage or tokenizer it would
    train a tower for itself."""
    folder = begin_job(config.out, tower)
    shutil.copytree(first.out / tower.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("begun.json"))
    shutil.copytree(first.out / "features", config.out / "features", copy_function=os.link, dirs_exist_ok=True)
    finish_job(config.out, tower)


def measure(config: StudyConfig, earlier: list[StudyConfig]) -> dict[str, float]:
    """Run a study, and return language -> UC after the prefix, mean over its runs."""
    take_over(config, earlier)
    for job in list_jobs(config):
        if job.kind == "tower" and earlier and not is_done(config.out, job):
            share_tower(config, earlier[0], job)
    run_study(config, workers=1, say=lambda line: print(line, file=sys.stderr, flush=True))
    losses: dict[str, list[float]] = {}
    for path in sorted(config.out.glob("runs/*/losses.json")):
        for cell, record in LossRecord.read(path).cells.items():
            loss = record.loss("prefix")
            if record.split == "UC" and loss is not None:
                losses.setdefault(cell.language, []).append(loss)
    return {code: fmean(values) for code, values in losses.items()}


def main(folder: Path, width: int, samples: int, num_seeds: int, chosen: Sequence[str]) -> None:
    """Run all variants, or the chosen ones, and print the table."""
    base = load(StudyConfig, EXAMPLE)
    family = replace(base.families[0], widths=(width,), samples=(samples,))
    base = replace(base, families=(family,), seeds=tuple(range(num_seeds)))
    variants = {
        name: replace(config, out=folder / _name(name))
        for name, config in make_variants(base).items()
        if name in (chosen or (name,))
    }
    studies = list(variants.values())
    measured = {name: measure(config, studies[:number]) for number, (name, config) in enumerate(variants.items())}
    print("language", *variants, sep="\t")
    for code in base.coverage.translation[1:]:
        row = []
        for name, config in variants.items():
            loss = measured[name].get(code)
            row.append("" if loss is None else f"{loss:.3f} ({_count_samples(config, code):,.0f})")
        print(code, *row, sep="\t")
    means = (f"{fmean(losses[code] for code in FEW[1:] if code in losses):.3f}" for losses in measured.values())
    print(f"mean of {', '.join(FEW[1:])}", *means, sep="\t")
    others = [code for code in base.coverage.translation[1:] if code not in ("fi", RELATED)]
    means = (
        f"{fmean(losses[code] for code in others):.3f}" if losses.keys() >= {*others} else ""
        for losses in measured.values()
    )
    print("mean of all but fi and ru", *means, sep="\t")


def _name(variant: str) -> str:
    return variant.replace(", ", "-").replace(" ", "-").replace("/", "-")


def _count_samples(config: StudyConfig, code: str) -> float:
    weights = compute_cell_weights(config.coverage, config.mixture.balance)
    return weights[Cell("translation", code)] * config.families[0].samples[0]


if __name__ == "__main__":
    _folder, *_rest = sys.argv[1:]
    _width, _samples, _num_seeds = (*map(int, _rest[:3]), *(64, 40_000, 1)[len(_rest[:3]) :])
    main(Path(_folder), _width, _samples, _num_seeds, _rest[3:])
