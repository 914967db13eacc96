"""Progress of a study, read from its files while others write them. Importing this loads no torch.

Nothing is written and nothing is locked. A file that is missing is one that is not written yet; one that cannot be read
leaves a note, and the rest is shown.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from polyglance.error_text import one_line
from polyglance.files import write_atomically
from polyglance.object_store import SilentStoreError
from polyglance.prediction_records import RunPredictions
from polyglance.report.live import JobProgress, LawSoFar, StudyProgress, render_live_page
from polyglance.run_records import LossRecord, RunRow, measured_columns
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import read_problem, read_states
from polyglance.study.grid.jobs import Job, list_jobs
from polyglance.study.planning.costs import find_costs
from polyglance.study.planning.training_cost import price_time
from polyglance.study.results.laws_so_far import read_laws_so_far
from polyglance.study.store.copy import refresh_to_look
from polyglance.train.config import LanguageModelConfig
from polyglance.train.metrics_rows import MetricsReader, ReadRow

__all__ = ["ProgressReader", "write_progress_page"]

_TRAINED = ("tower", "language_model", "trunk", "run")
_CURVE_POINTS = 150
_MIN_SILENT_S = 300.0
"""Shortest time without a change after which a job counts as silent: measuring a model takes a while."""
_SILENT_ROWS = 20
"""Rows that a job could have written since its last change, after which it counts as silent."""
_FUTURE_S = 60.0
"""Time of a change in the future, beyond which clocks are said to differ."""
_COPY_S = 15.0
"""Seconds between two looks into the store of a study."""
_LAST_ROWS = 10
"""Rows whose rate is that of a run now."""


class ProgressReader:
    """Read the progress of a study again and again; of a log only what was added is read.

    Raises:
        ValueError: the study's inputs cannot be read, or two runs have one name.
    """

    def __init__(self, config: StudyConfig) -> None:
        self._config = config
        self._logs: dict[str, MetricsReader] = {}
        self._copied_s = -math.inf
        self._refresh([])
        list_jobs(config)

    def read(self, now_s: float | None = None) -> StudyProgress:
        """Read the progress as it is.

        Args:
            now_s: time that ages are counted from, in seconds since 1970; None: now.
        """
        config, notes = self._config, list[str]()
        now_s = time.time() if now_s is None else now_s
        self._refresh(notes)
        jobs = list_jobs(config)
        states = read_states(config.out, jobs)
        logs = {job.id: self._read_log(job, states[job.id], notes) for job in jobs}
        costs = find_costs(config, jobs)
        planned = {} if costs is None else costs.seconds
        rates = _mean_step_s(config, jobs, logs)
        price = price_time(config, 3600)
        if now_s < max((_last_change(config.out / job.folder) or 0.0 for job in jobs), default=0.0) - _FUTURE_S:
            notes.append("Files are newer than this machine's clock: clocks differ, and ages are too short.")
        described = tuple(
            self._describe_job(job, states[job.id], logs[job.id], rates, planned, now_s, notes) for job in jobs
        )
        return StudyProgress(
            title=config.title,
            folder=str(config.out),
            jobs=described,
            read_s=now_s,
            unit=_name_unit(config),
            devices=1 if config.is_micro else config.machine.devices,
            planned_s=sum(planned[job.id] for job in jobs if job.kind in _TRAINED) if planned else None,
            price_per_hour=price,
            currency=config.machine.currency if price is not None else "",
            predicts=config.prediction is not None,
            predictions=_read_predictions(config.out / "prediction" / "predictions.json", states, notes),
            laws=_read_laws(config, described, notes),
            notes=tuple(note.replace(f"{config.out}/", "") for note in notes),
        )

    def _refresh(self, notes: list[str]) -> None:
        """Copy what is new in the study's store, if it has one and that was not done a moment ago."""
        if self._config.cluster.store and time.monotonic() - self._copied_s > _COPY_S:
            self._copied_s = time.monotonic()
            try:
                refresh_to_look(self._config)
            except SilentStoreError as error:
                notes.append(f"{error}; shown as it was.")

    def _read_log(self, job: Job, state: str, notes: list[str]) -> Sequence[ReadRow]:
        """Read the rows of a job; none of a job that is to do, whose files are those of other settings."""
        if job.kind not in _TRAINED or state in ("to do", "not needed"):
            return ()
        path = self._config.out / job.folder / "metrics.jsonl"
        reader = self._logs.setdefault(job.id, MetricsReader(path))
        try:
            rows = reader.read()
        except OSError as error:
            notes.append(f"{path}: cannot be read ({error.strerror}).")
            return ()
        if reader.num_damaged:
            notes.append(f"{path}: lines that are no rows, left out: {reader.num_damaged}.")
        return rows

    def _describe_job(
        self,
        job: Job,
        state: str,
        rows: Sequence[ReadRow],
        rates: Mapping[tuple[str, str, str, int], float],
        planned: Mapping[str, float],
        now_s: float,
        notes: list[str],
    ) -> JobProgress:
        config, folder = self._config, self._config.out / job.folder
        written_s = _last_change(folder)
        num_steps, batch, first = _count_steps(config, job)
        steps_done = num_steps if state == "done" else min(rows[-1].step if rows else first, num_steps)
        last = rows[-1] if rows else None
        return JobProgress(
            id=job.id,
            kind=job.kind,
            state=_describe_state(state, rows, batch, written_s, now_s),
            problem=read_problem(config.out, job) if state == "failed" else "",
            run=_describe_run(config, job, state, notes) if job.kind == "run" else None,
            steps_done=0 if state in ("to do", "not needed") else steps_done,
            num_steps=num_steps,
            samples_per_step=batch,
            loss_nats=_finite(last.loss_nats) if last else None,
            samples_per_s=_finite(last.samples_per_s) if last else None,
            spent_s=sum(seconds for _, seconds in _step_seconds(rows, batch, first)),
            left_s=_estimate_left(job, state, rows, (num_steps, steps_done, first), batch, rates, planned),
            written_s=written_s,
            curve=_make_curve(rows, batch),
        )


