"""Predictions of the largest runs of a study, and of those with a new starting point, from the others."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from polyglance.files import seal_files
from polyglance.laws import FitConfig, Law, Table, fit_law
from polyglance.laws.fitting.rehearsal import FormChoice, choose_form
from polyglance.prediction_records import ChosenForm, RunPrediction, RunPredictions
from polyglance.run_records import RunRow, average_splits, read_initial, read_runs
from polyglance.study.config import PredictionConfig, StudyConfig
from polyglance.study.grid.job_state import is_done
from polyglance.study.grid.jobs import Job, has_new_start, is_held_out, list_jobs, list_runs
from polyglance.study.grid.models import count_models
from polyglance.study.results.table import write_table

__all__ = ["list_forms", "predict_held_out_runs"]


def predict_held_out_runs(config: StudyConfig, folder: Path) -> RunPredictions:
    """Fit a law for each family to the finished runs that are not held out, and predict those that are. The form of the
    law is the one that predicts smaller corners of the same runs best (`polyglance.laws.fitting.rehearsal`).

    Writes runs.csv (what the laws are fitted to) and predictions.json into `folder`. Reads records only: T of a new
    starting point is measured by a job of its own.
    """
    assert config.prediction is not None
    runs = list_runs(config)
    held_out = [job for job in runs if is_held_out(config, job)]
    known = [job for job in runs if not is_held_out(config, job) and is_done(config.out, job)]
    new_starts = _read_new_starts(config)
    table = write_table(config, folder / "runs.csv", known)
    rows = read_runs(table) if known else ()
    predictions: list[RunPrediction] = []
    forms: list[ChosenForm] = []
    problems: list[str] = []
    for target in config.prediction.targets:
        for family in dict.fromkeys(row.family for row in rows):
            smaller = [row for row in rows if row.family == family]
            try:
                chosen, law = _fit(config.prediction, target, smaller)
            except ValueError as error:
                problems.append(f"{target}: family {family}: {error}")
                continue
            forms.append(_describe_choice(family, target, chosen))
            jobs = [job for job in held_out if job.family == family]
            found = [_predict(config, law, chosen.label, target, job, smaller, new_starts) for job in jobs]
            predictions += [prediction for prediction in found if prediction is not None]
    record = RunPredictions(
        confidence=FitConfig.confidence,
        predictions=tuple(predictions),
        forms=tuple(forms),
        already_measured=tuple(job.id for job in held_out if is_done(config.out, job)),
        problems=tuple(problems),
    )
    record.write(folder / "predictions.json")
    seal_files(folder, ["predictions.json", table.name])
    return record


def _fit(config: PredictionConfig, target: str, runs: Sequence[RunRow]) -> tuple[FormChoice, Law]:
    table = _make_table(runs, target)
    chosen = _choose(config, target, table)
    return chosen, fit_law(replace(chosen.config, bootstrap=config.bootstrap), table)


def _describe_choice(family: str, target: str, chosen: FormChoice) -> ChosenForm:
    return ChosenForm(
        family=family,
        target=target,
        form=chosen.label,
        errors=chosen.errors,
        protocol=chosen.protocol,
        num_runs=chosen.num_rows,
    )


def _make_table(runs: Sequence[RunRow], target: str) -> Table:
    columns = {name: [run[name] for run in runs] for name in ("P", "S", "T", target)}
    return Table.from_data({**columns, "size": [run.size for run in runs]})


def _choose(config: PredictionConfig, target: str, table: Table) -> FormChoice:
    """Choose the form by rehearsal on the known runs."""
    if config.form is not None:
        predictors = ("P", "S") if config.form == "additive" else ("P", "S", "T")
        return choose_form([_settings(config.form, predictors, target)], table)
    return choose_form(list_forms(target), table)


def list_forms(target: str) -> list[FitConfig]:
    """List the forms of law that are tried for a column of runs.csv, without bootstrap: the product law of the paper
    first, then simpler ones, the saturating and the additive law, each with and without an offset."""
    return [
        _settings(form, names, target, offset=offset)
        for form, names in (
            ("product", ("P", "S", "T")),
            ("product", ("P", "S")),
            ("saturating", ("P", "S", "T")),
            ("saturating", ("P", "S")),
            ("additive", ("P", "S")),
        )
        for offset in (True, False)
    ]


def _settings(form: str, predictors: Sequence[str], target: str, *, offset: bool | None = None) -> FitConfig:
    columns = {**{name: name for name in predictors}, "y": target}
    return FitConfig(form=form, columns=columns, size="size", bootstrap=0, offset=offset)


_Model = tuple[str, str, str, int]
"""Family, size, starting point and seed: the runs of all its budgets have one T."""


def _model_of(job: Job) -> _Model:
    return job.family, job.size, job.start, job.seed


def _read_new_starts(config: StudyConfig) -> dict[_Model, float]:
    """Return the T of each model with a new starting point: the loss of the untrained model on UC in nats per token;
    NaN where the test set has no cell of UC."""
    folders = {_model_of(job): config.out / job.folder for job in list_jobs(config) if job.kind == "start"}
    return {
        model: average_splits(read_initial(folder).values()).get("UC", math.nan) for model, folder in folders.items()
    }


def _predict(
    config: StudyConfig,
    law: Law,
    label: str,
    target: str,
    job: Job,
    known: Sequence[RunRow],
    new_starts: Mapping[_Model, float],
) -> RunPrediction | None:
    """Predict one run. Its T is measured where its starting point is new, else that of the smaller budgets, which start
    from the same model; None where there is no finished run of its size and start."""
    counts = count_models(config, [job])[job.family, job.size]
    alike = [run for run in known if (run.family, run.start, run.P) == (job.family, job.start, counts.num_parameters)]
    starts = [run["T"] for run in alike if run.seed == job.seed] or [run["T"] for run in alike]
    if has_new_start(config, job):
        starts = [new_starts[_model_of(job)]]
    if not starts:
        return None
    (fit,) = law.fits.values()
    samples = config.mixture.count_seen(job.samples)
    inputs = {"P": counts.num_parameters, "S": samples, "T": fmean(starts)}
    predicted = fit.predict({name: inputs[name] for name in fit.form.predictors})
    low, high = (
        None if ends is None or not math.isfinite(end := float(ends.ravel()[0])) else end
        for ends in (predicted.low_new, predicted.high_new)
    )
    return RunPrediction(
        run=job.id,
        target=target,
        value=float(predicted.mean.ravel()[0]),
        low=low,
        high=high,
        num_runs=fit.num_rows,
        form=label,
        new_start=job.start if has_new_start(config, job) else "",
    )
