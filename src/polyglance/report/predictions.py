"""Predictions that a study made of some of its runs, with the losses that these runs measured."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median

from polyglance.prediction_records import RunPrediction, RunPredictions
from polyglance.report.folder import StudyFolder
from polyglance.report.tables import TableColumn, number_column, text_column
from polyglance.report.wording import (
    COLUMN_NAMES,
    MISSING,
    format_count,
    format_loss,
    format_share,
    format_signed_share,
    name_family,
    name_run,
)
from polyglance.run_records import RunRow

__all__ = ["PREDICTION_COLUMNS", "CheckedPrediction", "check_predictions", "describe_predictions", "pair_predictions"]


@dataclass(frozen=True, kw_only=True)
class CheckedPrediction:
    """A prediction and what the run measured."""

    run: RunRow
    made: RunPrediction
    measured: float
    """Loss of the run, in nats per token; NaN as long as the run is not measured."""

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.made.value / self.measured - 1

    @property
    def is_inside(self) -> bool | None:
        """Whether the interval for a new run holds what was measured; None where one of the two is missing."""
        if self.made.low is None or self.made.high is None or not math.isfinite(self.measured):
            return None
        return self.made.low <= self.measured <= self.made.high

    @property
    def interval(self) -> str:
        """The interval in words."""
        if self.made.low is None or self.made.high is None:
            return MISSING
        return f"{format_loss(self.made.low)} to {format_loss(self.made.high)}"


def pair_predictions(predictions: RunPredictions | None, runs: Iterable[RunRow]) -> tuple[CheckedPrediction, ...]:
    """Pair each prediction with the run it is about, measured or not; those of other runs are left out."""
    by_id = {run.id: run for run in runs}
    return tuple(
        CheckedPrediction(run=run, made=made, measured=run[made.target])
        for made in (predictions.predictions if predictions is not None else ())
        if made.target in COLUMN_NAMES and made.value > 0 and (run := by_id.get(made.run)) is not None
    )


def check_predictions(study: StudyFolder) -> tuple[CheckedPrediction, ...]:
    """Pair each prediction with the run it is about; those of runs that are not finished are left out."""
    pairs = pair_predictions(study.predictions, study.runs)
    return tuple(one for one in pairs if one.measured > 0 and math.isfinite(one.measured))


def describe_predictions(predictions: RunPredictions | None, checked: Sequence[CheckedPrediction]) -> tuple[str, ...]:
    """Describe for each family the errors of the predictions, apart for a starting point that is new to the law, beside
    the differences between seeds, how many intervals contain the measurements, and runs that were measured before they
    were predicted."""
    groups: dict[tuple[str, str, str], list[CheckedPrediction]] = {}
    families = list(dict.fromkeys(one.run.family for one in checked))
    for one in sorted(checked, key=lambda one: families.index(one.run.family)):
        if math.isfinite(one.measured) and one.measured > 0:
            groups.setdefault((one.run.family, one.made.target, one.made.new_start), []).append(one)
    sentences = []
    for (family, target, start), chosen in groups.items():
        inside = [one.is_inside for one in chosen if one.is_inside is not None]
        held = f"; {sum(inside)} of {len(inside)} intervals hold what was measured" if inside else ""
        error = format_share(median(abs(one.error) for one in chosen))
        known = f"{chosen[0].made.num_runs} {'of other starting points' if start else 'smaller ones'}"
        sentences.append(
            f"{name_family(family)}{f', new starting point {start}' if start else ''}, {COLUMN_NAMES[target]}: "
            f"median error {error} ({len(chosen)} predicted from {known}{_describe_seeds(chosen)}){held}."
            f"{'' if start else _describe_form(predictions, family, target)}"
        )
    if predictions is not None:
        if predictions.already_measured:
            names = ", ".join(predictions.already_measured)
            sentences.append(f"Measured before they were predicted, because the study was changed: {names}.")
        sentences += [f"Not predicted: {problem}." for problem in predictions.problems]
    return tuple(sentence[:1].upper() + sentence[1:] for sentence in sentences)


def _describe_seeds(checked: Sequence[CheckedPrediction]) -> str:
    """Say how far the mean of the other seeds of a run is from it: errors of this size come from the seeds, and not
    from the law. Empty where all runs are of one seed."""
    alike: defaultdict[tuple[str, str, float], list[CheckedPrediction]] = defaultdict(list)
    for one in checked:
        alike[one.run.size, one.run.start, one.run["S"]].append(one)
    errors = [
        abs(geometric_mean(other.measured for other in group if other is not one) / one.measured - 1)
        for group in alike.values()
        if len(group) > 1
        for one in group
    ]
    return f"; predicted from its other seeds a run would be off by {format_share(median(errors))}" if errors else ""


def _describe_form(predictions: RunPredictions | None, family: str, target: str) -> str:
    """Say which form of law a loss of a family was predicted with, and why; empty where the record does not say."""
    forms = predictions.forms if predictions is not None else ()
    for chosen in forms:
        if (chosen.family, chosen.target) != (family, target):
            continue
        if len(chosen.errors) < 2:
            return f" Law: {chosen.form}."
        how = _PROTOCOLS.get(chosen.protocol, chosen.protocol)
        usual, error = next(iter(chosen.errors.items()))
        others = "" if usual == chosen.form else f", and {usual} by {math.exp(error):.2f}"
        error = chosen.errors.get(chosen.form, math.nan)
        return f" Law: {chosen.form}, which was best at {how}: off by a factor of {math.exp(error):.2f}{others}."
    return ""


_PROTOCOLS = {
    "smaller corners": "predicting smaller corners of the grid",
    "leave one out": "predicting each smaller run from the others",
}
"""How a form was chosen -> in words."""

PREDICTION_COLUMNS: tuple[TableColumn[CheckedPrediction], ...] = (
    text_column("run", lambda one: name_run(one.run)),
    text_column("loss", lambda one: COLUMN_NAMES[one.made.target]),
    text_column("law", lambda one: one.made.form or MISSING),
    number_column("runs in the fit", lambda one: float(one.made.num_runs), format_count),
    number_column("predicted", lambda one: one.made.value, format_loss),
    TableColumn(head="interval for a new run", text=lambda one: one.interval, number=lambda one: one.made.low),
    number_column("measured", lambda one: one.measured, format_loss),
    number_column("error", lambda one: one.error, format_signed_share),
    text_column("inside", lambda one: {True: "yes", False: "no", None: MISSING}[one.is_inside]),
)
