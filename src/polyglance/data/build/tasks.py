"""A build is steps, a step is parts, and a part is one task: a pure function from files to files.

A task reads what earlier steps wrote and writes its own output under a `.partial` name, renames it, and last writes a
report beside it. A part with a report is done; whatever else a kill left is written over. So where tasks run, in which
order and how often they are tried changes nothing in what comes out.

A report holds digests of what its part was made of. Where these are others now, the part is made again; where what it
then writes is the same as before, nothing after it is.
"""

import json
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from polyglance.files import file_sha256, write_atomically
from polyglance.records import Drops

__all__ = [
    "Report",
    "Step",
    "Task",
    "do_part",
    "finished_parts",
    "merged_drops",
    "open_step",
    "output_digests",
    "read_report",
    "remove_other_parts",
    "report_path",
]

_LAYOUT = 2
"""Of folders and reports; what was made in another one is made again."""
_SUFFIXES = (".parquet", ".npy", ".npz")
"""Of a part's output, where that is one file and not a folder."""


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
    warning: str = ""
    """What the user should know, in one line."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Each file that it wrote, below the step's folder -> digest."""
    inputs: tuple[str, ...] = ()
    """Digests of what it was made of (`Step.inputs`)."""


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
    def fingerprint(self) -> str:
        """Of its settings and those of the steps it reads; another one means that all its parts are made again."""
        ...

    def parts(self) -> Sequence[str]:
        """Names of its parts, without dots; known once the steps that it reads are done."""
        ...

    def inputs(self, part: str) -> tuple[str, ...]:
        """Digests of the files that a part is made of, as they are now; others mean that it is made again."""
        ...

    def start(self) -> Any:
        """Load what every part needs (an engine). Called once in each process."""
        ...

    def run(self, task: "Task") -> Report:
        """Do a part."""
        ...


def open_step(step: Step, folder: Path) -> None:
    """Make the step's folder ready; what was made there with other settings, or half made, is removed."""
    for path in list(folder.rglob("*.partial")):
        _remove(path)
    mark = folder / "step.json"
    about = {"step": step.name, "layout": _LAYOUT, "fingerprint": step.fingerprint}
    if not mark.exists() or json.loads(mark.read_text()) != about:
        _remove(folder)
        write_atomically(mark, json.dumps(about) + "\n")


def remove_other_parts(folder: Path, parts: Collection[str]) -> None:
    """Remove what was made of sources that are there no more."""
    known = {"step", *parts}
    for path in folder.iterdir():
        if path.name.partition(".")[0] not in known:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def report_path(folder: Path, part: str) -> Path:
    """Where a part's report is, whose presence says that the part is done."""
    return folder / f"{part}.json"


def read_report(folder: Path, part: str) -> Report:
    """The report of a part that is done."""
    path = report_path(folder, part)
    found = path.stat()
    return _read_report(path, found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _read_report(path: Path, _file: int, _changed_ns: int) -> Report:
    values = json.loads(path.read_text())
    return Report(**{**values, "inputs": tuple(values["inputs"])})


def output_digests(folder: Path, part: str) -> Mapping[str, str]:
    """The files that a part wrote, below the step's folder, with their digests; none where it is not done."""
    return read_report(folder, part).outputs if report_path(folder, part).exists() else {}


def finished_parts(folder: Path, parts: Sequence[str]) -> set[str]:
    """Those of the parts that are done."""
    return {part for part in parts if report_path(folder, part).exists()}


def do_part(step: Step, engine: Any, folder: Path, part: str) -> Report:
    """Do a part and report it. Where it has been done before, what is good in its output is used again."""
    started_s = time.monotonic()
    inputs = step.inputs(part)  # before they are read: what changes meanwhile is noticed the next time
    report_path(folder, part).unlink(missing_ok=True)
    before = {path: path.stat().st_ino for path in _output_files(folder, part)}
    report = step.run(Task(engine=engine, part=part, out=folder / part, reuse=bool(before)))
    outputs = {}
    for path in _output_files(folder, part):
        if path.stat().st_ino == before.get(path):  # not written anew, so of files that are there no more
            path.unlink()
        else:
            outputs[path.relative_to(folder).as_posix()] = file_sha256(path)[:16]
    noted = {"seconds": time.monotonic() - started_s, "outputs": outputs, "inputs": inputs}
    write_atomically(report_path(folder, part), json.dumps({**asdict(report), **noted}, ensure_ascii=False) + "\n")
    return read_report(folder, part)


def _output_files(folder: Path, part: str) -> list[Path]:
    """What a part has written: one file, or those of a folder."""
    beside = [path for suffix in _SUFFIXES if (path := folder / f"{part}{suffix}").exists()]
    return beside + sorted(path for path in (folder / part).rglob("*") if path.is_file())


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
