"""What a reader wants to know first, and what the numbers do not show: sentences computed from the study's files.

Nothing here is claimed in general. A caveat appears where this study's numbers call for it; what the laws warn of
themselves stands with the laws.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Literal

from polyglance.report import wording
from polyglance.report.comparisons import (
    Ladder,
    Variable,
    best_run,
    best_runs,
    blind_loss,
    families,
    image_gain,
    ladders,
    seed_spread,
)
from polyglance.report.folder import Run, StudyFolder

__all__ = ["Finding", "Section", "Tile", "caveats", "summary", "tiles"]

Section = Literal["summary", "compute", "scaling", "prefix"]
"""Where on the page a caveat stands."""

SMALL_IMAGE_GAIN_NATS = 0.1
"""Less than this between the right images and those of other samples, and a run hardly looks at the image."""
WIDE_FIRST_TOKEN_NATS = 1.0
"""Runs whose first-token losses lie further apart than this differ in whether they obey the asked language."""
JUMP_RATIO = 3.0
"""A step in a ladder this many times as steep (in log space) as the one before it is not a power law's."""
SAME_T_RATIO = 1.05
"""Starting points closer than this in T count as one."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One headline number."""

    value: str
    name: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the summary."""

    topic: str
    text: str


def tiles(study: StudyFolder, column: str) -> tuple[Tile, ...]:
    """The headline numbers of the best run; those that were not measured are left out."""
    run = best_run(study.runs, column)
    if run is None:
        return ()
    found = [Tile(value=wording.loss(run[column]), name=wording.COLUMN_NAMES[column], detail="nats per token")]
    if math.isfinite(gain := image_gain(run)):
        detail = f"after the prefix, to {wording.loss(run['UC_prefix_shuffled'])}"
        found.append(Tile(value=wording.signed(gain), name="with the images of other samples", detail=detail))
    if math.isfinite(effect := run["UC"] - run["UC_prefix"]):
        detail = f"to {wording.loss(run['UC'])}"
        found.append(Tile(value=wording.signed(effect), name="without the prefix", detail=detail))
    shares = {"right_language": "in the asked language, after the prefix", "attribute_accuracy": "of attributes right"}
    for name, words in shares.items():
        if math.isfinite(run[f"{name}_prefix"]):
            detail = f"{wording.share(run[name])} without the prefix"
            found.append(Tile(value=wording.share(run[f"{name}_prefix"]), name=words, detail=detail))
    return tuple(found)


def summary(study: StudyFolder, column: str) -> tuple[Finding, ...]:
    """The study in a few lines: what was run, each family's best run and slopes, whether image and prefix matter."""
    lines = {"Runs": _what_was_run(study)}
    for run in best_runs(study.runs, column):
        alone = sum(other.family == run.family for other in study.runs) == 1
        best = (
            f"The {'' if alone else 'best '}run ({wording.run_name(run, family=False)}) reaches {_losses(run, column)}."
        )
        lines[wording.sentence(wording.family_name(run.family))] = " ".join([best, *_slopes(study, run.family, column)])
    lines |= {"Image": _image(study, column), "Prefix": _prefix(study), "Compute law": _compute_law(study, column)}
    return tuple(Finding(topic=topic, text=text) for topic, text in lines.items() if text)


def _what_was_run(study: StudyFolder) -> str:
    parts = [
        f"{sum(run.family == family for run in study.runs)} {wording.family_name(family)}"
        for family in families(study.runs)
    ]
    text = f"{_plural(len(study.runs), 'run')} ({', '.join(parts)})"
    for column, name in (("P", "parameters"), ("S", "samples")):
        values = [run[column] for run in study.runs if math.isfinite(run[column])]
        if values:
            low, high = wording.magnitude(min(values)), wording.magnitude(max(values))
            text += f", {low} {name}" if low == high else f", {low} to {high} {name}"
    seeds = {run.seed for run in study.runs if run.seed}
    return f"{text}, {_plural(len(seeds), 'seed')}." if seeds else f"{text}."


def _losses(run: Run, column: str) -> str:
    """`0.49 nats per token in unseen captioning after the prefix (0.46 without it, ST 0.029, SC 0.42)`."""
    others = {"ST": "ST {}", "SC": "SC {}"}
    if column == "UC_prefix":
        others = {"UC": "{} without it", **others}
    known = [text.format(wording.loss(run[name])) for name, text in others.items() if math.isfinite(run[name])]
    rest = f" ({', '.join(known)})" if known else ""
    return f"{wording.loss(run[column])} nats per token in {wording.COLUMN_NAMES[column]}{rest}"


