"""The table of runs: runs.csv, which laws and report read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from polyglance.model.counts import Counts
from polyglance.run_records import CellRecord, LossRecord, RunRow, Variant, average_split, write_runs
from polyglance.study.config import StudyConfig
from polyglance.study.jobs import Job
from polyglance.study.models import count_models

__all__ = ["write_table"]


def write_table(config: StudyConfig, path: Path, runs: Sequence[Job]) -> Path:
    """Write runs.csv from the records that finished runs have left; the same records give the same bytes."""
    counts = count_models(config, runs)
    write_runs(path, (_row(config, job, counts[job.family, job.size]) for job in runs))
    return path


def _row(config: StudyConfig, job: Job, counts: Counts) -> RunRow:
    record = LossRecord.read(config.out / job.folder / "losses.json")
    cells = record.cells.values()
    samples = job.samples // config.mixture.batch_size * config.mixture.batch_size
    scores = {
        f"{name}{ending}": average_split(cells, "UC", _caption_score(name, variant))
        for variant, ending in _ENDINGS.items()
        for name in ("right_language", "exact_match", "attribute_accuracy", "cider")
    }
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
        T=record.initial_loss(),
        T_prefix=record.initial_loss("prefix"),
        UC=record.split_loss("UC"),
        UC_prefix=record.split_loss("UC", "prefix"),
        ST=record.split_loss("ST"),
        SC=record.split_loss("SC"),
        UC_shuffled=record.split_loss("UC", "shuffled"),
        UC_prefix_shuffled=record.split_loss("UC", "prefix_shuffled"),
        UC_bits_per_byte=average_split(cells, "UC", lambda cell: cell.losses["plain"].bits_per_byte),
        UC_first=average_split(cells, "UC", lambda cell: cell.losses["plain"].first_nats),
        **scores,
        bleu=average_split(cells, "ST", lambda cell: cell.score("bleu")),
        disambiguation=average_split(cells, "ST", lambda cell: cell.disambiguation),
    )


_ENDINGS: dict[Variant, str] = {"plain": "", "prefix": "_prefix"}


def _caption_score(name: str, variant: Variant) -> Callable[[CellRecord], float | None]:
    return lambda cell: cell.score(name, variant)
