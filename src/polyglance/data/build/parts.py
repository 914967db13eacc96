"""Parts of a build step's work, and the folder that holds a step's files and reports.

    work/<step>/step.json         fingerprint of the step that filled the folder
    work/<step>/<file><suffix>    outputs; the name is a `PartId`
    work/<step>/<part>.json       report of a finished part, written last
    work/<step>/<part>.earlier    report that a part had before it became due again

A part is the unit of resumption. It is a function from files to files: it reads files of earlier steps, writes each of
its own files under a temporary name, renames it, and writes its report last. A part with a report is finished; anything
else that a kill left behind is removed or written over. So the result does not depend on where, in which order and how
often the work is done.

A report holds digests of what its part was made from. If these differ at the next call, the part is done again; if its
files are then the same as before, nothing that depends on them is done again. It holds digests of its part's files too,
with which they are compared before a later call reads them; a damaged one is made again.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from polyglance.config import fingerprint, from_dict
from polyglance.files import file_sha256, read_record, replacing, write_record
from polyglance.records import Drops

__all__ = ["PartId", "PartReport", "PartWork", "WorkFolder", "merge_drops"]

_LAYOUT = 3
"""Version of folders and reports. A folder of another version is emptied."""
_NOT_FILES = (".json", ".partial", ".earlier")
"""Endings of what is in a folder beside the step's files."""


class PartId(NamedTuple):
    """Names a part of a step's work, or a file: the images, the language and the sentence pairs that it is about.

    An empty field means all of them. `PartId(images=(0, 12))` is piece 12 of image source 0;
    `PartId(images=(0, 12, 3), language="fr")` is file 3 of the images of that piece, for French.
    """

    images: tuple[int, ...] = ()
    """Numbers of an image source, of a piece of it, and of a file of images from that piece."""
    language: str = ""
    pairs: tuple[int, ...] = ()
    """The same for a bitext of `language`."""

    def __str__(self) -> str:
        """Return the file name without ending, such as `000_00012_00003-fr`; `all` if no field is set."""
        assert self.language or not self.pairs, "bitext has a language"
        names = (_join(self.images), self.language, _join(self.pairs))
        return "-".join(name for name in names if name) or "all"

    @classmethod
    def parse(cls, name: str) -> Self:
        """Return the id with this file name."""
        images: tuple[int, ...] = ()
        pairs: tuple[int, ...] = ()
        language = ""
        for word in name.split("-") if name != "all" else ():
            if not word[0].isdecimal():
                language = word
            elif language:
                pairs = tuple(map(int, word.split("_")))
            else:
                images = tuple(map(int, word.split("_")))
        return cls(images, language, pairs)

    def cut(self, other: Self) -> Self:
        """Return this id without the fields that `other` leaves empty."""
        language = self.language if other.language else ""
        return type(self)(self.images[: len(other.images)], language, self.pairs[: len(other.pairs)])

    def agrees_with(self, other: Self) -> bool:
        """Tell whether the two overlap: they have the same images, language and pairs, as far as both name them."""
        return self.cut(other) == other.cut(self)


