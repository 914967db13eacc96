"""Several systems on the same segments: a table of their scores, and tests of their differences from a baseline.

    table = compare_files(["a.json", "mine=b.json", "c.json"], [Path("refs.json")], ScoreConfig(lang="fr"))
    print(table.to_markdown())

Reports that were made elsewhere, from texts in memory or from scores.json, are compared by `compare_reports`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyglance.evaluate.compare import SystemComparison, compare_systems, correct_p_values
from polyglance.evaluate.metrics.resampling import PairedMethod, Resampling
from polyglance.evaluate.score import ScoreConfig, score_systems
from polyglance.evaluate.score_report import MetricScore, ScoreReport
from polyglance.languages import did_you_mean
from polyglance.table_text import (
    escape_latex,
    escape_markdown,
    format_csv_rows,
    format_latex_line,
    format_markdown_line,
)

__all__ = ["SystemTable", "compare_files", "compare_reports", "name_folders", "name_systems"]

_SMALL_P = 0.01
"""A note says the least p-value that is possible, if it is at least this."""
_COMPARISON_HEADS = ("score", "system", "difference", "interval", "p", "p (Holm)", "ties")

_CSV_HEADS = (
    *("system", "score", "protocol", "value", "low", "high", "segments"),
    *("baseline", "difference", "difference_low", "difference_high", "p", "p_holm", "test", "signature"),
)


@dataclass(frozen=True, kw_only=True)
class SystemTable:
    """Scores of systems, and each compared with the baseline."""

    reports: Mapping[str, ScoreReport]
    """Name of the system -> its scores."""
    baseline: str
    """System that the others are compared with."""
    comparisons: tuple[SystemComparison, ...]
    notes: tuple[str, ...]
    """Notes that a reader of the p-values needs, one sentence each."""

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Name and protocol of each score, in order."""
        scores = (score for report in self.reports.values() for score in report.scores)
        return tuple(dict.fromkeys((score.name, score.protocol) for score in scores))

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads of the columns: names of scores, with the protocol where there are several."""
        protocols = {name: {other for known, other in self.columns if known == name} for name, _ in self.columns}
        return tuple(name if len(protocols[name]) == 1 else f"{name} ({protocol})" for name, protocol in self.columns)

    def rows(self) -> list[list[str]]:
        """Return a row for each system: its name, then its scores with their intervals."""
        rows = []
        for name, report in self.reports.items():
            scores = {(score.name, score.protocol): score for score in report.scores}
            rows.append([name, *(scores[column].format() if column in scores else "" for column in self.columns)])
        return rows

    def comparison_rows(self) -> list[list[str]]:
        """Return a row for each comparison, under the heads of `comparison_heads`."""
        heads = dict(zip(self.columns, self.heads, strict=True))
        return [
            [
                heads[one.name, one.protocol],
                one.system_b,
                f"{one.difference:+.4g}",
                "" if one.interval is None else f"{one.interval[0]:+.4g} to {one.interval[1]:+.4g}",
                f"{one.p_value:.3g}",
                f"{one.p_holm:.3g}",
                f"{one.num_ties:,}",
            ]
            for one in self.comparisons
        ]

    @property
    def comparison_heads(self) -> tuple[str, ...]:
        """Heads of the table of comparisons."""
        return tuple(head if head != "difference" else f"minus {self.baseline}" for head in _COMPARISON_HEADS)

    def warnings(self) -> list[str]:
        """Return the warnings, each once. One that does not concern all systems begins with their names."""
        lists = {name: report.warnings for name, report in self.reports.items()}
        found = dict.fromkeys(warning for warnings in lists.values() for warning in warnings)
        lines = []
        for warning in found:
            names = [name for name, warnings in lists.items() if warning in warnings]
            lines.append(warning if len(names) == len(lists) else f"{', '.join(names)}: {warning}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for machines, unrounded."""
        return {
            "systems": [{"name": name, **report.as_dict()} for name, report in self.reports.items()],
            "baseline": self.baseline,
            "comparisons": [asdict(one) for one in self.comparisons],
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """Return the tables as Markdown; names chosen by users are escaped."""
        tables = [_format_markdown(("system", *self.heads), self.rows(), num_texts=1)]
        if self.comparisons:
            tables.append(_format_markdown(self.comparison_heads, self.comparison_rows(), num_texts=2))
        return "\n\n".join([*tables, *map(escape_markdown, self.notes)]) + "\n"

    def to_latex(self) -> str:
        """Return the tables as `tabular` environments for the booktabs package; names chosen by users are escaped."""
        tables = [_format_latex(("system", *self.heads), self.rows(), num_texts=1)]
        if self.comparisons:
            tables.append(_format_latex(self.comparison_heads, self.comparison_rows(), num_texts=2))
        return "\n\n".join([*tables, *(f"% {' '.join(note.split())}" for note in self.notes)]) + "\n"

    def to_csv(self) -> str:
        """Return a line for each score of each system, unrounded; no cell can be read as a formula."""
        compared = {(one.system_b, one.name, one.protocol): one for one in self.comparisons}
        rows: list[Sequence[object]] = [_CSV_HEADS]
        for name, report in self.reports.items():
            for score in report.scores:
                one = compared.get((name, score.name, score.protocol))
                rows.append((name, *_list_values(score), *_list_test(one), score.signature))
        return format_csv_rows(rows)


def compare_files(
    systems: Sequence[str | Path],
    references: Sequence[Path],
    config: ScoreConfig,
    *,
    baseline: str = "",
    method: PairedMethod = "permutation",
) -> SystemTable:
    """Score the files of several systems, and compare each with the baseline.

    Args:
        systems: files of predictions, each also as `NAME=FILE`.
        baseline: name of a system; the first if not given.

    Raises:
        ValueError: as `score_systems`; two systems with the same name; an unknown baseline.
    """
    named = name_systems(systems)
    reports = score_systems(list(named.values()), references, config)
    resampling = Resampling(num_samples=config.bootstrap, seed=config.seed, level=config.level)
    return compare_reports(
        dict(zip(named, reports, strict=True)), baseline=baseline, method=method, resampling=resampling
    )


def compare_reports(
    reports: Mapping[str, ScoreReport],
    *,
    baseline: str = "",
    method: PairedMethod = "permutation",
    resampling: Resampling | None = None,
) -> SystemTable:
    """Compare scores of systems on the same segments, each with the baseline.

    Args:
        reports: name of each system -> its scores.
        baseline: name of a system; the first if not given.
        resampling: number and seed of the draws of the tests; 1,000 draws if it has none.

    Raises:
        ValueError: as `compare_systems`; an unknown baseline.
    """
    chosen = baseline or next(iter(reports))
    if chosen not in reports:
        raise ValueError(f"--baseline {baseline}: no system has this name; {did_you_mean(baseline, tuple(reports))}")
    resampling = resampling or Resampling()
    if not resampling.num_samples:
        resampling = Resampling(seed=resampling.seed, level=resampling.level)
    comparisons = [
        comparison
        for name, report in reports.items()
        if name != chosen
        for comparison in compare_systems(
            reports[chosen], report, names=(chosen, name), method=method, resampling=resampling
        )
    ]
    return SystemTable(
        reports=reports,
        baseline=chosen,
        comparisons=correct_p_values(comparisons),
        notes=_describe_tests(chosen, comparisons, method, resampling) if comparisons else (),
    )


def name_systems(systems: Sequence[str | Path]) -> dict[str, Path]:
    """Return name -> file. A name is given as `NAME=FILE`, else it is the shortest part of the path that is unique.

    Raises:
        ValueError: two systems with the same name, or a file that is given twice.
    """
    given = [_split_name(one) for one in systems]
    unnamed = [path for name, path in given if not name]
    if repeated := next((path for path in unnamed if unnamed.count(path) > 1), None):
        raise ValueError(f"{repeated}: given twice; give the systems different names (NAME=FILE)")
    short = dict(zip(unnamed, _shorten(unnamed), strict=True))
    names = [name or short[path] for name, path in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two systems have the name {twice!r}; give them different names (NAME=FILE)")
    return dict(zip(names, (path for _, path in given), strict=True))


def name_folders(names: Sequence[str]) -> dict[str, str]:
    """Return name of a system -> name of a folder for its files.

    Raises:
        ValueError: two names give the same folder.
    """
    folders = {name: re.sub(r"[^\w.+-]+", "_", name).strip("._") or "system" for name in names}
    if len(set(map(str.lower, folders.values()))) < len(folders):
        raise ValueError(
            f"--out: the systems {', '.join(names)} need names that differ in letters or digits (NAME=FILE)"
        )
    return folders


def _split_name(system: str | Path) -> tuple[str, Path]:
    """Split `NAME=FILE` where the file is there; the name is empty where only a file is given.

    Raises:
        ValueError: neither the whole nor what stands behind a `=` is a file.
    """
    text = str(system)
    if Path(text).exists():
        return "", Path(text)
    places = [place for place, character in enumerate(text) if character == "=" and 0 < place < len(text) - 1]
    if not places:
        return "", Path(text)
    place = next((one for one in places if Path(text[one + 1 :]).exists()), None)
    if place is None:
        raise ValueError(f"{text}: no such file; nor is there {text[places[0] + 1 :]}, if NAME=FILE is meant")
    return text[:place], Path(text[place + 1 :])


_STEM = re.compile(r".?[^.]*(?:\.\d[^.]*)*")
"""Name of a file up to its extensions, which begin with a letter: `lr=0.1` of `lr=0.1.jsonl.gz`."""


def _shorten(paths: Sequence[Path]) -> list[str]:
    """Return stems of file names, file names, names of folders, or paths: the first of these that are all different."""
    spellings = (
        [_STEM.match(path.name)[0] for path in paths],  # type: ignore[index]
        [path.name for path in paths],
        [path.parent.name for path in paths],
    )
    return next((names for names in spellings if len(set(names)) == len(paths) and all(names)), [*map(str, paths)])


def _describe_tests(
    baseline: str, comparisons: Sequence[SystemComparison], method: PairedMethod, resampling: Resampling
) -> tuple[str, ...]:
    share, num_tests = f"{100 * resampling.level:g} %", len({one.system_b for one in comparisons})
    first = (
        f"Differences are each system's score minus that of {baseline}, with {share} bootstrap intervals; p is of a "
        f"two-sided paired {method} test with {resampling.num_samples:,} draws over segments"
        f"{' (or all swaps of those that differ, if these are no more)' if method == 'permutation' else ''}."
    )
    least = 2.0 ** (1 - comparisons[0].num_segments)
    few = (
        f"{comparisons[0].num_segments} segments: whatever the systems are, no permutation test of so few can give a p "
    )
    notes = (first, f"{few}below {least:.2g}.") if least >= _SMALL_P else (first,)
    if num_tests == 1:
        return notes
    return (
        *notes,
        f"{num_tests} systems are compared with {baseline}: p (Holm) is corrected for these {num_tests} tests of each "
        "score. It is not corrected for testing several scores; choose one score in advance.",
    )


def _list_values(score: MetricScore) -> tuple[object, ...]:
    low, high = score.interval or ("", "")
    return score.name, score.protocol, score.value, low, high, score.num_segments


def _list_test(one: SystemComparison | None) -> tuple[object, ...]:
    if one is None:
        return ("",) * 7
    low, high = one.interval or ("", "")
    return one.system_a, one.difference, low, high, one.p_value, one.p_holm, one.method


def _format_markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], *, num_texts: int) -> str:
    marks = [*["---"] * num_texts, *["---:"] * (len(heads) - num_texts)]
    lines = [heads, marks, *([escape_markdown(cell) for cell in row] for row in rows)]
    lines[0] = [escape_markdown(head) for head in heads]
    return "\n".join(map(format_markdown_line, lines))


def _format_latex(heads: Sequence[str], rows: Sequence[Sequence[str]], *, num_texts: int) -> str:
    columns = "l" * num_texts + "r" * (len(heads) - num_texts)
    lines = [format_latex_line([escape_latex(cell) for cell in row]) for row in (heads, *rows)]
    start, end = f"\\begin{{tabular}}{{{columns}}}", "\\end{tabular}"
    return "\n".join([start, "\\toprule", lines[0], "\\midrule", *lines[1:], "\\bottomrule", end])
