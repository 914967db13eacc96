"""Work on a test set that is divided into batches of rows: predictions, captions of files, losses.

    work = DividedCaptions(request, names, Path("out"))
    (job,) = [work.open(name) for name in work.list_names()]
    for number in work.write_batches(job, [0, 2], process=1):       # rows on the disk
        ...

Whoever makes a batch, and whatever it has made before: its rows are the same.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from polyglance.config import fingerprint, from_dict
from polyglance.coverage import Cell
from polyglance.data.shard import ShardReader
from polyglance.engines import EvaluatedModel, open_model
from polyglance.engines.devices import choose_device, choose_dtype
from polyglance.engines.folders import find_folder, folder_digest
from polyglance.environment import read_versions
from polyglance.evaluate.cells import count_held_out
from polyglance.evaluate.config import LossConfig, PredictConfig
from polyglance.evaluate.described_rows import NAMED_ROWS, ROW_VERSIONS, DescribedRows
from polyglance.evaluate.folder_loss import (
    BatchLosses,
    FolderLosses,
    ModelRole,
    list_cells,
    list_roles,
    make_loss_record,
    sum_up_cell,
)
from polyglance.evaluate.loss import SampleLoss
from polyglance.evaluate.predict_batches import write_batches
from polyglance.evaluate.prediction_job import PredictionJob
from polyglance.evaluate.prediction_set import PREDICTIONS_NAME
from polyglance.evaluate.row_files import RowFile, read_joined_lines
from polyglance.evaluate.run import choose_known_languages
from polyglance.files import parse_json
from polyglance.model.caption_files import divide_into_groups
from polyglance.model.caption_request import CaptionRequest
from polyglance.model.generate import Generated
from polyglance.run_records import LossRecord, Variant

__all__ = ["DividedCaptions", "DividedLosses", "DividedPredictions", "DividedWork", "RowJob"]


@runtime_checkable
class RowJob(Protocol):
    """Rows of one name, with the open model that makes them."""

    @property
    def folder(self) -> Path:
        """Folder of the rows."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with everything that the rows depend on."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """Everything about the model that moves its answers."""
        ...

    @property
    def batches(self) -> Sequence[Sequence[str]]:
        """The ids of each batch."""
        ...

    def describe(self) -> DescribedRows:
        """Return what is known without the model."""
        ...


@runtime_checkable
class DividedWork(Protocol):
    """Rows of several names."""

    rows_name: str
    """Name of the file of rows."""

    def list_names(self) -> Sequence[str]:
        """List the names of the rows."""
        ...

    def open(self, name: str) -> RowJob:
        """Open the model of the rows of this name."""
        ...

    def write_batches(self, job: Any, batches: Sequence[int], *, process: int) -> Iterator[int]:
        """Make batches and put each on the disk; yield its number of rows when it is written."""
        ...


class DividedPredictions:
    """Predictions for a benchmark, in each of some languages.

    Args:
        languages: codes; none given: all of the benchmark's that the model knows.
    """

    rows_name = PREDICTIONS_NAME

    def __init__(self, config: PredictConfig, languages: Sequence[str]) -> None:
        self._config, self._languages = config, languages

    @cached_property
    def _model(self) -> EvaluatedModel:
        return open_model(self._config.model)

    def list_names(self) -> Sequence[str]:
        """List the codes of the languages."""
        return self._languages or choose_known_languages(self._config, self._model)

    def open(self, name: str) -> PredictionJob:
        """Open the job of a language."""
        return PredictionJob(replace(self._config, language=name), self._model)

    def write_batches(self, job: PredictionJob, batches: Sequence[int], *, process: int) -> Iterator[int]:
        """Predict batches."""
        return write_batches(job, batches, process=process)


@dataclass(frozen=True, kw_only=True)
class _NamedRow:
    """A row that is not a prediction."""

    id: str
    values: Any

    def format_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True, kw_only=True)
class _NamedRows:
    """Rows that are not predictions, in a folder whose name ends with their fingerprint."""

    name: str
    out: Path
    model: str
    facts: Mapping[str, Any]
    batches: Sequence[Sequence[str]]
    others: Any
    """Everything else that the rows depend on."""

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.name, self.facts, self.batches, self.others)

    @property
    def folder(self) -> Path:
        return self.out / f"{self.name}-{self.fingerprint[:8]}"

    def describe(self) -> DescribedRows:
        return DescribedRows(
            name=self.name,
            folder=str(self.folder),
            model=self.model,
            facts=self.facts,
            fingerprint=self.fingerprint,
            versions=read_versions(ROW_VERSIONS),
            num_rows=sum(map(len, self.batches)),
        )


def _find_facts(folder: Path, device: str, dtype: str) -> dict[str, str]:
    """Return what moves the answers of a model of this project, beside what is asked of it."""
    return {"weights": folder_digest(folder), "dtype": choose_dtype(dtype, choose_device(device))}


def _read_values(folder: Path) -> dict[str, Any]:
    """Read id -> values of joined rows."""
    rows = [parse_json(line, f"{folder}/{NAMED_ROWS}") for line in read_joined_lines(folder, NAMED_ROWS)]
    return {row["id"]: row["values"] for row in rows}


