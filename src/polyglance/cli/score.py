"""`polyglance score`."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from polyglance.cli.options import Options, Paths
from polyglance.cli.output import show
from polyglance.evaluate.compare import SystemComparison, compare_systems
from polyglance.evaluate.metrics.resampling import Resampling
from polyglance.evaluate.score import ScoreConfig, score_files
from polyglance.evaluate.score_report import (
    MetricScore,
    ScoreReport,
    read_scores,
    select_segments,
    write_scores,
)
from polyglance.evaluate.text_files import read_ids
from polyglance.settings import UnusedSettingError, refuse_unused

__all__ = ["score"]

_USED_WITH_SCORES = ("ids", "bootstrap", "seed", "level")
"""Settings that apply to scores that were written before."""


def score(
    config: Options[ScoreConfig],
    hyps: Paths = (),
    refs: Paths = (),
    scores: Path | None = None,
    compare: Paths = (),
    test: Literal["permutation", "bootstrap"] = "permutation",
    out: Path | None = None,
    list_protocols: bool = False,
    json: bool = False,
) -> None:
    """Score captions or translations in files; no model, GPU, Java or network.

    Args:
        hyps: File of predictions: COCO results, JSON lines of id and text, or one text per line. Give several to
            compare them.
        refs: File of references: COCO captions, JSON lines of id and texts, or one text per line. Give several where
            each holds one reference of every text.
        scores: A scores.json to print again, with other ids or draws, instead of files to score.
        compare: A scores.json to compare with; with --scores and --ids on these ids.
        test: Paired test of comparisons. The bootstrap's p-values are too small where few segments differ.
        out: Folder to write scores.json to.
        list_protocols: Print the protocols and stop.
        json: Print the result as JSON, at full precision.
    """
    if list_protocols:
        _print_protocols(json)
        return
    if test != "permutation" and len(hyps) + len(compare) + (scores is not None) < 2:
        raise UnusedSettingError("`test` has no effect without `compare`, or a second file of `hyps`")
    num_systems = len(hyps) + len(compare) + (scores is not None)
    if config.seed and not config.bootstrap and num_systems < 2:
        raise UnusedSettingError("`seed` has no effect with `bootstrap` 0")
    resampling = Resampling(num_samples=config.bootstrap, seed=config.seed, level=config.level)
    if scores is not None:
        if hyps or refs:
            raise ValueError("give either --scores, or --hyps and --refs")
        reports, compared = _read_again(scores, compare, config, resampling)
    elif not hyps:
        raise ValueError("--hyps is missing: the file of predictions")
    else:
        reports = [score_files(path, refs, config) for path in hyps]
        compared = [read_scores(path) for path in compare]
    if out is not None:
        for folder, report in zip(_name_folders(out, reports), reports, strict=True):
            write_scores(report, folder)
    first, *others = [*reports, *compared]
    tested = replace(resampling, num_samples=config.bootstrap or Resampling.num_samples)
    comparisons = [
        comparison for other in others for comparison in compare_systems(first, other, method=test, resampling=tested)
    ]
    show(_make_json(reports, comparisons) if json else None, json, lambda _: _list_parts(reports, comparisons))


def _read_again(
    scores: Path, compare: Sequence[Path], config: ScoreConfig, resampling: Resampling
) -> tuple[list[ScoreReport], list[ScoreReport]]:
    """Read scores that were written before, and those to compare them with; of the config's ids, or all."""
    unused = {field.name for field in fields(config)} - set(_USED_WITH_SCORES)
    refuse_unused(config, **dict.fromkeys(unused, (False, "with `scores`, which are read as they are")))
    ids = None if config.ids is None else read_ids(config.ids)
    first, *others = [select_segments(read_scores(path), ids, resampling) for path in (scores, *compare)]
    return [first], others


def _name_folders(out: Path, reports: Sequence[ScoreReport]) -> list[Path]:
    """Return the folder of each report: `out` itself, or a folder in it named after the file of predictions."""
    if len(reports) == 1:
        return [out]
    names = [Path(report.source).name.split(".")[0] for report in reports]
    if len(set(names)) < len(names):
        raise ValueError(f"--out: predictions need different file names, got {', '.join(names)}")
    return [out / name for name in names]


def _print_protocols(as_json: bool) -> None:
    from polyglance.evaluate.protocols import PROTOCOLS

    rows = [
        (entry.name, entry.summary, "all" if "*" in entry.tokenizers else ", ".join(sorted(entry.tokenizers)))
        for entry in PROTOCOLS.values()
    ]
    rows.append(("default", "coco where words are written with spaces between, else characters", "all"))
    table = Table("protocol", "what it does", "languages")
    for name, summary, languages in rows:
        table.add_row(name, Text(summary), languages)
    names = ("protocol", "summary", "languages")
    show([dict(zip(names, row, strict=True)) for row in rows], as_json, lambda _: table)


def _make_json(reports: Sequence[ScoreReport], comparisons: Sequence[SystemComparison]) -> dict[str, Any]:
    values = reports[0].as_dict() if len(reports) == 1 else {"systems": [report.as_dict() for report in reports]}
    return {**values, "comparisons": comparisons} if comparisons else values


def _list_parts(reports: Sequence[ScoreReport], comparisons: Sequence[SystemComparison]) -> list[str | Table]:
    """Return a table per file, then comparisons, signatures and warnings, each once."""
    parts: list[str | Table] = []
    for report in reports:
        parts += [f"{report.source}: {len(report.ids):,} segments", _make_table(report)]
    signatures = [line for report in reports for line in _list_signatures(report)]
    warnings = [f"warning: {warning}" for report in reports for warning in report.warnings]
    lines = [*map(_describe_comparison, comparisons), *signatures, *warnings]
    return [*parts, *dict.fromkeys(lines)]


def _make_table(report: ScoreReport) -> Table:
    """Return scores by name, protocols side by side."""
    protocols = list(dict.fromkeys(entry.protocol for entry in report.scores))
    cells = {(entry.name, entry.protocol): _format_score(entry) for entry in report.scores}
    table = Table("score", *protocols)
    for name in dict.fromkeys(entry.name for entry in report.scores):
        table.add_row(name, *(cells.get((name, protocol), "") for protocol in protocols))
    return table


def _list_signatures(report: ScoreReport) -> list[str]:
    """Return signatures; scores that differ in their names only share one line."""
    names: dict[str, list[str]] = {}
    for entry in report.scores:
        name, _, rest = entry.signature.partition("|")
        names.setdefault(rest, []).append(name)
    return [f"{','.join(same)}|{rest}" for rest, same in names.items()]


def _format_score(entry: MetricScore) -> str:
    digits = 2 if entry.scale in ("0-100", "0-1000") else 4
    value = f"{entry.value:.{digits}f}"
    if entry.interval is None:
        return value
    return f"{value} ({entry.interval[0]:.{digits}f} to {entry.interval[1]:.{digits}f})"


def _describe_comparison(one: SystemComparison) -> str:
    interval = "" if one.interval is None else f" ({one.interval[0]:+.4g} to {one.interval[1]:+.4g})"
    return (
        f"{one.name} ({one.protocol}): {one.system_b} minus {one.system_a} = {one.difference:+.4g}{interval}, "
        f"p = {one.p_value:.3g} ({one.method}), {one.num_ties:,} ties in {one.num_segments:,} segments"
    )
