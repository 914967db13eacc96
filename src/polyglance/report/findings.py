"""Findings of a study, computed from its files: headline numbers, a summary, and caveats.

Every sentence follows from the numbers of the study. A caveat appears only if the numbers give a reason for it.
Warnings of laws are shown beside the laws.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Literal

from polyglance.laws import Fit
from polyglance.report.comparisons import (
    Ladder,
    Variable,
    find_best_run,
    find_best_runs,
    find_blind_loss,
    find_ladders,
    measure_image_gain,
    measure_seed_spread,
    runs_by_family,
)
from polyglance.report.folder import StudyFolder
from polyglance.report.wording import (
    COLUMN_NAMES,
    MISSING,
    capitalise,
    count_noun,
    format_count,
    format_loss,
    format_losses,
    format_magnitude,
    format_share,
    format_signed,
    format_significant,
    join_names,
    name_family,
    name_run,
    name_series,
)
from polyglance.run_records import RunRow

__all__ = ["Finding", "Section", "Tile", "find_caveats", "make_tiles", "summarise", "take_away"]

Section = Literal["summary", "compute", "scaling", "prefix"]
"""Section of the page that a caveat is shown in."""

_SMALL_IMAGE_GAIN_NATS = 0.1
"""A run hardly uses the image if the images of other samples increase its loss by less than this."""
_WIDE_FIRST_TOKEN_NATS = 1.0
"""Difference of first-token losses from which on runs differ in whether they write the requested language."""
_JUMP_RATIO = 3.0
"""Ratio of the slopes (in log space) of successive steps of a ladder, above which it does not follow a power law."""
_SAME_T_RATIO = 1.05
"""Difference in T below which starting points count as the same."""


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


def make_tiles(study: StudyFolder, column: str) -> tuple[Tile, ...]:
    """Return the headline numbers of the best run; those that were not measured are left out."""
    run = find_best_run(study.runs, column)
    if run is None:
        return ()
    scale = (
        {"blind": find_blind_loss(study.runs)[0], "untrained": run[f"T{column.removeprefix('UC')}"]}
        if column.startswith("UC")
        else {}
    )
    tiles = [
        Tile(
            value=format_loss(run[column]),
            name=COLUMN_NAMES[column],
            detail=_list_scale("nats per token", {**scale, "languages with captions": run["SC"]}, format_loss),
        )
    ]
    if math.isfinite(gain := measure_image_gain(run)):
        detail = f"after the prefix, to {format_loss(run['UC_prefix_shuffled'])}"
        tiles.append(Tile(value=format_signed(gain), name="with the images of other samples", detail=detail))
    if math.isfinite(effect := run["UC"] - run["UC_prefix"]):
        detail = f"to {format_loss(run['UC'])}"
        tiles.append(Tile(value=format_signed(effect), name="without the prefix", detail=detail))
    shares = {
        "right_language": "in the asked language, after the prefix",
        "attribute_accuracy": "of attributes right, after the prefix",
        "exact_match": "of captions right word for word, after the prefix",
    }
    for name, words in shares.items():
        if math.isfinite(run[f"{name}_prefix"]):
            seen = {"languages with captions": study.seen_score(run, name)}
            detail = _list_scale(f"{format_share(run[name])} without the prefix", seen, format_share)
            tiles.append(Tile(value=format_share(run[f"{name}_prefix"]), name=words, detail=detail))
    return tuple(tiles)


def _list_scale(first: str, scale: Mapping[str, float], show: Callable[[float], str]) -> str:
    """Return a number's unit and its reference values, as far as known: `nats per token; blind 0.77, untrained 6.0`."""
    known = ", ".join(f"{name} {show(value)}" for name, value in scale.items() if math.isfinite(value))
    return f"{first}; {known}" if known else first


