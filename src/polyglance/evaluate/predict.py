"""A model's predictions for a benchmark: resumable, in batches, by one process or several.

    predictions = predict_benchmark(PredictConfig(
        model=ModelConfig(model="out"), task="caption", benchmark="xm3600", language="th",
        root=Path("eval_datasets"), out=Path("eval"),
    ))

Their folder holds predictions.jsonl and, written last, prediction.json with everything they depend on.
"""

from collections.abc import Sequence

from polyglance.engines.open import EvaluatedModel, open_model
from polyglance.evaluate.predict_batches import write_batches
from polyglance.evaluate.predict_processes import write_batches_in_processes
from polyglance.evaluate.prediction_job import PredictConfig, PredictionJob
from polyglance.evaluate.prediction_set import PredictionInfo, PredictionSet, read_prediction_rows
from polyglance.evaluate.row_files import count_rows, join_row_files, keep_whole_batches
from polyglance.files import locked
from polyglance.progress import progress

__all__ = ["predict_benchmark"]


def predict_benchmark(config: PredictConfig, model: EvaluatedModel | None = None) -> PredictionSet:
    """Make the predictions, or continue them. Those that are whole are read.

    Args:
        model: `open_model(config.model)`, where several benchmarks or languages share it; None: it is opened.

    Raises:
        ValueError: an unknown benchmark or model, files that are missing or damaged, a task or language that is not the
            model's or the benchmark's, or a server that cannot be reached. Rows that fail are counted instead.
    """
    job = PredictionJob(config, model or open_model(config.model))
    ids = [example.id for example in job.examples]
    with locked(job.folder, "polyglance eval"):
        if not job.is_done():
            done = keep_whole_batches(job.folder, job.batches)
            _write_batches(job, [number for number in range(len(job.batches)) if number not in done])
            job.describe(join_row_files(job.folder, ids)).write(job.folder)
        rows = read_prediction_rows(job.folder)
        info = PredictionInfo.read(job.folder)
    if [row.id for row in rows] != ids:
        raise ValueError(f"{job.folder}: its rows are not those of the benchmark; delete the folder")
    return PredictionSet(folder=job.folder, info=info, examples=job.examples, rows=rows)


def _write_batches(job: PredictionJob, batches: Sequence[int]) -> None:
    """Predict these batches, in this process or in several."""
    num_processes = min(job.config.num_processes, len(batches))
    done = count_rows(job.folder)
    with progress() as show:

        def show_done(num_done: int) -> None:
            show(f"{job.config.benchmark} {job.config.language}", num_done, len(job.examples))

        show_done(done)
        if num_processes > 1:
            write_batches_in_processes(job.config, batches, num_processes, lambda: show_done(count_rows(job.folder)))
        elif batches:
            for num_rows in write_batches(job, batches):
                done += num_rows
                show_done(done)