def _slopes(study: StudyFolder, family: str, column: str) -> Iterator[str]:
    """Per variable one sentence: the loss along the ladder through the strongest other settings."""
    variables: dict[Variable, str] = {"S": "more samples", "P": "more parameters", "T": "a higher T"}
    for variable, more in variables.items():
        ladder = _chief_ladder(study.runs, family, variable, column)
        if ladder is not None and (variable != "T" or ladder.rungs[-1].x >= SAME_T_RATIO * ladder.rungs[0].x):
            first, last = ladder.rungs[0], ladder.rungs[-1]
            change = "falls" if last.y < first.y else "rises"
            steady = "" if _monotone(ladder) else ", though not at every step"
            steps = "\N{NO-BREAK SPACE}→ ".join(wording.loss(rung.y) for rung in ladder.rungs)
            span = f"{variable} {wording.magnitude(first.x)} to {wording.magnitude(last.x)}, {ladder.name}"
            yield f"The loss {change} with {more}{steady}: {steps} ({span})."


def _chief_ladder(runs: Sequence[Run], family: str, variable: Variable, column: str) -> Ladder | None:
    """The longest ladder of a family; among equals the one that reaches the lowest loss."""
    found = [one for one in ladders(runs, variable, column) if one.family == family and len(one.rungs) > 1]
    return max(found, key=lambda one: (len(one.rungs), -min(rung.y for rung in one.rungs)), default=None)


def _monotone(ladder: Ladder) -> bool:
    steps = [later.y - earlier.y for earlier, later in pairwise(ladder.rungs)]
    return all(step <= 0 for step in steps) or all(step >= 0 for step in steps)


def _image(study: StudyFolder, column: str) -> str:
    run = best_run(study.runs, column)
    if run is None or not math.isfinite(image_gain(run)):
        return ""
    used = "so its captions do come from the image" if image_gain(run) >= SMALL_IMAGE_GAIN_NATS else "hardly a change"
    low, high = wording.loss(run["UC_prefix"]), wording.loss(run["UC_prefix_shuffled"])
    return f"With the images of other samples the best run’s loss after the prefix goes from {low} to {high}, {used}."


def _prefix(study: StudyFolder) -> str:
    pairs = [run for run in study.runs if math.isfinite(run["right_language"] + run["right_language_prefix"])]
    if not pairs:
        return ""
    plain, prefix = (fmean(run[name] for run in pairs) for name in ("right_language", "right_language_prefix"))
    return (
        f"Without a prefix {wording.share(plain)} of the captions of unseen languages come out in the asked language, "
        f"after it {wording.share(prefix)} (mean over {_plural(len(pairs), 'run')})."
    )


def _compute_law(study: StudyFolder, column: str) -> str:
    law = study.laws.get(f"compute-{column}")
    fit = law.fits.get("all") if law else None
    if fit is None or "a1" not in fit.parameters or "a1" in fit.unidentified:
        return ""
    low, high = fit.intervals.get("a1", (None, None))
    interval = ""
    if low is not None and high is not None:
        ends = f"{wording.significant(low)} to {wording.significant(high)}"
        interval = f", {wording.share(fit.confidence)} interval {ends}"
    exponent = wording.significant(fit.parameters["a1"])
    return f"On the frontier of all runs the loss falls to its floor as C to the power {exponent}{interval}."


def caveats(study: StudyFolder, column: str) -> Mapping[Section, tuple[str, ...]]:
    """What these numbers cannot show, as far as they say so themselves, by the section it concerns."""
    found: dict[Section, tuple[str, ...]] = {
        "summary": (*_seeds(study, column), *_blind(study, column), *_unused_images(study), *_selection(study, column)),
        "compute": (*_jumps(study), *_uncounted(study)),
        "scaling": (*_levels_of_t(study), *_budgets(study), *_family_differences(study)),
        "prefix": tuple(_first_token(study, column)),
    }
    return found


def _seeds(study: StudyFolder, column: str) -> Iterator[str]:
    spread, settings = seed_spread(study.runs, column)
    if settings == 0:
        yield (
            "No setting was run with a second seed: how much a number changes from seed to seed was not measured, and "
            "small differences between runs mean nothing."
        )
    else:
        yield (
            f"Seeds of one setting differ by a standard deviation of {wording.loss(spread)} nats "
            f"({wording.COLUMN_NAMES[column]}, {_plural(settings, 'setting')} with more than one seed): two single "
            f"runs have to differ by more than about {wording.loss(2 * math.sqrt(2) * spread)} before it says much."
        )


