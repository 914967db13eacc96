"""`polyglance score`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from polyglance.cli.options import Options, Paths
from polyglance.cli.output import show
from polyglance.data.texts.text_files import read_ids
from polyglance.evaluate.explain import Explanation
from polyglance.evaluate.explain import explain as explain_scores
from polyglance.evaluate.metrics.resampling import Resampling
from polyglance.evaluate.score import ScoreConfig, score_systems
from polyglance.evaluate.score_report import OUTPUT_NAMES, ScoreReport, read_scores, select_segments, write_scores
from polyglance.evaluate.systems import SystemTable, compare_reports, name_folders, name_systems
from polyglance.files import check_output_folder
from polyglance.settings import UnusedSettingError, refuse_unused

__all__ = ["score"]

_USED_WITH_SCORES = ("ids", "bootstrap", "seed", "level")
"""Settings that apply to --scores, scores from an earlier call."""


def score(
    config: Options[ScoreConfig],
    hyps: Paths = (),
    refs: Paths = (),
    scores: Path | None = None,
    compare: Paths = (),
    baseline: str = "",
    test: Literal["permutation", "bootstrap"] = "permutation",
    explain: int = 0,
    explain_score: str = "",
    explain_page: Path | None = None,
    out: Path | None = None,
    list_protocols: bool = False,
    format: Literal["text", "md", "latex", "csv"] = "text",
    json: bool = False,
) -> None:
    """Score captions or translations in files; no model, GPU, Java or network.

    Args:
        hyps: Files of predictions, one for each system, each also as NAME=FILE: COCO results, JSON lines of id and
            text, one text per line, and others. Several are compared.
        refs: File of references: COCO captions, JSON lines of id and texts, one text per line, and others. Give
            several where each holds one reference of every text.
        scores: A scores.json to print again, with other ids or draws, instead of files to score.
        compare: Further scores.json to compare with, each also as NAME=FILE; with --scores and --ids on these ids.
        baseline: Name of the system that the others are compared with; the first if not given.
        test: Paired test of comparisons. The bootstrap's p-values are too small where few segments differ.
        explain: Number of segments to show that move the score, or each difference to the baseline, most: with their
            tokens and matches.
        explain_score: Score that is explained, such as Bleu_1; the last of the first metric if not given.
        explain_page: HTML file for the explanation, which needs no other file.
        out: Folder to write scores.json to.
        list_protocols: Print the protocols and stop.
        format: Form of the tables: for people, Markdown, LaTeX (booktabs), or CSV with a line for each score.
        json: Print the result as JSON, at full precision.
    """
    if list_protocols:
        _print_protocols(json)
        return
    _check_form(format, explain, explain_score, explain_page, as_json=json)
    if out is not None:
        check_output_folder(out, "--out")
    predictions, references, others = (list(chain.from_iterable(given)) for given in (hyps, refs, compare))
    _check_number(len(predictions) + len(others) + (scores is not None), config, test, baseline)
    resampling = Resampling(num_samples=config.bootstrap, seed=config.seed, level=config.level)
    if scores is not None:
        if predictions or references:
            raise ValueError("give either --scores, or --hyps and --refs")
        named = name_systems([scores, *others])
        folders = _place_outputs(list(named)[:1], out)
        reports = _read_again(named, config, resampling)
    elif not predictions:
        raise ValueError("--hyps is missing; give the file of predictions")
    else:
        named = name_systems([*predictions, *others])
        folders = _place_outputs(list(named)[: len(predictions)], out)
        new = score_systems(list(named.values())[: len(predictions)], references, config)
        old = [read_scores(path) for path in list(named.values())[len(predictions) :]]
        reports = dict(zip(named, [*new, *old], strict=True))
    table = compare_reports(reports, baseline=baseline, method=test, resampling=resampling)
    explanations = _explain(table, explain, explain_score) if explain else []
    if explain_page is not None:
        from polyglance.report.explanation import write_explanations

        write_explanations(explanations, explain_page)
    for name, folder in folders.items():
        write_scores(reports[name], folder)
    _show(table, explanations, format, as_json=json)


def _check_form(form: str, explain: int, explain_score: str, explain_page: Path | None, *, as_json: bool) -> None:
    """Refuse settings of the output that have no effect, given the others, and a name that is no page's."""
    if as_json and form != "text":
        raise UnusedSettingError("`format` has no effect with `json`")
    if explain < 0:
        raise ValueError(f"--explain {explain}: expected a number of segments, 0 or more")
    if not explain and (explain_score or explain_page):
        raise UnusedSettingError(
            f"`{'explain_score' if explain_score else 'explain_page'}` has no effect without `explain`"
        )
    if explain_page is not None:
        from polyglance.report.templating import check_page_name

        check_page_name("--explain-page", explain_page)
    if explain and form != "text" and explain_page is None:
        raise UnusedSettingError(f"`explain` has no effect with --format {form} without `explain_page`")


def _explain(table: SystemTable, num_segments: int, score: str) -> list[Explanation]:
    """Explain the score of one system, or the difference of each system to the baseline."""
    options: dict[str, Any] = {"num_segments": num_segments, "score": score}
    first = table.reports[table.baseline]
    if len(table.reports) == 1:
        return [explain_scores(first, names=[first.source], **options)]
    return [
        explain_scores(first, other, names=[table.baseline, name], **options)
        for name, other in table.reports.items()
        if name != table.baseline
    ]


