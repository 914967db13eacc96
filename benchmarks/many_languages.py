"""Answer three questions with the twelve languages of examples/many.toml, on one size and budget.

    python benchmarks/many_languages.py out/many-questions [WIDTH [SAMPLES [SEEDS]]]

Does UC of a language depend on its own translation samples or on all? Finnish gets a quarter of the usual share, and
four times as much. Does a related language help? Russian, without which Ukrainian has none, is left out. What does one
more language cost the others? Finnish is left out. Each variant is a study of its own in a folder under the first
argument; a second call goes on from what is there. Prints UC after the prefix (nats per token) of each language and
variant, mean over the seeds, and in brackets the samples of its translation.
"""

import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from polyglance.config import load
from polyglance.coverage import Cell
from polyglance.mixture.sampler import compute_cell_weights
from polyglance.run_records import LossRecord
from polyglance.study import run_study
from polyglance.study.config import StudyConfig

EXAMPLE = Path(__file__).parents[1] / "examples" / "many.toml"
CHANGED, RELATED = "translation-fi", "ru"


def make_variants(base: StudyConfig) -> dict[str, StudyConfig]:
    """Return name -> study."""
    assert not isinstance(base.mixture.balance, str)
    shares = dict(base.mixture.balance)
    variants = {"twelve": base}
    for name, share in (("fi x 1/4", 0.25), ("fi x 4", 4.0)):
        variants[name] = replace(base, mixture=replace(base.mixture, balance={**shares, CHANGED: share}))
    for code in (RELATED, "fi"):
        left = {name: share for name, share in shares.items() if name != f"translation-{code}"}
        codes = tuple(other for other in base.coverage.translation if other != code)
        coverage = replace(base.coverage, translation=codes)
        mixture = replace(base.mixture, balance=left)
        variants[f"without {code}"] = replace(base, coverage=coverage, mixture=mixture)
    return variants


def measure(config: StudyConfig) -> dict[str, float]:
    """Run a study, and return language -> UC after the prefix, mean over its runs."""
    run_study(config, workers=1, say=lambda line: print(line, file=sys.stderr, flush=True))
    losses: dict[str, list[float]] = {}
    for path in sorted(config.out.glob("runs/*/losses.json")):
        for cell, record in LossRecord.read(path).cells.items():
            loss = record.loss("prefix")
            if record.split == "UC" and loss is not None:
                losses.setdefault(cell.language, []).append(loss)
    return {code: fmean(values) for code, values in losses.items()}


def main(folder: Path, width: int = 64, samples: int = 40_000, num_seeds: int = 1) -> None:
    """Run all variants and print the table."""
    base = load(StudyConfig, EXAMPLE)
    family = replace(base.families[0], widths=(width,), samples=(samples,))
    base = replace(base, families=(family,), seeds=tuple(range(num_seeds)))
    variants = make_variants(base)
    measured = {
        name: measure(replace(config, out=folder / name.replace(" ", "-").replace("/", "-")))
        for name, config in variants.items()
    }
    print("language", *variants, sep="\t")
    for code in measured["twelve"]:
        row = []
        for name, config in variants.items():
            weights = compute_cell_weights(config.coverage, config.mixture.balance)
            own = weights.get(Cell("translation", code))
            loss = measured[name].get(code)
            row.append("" if loss is None or own is None else f"{loss:.3f} ({own * samples:,.0f})")
        print(code, *row, sep="\t")
    others = [code for code in measured["twelve"] if code not in ("fi", RELATED)]
    means = (f"{fmean(losses[code] for code in others):.3f}" for losses in measured.values())
    print("mean without fi and ru", *means, sep="\t")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
