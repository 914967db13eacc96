"""Inputs of a study that are given by path. They are compared by content, so that study and inputs can be moved.

`inputs.json` in the study's folder notes the digest of each. An input at the same path, whose files all have the same
sizes and times, is not read again. A missing input counts as unchanged, because the study has already made its data
from it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

from polyglance.config import fingerprint, from_dict, to_dict
from polyglance.data.importer import digest_sources
from polyglance.data.location import RemotePath, parse_location
from polyglance.data.manifest import MANIFEST_NAME, read_manifest
from polyglance.data.sources.source import list_files, stamp_files
from polyglance.engines.folders import folder_digest
from polyglance.files import read_record, write_record
from polyglance.study.config import StudyConfig, TableConfig

__all__ = ["INPUTS_NAME", "check_data_source", "digest_inputs", "is_study_folder", "note_inputs"]

INPUTS_NAME = "inputs.json"


@dataclass(frozen=True, kw_only=True)
class InputNote:
    """Place and content of one input, as last seen."""

    place: str
    """Fingerprint of its path, and of sizes and times of its files."""
    digest: str
    """Digest of its content."""


@dataclass(frozen=True, kw_only=True)
class InputNotes:
    """Content of inputs.json."""

    inputs: Mapping[str, InputNote]
    """`data`, or family and size of a checkpoint that runs start from -> its note."""


@dataclass(frozen=True)
class _Input:
    name: str
    files: tuple[Path, ...]
    """Files whose sizes and times show whether it has changed; none if it is missing."""
    digest: Callable[[], str] = field(compare=False)
    folders: tuple[Path, ...] = ()
    """Folders of which all files count in the same way."""
    left_out: Path | None = None
    """Folder below these that does not belong to the input: the study's own."""

    @property
    def is_there(self) -> bool:
        return bool(self.files or self.folders)

    def place(self) -> str:
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        folders = [(str(folder.resolve()), stamp_files(folder, self._list_files(folder))) for folder in self.folders]
        return fingerprint(stats, *folders)

    def _list_files(self, folder: Path) -> list[str]:
        """List the files of a folder, 10^5 of them in half a second (benchmarks/digest_cost.py)."""
        own = self.left_out.resolve() if self.left_out is not None else None
        if own is None or not own.is_relative_to(folder.resolve()):
            return list_files(folder)
        beginning = f"{own.relative_to(folder.resolve()).as_posix()}/"
        return [name for name in list_files(folder) if not name.startswith(beginning)]


def digest_inputs(config: StudyConfig) -> dict[str, str]:
    """Return the name of each input (`data`, or family and size of a checkpoint) -> digest of its content. An input
    that is missing and has no note is left out.

    Raises:
        ValueError: an input exists but cannot be read.
    """
    return {name: note.digest for name, note in _note(config).items()}


def note_inputs(config: StudyConfig) -> None:
    """Write inputs.json."""
    notes = _note(config)
    if notes != _read(config) or not is_study_folder(config.out):
        write_record(config.out / INPUTS_NAME, to_dict(InputNotes(inputs=notes)))


def is_study_folder(folder: Path) -> bool:
    """Tell whether a study has been planned or run in a folder."""
    return (folder / INPUTS_NAME).is_file()


def check_data_source(config: StudyConfig) -> None:
    """Refuse a study whose data cannot be made, before its existing data is removed.

    Raises:
        ValueError: the table is missing, or the data sets are in the folder of the study's own files.
    """
    data = config.data
    if data.table is not None and not data.table.table.exists():
        raise ValueError(f"{data.table.table}: no such file; the study's data is imported from it")
    if data.path is not None and data.path.resolve().is_relative_to((config.out / "data").resolve()):
        raise ValueError(
            f"data.path is {data.path}, the folder of the study's own data; move the data sets, or give another out"
        )


def _note(config: StudyConfig) -> dict[str, InputNote]:
    noted, notes = _read(config), {}
    for source in _list_inputs(config):
        old = noted.get(source.name)
        if not source.is_there:
            if old is not None:
                notes[source.name] = old
            continue
        place = source.place()
        digest = old.digest if old is not None and old.place == place else _digest_once(source, place)
        notes[source.name] = InputNote(place=place, digest=digest)
    return notes


@lru_cache(maxsize=16)
def _digest_once(source: _Input, place: str) -> str:  # noqa: ARG001 - another place, another content
    return source.digest()


def _read(config: StudyConfig) -> Mapping[str, InputNote]:
    """Return the notes; a damaged file counts as none, and the inputs are read again."""
    try:
        return from_dict(InputNotes, read_record(config.out / INPUTS_NAME)).inputs
    except ValueError:
        return {}


def _list_inputs(config: StudyConfig) -> Iterator[_Input]:
    data = config.data
    if data.path is not None and not isinstance(parse_location(data.path), RemotePath):
        manifests = tuple(folder / MANIFEST_NAME for folder in (config.train_dir, config.test_dir))
        is_there = all(path.is_file() for path in manifests)
        yield _Input(
            "data", manifests if is_there else (), partial(_digest_data_sets, config.train_dir, config.test_dir)
        )
    if data.table is not None:
        table, images = data.table.table, data.table.images
        files: tuple[Path, ...] = (table,) if table.is_file() else ()
        folders = tuple(folder for folder in dict.fromkeys((table, images)) if folder.is_dir() and table.exists())
        yield _Input("data", files, partial(_digest_table, data.table), folders, config.out)
    for family in config.families:
        for size in family.sizes:
            folder = family.checkpoint_of(size)
            files = tuple(sorted(path for path in folder.glob("*") if path.is_file()))
            yield _Input(f"{family.name} {size}", files, partial(folder_digest, folder))


def _digest_data_sets(*folders: Path) -> str:
    manifests = [read_manifest(folder) for folder in folders]
    return fingerprint([([shard.sha256 for shard in manifest.shards], manifest.prefixes) for manifest in manifests])


def _digest_table(table: TableConfig) -> str:
    return digest_sources(table.import_config(Path("unused")))