class DividedCaptions:
    """Captions of image files, a row for each file. They depend on size and time of the last change of all files.

    Args:
        names: each file once.
        out: folder that gets the folder of the rows.
    """

    rows_name = NAMED_ROWS
    name = "captions"

    def __init__(self, request: CaptionRequest, names: Sequence[str], out: Path) -> None:
        self._request, self._out = request, out
        self.groups = divide_into_groups(names, request)

    def list_names(self) -> Sequence[str]:
        """Return the one name that there is."""
        return (self.name,)

    def open(self, name: str) -> _NamedRows:
        """Describe the rows; the model is loaded when it is first asked."""
        request, folder = self._request, find_folder(self._request.model)
        versions = [_describe_file(name) for group in self.groups for name in group]
        return _NamedRows(
            name=name,
            out=self._out,
            model=str(request.model),
            facts=_find_facts(folder, request.device, request.dtype),
            batches=self.groups,
            others=(request.languages, request.prefix, request.style, request.config, versions),
        )

    def write_batches(self, job: _NamedRows, batches: Sequence[int], *, process: int) -> Iterator[int]:
        """Caption groups of files."""
        if not batches:
            return
        captioner = self._request.load()
        with RowFile(job.folder, process, NAMED_ROWS) as file:
            for number in batches:
                results = self._request.caption(captioner, self.groups[number])
                of_file: dict[str, list[Any]] = {name: [] for name in self.groups[number]}
                for result in results:
                    of_file[result.image].append(asdict(result))
                file.append([_NamedRow(id=name, values=values) for name, values in of_file.items()])
                yield len(of_file)

    def read(self, folder: Path) -> Iterator[Generated]:
        """Read the captions of each file, in the order of the files."""
        rows = _read_values(folder)
        for group in self.groups:
            for name in group:
                yield from (from_dict(Generated, values) for values in rows[name])


def _describe_file(name: str) -> tuple[int, int] | None:
    """Return size and time of the last change of a file; None if it cannot be read, which its captions say."""
    try:
        stat = Path(name).stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


class DividedLosses:
    """Losses of a model on a data set, and of the model before training; a row for each batch of each cell.

    Args:
        out: folder that gets the folders of the rows.
    """

    rows_name = NAMED_ROWS

    def __init__(self, config: LossConfig, out: Path) -> None:
        self._config, self._out = config, out

    def list_names(self) -> Sequence[str]:
        """List the models: `model`, `initial`."""
        return list_roles(self._config)

    def list_ids(self, name: str) -> dict[Cell, list[str]]:
        """List the ids of the rows of each cell, in their order."""
        cells, size = list_cells(self._config, _role(name)), self._config.batch_size
        counts = count_held_out(ShardReader(self._config.data), cells, self._config.samples_per_cell)
        return {
            cell: [f"{cell}/{number}" for number in range(-(-count // size))]
            for cell, count in zip(cells, counts, strict=True)
        }

    def open(self, name: str) -> _NamedRows:
        """Describe the rows; the model is loaded when it is first asked."""
        config = self._config
        folder = config.model if name == "model" else config.initial
        assert folder is not None
        return _NamedRows(
            name=name,
            out=self._out,
            model=folder.resolve().name,
            facts=_find_facts(folder, config.device, config.dtype),
            batches=[[one] for ids in self.list_ids(name).values() for one in ids],
            others=(config.samples_per_cell, config.max_target_tokens, ShardReader(config.data).manifest),
        )

    def write_batches(self, job: _NamedRows, batches: Sequence[int], *, process: int) -> Iterator[int]:
        """Measure batches of cells."""
        if not batches:
            return
        losses = FolderLosses(self._config, _role(job.name), device=self._config.device)
        ids = {one for number in batches for one in job.batches[number]}
        with RowFile(job.folder, process, NAMED_ROWS) as file:
            for cell, of_cell in self.list_ids(job.name).items():
                own = [number for number, one in enumerate(of_cell) if one in ids]
                for number, batch in zip(own, losses.measure(cell, own) if own else (), strict=True):
                    values = {variant: [asdict(one) for one in samples] for variant, samples in batch.items()}
                    file.append([_NamedRow(id=of_cell[number], values=values)])
                    yield 1

    def read(self, folders: Mapping[str, Path]) -> LossRecord:
        """Sum up the rows of all models, which lie in these folders by name."""
        cells = {}
        for role in list_roles(self._config):
            rows = _read_values(folders[role])
            cells[role] = {
                cell: sum_up_cell(self._config, cell, [_read_batch(rows[one]) for one in ids])
                for cell, ids in self.list_ids(role).items()
            }
        return make_loss_record(self._config, cells)


def _role(name: str) -> ModelRole:
    return "model" if name == "model" else "initial"


def _read_batch(values: Mapping[str, Any]) -> BatchLosses:
    return {cast(Variant, variant): [SampleLoss(**one) for one in samples] for variant, samples in values.items()}
