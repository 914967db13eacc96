"""Predictions of the largest runs of a study from the others, made before the largest start."""

import math
from pathlib import Path
from statistics import fmean

from polyglance.files import seal_files
from polyglance.laws import FitConfig, Law, Table, fit_law
from polyglance.prediction_records import RunPrediction, RunPredictions
from polyglance.run_records import RunRow, read_runs
from polyglance.study.config import PredictionConfig, StudyConfig
from polyglance.study.job_state import is_done
from polyglance.study.jobs import Job, is_held_out, list_runs
from polyglance.study.models import count_models
from polyglance.study.table import write_table

__all__ = ["predict_held_out_runs"]


def predict_held_out_runs(config: StudyConfig, folder: Path) -> RunPredictions:
    """Fit the product law of each family to the finished runs that are not held out, and predict those that are.

    Writes runs.csv (what the laws are fitted to) and predictions.json into `folder`.
    """
    assert config.prediction is not None
    runs = list_runs(config)
    held_out = [job for job in runs if is_held_out(config, job)]
    known = [job for job in runs if not is_held_out(config, job) and is_done(config.out, job)]
    table = write_table(config, folder / "runs.csv", known)
    predictions: list[RunPrediction] = []
    problems: list[str] = []
    for target in config.prediction.targets if known else ():
        try:
            law = _fit(config.prediction, target, Table.read(table))
        except ValueError as error:
            problems.append(f"{target}: {error}")
            continue
        found = [_predict(config, law, target, job, read_runs(table)) for job in held_out]
        predictions += [prediction for prediction in found if prediction is not None]
    record = RunPredictions(
        confidence=FitConfig.confidence,
        predictions=tuple(predictions),
        already_measured=tuple(job.id for job in held_out if is_done(config.out, job)),
        problems=tuple(problems),
    )
    record.write(folder / "predictions.json")
    seal_files(folder, ["predictions.json", table.name])
    return record


def _fit(config: PredictionConfig, target: str, table: Table) -> Law:
    columns = {"P": "P", "S": "S", "T": "T", "y": target}
    return fit_law(
        FitConfig(form="product", columns=columns, size="size", group="family", bootstrap=config.bootstrap), table
    )


def _predict(config: StudyConfig, law: Law, target: str, job: Job, known: tuple[RunRow, ...]) -> RunPrediction | None:
    """Predict one run. Its T is that of the smaller budgets, which start from the same model; None where there is no
    finished run of its size and start, or no law of its family."""
    counts = count_models(config, [job])[job.family, job.size]
    alike = [run for run in known if (run.family, run.start, run.P) == (job.family, job.start, counts.num_parameters)]
    starts = [run["T"] for run in alike if run.seed == job.seed] or [run["T"] for run in alike]
    if not starts or job.family not in law.fits:
        return None
    fit = law.fits[job.family]
    samples = job.samples // config.mixture.batch_size * config.mixture.batch_size
    predicted = fit.predict({"P": counts.num_parameters, "S": samples, "T": fmean(starts)})
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
    )
