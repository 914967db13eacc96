"""A study folder, read once: configuration, runs, losses, captions, laws, versions, images.

Files are only read, and not trusted. If study.toml or runs.csv is missing or damaged, a one-line `ValueError` is
raised. Any other file that is missing or damaged gives a note, which the page shows.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from polyglance.config import flatten, from_dict, parse_toml
from polyglance.coverage import Cell, Coverage
from polyglance.data.shard import read_records
from polyglance.error_text import one_line
from polyglance.files import DIGESTS_NAME, check_digest, read_json
from polyglance.languages import OwnLanguage, declare_new_languages
from polyglance.laws import Law
from polyglance.prediction_records import RunPredictions
from polyglance.run_records import (
    NUMBER_COLUMNS,
    CellRecord,
    GeneratedCaption,
    LossRecord,
    RunRow,
    average_split,
    read_captions,
    read_runs,
)

__all__ = ["StudyFolder", "read_study"]

_NAMED = 3
"""Number of runs that a note names; the others are counted."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StudyFolder:
    """The files of a study. Captions and images are read later, when they are needed."""

    path: Path
    title: str
    config_text: str
    """Text of study.toml."""
    coverage: Coverage
    runs: tuple[RunRow, ...]
    losses: Mapping[str, LossRecord] = field(repr=False)
    """Run id -> losses, for the runs whose losses.json can be read."""
    environments: Mapping[str, Mapping[str, str]] = field(repr=False)
    """Run id -> name such as `torch` or `machine.cpu` -> value."""
    laws: Mapping[str, Law] = field(repr=False)
    """Name of the file without its suffix (`product-UC_prefix`) -> law."""
    predictions: RunPredictions | None
    """Predictions of the largest runs, made by the study; None where it predicted nothing."""
    notes: tuple[str, ...]
    """Files and numbers that are missing or cannot be read, one sentence each."""

    def cells(self, run: RunRow | None) -> Mapping[Cell, CellRecord]:
        """Return what was measured of a run per cell; empty where it is not known."""
        return self.losses[run.id].cells if run is not None and run.id in self.losses else {}

    def unseen_cells(self, run: RunRow) -> dict[str, CellRecord]:
        """Return language code -> what was measured of a run on unseen captions, in the coverage's order."""
        cells = self.cells(run)
        return {cell.language: cells[cell] for cell in self.coverage.split("UC") if cell in cells}

    def seen_score(self, run: RunRow, name: str) -> float:
        """Return a score of a run in the languages with captions, after the prefix; NaN where it is not known."""
        value = average_split(self.cells(run).values(), "SC", lambda cell: cell.score(name, "prefix"))
        return math.nan if value is None else value

    def captions(self, run: RunRow) -> tuple[GeneratedCaption, ...]:
        """Read the captions of a run, in the order of the file; empty where it has none.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.path / "runs" / run.id / "captions.jsonl"
        return read_captions(path) if path.is_file() else ()

    def test_images(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read the encoded images with these keys, as far as the test data set has them.

        Raises:
            ValueError: the data set cannot be read.
        """
        wanted = set(keys)
        folder = next((folder for folder in self._test_folders() if folder.is_dir()), None)
        images: dict[str, bytes] = {}
        if not wanted or folder is None:
            return images
        for record in read_records(folder):
            if record.key in wanted:
                images[record.key] = record.image
                if len(images) == len(wanted):
                    break
        return images

    def _test_folders(self) -> Iterator[Path]:
        """Yield the folders where the test data set may be: in the study, or at `[data] path`, relative to this folder
        or to that where the study was run."""
        yield self.path / "data" / "test"
        values = parse_toml(self.config_text, str(self.path / "study.toml"))
        data, out = values.get("data"), values.get("out")
        if isinstance(data, dict) and isinstance(given := data.get("path"), str):
            yield Path(given) / "test"
            if isinstance(out, str) and not Path(out).is_absolute():
                yield self.path.resolve().joinpath(*[".."] * len(Path(out).parts), given, "test")

    def relative(self, text: str) -> str:
        """Return a message with paths relative to the study folder."""
        return _relative(text, self.path)


