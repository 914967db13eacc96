"""Take apart what makes the asked language come out without prefix: examples/without-prefix.toml, one switch at a time.

    python benchmarks/without_prefix.py out/without-prefix [SAMPLES [VARIANT ...]]

Switches: the reconstruction cell, masked sources, the weight of first tokens, language tokens. Variants: none of them,
each alone, all, and all but one. Each variant is a study of its own in a folder under the first argument, with data and
towers of earlier variants where they are the same; a second call goes on from what is there. Prints a row for each:
the share of captions in the asked language (mean over seeds, range of seeds, and the language with the least), UC and
the loss of its first token without prefix, UC after it (nats per token), and the attributes right without and with it.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from many_languages import take_over
from polyglance.config import load
from polyglance.mixture.config import SourceMasking
from polyglance.run_records import LossRecord, RunRow, read_runs
from polyglance.study import run_study
from polyglance.study.config import StudyConfig

EXAMPLE = Path(__file__).parents[1] / "examples" / "without-prefix.toml"
COLUMNS = ("UC", "UC_first", "UC_prefix", "attribute_accuracy", "attribute_accuracy_prefix", "ST", "SC")

Change = Callable[[StudyConfig], StudyConfig]


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


def measure(config: StudyConfig, earlier: list[StudyConfig]) -> list[RunRow]:
    """Run a study, and return its runs."""
    take_over(config, earlier)
    run_study(config, workers=1, say=lambda line: print(line, file=sys.stderr, flush=True))
    shutil.rmtree(config.out / "features", ignore_errors=True)  # as large as the data; made again in seconds
    return list(read_runs(config.out / "runs.csv"))


def find_worst_language(config: StudyConfig) -> tuple[str, float]:
    """Return the language with the fewest captions in the asked language, mean over the seeds, and its share."""
    shares: dict[str, list[float]] = {}
    for path in sorted(config.out.glob("runs/*/losses.json")):
        for cell, record in LossRecord.read(path).cells.items():
            share = record.score("right_language")
            if record.split == "UC" and share is not None:
                shares.setdefault(cell.language, []).append(share)
    return min(((code, fmean(values)) for code, values in shares.items()), key=lambda pair: pair[1])


def describe(name: str, config: StudyConfig, runs: list[RunRow]) -> str:
    """Return the row of a variant."""
    shares = [100 * run["right_language"] for run in runs]
    code, worst = find_worst_language(config)
    values = [f"{fmean(run[column] for run in runs):.3f}" for column in COLUMNS]
    asked = f"{fmean(shares):.1f} ({min(shares):.1f} to {max(shares):.1f})"
    return f"| {' | '.join([name, asked, f'{100 * worst:.1f} ({code})', *values])} |"


def main(folder: Path, samples: int, chosen: Sequence[str]) -> None:
    """Run all variants, or the chosen ones, and print the table."""
    base = load(StudyConfig, EXAMPLE)
    base = replace(base, families=(replace(base.families[0], samples=(samples,)),))
    variants = {
        name: replace(config, out=folder / name.replace(" ", "-"))
        for name, config in make_variants(base).items()
        if name in (chosen or (name,))
    }
    studies = list(variants.values())
    measured = [measure(config, studies[:number]) for number, config in enumerate(studies)]
    print(f"| variant | asked language, % | worst | {' | '.join(COLUMNS)} |")
    print("|---" * (3 + len(COLUMNS)) + "|")
    for (name, config), runs in zip(variants.items(), measured, strict=True):
        print(describe(name, config, runs))


if __name__ == "__main__":
    _folder, *_rest = sys.argv[1:]
    main(Path(_folder), int(_rest[0]) if _rest else 10_000, _rest[1:])
