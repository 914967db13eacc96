"""Check of the files of finished jobs against their digests, before other jobs use them. Damaged files are made again:
the same settings and inputs give the same bytes, so that nothing else changes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from polyglance.data.manifest import MANIFEST_NAME
from polyglance.run_records import INITIAL_NAME
from polyglance.study.config import StudyConfig
from polyglance.study.grid.job_state import forget_job, is_done, is_in_part
from polyglance.study.grid.jobs import Job, list_jobs, training_of
from polyglance.study.grid.verify import verify_place

__all__ = ["forget_damaged_jobs"]

_FINAL = Path("checkpoints/final")
_MEASURED = ("losses.json", "captions.jsonl")


def forget_damaged_jobs(config: StudyConfig, say: Callable[[str], None]) -> None:
    """Remove the marks of finished jobs with damaged or missing files that are needed: data, tokenizer and starting
    points of jobs that are not done, and the records of runs, from which the table is made.

    Args:
        say: called with a line for each.

    Raises:
        ValueError: files that are needed are in a store that the study names no more.
    """
    jobs = list_jobs(config)
    left = [job for job in jobs if not is_done(config.out, job)]
    needed = {need for job in left for need in (*job.needs, "data")}
    if not config.cluster.store:
        trained = [training_of(job) for job in left if job.kind == "run"]
        _refuse_copies(config, [*(job for job in jobs if job.id in needed), *trained])
    for job in jobs:
        if not is_done(config.out, job) or (job.kind != "run" and job.id not in needed):
            continue
        if is_in_part(config.out, job):  # its files are in the store, and are compared when they are fetched
            continue
        folder = config.out / job.folder
        if problem := next(_find_damage(config, job, folder), ""):
            is_measured_again = job.kind == "run" and not any(_verify(folder / _FINAL))
            if job.kind == "run" and not is_measured_again and not config.is_micro:
                continue  # days of training are not repeated without asking: reading the file reports the damage
            say(f"{job.id}: {problem}; it is {'measured' if is_measured_again else 'made'} again")
            forget_job(config.out, job, goes_on=is_measured_again)


def _refuse_copies(config: StudyConfig, jobs: Sequence[Job]) -> None:
    """Refuse finished jobs of whose files the folder has only the records.

    Raises:
        ValueError: names the first.
    """
    for job in jobs:
        if is_done(config.out, job) and is_in_part(config.out, job):
            raise ValueError(
                f"{config.out / job.folder}: a copy of records; the other files of {job.id} are in an object store, "
                "and cluster.store names none: name it again, or give another `out`"
            )


def _find_damage(config: StudyConfig, job: Job, folder: Path) -> Iterator[str]:
    match job.kind:
        case "data" if config.data.path is None:
            for data_set in (config.train_dir, config.test_dir):
                yield from _verify(data_set / MANIFEST_NAME)
        case "tokenizer":
            yield from _verify(folder)
        case "tower" | "language_model":
            yield from _verify(folder / _FINAL)
        case "start":
            yield from _find_damaged_records(folder, (INITIAL_NAME,))
        case "trunk":
            yield from _verify(folder / _FINAL)
            last = max(folder.glob("checkpoints/step-*"), default=folder / "checkpoints" / "step-none")
            yield from _verify(last / "checkpoint.json")
        case "run":
            yield from _find_damaged_records(folder, _MEASURED)


def _find_damaged_records(folder: Path, names: tuple[str, ...]) -> Iterator[str]:
    yield from (f"{folder / name}: missing" for name in names if not (folder / name).is_file())
    yield from _verify(folder, (*names, folder.name))


def _verify(place: Path, names: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the problems of the files that a place has digests of, all or those of these names."""
    if not place.exists():
        yield f"{place}: missing"
    else:
        yield from (problem for path, problem in verify_place(place) if problem and (not names or path.name in names))