def read_study(path: Path) -> StudyFolder:
    """Read a study folder.

    Raises:
        ValueError: no such folder; study.toml or runs.csv missing, damaged or empty.
    """
    if not path.is_dir():
        raise ValueError(f"{path}: no such study folder")
    title, config_text, coverage = _read_config(path / "study.toml")
    runs = read_runs(path / "runs.csv")
    notes = _note_infinite(runs)
    losses = _read_per_run(path, runs, "losses.json", LossRecord.read, notes)
    environments = _read_per_run(path, runs, "env.json", _read_environment, notes)
    laws = _read_laws(path / "laws", len(runs), notes)
    predictions = _read_predictions(path / "prediction" / "predictions.json", notes)
    return StudyFolder(
        path=path,
        title=title,
        config_text=config_text,
        coverage=coverage,
        runs=runs,
        losses=losses,
        environments=environments,
        laws=laws,
        predictions=predictions,
        notes=tuple(_relative(note, path) for note in notes),
    )


def _read_config(path: Path) -> tuple[str, str, Coverage]:
    """Return title, text and coverage. The rest is ignored, so that a study of another version can be shown too."""
    try:
        check_digest(path)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as UTF-8 text ({one_line(error)})") from None
    values = parse_toml(text, str(path))
    if "coverage" not in values:
        raise ValueError(f"{path}: the table [coverage] is missing")
    try:
        languages = from_dict(_StudyLanguages, {"languages": values.get("languages", {})}).languages
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    declare_new_languages(languages)
    try:
        coverage = from_dict(Coverage, values["coverage"])
    except ValueError as error:
        raise ValueError(f"{path}: coverage: {error}") from None
    return str(values.get("title") or path.resolve().parent.name), text, coverage


@dataclass(frozen=True, kw_only=True)
class _StudyLanguages:
    languages: Mapping[str, OwnLanguage]


def _note_infinite(runs: Iterable[RunRow]) -> list[str]:
    """Return a note on numbers that are not finite, such as the losses of a run that diverged."""
    places = [
        f"{name} of {run.id}"
        for run in runs
        for name in NUMBER_COLUMNS
        if getattr(run, name) is not None and not math.isfinite(run[name])
    ]
    return [f"runs.csv has values that are not finite, treated as missing: {_list_first(places)}."] if places else []


def _read_per_run(
    path: Path, runs: Iterable[RunRow], name: str, read: Callable[[Path], T], notes: list[str]
) -> dict[str, T]:
    """Read one file of each run. Missing files share one note; each damaged file has its own."""
    contents: dict[str, T] = {}
    absent = []
    for run in runs:
        file = path / "runs" / run.id / name
        if not file.is_file():
            absent.append(run.id)
            continue
        try:
            contents[run.id] = read(file)
        except ValueError as error:
            notes.append(f"{one_line(error)}; the file is left out.")
    if absent:
        notes.append(f"{name} is missing for {_list_first(absent)}: what rests on it is left out.")
    return contents


def _list_first(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _read_environment(path: Path) -> dict[str, str]:
    values = read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected an object")
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in flatten(values).items()
    }


def _read_laws(folder: Path, num_runs: int, notes: list[str]) -> dict[str, Law]:
    laws = {}
    for path in sorted(folder.glob("*.json")):
        if path.name == DIGESTS_NAME:
            continue
        try:
            law = Law.load(path)
        except (ValueError, OSError) as error:
            notes.append(f"laws/{path.name} could not be read and is left out ({one_line(error)}).")
            continue
        if not law.fits:
            notes.append(f"laws/{path.name} holds no fit and is left out.")
            continue
        if any(row >= num_runs for fit in law.fits.values() for row in (*fit.rows, *fit.frontier)):
            notes.append(f"laws/{path.name} was fitted on more runs than runs.csv holds and is left out.")
            continue
        laws[path.stem] = law
    return laws


def _read_predictions(path: Path, notes: list[str]) -> RunPredictions | None:
    if not path.is_file():
        return None
    try:
        return RunPredictions.read(path)
    except ValueError as error:
        notes.append(f"{one_line(error)}; the file is left out.")
        return None


def _relative(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "")
