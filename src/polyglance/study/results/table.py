"""The table of runs: runs.csv, which laws and report read."""

from collections.abc import Sequence
from pathlib import Path

from polyglance.model.counts import Counts
from polyglance.run_records import LossRecord, RunRow, measured_columns, write_runs
from polyglance.study.config import StudyConfig
from polyglance.study.grid.jobs import Job
from polyglance.study.grid.models import count_models

__all__ = ["write_table"]


def write_table(config: StudyConfig, path: Path, runs: Sequence[Job]) -> Path:
    """Write runs.csv from the records of finished runs; the same records give the same bytes."""
    counts = count_models(config, runs)
    write_runs(path, (_row(config, job, counts[job.family, job.size]) for job in runs))
    return path


def _row(config: StudyConfig, job: Job, counts: Counts) -> RunRow:
    record = LossRecord.read(config.out / job.folder / "losses.json")
    samples = config.mixture.count_seen(job.samples)
    return RunRow(
        id=job.id,
        family=job.family,
        size=Path(job.size).name,
        start=job.start,
        seed=job.seed,
        P=counts.num_parameters,
        P_t=counts.num_trained,
        F=counts.macs_per_sample / 1e9,
        S=samples,
        C=counts.compute_gmac(samples),
        **measured_columns(record),
    )