def _check_number(num_systems: int, config: ScoreConfig, test: str, baseline: str) -> None:
    """Refuse settings of comparisons if there is nothing to compare."""
    if num_systems >= 2:
        return
    if test != "permutation":
        raise UnusedSettingError("`test` has no effect without `compare`, or a second file of `hyps`")
    if baseline:
        raise UnusedSettingError("`baseline` has no effect without `compare`, or a second file of `hyps`")
    if config.seed and not config.bootstrap:
        raise UnusedSettingError("`seed` has no effect with `bootstrap` 0")


def _read_again(named: Mapping[str, Path], config: ScoreConfig, resampling: Resampling) -> dict[str, ScoreReport]:
    """Read scores of an earlier call, for the config's ids or for all."""
    unused = {field.name for field in fields(config)} - set(_USED_WITH_SCORES)
    refuse_unused(config, **dict.fromkeys(unused, (False, "with `scores`, which are read as they are")))
    ids = None if config.ids is None else read_ids(config.ids)
    return {name: select_segments(read_scores(path), ids, resampling) for name, path in named.items()}


def _place_outputs(names: Sequence[str], out: Path | None) -> dict[str, Path]:
    """Return the folder for the scores of each system: `out`, or a folder in it named after the system where there are
    several; nothing without `out`.

    Raises:
        ValueError: a folder that cannot be written.
    """
    if out is None:
        return {}
    folders = {names[0]: out} if len(names) == 1 else {name: out / one for name, one in name_folders(names).items()}
    for folder in folders.values():
        check_output_folder(folder, "--out", OUTPUT_NAMES, is_chosen=folder == out)
    return folders


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


def _show(table: SystemTable, explanations: Sequence[Explanation], form: str, *, as_json: bool) -> None:
    """Print scores, comparisons and explanations."""
    if as_json:
        reports = list(table.reports.values())
        values = reports[0].as_dict() if len(reports) == 1 else table.to_dict()
        show({**values, "explanations": explanations} if explanations else values, True, str)
    elif form == "text":
        explained = [part for one in explanations for part in _list_explanation(one)]
        show(None, False, lambda _: [*_list_parts(table), *explained])
    else:
        print({"md": table.to_markdown, "latex": table.to_latex, "csv": table.to_csv}[form](), end="")
        for note in table.notes if form == "csv" else ():  # has no place for them
            print(f"note: {note}", file=sys.stderr)
        for warning in table.warnings():
            print(f"warning: {warning}", file=sys.stderr)


def _list_parts(table: SystemTable) -> list[str | Table]:
    """Return the tables for people, then notes, signatures and warnings, each once."""
    reports = list(table.reports.values())
    if len(reports) == 1:
        parts: list[str | Table] = [f"{reports[0].source}: {len(reports[0].ids):,} segments", _make_table(reports[0])]
    else:
        parts = [
            f"{len(reports)} systems, {len(reports[0].ids):,} segments",
            _fill(("system", *table.heads), table.rows()),
            _fill(table.comparison_heads, table.comparison_rows()),
        ]
    signatures = [line for report in reports for line in _list_signatures(report)]
    warnings = [f"warning: {warning}" for warning in table.warnings()]
    return [*parts, *dict.fromkeys([*table.notes, *signatures, *warnings])]


def _list_explanation(one: Explanation) -> list[str | Table]:
    """Return a heading and a table of segments, matched tokens in bold."""
    name = one.systems[0] if len(one.systems) == 1 else f"{one.systems[1]} minus {one.systems[0]}"
    table = Table("segment", "effect", "text of", one.score, "tokens", "matched n-grams")
    for segment in one.segments:
        cells = [Text(str(segment.id)), Text(f"{segment.effect:+.4g}")]
        for text in segment.texts:
            tokens = Text(one.separator).join(Text(token, "bold" if order else "") for token, order in text.marked)
            matches = "" if text.score is None else "; ".join(text.matches)
            score = "" if text.score is None else f"{text.score:.4g}"
            table.add_row(*cells, Text(text.role), score, tokens, Text(matches))
            cells = [Text(""), Text("")]
        table.add_section()
    heading = (
        f"{one.score} ({one.protocol}), {name} = {one.value:.4g}: the {len(one.segments)} segments that move it most"
    )
    return [heading, table]


def _fill(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for head in heads:
        table.add_column(Text(head))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _make_table(report: ScoreReport) -> Table:
    """Return scores by name, protocols side by side."""
    protocols = list(dict.fromkeys(entry.protocol for entry in report.scores))
    cells = {(entry.name, entry.protocol): entry.format() for entry in report.scores}
    names = dict.fromkeys(entry.name for entry in report.scores)
    return _fill(
        ("score", *protocols),
        [[name, *(cells.get((name, protocol), "") for protocol in protocols)] for name in names],
    )


def _list_signatures(report: ScoreReport) -> list[str]:
    """Return signatures; scores whose signatures differ only in the name share a line."""
    names: dict[str, list[str]] = {}
    for entry in report.scores:
        name, _, rest = entry.signature.partition("|")
        names.setdefault(rest, []).append(name)
    return [f"{','.join(same)}|{rest}" for rest, same in names.items()]
