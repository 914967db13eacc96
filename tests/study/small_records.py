"""Small records as the verbs write them: scores with predictions, laws, tables of frequencies."""

from pathlib import Path

import numpy as np

from polyglance.evaluate.metrics.document_frequency import DocumentFrequency
from polyglance.evaluate.prediction_set import PredictionInfo, PredictionRow
from polyglance.evaluate.score import score_texts
from polyglance.evaluate.score_report import write_scores
from polyglance.files import seal_files
from polyglance.laws import FitConfig, Table, fit_law
from polyglance.prediction_records import RunPrediction, RunPredictions
from polyglance.run_records import RunRow, write_runs

TEXTS = {"a": "a cat on a mat", "b": "two red dogs", "c": "a small boat"}


def write_scored(folder: Path, *, last: str = "a small boat") -> None:
    """Write scores.json, scores.npz, prediction.json and predictions.jsonl."""
    folder.mkdir(parents=True)
    texts = {**TEXTS, "c": last}
    references = {name: [f"{text} there", text[:-1]] for name, text in TEXTS.items()}
    write_scores(score_texts(texts, references, language="en", metrics=("bleu", "cider"), bootstrap=20), folder)
    rows = [PredictionRow(id=name, text=text) for name, text in texts.items()]
    (folder / "predictions.jsonl").write_text("".join(row.format_line() for row in rows))
    info = PredictionInfo(
        benchmark="xm3600", split="all", language="en", task="caption", model="m", fingerprint="1", num_rows=3
    )
    info.write(folder)


def write_laws(folder: Path, *, seed: int = 0) -> None:
    """Write law.json, df.json, predictions.json and the runs.csv that they were made of."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed).normal(0, 0.01, 12)
    sizes, samples = np.tile([1e6, 3e6, 1e7, 3e7], 3), np.repeat([1e4, 1e5, 1e6], 4)
    losses = 5 * (sizes / 1e6) ** -0.2 * (samples / 1e4) ** -0.1 + noise
    table = Table({"P": sizes, "S": samples, "T": np.tile([5.0, 6.0, 4.0], 4), "y": losses})
    columns = {"P": "P", "S": "S", "T": "T", "y": "y"}
    fit_law(FitConfig(form="product", columns=columns, bootstrap=20), table).save(folder / "law.json")
    DocumentFrequency(name="d", num_images=3, counts={"a cat": 2, "dog": 1 + seed}).save(folder / "df.json")
    prediction = RunPrediction(run="a", target="UC", value=1.0 + seed, low=0.9, high=1.1, num_runs=8)
    RunPredictions(confidence=0.95, predictions=(prediction,)).write(folder / "predictions.json")
    write_runs(folder / "runs.csv", [RunRow(id="a", family="f", UC=1.5 + seed)])
    seal_files(folder, ["law.json", "df.json", "predictions.json", "runs.csv"])
