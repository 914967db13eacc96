"""Base of a build's steps. A step is one class that names what it reads and how it makes its files.

To add a step, write a frozen dataclass derived from `Step` and give it to the step that reads it, in `make_steps`
(build.py):

    @dataclass(frozen=True, kw_only=True)
    class AestheticsStep(Step):
        '''Aesthetic score of each image; a part is a file of images.'''

        name = "aesthetics"             # folder below work/
        unit = "images"                 # records, in the plural, for the progress bar
        images: ImagesStep              # steps that are read
        select: SelectStep
        config: AestheticsConfig        # settings

        def parts(self) -> list[PartId]:
            return self.select.folder.list_files()

        def run(self, work: PartWork) -> PartReport:
            images = list(self.select.read_kept(work.part))
            with work.writing() as path:
                write_rows(path, _SCHEMA, ...)
            return PartReport(num_in=len(images), num_out=len(images))

The rest follows from the fields. Fields that hold steps are what the step needs: these steps come before it. A part is
made again when one of their files changes that agrees with it (`PartId.agrees_with`). So a part about some images
depends on the files about these images, and a part about a language on all files about that language. All other fields
are settings: when one changes (or the weights of an engine, or a setting of a needed step), all parts are made again.
"""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from polyglance import __version__
from polyglance.config import fingerprint
from polyglance.data.build.parts import PartId, PartReport, PartWork, WorkFolder
from polyglance.engines import EngineConfig

__all__ = ["DamagedFilesError", "Step", "check_files", "digest_part_inputs", "do_part", "order_steps"]


class DamagedFilesError(Exception):
    """Files of a step differ from what was written."""


@dataclass(frozen=True, kw_only=True)
class Step(ABC):
    """One kind of work, on every part. Steps are sent to other processes, so they hold settings, not engines."""

    work_dir: Path
    """Folder of all steps."""
    name: ClassVar[str]
    """Folder below `work_dir`."""
    unit: ClassVar[str]
    """Records of the step, in the plural: `images`, `pairs`."""
    suffix: ClassVar[str] = ".parquet"
    """Ending of the step's files; empty if each is a folder."""

    @abstractmethod
    def parts(self) -> Sequence[PartId]:
        """Return the parts of the work, all with the same fields set. Called when the needed steps are finished."""

    @abstractmethod
    def run(self, work: PartWork) -> PartReport:
        """Do a part: read files of the needed steps, write the part's files."""

    def load_engine(self) -> Any:
        """Load the engine that every part needs. Called once in each process."""
        return None

    def stamps(self, part: PartId) -> tuple[str, ...]:  # noqa: ARG002
        """Return the digests of files outside the build that a part is made from."""
        return ()

    @property
    def folder(self) -> WorkFolder:
        """Files and reports of the step."""
        return WorkFolder(self.work_dir / self.name, self.suffix)

    @property
    def needs(self) -> tuple["Step", ...]:
        """Steps whose files this one reads."""
        return tuple(value for value in self._values().values() if isinstance(value, Step))

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the settings of this step and of all that it needs, and of the weights of engines."""
        settings = {name: value for name, value in self._values().items() if not isinstance(value, Step)}
        needs = [step.fingerprint for step in self.needs]
        return fingerprint(__version__, self.name, settings, list(_engine_weights(settings)), needs)

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "work_dir"}


def _engine_weights(value: Any) -> Iterator[str]:
    """Yield the versions of the weights of all engines in settings; the path of an engine does not show them."""
    if isinstance(value, EngineConfig):
        yield value.weights
    elif isinstance(value, (Mapping, list, tuple)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _engine_weights(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _engine_weights(getattr(value, field.name))


def order_steps(last: Step) -> list[Step]:
    """Return a step and all that it needs, each after its needs; steps that need fewest others before them come first.

    So all sources are looked at before an engine is loaded.
    """
    depths: dict[str, int] = {}
    steps: dict[str, Step] = {}

    def visit(step: Step) -> int:
        if step.name not in depths:
            depths[step.name] = 1 + max(map(visit, step.needs), default=-1)
            steps[step.name] = step
        return depths[step.name]

    visit(last)
    return sorted(steps.values(), key=lambda step: depths[step.name])


def digest_part_inputs(step: Step, files: Mapping[str, Mapping[PartId, str]]) -> dict[PartId, tuple[str, ...]]:
    """Digest what each part of a step is made from: files of needed steps that agree with it, and files outside.

    Args:
        files: name of each needed step -> its files and their digests.
    """
    parts = step.parts()
    by_need = [_digest_agreeing(parts, files[need.name]) for need in step.needs]
    return {part: (*step.stamps(part), *digests) for part, *digests in zip(parts, *by_need, strict=True)}


def _digest_agreeing(parts: Sequence[PartId], files: Mapping[PartId, str]) -> list[str]:
    """Digest, for each part, the files that agree with it; parts have the same fields set, and so have files."""
    if not parts or not files:
        return [""] * len(parts)
    groups: defaultdict[PartId, list[tuple[str, str]]] = defaultdict(list)
    for file, digest in files.items():
        groups[file.cut(parts[0])].append((str(file), digest))
    digests = {key: fingerprint(sorted(group)) for key, group in groups.items()}
    any_file = next(iter(files))
    return [digests.get(part.cut(any_file), "") for part in parts]


def check_files(
    step: Step,
    parts: Sequence[PartId],
    files: Mapping[str, Mapping[PartId, str]],
    whole: set[tuple[str, PartId]],
) -> None:
    """Compare the files that parts of a step may read with their digests.

    Args:
        parts: parts, or files, of the step.
        files: name of each step before it -> its files and their digests.
        whole: names of steps, and files of theirs, that need no comparing; those that are found whole are added.

    Raises:
        DamagedFilesError: some differ. They are removed, with their reports.
    """
    damaged: list[str] = []
    for need in order_steps(step) if parts else ():  # its readers may read files of their needs, too
        found = files.get(need.name) or {}
        wanted = {part.cut(next(iter(found))) for part in parts} if found else set()
        chosen = [file for file in found if (need.name, file) not in whole and file.cut(parts[0]) in wanted]
        bad = [file for file in chosen if not need.folder.is_whole(file, found[file])]
        whole |= {(need.name, file) for file in chosen if file not in bad}
        if bad:
            need.folder.forget(bad)
        damaged += [str(need.folder.file(file)) for file in bad]
    if damaged:
        more = f", and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise DamagedFilesError(f"{damaged[0]}{more}: damaged or missing; made again")


def do_part(step: Step, engine: Any, part: PartId, inputs: tuple[str, ...]) -> None:
    """Do a part and report it.

    Args:
        engine: result of the step's `load_engine`.
        inputs: digests of what the part is made from, taken before it is read: the next call notices a later change.
    """
    started_s = time.monotonic()
    work = PartWork(part=part, folder=step.folder, engine=engine)
    report = step.run(work)
    report = replace(report, seconds=time.monotonic() - started_s, inputs=inputs)
    step.folder.write_report(part, report, work.files)
