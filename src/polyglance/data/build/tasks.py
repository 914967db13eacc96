"""A build is steps, a step is parts, and a part is one task: a pure function from files to files.

A task reads what earlier steps wrote and writes its own output under a `.partial` name, renames it, and last writes a
report beside it. A part with a report is done; whatever else a kill left is written over. So where tasks run, in which
order and how often they are tried changes nothing in what comes out.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from polyglance.config import write_atomically
from polyglance.records import Drops

__all__ = [
    "Report",
    "Step",
    "Task",
    "do_part",
    "finished_parts",
    "input_digests",
    "merged_drops",
    "open_step",
    "read_report",
    "report_path",
]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of one part."""

    num_in: int
    """Records read."""
    num_out: int
    """Records written."""
    drops: dict[str, Any] = field(default_factory=dict)
    """Reason -> count and first places (`Drops.to_dict`)."""
    num_failed: int = 0
    """Records that an engine could not do; `--retry-failed` tries these again and no others."""
    recall: float | None = None
    """Of an approximate search: the share of the exact one's pairs that it found, on a sample."""
    engine_s: float = 0.0
    """Seconds spent inside the engine; the rest of `seconds` is the pipeline's own."""
    seconds: float = 0.0
    """Wall time of the task."""
    digest: str = ""
    """Of the output, where other steps are told by it that their part has to be made again."""
    inputs: tuple[str, ...] = ()
    """Digests of the parts it was made of."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A part to be done."""

    engine: Any
    """What the step's `start` gave."""
    part: str
    out: Path
    """Where its output belongs: this name with an ending, or a folder of this name."""
    reuse: bool = False
    """There is an output already: records in it that did not fail are taken from it, the others are done."""


class Step(Protocol):
    """One kind of work, on every part. Steps travel to other processes, so they hold settings, not engines."""

    @property
    def name(self) -> str:
        """Folder below `work/`."""
        ...

    @property
    def unit(self) -> str:
        """What its records are, in the plural: `images`, `pairs`."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Steps of whose part of the same name a part is made."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of its settings and of the steps it reads; another fingerprint means that its parts are made again."""
        ...

    def parts(self) -> Sequence[str]:
        """Names of its parts; known once the steps that it reads are done."""
        ...

    def start(self) -> Any:
        """Load what every part needs (an engine). Called once in each process."""
        ...

    def run(self, task: "Task") -> Report:
        """Do a part."""
        ...


def open_step(step: Step, folder: Path) -> None:
    """Make the step's folder ready; what was made there with other settings, or half made, is removed."""
    for path in folder.rglob("*.partial"):
        path.unlink()
    mark = folder / "step.json"
    if not mark.exists() or json.loads(mark.read_text())["fingerprint"] != step.fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        write_atomically(mark, json.dumps({"step": step.name, "fingerprint": step.fingerprint}) + "\n")


def report_path(folder: Path, part: str) -> Path:
    """Where a part's report is, whose presence says that the part is done."""
    return folder / f"{part}.json"


def read_report(folder: Path, part: str) -> Report:
    """The report of a part that is done."""
    values = json.loads(report_path(folder, part).read_text())
    return Report(**{**values, "inputs": tuple(values["inputs"])})


def input_digests(step: Step, work_dir: Path, part: str) -> tuple[str, ...]:
    """Digests of the outputs that a part is made of, as they are now."""
    folders = [work_dir / name for name in step.reads]
    return tuple(read_report(folder, part).digest for folder in folders if report_path(folder, part).exists())


def finished_parts(folder: Path, parts: Sequence[str]) -> set[str]:
    """Those of the parts that are done."""
    return {part for part in parts if report_path(folder, part).exists()}


def do_part(step: Step, engine: Any, folder: Path, part: str) -> Report:
    """Do a part and report it. Where it has been done before, what is good in its output is used again."""
    done = report_path(folder, part)
    started_s = time.monotonic()
    report = step.run(Task(engine=engine, part=part, out=folder / part, reuse=done.exists()))
    output = done.with_suffix(".parquet")
    noted = {
        "seconds": time.monotonic() - started_s,
        "digest": sha256(output.read_bytes()).hexdigest() if output.exists() else "",
        "inputs": input_digests(step, folder.parent, part),
    }
    write_atomically(done, json.dumps({**asdict(report), **noted}, ensure_ascii=False) + "\n")
    return read_report(folder, part)


def merged_drops(reports: Sequence[Report], *, max_examples: int = 20) -> Drops:
    """The drops of many parts as one."""
    drops = Drops(max_examples=max_examples)
    for report in reports:
        for reason, entry in report.drops.items():
            first, *others = entry["examples"]
            drops.add(reason, first, entry["count"] - len(others))
            for place in others:
                drops.add(reason, place)
    return drops