def write_progress_page(config: StudyConfig, path: Path) -> None:
    """Write the page of the progress as it is, without a script.

    Raises:
        ValueError: as `ProgressReader`, or the path is that of a folder.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder; give the name of a file, such as status.html")
    write_atomically(path, render_live_page(ProgressReader(config).read(), is_live=False))


def _name_unit(config: StudyConfig) -> str:
    """Name the hours: runs of micro models that share a card have no hours of the card of their own."""
    if config.is_on_card:
        return "process hours"
    return "core hours" if config.is_micro else "GPU hours"


def _count_steps(config: StudyConfig, job: Job) -> tuple[int, int, int]:
    """Return the steps of a job's training, its samples per step, and the step that it begins at."""
    if job.kind == "language_model":
        return config.language_models[job.start].steps, LanguageModelConfig.batch_size, 0
    if job.kind not in _TRAINED:
        return 0, 0, 0
    batch = config.mixture.batch_size
    return job.samples // batch, batch, job.begins_at // batch


def _model_of(job: Job) -> tuple[str, str, str, int]:
    """Return what the time of a step depends on."""
    return "run" if job.kind == "trunk" else job.kind, job.family, job.size, job.width


def _step_seconds(rows: Sequence[ReadRow], batch: int, first: int) -> list[tuple[int, float]]:
    """Return (steps, seconds) of each row."""
    before = (first, *(row.step for row in rows))
    return [
        (row.step - since, (row.step - since) * batch / row.samples_per_s)
        for since, row in zip(before, rows, strict=False)
        if row.step > since and math.isfinite(row.samples_per_s)
    ]


def _mean_step_s(
    config: StudyConfig, jobs: Sequence[Job], logs: Mapping[str, Sequence[ReadRow]]
) -> dict[tuple[str, str, str, int], float]:
    """Return model -> mean seconds of a step over all its jobs, where there is a row."""
    sums: dict[tuple[str, str, str, int], tuple[int, float]] = {}
    for job in jobs:
        _, batch, first = _count_steps(config, job)
        for steps, seconds in _step_seconds(logs[job.id], batch, first):
            total = sums.get(_model_of(job), (0, 0.0))
            sums[_model_of(job)] = total[0] + steps, total[1] + seconds
    return {model: seconds / steps for model, (steps, seconds) in sums.items()}