def _join(numbers: tuple[int, ...]) -> str:
    return "_".join(f"{number:0{3 if place == 0 else 5}d}" for place, number in enumerate(numbers))


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """Result of one part, without its files."""

    num_in: int
    """Records read."""
    num_out: int
    """Records written."""
    drops: dict[str, Any] = field(default_factory=dict)
    """Reason -> count and first places (`Drops.to_dict`)."""
    num_failed: int = 0
    """Records for which an engine failed; `--retry-failed` tries these and no others."""
    recall: float | None = None
    """Recall of an approximate search: share of the exact search's pairs that it finds, on a sample."""
    engine_s: float = 0.0
    """Seconds inside the engine, of `seconds`."""
    seconds: float = 0.0
    """Wall time of the part."""
    warning: str = ""
    """Message for the user, in one line."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """File name -> digest, of each file that the part wrote."""
    inputs: tuple[str, ...] = ()
    """Digests of what the part was made from."""


def merge_drops(drops: Iterable[Mapping[str, Any]]) -> Drops:
    """Merge drops in the form of `Drops.to_dict`."""
    merged = Drops()
    for by_reason in drops:
        for reason, entry in by_reason.items():
            first, *others = entry["examples"]
            merged.add(reason, first, entry["count"] - len(others))
            for place in others:
                merged.add(reason, place)
    return merged


@dataclass(frozen=True)
class WorkFolder:
    """Files and reports of one step."""

    path: Path
    suffix: str
    """Ending of the step's files; empty if each is a folder."""

    def open(self, step_fingerprint: str) -> None:
        """Prepare the folder: remove half-written files, and everything if another step fingerprint filled it."""
        for path in list(self.path.rglob("*.partial")):
            _remove(path)
        mark, info = self.path / "step.json", {"layout": _LAYOUT, "fingerprint": step_fingerprint}
        if not mark.exists() or read_record(mark) != info:
            _remove(self.path)
            write_record(mark, info, indent=None)

    def file(self, file: PartId) -> Path:
        """Return the path of an output."""
        return self.path / f"{file}{self.suffix}"

    def list_files(self, like: PartId | None = None) -> list[PartId]:
        """List the outputs, in order; only those that agree with `like` if it is given."""
        names = (path.name for path in self.path.iterdir() if not path.name.endswith(_NOT_FILES))
        files = (PartId.parse(name.removesuffix(self.suffix)) for name in names)
        return sorted(file for file in files if like is None or file.agrees_with(like))

    def read_report(self, part: PartId) -> PartReport:
        """Read the report of a finished part."""
        return _read_report(self._report_path(part))

    def write_report(self, part: PartId, report: PartReport, files: Iterable[PartId]) -> None:
        """Write the report of a part, with the digests of its files, which are written before."""
        outputs = {self.file(file).name: _digest(self.file(file)) for file in files}
        write_record(self._report_path(part), asdict(replace(report, outputs=outputs)), indent=None)
        self._earlier_path(part).unlink(missing_ok=True)

    def digests(self, reports: Iterable[PartReport]) -> dict[PartId, str]:
        """Return the digest of each file that the reports list."""
        return {
            PartId.parse(name.removesuffix(self.suffix)): digest
            for report in reports
            for name, digest in report.outputs.items()
        }

    def sort_out(
        self, inputs: Mapping[PartId, tuple[str, ...]], *, retry_failed: bool
    ) -> tuple[dict[PartId, PartReport], list[PartId]]:
        """Find out which parts are finished, and remove all other files.

        A part is finished if it has a report with the same inputs. The file of an unfinished part with the part's own
        name stays if it is as it was reported: its records may be used again (`PartWork.earlier_file`).

        Args:
            inputs: digests of what each part is made from now.
            retry_failed: count parts with failed records as unfinished.

        Returns:
            Reports of the finished parts, and the other parts.
        """
        reports: dict[PartId, PartReport] = {}
        unfinished = []
        for part, digests in inputs.items():
            report = _find_report(self._report_path(part))
            if report is None or report.inputs != digests or (retry_failed and report.num_failed):
                unfinished.append(part)
                self._put_aside(part, report)
            else:
                reports[part] = report
        kept = {"step.json", *(self._report_path(part).name for part in reports)}
        kept |= {name for report in reports.values() for name in report.outputs}
        kept |= {path.name for part in unfinished for path in (self.file(part), self._earlier_path(part))}
        stale = [path for path in self.path.iterdir() if path.name not in kept]
        for path in sorted(stale, key=lambda path: path.suffix != ".json"):  # a report goes before the files it lists
            _remove(path)
        return reports, unfinished

    def forget(self, files: Iterable[PartId]) -> None:
        """Remove files, and the reports that list them, so that their parts are done again."""
        names = {self.file(file).name for file in files}
        for path in self.path.glob("*.json"):
            report = _find_report(path) if path.name != "step.json" else None
            if report is not None and not names.isdisjoint(report.outputs):
                path.unlink()
        for name in names:
            _remove(self.path / name)

    def is_whole(self, file: PartId, digest: str) -> bool:
        """Tell whether a file has the digest that was reported."""
        return self.file(file).exists() and _digest(self.file(file)) == digest

    def _put_aside(self, part: PartId, report: PartReport | None) -> None:
        """Keep the report of a part that is due again, and its own file if it is as reported there."""
        path, earlier = self._report_path(part), self._earlier_path(part)
        if report is not None:
            path.replace(earlier)
        path.unlink(missing_ok=True)
        noted = _find_report(earlier)
        file = self.file(part)
        if noted is None or not self.is_whole(part, noted.outputs.get(file.name, "")):
            _remove(file)
            earlier.unlink(missing_ok=True)

    def _report_path(self, part: PartId) -> Path:
        return self.path / f"{part}.json"

    def _earlier_path(self, part: PartId) -> Path:
        return self.path / f"{part}.earlier"


def _read_report(path: Path) -> PartReport:
    try:
        return from_dict(PartReport, read_record(path), allow_nan=True)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _find_report(path: Path) -> PartReport | None:
    """Read a report; None if there is none, or a damaged one: the part is then done again."""
    try:
        return _read_report(path) if path.exists() else None
    except ValueError:
        return None


@dataclass(kw_only=True)
class PartWork:
    """A part to be done: `Step.run` gets it, writes the part's files through it and returns a report."""

    part: PartId
    folder: WorkFolder
    engine: Any = None
    """Result of `Step.load_engine`."""
    files: list[PartId] = field(default_factory=list)
    """Files that were written."""

    @contextmanager
    def writing(self, file: PartId | None = None) -> Iterator[Path]:
        """Give a temporary path to write a file to: the part's own, or another one."""
        file = self.part if file is None else file
        with replacing(self.folder.file(file), several_writers=True) as partial:
            yield partial
        self.files.append(file)

    @property
    def earlier_file(self) -> Path | None:
        """The part's own file from an earlier try, if there is one. Records in it that did not fail are good."""
        path = self.folder.file(self.part)
        return path if path.exists() else None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    """Return the digest of a file, or of all files of a folder."""
    if path.is_file():
        return file_sha256(path)[:16]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return fingerprint([(file.relative_to(path).as_posix(), file_sha256(file)) for file in files])
