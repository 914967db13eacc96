"""Reports of batch jobs: of each job of the study how it has ended, and in which batch job."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.files import parse_json
from polyglance.object_store import open_store

__all__ = ["BatchReport", "BatchReports"]


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """How a job has ended."""

    number: str
    """Slurm's id of the batch job."""
    ended: Mapping[str, Any]
    """Ending and details, as `EndedJob.report` returns them."""


class BatchReports:
    """Reports by id of a job, as JSON files in a folder that all nodes see, or as objects of a store. Every method
    raises `StoreError`, and `SilentStoreError` where the store does not answer.

    Args:
        place: path of the folder, or URL.

    Raises:
        StoreError: not the URL of a store.
    """

    def __init__(self, place: str) -> None:
        self.place = place if "://" in place else str(Path(place).resolve())
        self._store = open_store(place if "://" in place else f"file://{self.place}")

    def list_jobs(self) -> set[str]:
        """Return the ids of the jobs that have a report."""
        return {name.removesuffix(".json") for name in self._store.list("")}

    def read(self, job_id: str) -> BatchReport | None:
        """Return the report of a job; None if there is none, or it is damaged."""
        name = f"{job_id}.json"
        content = self._store.read(name)
        if content is None:
            return None
        try:
            values = parse_json(content.decode(errors="replace"), name)
            return BatchReport(number=values["slurm_id"], ended=values["report"])
        except (ValueError, LookupError, TypeError):
            return None

    def write(self, job_id: str, report: BatchReport) -> None:
        """Write the report of a job, in place of that of an earlier try."""
        content = json.dumps({"slurm_id": report.number, "report": dict(report.ended)})
        self._store.write(f"{job_id}.json", content.encode())

    def remove(self, job_id: str) -> None:
        """Remove the report of an earlier try, if there is one."""
        self._store.remove(f"{job_id}.json")