def _blind(study: StudyFolder, column: str) -> Iterator[str]:
    level, start = blind_loss(study.runs)
    measured = [run for run in study.runs if math.isfinite(run[column])]
    above = [run for run in measured if run[column] >= level]
    if start is not None and column == "UC_prefix" and above:
        yield (
            f"A model that knows the texts and ignores the image reaches {wording.loss(level)} after the prefix (the "
            f"untrained start of {wording.series_name(start.family, start.start)}, {start.size}). "
            f"{len(above)} of {_plural(len(measured), 'run')} are not below that: they are not shown to caption better "
            "than blind, and slopes through them show in part that the language is learnt."
        )


def _unused_images(study: StudyFolder) -> Iterator[str]:
    measured = [run for run in study.runs if math.isfinite(image_gain(run))]
    unused = [run for run in measured if image_gain(run) < SMALL_IMAGE_GAIN_NATS]
    if unused:
        yield (
            f"In {len(unused)} of {_plural(len(measured), 'run')} the images of other samples cost less than "
            f"{SMALL_IMAGE_GAIN_NATS} nats: those runs hardly use the image."
        )


def _selection(study: StudyFolder, column: str) -> Iterator[str]:
    if sum(math.isfinite(run[column]) for run in study.runs) > 1:
        yield "The best run is chosen by the same held-out samples its numbers are from, which flatters it a little."


def _jumps(study: StudyFolder) -> Iterator[str]:
    """Per split, the step in S that is far steeper than the one before it."""
    for column in ("UC_prefix", "ST", "SC"):
        worst = max((_jump(ladder) for ladder in ladders(study.runs, "S", column)), default=(0.0, "", 0.0, 0.0))
        ratio, name, low, high = worst
        if ratio > JUMP_RATIO:
            yield (
                f"{column.partition('_')[0]} falls {ratio:.1f} times as steeply (in log space) from "
                f"{wording.count(low)} to {wording.count(high)} samples as in the step before ({name}): that is a "
                "jump, which no power law describes."
            )


def _jump(ladder: Ladder) -> tuple[float, str, float, float]:
    """(how many times steeper than the step before, the ladder, from S, to S) of the steepest step in a ladder."""
    slopes = [
        (math.log(later.y / earlier.y) / math.log(later.x / earlier.x), earlier.x, later.x)
        for earlier, later in pairwise(ladder.rungs)
    ]
    steeper = [
        (later[0] / earlier[0], ladder.name, later[1], later[2])
        for earlier, later in pairwise(slopes)
        if earlier[0] < 0 and later[0] < 0
    ]
    return max(steeper, default=(0.0, "", 0.0, 0.0))


def _uncounted(study: StudyFolder) -> Iterator[str]:
    if any(run.start not in ("", "random") for run in study.runs):
        yield (
            "S and C count the training of these runs. What their starting points were trained on before (language "
            "models, a vision tower) is not in them, so families are not compared at equal cost."
        )


def _levels_of_t(study: StudyFolder) -> Iterator[str]:
    for family in families(study.runs):
        values = sorted({run["T"] for run in study.runs if run.family == family and run["T"] > 0})
        if len([run for run in study.runs if run.family == family]) < 2 or not values:
            continue
        levels = 1 + sum(later > SAME_T_RATIO * earlier for earlier, later in pairwise(values))
        name = wording.sentence(wording.family_name(family))
        if levels == 1:
            yield (
                f"{name}: T is {wording.significant(values[0])} for every run. This family says nothing about T, and "
                "an exponent of T fitted over several families rests on the difference between them."
            )
        elif levels == 2:
            yield f"{name}: T has two levels only. Its exponent is a contrast of two, not evidence for a power."


def _budgets(study: StudyFolder) -> Iterator[str]:
    for family in families(study.runs):
        budgets = {run["S"] for run in study.runs if run.family == family and math.isfinite(run["S"])}
        if len(budgets) == 2:
            name = wording.sentence(wording.family_name(family))
            yield f"{name}: the exponent of S rests on two sample budgets only."


def _family_differences(study: StudyFolder) -> Iterator[str]:
    if len(families(study.runs)) > 1:
        yield (
            "The families differ in more than T: in what was trained before, in what stays frozen, in how P is made "
            "up. A difference between families is not the effect of T alone, and exponents need not be common to them."
        )


def _first_token(study: StudyFolder, column: str) -> Iterator[str]:
    values = [run["UC_first"] for run in study.runs if math.isfinite(run["UC_first"])]
    if values and max(values) - min(values) > WIDE_FIRST_TOKEN_NATS:
        instead = " Slopes are therefore read off UC after the prefix." if column == "UC_prefix" else ""
        yield (
            f"Without a prefix the first token costs between {wording.loss(min(values))} and "
            f"{wording.loss(max(values))} nats, depending on the run: whether the asked language is obeyed decides "
            f"much of UC without the prefix.{instead}"
        )


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