def _estimate_left(
    job: Job,
    state: str,
    rows: Sequence[ReadRow],
    steps: tuple[int, int, int],
    batch: int,
    rates: Mapping[tuple[str, str, str, int], float],
    planned: Mapping[str, float],
) -> float | None:
    """Return the seconds that are left at the job's own rate, else at that of its model, else as planned."""
    num_steps, steps_done, first = steps
    left = num_steps - (first if state == "to do" else steps_done)
    if state in ("done", "not needed", "failed") or left <= 0:
        return 0.0
    if own := _step_seconds(rows, batch, first)[-_LAST_ROWS:]:
        return left * sum(seconds for _, seconds in own) / sum(number for number, _ in own)
    if (step_s := rates.get(_model_of(job))) is not None:
        return left * step_s
    whole = planned.get(job.id)
    return None if whole is None else whole * left / (num_steps - first)


def _describe_state(state: str, rows: Sequence[ReadRow], batch: int, written_s: float | None, now_s: float) -> str:
    """Tell a job that is at work from one that has been silent for long. No file names the process
    that works on a job: the time of the last change decides."""
    if state != "begun":
        return state
    row_s = [seconds for _, seconds in _step_seconds(rows, batch, 0)[-_LAST_ROWS:]]
    patience_s = max(_MIN_SILENT_S, _SILENT_ROWS * median(row_s) if row_s else 0.0)
    return "silent" if written_s is None or now_s - written_s > patience_s else "at work"


def _make_curve(rows: Sequence[ReadRow], batch: int) -> tuple[tuple[float, float], ...]:
    """Return (samples, loss) of at most `_CURVE_POINTS` groups of rows; rows without a finite loss are left out."""
    known = [row for row in rows if math.isfinite(row.loss_nats)]
    size = -(-len(known) // _CURVE_POINTS) or 1
    groups = [known[begin : begin + size] for begin in range(0, len(known), size)]
    return tuple((group[-1].step * batch, sum(row.loss_nats for row in group) / len(group)) for group in groups)


def _describe_run(config: StudyConfig, job: Job, state: str, notes: list[str]) -> RunRow:
    """Return what a run is, with what is measured of it once it is done."""
    measured: Mapping[str, float | None] = {}
    if state == "done":
        try:
            measured = measured_columns(LossRecord.read(config.out / job.folder / "losses.json"))
        except (ValueError, OSError) as error:
            notes.append(f"{one_line(error)}; its losses are left out.")
    return RunRow(
        id=job.id,
        family=job.family,
        size=Path(job.size).name,
        start=job.start,
        seed=job.seed,
        S=config.mixture.count_seen(job.samples),
        **{name: value for name, value in measured.items() if value is not None and math.isfinite(value)},
    )


def _read_predictions(path: Path, states: Mapping[str, str], notes: list[str]) -> RunPredictions | None:
    """Read the predictions, as long as they are those of the study as it is now."""
    if states.get("prediction") != "done":
        return None
    try:
        return RunPredictions.read(path)
    except (ValueError, OSError) as error:
        notes.append(f"{one_line(error)}; the predictions are left out.")
        return None


def _read_laws(config: StudyConfig, jobs: Sequence[JobProgress], notes: list[str]) -> tuple[LawSoFar, ...]:
    runs = {job.id: job.run for job in jobs if job.run is not None and job.state == "done"}
    try:
        return read_laws_so_far(config, runs)
    except (ValueError, OSError) as error:
        notes.append(f"{one_line(error)}; the laws so far are left out.")
        return ()


def _last_change(folder: Path) -> float | None:
    """Return the time of the last change of a file in a folder, or in its checkpoints; None where there is none."""
    times = [_modified_at(path) for path in (folder, *folder.glob("*"), *folder.glob("checkpoints/*"))]
    return max((one for one in times if one is not None), default=None)


def _modified_at(path: Path) -> float | None:
    """Return the time of a file's last change; None where there is none, as when it was renamed meanwhile."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