def take_away(study: StudyFolder, column: str) -> str:
    """Return the main result in one sentence; empty if unseen captions were not measured."""
    run, unseen = find_best_run(study.runs, column), study.coverage.split("UC")
    if run is None or not unseen or not column.startswith("UC"):
        return ""
    trained = f"captions in {join_names(study.coverage.caption)}" if study.coverage.caption else "translations"
    text = f"Trained on {trained} alone, the best model captions in {join_names([cell.language for cell in unseen])}"
    shares = {"attribute_accuracy": "of the attributes right", "exact_match": "of the captions right word for word"}
    parts = []
    for name, words in shares.items():
        if math.isfinite(share := run[f"{name}_prefix"]):
            seen = study.seen_score(run, name)
            beside = f" (in the languages with captions: {format_share(seen)})" if math.isfinite(seen) else ""
            parts.append(f"{format_share(share)} {words}{beside}")
    if parts:
        return f"{text}: {' and '.join(parts)}."
    blind = find_blind_loss(study.runs)[0] if column == "UC_prefix" else math.nan
    loss, level = format_losses([run[column], blind])
    beside = f", where a model that knows the texts and ignores the image has {level}" if math.isfinite(blind) else ""
    return f"{text} with a loss of {loss} nats per token{beside}."


def summarise(study: StudyFolder, column: str) -> tuple[Finding, ...]:
    """Return the study in a few lines: the runs, each family's best run and slopes, the effects of image and prefix."""
    lines = {"Runs": _describe_runs(study)}
    by_family = runs_by_family(study.runs)
    for run in find_best_runs(study.runs, column):
        runs = by_family[run.family]
        which = "run" if len(runs) == 1 else "best run"
        best = f"The {which} ({name_run(run, family=False)}) reaches {_describe_losses(run, column)}."
        lines[capitalise(name_family(run.family))] = " ".join([best, *_describe_slopes(runs, column)])
    lines |= {
        "Image": _describe_image_gain(study, column),
        "Prefix": _describe_prefix(study),
        "Compute law": _describe_compute_law(study, column),
    }
    return tuple(Finding(topic=topic, text=text) for topic, text in lines.items() if text)


def _describe_runs(study: StudyFolder) -> str:
    parts = [f"{len(runs)} {name_family(family)}" for family, runs in runs_by_family(study.runs).items()]
    text = f"{count_noun(len(study.runs), 'run')} ({', '.join(parts)})"
    for column, name in (("P", "parameters"), ("S", "samples")):
        values = [run[column] for run in study.runs if math.isfinite(run[column])]
        if values:
            low, high = format_magnitude(min(values)), format_magnitude(max(values))
            text += f", {low} {name}" if low == high else f", {low} to {high} {name}"
    seeds = {run.seed for run in study.runs if run.seed is not None}
    return f"{text}, {count_noun(len(seeds), 'seed')}." if seeds else f"{text}."


def _describe_losses(run: RunRow, column: str) -> str:
    """Return `0.49 nats per token in unseen captioning after the prefix (0.46 without it, ST 0.029, SC 0.42)`."""
    others = {"ST": "ST {}", "SC": "SC {}"}
    if column == "UC_prefix":
        others = {"UC": "{} without it", **others}
    shown = format_losses([run[name] for name in (column, *others)])
    known = [others[name].format(loss) for name, loss in zip(others, shown[1:], strict=True) if loss != MISSING]
    rest = f" ({', '.join(known)})" if known else ""
    return f"{shown[0]} nats per token in {COLUMN_NAMES[column]}{rest}"


def _describe_slopes(runs: list[RunRow], column: str) -> Iterator[str]:
    """Describe the loss along one ladder of a family for each variable: the longest ladder, and among equally long ones
    the one with the lowest loss."""
    variables: dict[Variable, str] = {"S": "more samples", "P": "more parameters", "T": "a higher T"}
    for variable, more in variables.items():
        ladders = [ladder for ladder in find_ladders(runs, variable, column) if len(ladder.rungs) > 1]
        ladder = max(ladders, key=lambda one: (len(one.rungs), -min(rung.y for rung in one.rungs)), default=None)
        if ladder is not None and (variable != "T" or ladder.rungs[-1].x >= _SAME_T_RATIO * ladder.rungs[0].x):
            first, last = ladder.rungs[0], ladder.rungs[-1]
            change = "falls" if last.y < first.y else "rises"
            steady = "" if _is_monotone(ladder) else ", though not at every step"
            steps = "\N{NO-BREAK SPACE}→ ".join(format_losses([rung.y for rung in ladder.rungs]))
            span = f"{variable} {format_magnitude(first.x)} to {format_magnitude(last.x)}, {ladder.name}"
            yield f"The loss {change} with {more}{steady}: {steps} ({span})."


