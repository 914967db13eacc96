"""`polyglance data audit`: a data set on one page, so that a person can see whether it is what it should be."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from polyglance import __version__
from polyglance.coverage import TASKS, Cell, Coverage
from polyglance.data.manifest import Manifest
from polyglance.data.shard import ShardReader
from polyglance.data.shard_table import AnnotationTable
from polyglance.evaluate.metrics.off_target import OffTarget
from polyglance.files import write_atomically
from polyglance.languages import LANGUAGES
from polyglance.mixture.config import Balance
from polyglance.mixture.sampler import compute_cell_weights
from polyglance.records import Annotation
from polyglance.report.examples import data_uri
from polyglance.report.svg import SERIES, drawing, panel, render

__all__ = ["Audit", "AuditConfig", "CellAudit", "write_audit"]


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What is looked at."""

    directory: Path
    """The data set: the folder with manifest.json."""
    num_images: int = 24
    """Images on the sample sheet, drawn at random."""
    texts_per_cell: int = 1000
    """Texts of each cell whose language is identified, drawn at random."""
    balance: Balance = "cell"
    """The mixture's balancing that the last column of the table is for."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        if self.num_images < 0 or self.texts_per_cell < 1:
            raise ValueError("an audit shows 0 images or more, and looks at 1 text of each cell or more")


@dataclass(frozen=True, kw_only=True)
class CellAudit:
    """One cell."""

    cell: str
    num_texts: int
    num_images: int
    """Images that have it."""
    share: float
    """Of all texts, as they lie in the data set."""
    balanced_share: float
    """Of the samples that training draws."""
    mean_characters: float
    in_other_language: float
    """Share of the texts looked at that are identified as another language. Two or three words are often mistaken."""
    mean_score: float | None
    """Alignment of text and image, where the texts have it."""
    distinct: float
    """Distinct texts, as a share of all."""
    origins: Mapping[str, int]
    """Who wrote them."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A data set, looked at."""

    source: str
    licence: str
    num_images: int
    num_texts: int
    cells: tuple[CellAudit, ...]
    drops: Mapping[str, Any]
    page: Path


@dataclass(frozen=True)
class _Shown:
    """An image of the sample sheet."""

    key: str
    image: str
    annotations: tuple[Annotation, ...]


def write_audit(config: AuditConfig, out: Path) -> Audit:
    """Write the page and, beside it, the same numbers as JSON.

    Args:
        out: the HTML file.

    Raises:
        ValueError: not a data set, or a damaged one.
    """
    reader = ShardReader(config.directory)
    table = reader.annotations()
    random = np.random.default_rng(config.seed)
    cells = _cells(table, config, random)
    audit = Audit(
        source=reader.manifest.source,
        licence=reader.manifest.licence,
        num_images=len(reader),
        num_texts=len(table.task),
        cells=tuple(cells),
        drops=reader.manifest.drops,
        page=out,
    )
    write_atomically(
        out.with_suffix(".json"), json.dumps(asdict(audit), ensure_ascii=False, indent=1, default=str) + "\n"
    )
    write_atomically(out, _page(audit, reader.manifest, table, _sample(reader, config, random), config))
    return audit


def _cells(table: AnnotationTable, config: AuditConfig, random: np.random.Generator) -> list[CellAudit]:
    tasks, languages = np.array(table.task), np.array(table.language)
    rows = np.array(table.rows())
    found = [
        (cell, np.flatnonzero((tasks == cell.task) & (languages == cell.language)))
        for cell in (Cell(task, code) for task in TASKS for code in LANGUAGES)
    ]
    found = [(cell, places) for cell, places in found if len(places)]
    weights = compute_cell_weights(_coverage([cell for cell, _ in found]), config.balance)
    return [_cell(table, cell, places, rows, weights[cell], config, random) for cell, places in found]


def _coverage(cells: Sequence[Cell]) -> Coverage:
    by_task = {task: tuple(cell.language for cell in cells if cell.task == task) for task in TASKS}
    return Coverage(**by_task)


def _cell(
    table: AnnotationTable,
    cell: Cell,
    places: np.ndarray,
    rows: np.ndarray,
    weight: float,
    config: AuditConfig,
    random: np.random.Generator,
) -> CellAudit:
    texts = [table.text[i] for i in places.tolist()]
    looked_at = random.choice(len(texts), min(len(texts), config.texts_per_cell), replace=False)
    chosen = [texts[i] for i in looked_at.tolist()]
    other = OffTarget(language=cell.language).statistics(chosen, [[text] for text in chosen]).values.mean()
    scores = [score for i in places.tolist() if (score := table.score[i]) is not None]
    origins, counts = np.unique([table.origin[i] for i in places.tolist()], return_counts=True)
    return CellAudit(
        cell=str(cell),
        num_texts=len(texts),
        num_images=len(np.unique(rows[places])),
        share=len(texts) / len(table.task),
        balanced_share=weight,
        mean_characters=float(np.mean([len(text) for text in texts])),
        in_other_language=float(other),
        mean_score=float(np.mean(scores)) if scores else None,
        distinct=len(set(texts)) / len(texts),
        origins=dict(zip(origins.tolist(), counts.tolist(), strict=True)),
    )


def _sample(reader: ShardReader, config: AuditConfig, random: np.random.Generator) -> list[_Shown]:
    chosen = random.choice(len(reader), min(len(reader), config.num_images), replace=False)
    return [
        _Shown(record.key, data_uri(record.image)[0], record.annotations)
        for record in reader.read(sorted(chosen.tolist()))
    ]


def _page(
    audit: Audit, manifest: Manifest, table: AnnotationTable, shown: Sequence[_Shown], config: AuditConfig
) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polyglance.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loader = environment.loader
    assert loader is not None
    lengths = _histogram("lengths", [len(text) for text in table.text], "characters of a text")
    scores = [score for score in table.score if score is not None]
    return environment.get_template("audit.html.j2").render(
        audit=audit,
        manifest=manifest,
        shown=shown,
        config=config,
        lengths=Markup(lengths),
        scores=Markup(_histogram("scores", scores, "alignment of text and image (cosine)")) if scores else "",
        style=Markup(loader.get_source(environment, "style.css")[0]),
        version=__version__,
    )


def _histogram(name: str, values: Sequence[float], label: str) -> str:
    """A histogram; the longest hundredth is left out of sight, not out of the counts."""
    with drawing():
        axes = panel(520, 240)
        low, high = (np.min(values), np.quantile(values, 0.99)) if len(values) else (0.0, 1.0)
        axes.hist(np.clip(values, low, high), bins=40, range=(low, max(high, low + 1e-6)), color=SERIES[0])
        axes.set_xlabel(label)
        axes.set_ylabel("texts")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        return render(axes, name, f"Histogram: {label}", {})
