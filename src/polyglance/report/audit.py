"""Audit of a data set (`polyglance data audit`): its cells, lengths, drops and a sample of it on one page."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from polyglance.coverage import TASKS, Cell, Coverage
from polyglance.data.shard import ShardReader
from polyglance.data.shard_table import AnnotationTable
from polyglance.data.text_marks import MarkCounter
from polyglance.files import read_json, write_atomically, write_json
from polyglance.language_identity import Judgement, find_foreign_part, judge_language
from polyglance.languages import LANGUAGES
from polyglance.mixture.config import Balance
from polyglance.mixture.sampler import compute_cell_weights
from polyglance.records import Annotation
from polyglance.report.examples import embed_image
from polyglance.report.svg import SERIES, make_panel, render_svg, use_report_style
from polyglance.report.tables import TableColumn, number_column, text_column
from polyglance.report.templating import check_page_name, render_page
from polyglance.report.wording import format_count, format_fixed, format_share

__all__ = ["Audit", "AuditConfig", "CellAudit", "write_audit"]


_MIN_WARNED_SHARE = 0.05
"""Share of texts in another language, or partly in one, from which on there is a warning."""
_NUM_IDENTIFIED = 3
"""Number of languages that are shown for a cell."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Extent of an audit."""

    images: int = 24
    """Images on the sample sheet, drawn at random."""
    texts_per_cell: int = 1000
    """Texts of each cell whose language is identified, drawn at random."""
    balance: Balance = "cell"
    """Balance of the mixture that the column `share in training` is computed for."""
    seed: int = 0
    """Seed of the random draws."""

    def __post_init__(self) -> None:
        if self.images < 0 or self.texts_per_cell < 1:
            raise ValueError("images must be 0 or more, and texts_per_cell 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class CellAudit:
    """Numbers of one cell."""

    cell: str
    num_texts: int
    num_images: int
    """Images that have a text of the cell."""
    share: float
    """Share of all texts of the data set."""
    balanced_share: float
    """Share of the samples that training draws."""
    mean_characters: float
    """Mean length of a text."""
    in_other_language: float
    """Share of the drawn texts that are in another language or script. This happens to 0.003 of correct captions and
    0.02 of correct names of one to three words (docs/evaluation.md)."""
    in_other_script: float
    """Share of the drawn texts that are in another script; a part of `in_other_language`."""
    partly_in_other_language: float
    """Share of the drawn texts that are mainly in the language, but with a run of six words in another one."""
    in_close_language: float
    """Share of the drawn texts in a language that is nearly the same in writing, such as Danish for Norwegian."""
    unclear_language: float
    """Share of the drawn texts whose language cannot be told, such as numbers and names."""
    identified: Mapping[str, float]
    """Language and script, such as `de-Latn`, or `unclear` -> share of the drawn texts; the most frequent first."""
    mean_score: float | None
    """Mean alignment of text and image, over the texts that have it; None where none has."""
    distinct: float
    """Number of distinct texts, as a share of all."""
    origins: Mapping[str, int]
    """Origin of texts (`human`, an engine) -> number."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Audit of a data set."""

    source: str
    licence: str
    num_images: int
    num_texts: int
    cells: tuple[CellAudit, ...]
    warnings: tuple[str, ...]
    """Cells with many texts that are in another language or script, one line each."""
    drops: Mapping[str, Any]
    """Reason -> number and first places of what was left out when the data set was made."""
    page: Path
    """The HTML page."""


@dataclass(frozen=True)
class _SampledImage:
    """An image of the sample sheet."""

    key: str
    uri: str
    annotations: tuple[Annotation, ...]


def write_audit(directory: Path, config: AuditConfig, out: Path) -> Audit:
    """Write the page and, beside it, the same numbers as JSON.

    Args:
        directory: a data set: the folder with manifest.json.
        out: the HTML file.

    Raises:
        ValueError: not a data set, a damaged one, or one without texts; not the name of a page; the JSON file would
            replace one that is no audit.
    """
    check_page_name("--out", out)
    numbers = out.with_suffix(".json")
    if numbers.exists() and not _is_audit(numbers):
        raise ValueError(f"{numbers}: exists and is not an audit, whose numbers go there; give --out another name")
    reader = ShardReader(directory)
    table = reader.annotations()
    if not table.task:
        raise ValueError(f"{directory}: the data set has no texts, so there is nothing to audit")
    random = np.random.default_rng(config.seed)
    cells = _audit_cells(table, config, random)
    audit = Audit(
        source=reader.manifest.source,
        licence=reader.manifest.licence,
        num_images=len(reader),
        num_texts=len(table.task),
        cells=tuple(cells),
        warnings=(*(warning for cell in cells if (warning := _warn_of_language(cell))), *_warn_of_marks(table)),
        drops=reader.manifest.drops,
        page=out,
    )
    write_json(numbers, {**asdict(audit), "page": str(out)})
    write_atomically(out, _make_page(directory, audit, table, _sample_images(reader, config, random), config))
    return audit


def _is_audit(path: Path) -> bool:
    """Tell whether a file holds the numbers of an audit, which a new audit may replace."""
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and {field.name for field in fields(Audit)} <= values.keys()


def _audit_cells(table: AnnotationTable, config: AuditConfig, random: np.random.Generator) -> list[CellAudit]:
    tasks, languages = np.array(table.task), np.array(table.language)
    rows = np.array(table.rows())
    places = {
        cell: np.flatnonzero((tasks == cell.task) & (languages == cell.language))
        for cell in (Cell(task, code) for task in TASKS for code in LANGUAGES)
    }
    places = {cell: indices for cell, indices in places.items() if len(indices)}
    codes = {task: tuple(cell.language for cell in places if cell.task == task) for task in TASKS}
    weights = compute_cell_weights(Coverage(**codes), config.balance)
    return [_audit_cell(table, cell, indices, rows, weights[cell], config, random) for cell, indices in places.items()]


def _audit_cell(
    table: AnnotationTable,
    cell: Cell,
    indices: np.ndarray,
    rows: np.ndarray,
    weight: float,
    config: AuditConfig,
    random: np.random.Generator,
) -> CellAudit:
    texts = [table.text[i] for i in indices.tolist()]
    drawn = random.choice(len(texts), min(len(texts), config.texts_per_cell), replace=False)
    checked = [texts[i] for i in drawn.tolist()]
    scores = [score for i in indices.tolist() if (score := table.score[i]) is not None]
    origins, counts = np.unique([table.origin[i] for i in indices.tolist()], return_counts=True)
    return CellAudit(
        cell=str(cell),
        num_texts=len(texts),
        num_images=len(np.unique(rows[indices])),
        share=len(texts) / len(table.task),
        balanced_share=weight,
        mean_characters=float(np.mean([len(text) for text in texts])),
        **_identify(checked, cell.language),
        mean_score=float(np.mean(scores)) if scores else None,
        distinct=len(set(texts)) / len(texts),
        origins=dict(zip(origins.tolist(), counts.tolist(), strict=True)),
    )


def _identify(texts: Sequence[str], code: str) -> dict[str, Any]:
    """Return the fields of `CellAudit` that say which language and script texts are in."""
    found = [judge_language(text, code) for text in texts]
    verdicts = Counter(one.verdict for one in found)
    names = Counter(_name_found(one) for one in found)
    num_scripts = sum(one.verdict == "other" and one.margin_nats == math.inf for one in found)
    num_mixed = sum(
        one.verdict != "other" and find_foreign_part(text, code) != "" for one, text in zip(found, texts, strict=True)
    )
    return {
        "in_other_language": verdicts["other"] / len(texts),
        "in_other_script": num_scripts / len(texts),
        "partly_in_other_language": num_mixed / len(texts),
        "in_close_language": verdicts["close"] / len(texts),
        "unclear_language": verdicts["unclear"] / len(texts),
        "identified": {name: number / len(texts) for name, number in names.most_common()},
    }


def _name_found(found: Judgement) -> str:
    """Return `de-Latn`."""
    return "unclear" if found.verdict == "unclear" else f"{found.language or 'unknown'}-{found.script}"


def _warn_of_language(cell: CellAudit) -> str:
    if max(cell.in_other_language, cell.partly_in_other_language) < _MIN_WARNED_SHARE:
        return ""
    return (
        f"{cell.cell}: {format_share(cell.in_other_language)} of the texts are in another language or script, "
        f"{format_share(cell.partly_in_other_language)} partly; identified: {_format_identified(cell)}"
    )


def _warn_of_marks(table: AnnotationTable) -> tuple[str, ...]:
    """Describe marks of answers and lists in the texts, for each cell."""
    marks = MarkCounter()
    for task, code, text in zip(table.task, table.language, table.text, strict=True):
        marks.add(f"{task}-{code}", text)
    return marks.describe()


def _format_identified(cell: CellAudit) -> str:
    first = list(cell.identified.items())[:_NUM_IDENTIFIED]
    return ", ".join(f"{name} {format_share(share)}" for name, share in first)


def _sample_images(reader: ShardReader, config: AuditConfig, random: np.random.Generator) -> list[_SampledImage]:
    chosen = random.choice(len(reader), min(len(reader), config.images), replace=False)
    return [
        _SampledImage(record.key, embed_image(record.image)[0], record.annotations)
        for record in reader.read(sorted(chosen.tolist()))
    ]


_CELL_COLUMNS: tuple[TableColumn[CellAudit], ...] = (
    text_column("cell", lambda cell: cell.cell),
    number_column("texts", lambda cell: cell.num_texts, format_count),
    number_column("images", lambda cell: cell.num_images, format_count),
    number_column("share of texts", lambda cell: cell.share, format_share),
    number_column("share in training", lambda cell: cell.balanced_share, format_share),
    number_column("mean characters", lambda cell: cell.mean_characters, format_count),
    number_column("other language", lambda cell: cell.in_other_language, format_share),
    number_column("partly", lambda cell: cell.partly_in_other_language, format_share, "Partly in another language"),
    text_column("identified as", lambda cell: _format_identified(cell)),
    number_column("distinct", lambda cell: cell.distinct, format_share),
    number_column("mean score", lambda cell: cell.mean_score, format_fixed),
    text_column("origin", lambda cell: ", ".join(f"{name} ({format_count(n)})" for name, n in cell.origins.items())),
)
_DROP_COLUMNS: tuple[TableColumn[tuple[str, Mapping[str, Any]]], ...] = (
    text_column("because", lambda drop: drop[0]),
    number_column("count", lambda drop: drop[1]["count"], format_count),
    text_column("first places", lambda drop: ", ".join(drop[1]["examples"][:3])),
)


def _make_page(
    directory: Path, audit: Audit, table: AnnotationTable, images: Sequence[_SampledImage], config: AuditConfig
) -> str:
    scores = [score for score in table.score if score is not None]
    return render_page(
        "audit.html.j2",
        audit=audit,
        directory=directory,
        config=config,
        cell_columns=_CELL_COLUMNS,
        drop_columns=_DROP_COLUMNS,
        images=images,
        lengths=_draw_histogram("lengths", [len(text) for text in table.text], "characters of a text"),
        scores=_draw_histogram("scores", scores, "alignment of text and image (cosine)") if scores else "",
    )


def _draw_histogram(name: str, values: Sequence[float], label: str) -> Markup:
    """Draw a histogram. The longest 1 % is counted in the last bar, so that a few texts do not widen the axis."""
    with use_report_style():
        axes = make_panel(520, 240)
        low, high = (np.min(values), np.quantile(values, 0.99)) if len(values) else (0.0, 1.0)
        axes.hist(np.clip(values, low, high), bins=40, range=(low, max(high, low + 1e-6)), color=SERIES[0])
        axes.set_xlabel(label)
        axes.set_ylabel("texts")
        axes.yaxis.set_major_locator(MaxNLocator(4))
        return Markup(render_svg(axes, name, f"Histogram: {label}", {}))