def _is_monotone(ladder: Ladder) -> bool:
    steps = [later.y - earlier.y for earlier, later in pairwise(ladder.rungs)]
    return all(step <= 0 for step in steps) or all(step >= 0 for step in steps)


def _describe_image_gain(study: StudyFolder, column: str) -> str:
    run = find_best_run(study.runs, column)
    if run is None or not math.isfinite(gain := measure_image_gain(run)):
        return ""
    used = "so its captions do come from the image" if gain >= _SMALL_IMAGE_GAIN_NATS else "hardly a change"
    low, high = format_losses([run["UC_prefix"], run["UC_prefix_shuffled"]])
    return f"With the images of other samples the best run’s loss after the prefix goes from {low} to {high}, {used}."


def _describe_prefix(study: StudyFolder) -> str:
    pairs = [run for run in study.runs if math.isfinite(run["right_language"] + run["right_language_prefix"])]
    if not pairs:
        return ""
    plain, prefix = (fmean(run[name] for run in pairs) for name in ("right_language", "right_language_prefix"))
    return (
        f"Without a prefix {format_share(plain)} of the captions of unseen languages come out in the asked language, "
        f"after it {format_share(prefix)} (mean over {count_noun(len(pairs), 'run')})."
    )


def _describe_compute_law(study: StudyFolder, column: str) -> str:
    """Describe the law of each family separately: a frontier over several families is not a law of any of them."""
    law = study.laws.get(f"compute-{column}")
    if law is None:
        return ""
    groups = [group for group in law.fits if group != "all"] or ["all"]
    return " ".join(filter(None, (_describe_exponent(law.fits[group], group) for group in groups)))


_RUNS_OF = {"all": "all runs", "scratch": "the runs from scratch", "frozen": "the runs with a frozen decoder"}
"""Group of a law -> its runs, in a sentence."""


def _describe_exponent(fit: Fit, group: str) -> str:
    if "a1" not in fit.parameters or "a1" in fit.unidentified:
        return ""
    whose = _RUNS_OF.get(group, f"the runs of {group}")
    low, high = fit.intervals.get("a1", (None, None))
    exponent = format_significant(fit.parameters["a1"])
    if "no-interval" in {warning.code for warning in fit.warnings} or low is None or high is None:
        return (
            f"The frontier of {whose} has too few runs for a law of compute: the exponent {exponent} passes through "
            "them and has no interval."
        )
    ends = f"{format_significant(low)} to {format_significant(high)}"
    interval = f"{format_share(fit.confidence)} interval {ends}"
    if low <= 0 <= high:
        return (
            f"{capitalise(whose)} do not show how the loss falls with compute: the interval of the exponent, {ends}, "
            "holds zero."
        )
    return f"On the frontier of {whose} the loss falls to its floor as C to the power {exponent}, {interval}."


def find_caveats(study: StudyFolder, column: str) -> Mapping[Section, tuple[str, ...]]:
    """Return section -> caveats that the numbers of the study show."""
    return {
        "summary": (*_seeds(study, column), *_blind(study, column), *_unused_images(study), *_selection(study, column)),
        "compute": (*_jumps(study), *_uncounted_training(study)),
        "scaling": (*_levels_of_t(study), *_sample_budgets(study), *_family_differences(study)),
        "prefix": tuple(_first_token(study, column)),
    }


def _seeds(study: StudyFolder, column: str) -> Iterator[str]:
    spread, settings = measure_seed_spread(study.runs, column)
    if settings == 0:
        yield (
            "No setting was run with a second seed: how much a number changes from seed to seed was not measured, and "
            "small differences between runs mean nothing."
        )
    else:
        yield (
            f"Seeds of one setting differ by a standard deviation of {format_loss(spread)} nats "
            f"({COLUMN_NAMES[column]}, {count_noun(settings, 'setting')} with more than one seed): two single runs "
            f"have to differ by more than about {format_loss(2 * math.sqrt(2) * spread)} before it says much."
        )


def _blind(study: StudyFolder, column: str) -> Iterator[str]:
    level, start = find_blind_loss(study.runs)
    measured = [run for run in study.runs if math.isfinite(run[column])]
    above = [run for run in measured if run[column] >= level]
    if start is not None and column == "UC_prefix" and above:
        yield (
            f"A model that knows the texts and ignores the image reaches {format_loss(level)} after the prefix (the "
            f"untrained start of {name_series(start.family, start.start)}, {start.size}). {len(above)} of "
            f"{count_noun(len(measured), 'run')} are not below that: they are not shown to caption better than blind, "
            "and slopes through them show in part that the language is learnt."
        )


def _unused_images(study: StudyFolder) -> Iterator[str]:
    measured = [run for run in study.runs if math.isfinite(measure_image_gain(run))]
    unused = [run for run in measured if measure_image_gain(run) < _SMALL_IMAGE_GAIN_NATS]
    if unused:
        yield (
            f"In {len(unused)} of {count_noun(len(measured), 'run')} the images of other samples cost less than "
            f"{_SMALL_IMAGE_GAIN_NATS} nats: those runs hardly use the image."
        )


def _selection(study: StudyFolder, column: str) -> Iterator[str]:
    if sum(math.isfinite(run[column]) for run in study.runs) > 1:
        yield "The best run is chosen by the same held-out samples its numbers are from, which flatters it a little."


def _jumps(study: StudyFolder) -> Iterator[str]:
    """Report for each split a step in S that is much steeper than the step before it."""
    for column in ("UC_prefix", "ST", "SC"):
        worst = max(
            (_find_jump(ladder) for ladder in find_ladders(study.runs, "S", column)), default=(0.0, "", 0.0, 0.0)
        )
        ratio, name, low, high = worst
        if ratio > _JUMP_RATIO:
            yield (
                f"{column.partition('_')[0]} falls {ratio:.1f} times as steeply (in log space) from "
                f"{format_count(low)} to {format_count(high)} samples as in the step before ({name}): that is a jump, "
                "which no power law describes."
            )


def _find_jump(ladder: Ladder) -> tuple[float, str, float, float]:
    """Find the step in a ladder that is steepest compared with the step before it.

    Returns:
        (ratio of the two slopes, name of the ladder, S before the step, S after it); a ratio of 0 where there is none.
    """
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


def _uncounted_training(study: StudyFolder) -> Iterator[str]:
    if any(run.start not in ("", "random") for run in study.runs):
        yield (
            "S and C count the training of these runs. What their starting points were trained on before (language "
            "models, a vision tower) is not in them, so families are not compared at equal cost."
        )


def _levels_of_t(study: StudyFolder) -> Iterator[str]:
    for family, runs in runs_by_family(study.runs).items():
        values = sorted({run["T"] for run in runs if run["T"] > 0})
        if len(runs) < 2 or not values:
            continue
        levels = 1 + sum(later > _SAME_T_RATIO * earlier for earlier, later in pairwise(values))
        name = capitalise(name_family(family))
        if levels == 1:
            yield (
                f"{name}: T is {format_significant(values[0])} for every run. This family says nothing about T, and "
                "an exponent of T fitted over several families rests on the difference between them."
            )
        elif levels == 2:
            yield f"{name}: T has two levels only. Its exponent is a contrast of two, not evidence for a power."


def _sample_budgets(study: StudyFolder) -> Iterator[str]:
    for family, runs in runs_by_family(study.runs).items():
        if len({run["S"] for run in runs if math.isfinite(run["S"])}) == 2:
            yield f"{capitalise(name_family(family))}: the exponent of S rests on two sample budgets only."


def _family_differences(study: StudyFolder) -> Iterator[str]:
    if len(runs_by_family(study.runs)) > 1:
        yield (
            "The families differ in more than T: in what was trained before, in what stays frozen, in how P is made "
            "up. A difference between families is not the effect of T alone, and exponents need not be common to them."
        )


def _first_token(study: StudyFolder, column: str) -> Iterator[str]:
    values = [run["UC_first"] for run in study.runs if math.isfinite(run["UC_first"])]
    if values and max(values) - min(values) > _WIDE_FIRST_TOKEN_NATS:
        instead = " Slopes are therefore read off UC after the prefix." if column == "UC_prefix" else ""
        yield (
            f"Without a prefix the first token costs between {format_loss(min(values))} and "
            f"{format_loss(max(values))} nats, depending on the run: whether the asked language is obeyed decides "
            f"much of UC without the prefix.{instead}"
        )
