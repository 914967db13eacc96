"""The verb `polyglance score`: arguments are parsed, results printed, no more; nothing heavy is imported before."""

import json as json_module
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

if TYPE_CHECKING:
    from polyglance.evaluate.compare import SystemComparison
    from polyglance.evaluate.metrics.resampling import Resampling
    from polyglance.evaluate.score_report import MetricScore, ScoreReport

__all__ = ["score"]

Paths = UseAppendAction[tuple[Annotated[Path, arg(metavar="FILE")], ...]]


def score(
    *,
    hyps: Paths = (),
    refs: Paths = (),
    lang: str = "",
    metrics: str = "cider,bleu",
    protocol: str = "default",
    ids: Path | None = None,
    missing: Literal["error", "empty", "drop"] = "error",
    df: str = "references",
    df_resampled: bool = False,
    benchmark: str | None = None,
    sacrebleu_tokenize: str | None = None,
    meteor_jar: Path | None = None,
    external: str | None = None,
    external_name: str = "external",
    sources: Path | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    scores: Path | None = None,
    compare: Paths = (),
    test: Literal["bootstrap", "permutation"] = "bootstrap",
    out: Path | None = None,
    list_protocols: bool = False,
    json: bool = False,
) -> None:
    """Score captions or translations in files; no model, GPU, Java or network.

    Args:
        hyps: Predictions: COCO results, JSON lines of id and text, or one text per line. Give several to compare them.
        refs: References: COCO captions, JSON lines of id and texts, or lines; several files hold one reference each.
        lang: Language of the texts, such as fr.
        metrics: Of cider, bleu, rouge, sacrebleu, chrf, chrf++, meteor, language, external; separated by commas.
        protocol: How texts become words, or several, side by side: see --list-protocols.
        ids: File of the ids to score, one per line.
        missing: What to do about ids that only one side has.
        df: Where CIDEr's document frequencies come from: references, all, or a file of them.
        df_resampled: Count document frequencies anew in each bootstrap draw.
        benchmark: Benchmark whose size the set should have, such as coco-karpathy.
        sacrebleu_tokenize: sacrebleu's tokeniser, where not the language's.
        meteor_jar: METEOR's jar; needs Java.
        external: Command of the metric external: JSON lines in, one number per line out.
        external_name: What its number is called.
        sources: What was translated, for external metrics.
        bootstrap: Draws for intervals and tests; 0 for no intervals.
        seed: Of the draws.
        scores: A scores.json to print again, with other ids or draws, instead of files to score.
        compare: A scores.json to compare with; with --scores and --ids on these ids.
        test: Paired test of comparisons.
        out: Folder to write scores.json to.
        list_protocols: Print the protocols and stop.
        json: Print the result for machines, at full precision.
    """
    if list_protocols:
        _print_protocols()
        return
    from polyglance.evaluate.metrics.resampling import Resampling
    from polyglance.evaluate.score import ScoreConfig, score_files
    from polyglance.evaluate.score_report import read_scores, write_scores

    if scores is not None:
        if hyps or refs:
            raise ValueError("give either --scores, or --hyps and --refs")
        again = _subsets((scores, *compare), ids, Resampling(num_samples=bootstrap, seed=seed))
        reports, compared = again[:1], again[1:]
    else:
        _check_given(hyps, refs, lang)
        options: dict[str, Any] = {
            "references": refs,
            "language": lang,
            "metrics": _split(metrics),
            "protocols": _split(protocol),
            "ids": ids,
            "missing": missing,
            "df": df,
            "df_resampled": df_resampled,
            "benchmark": benchmark,
            "sacrebleu_tokenize": sacrebleu_tokenize,
            "meteor_jar": meteor_jar,
            "external": external,
            "external_name": external_name,
            "sources": sources,
            "num_bootstrap": bootstrap,
            "seed": seed,
        }
        reports = [score_files(ScoreConfig(hypotheses=path, **options)) for path in hyps]
        compared = [read_scores(path) for path in compare]
    if out is not None:
        for folder, report in zip(_folders(out, reports), reports, strict=True):
            write_scores(report, folder)
    comparisons = _comparisons(
        [*reports, *compared], method=test, resampling=Resampling(num_samples=bootstrap or 1000, seed=seed)
    )
    _print(reports, comparisons, as_json=json)


def _check_given(hyps: Sequence[Path], refs: Sequence[Path], lang: str) -> None:
    for given, option, example in (
        (hyps, "--hyps", "the file of predictions"),
        (refs, "--refs", "the file of references"),
        (lang, "--lang", "the language of the texts, such as fr"),
    ):
        if not given:
            raise ValueError(f"{option} is missing: {example}")


def _subsets(paths: Sequence[Path], ids: Path | None, resampling: "Resampling") -> list["ScoreReport"]:
    """Scores that were written before, of some of their ids or all."""
    from polyglance.evaluate.score_report import read_scores, select_segments
    from polyglance.evaluate.text_files import read_ids

    chosen = None if ids is None else read_ids(ids)
    return [select_segments(read_scores(path), chosen, resampling) for path in paths]


def _comparisons(reports: Sequence["ScoreReport"], **how: Any) -> list["SystemComparison"]:
    """The first with each of the others."""
    from polyglance.evaluate.compare import compare_systems

    return [one for other in reports[1:] for one in compare_systems(reports[0], other, **how)]


def _split(comma_separated: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in comma_separated.split(",") if name.strip())


def _folders(out: Path, reports: Sequence["ScoreReport"]) -> list[Path]:
    """Where each report goes: `out` itself, or a folder in it named after the file of predictions."""
    if len(reports) == 1:
        return [out]
    names = [Path(report.source).name.split(".")[0] for report in reports]
    if len(set(names)) < len(names):
        raise ValueError(f"--out: predictions need different file names, got {', '.join(names)}")
    return [out / name for name in names]


def _print_protocols() -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from polyglance.evaluate.protocols import PROTOCOLS

    table = Table("protocol", "what it does", "languages")
    for entry in PROTOCOLS.values():
        languages = "all" if "*" in entry.tokenizers else ", ".join(sorted(entry.tokenizers))
        table.add_row(entry.name, Text(entry.summary), languages)
    table.add_row("default", "coco where words are written with spaces between, else characters", "all")
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _print(reports: Sequence["ScoreReport"], comparisons: Sequence["SystemComparison"], *, as_json: bool) -> None:
    if as_json:
        _print_json(reports, comparisons)
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for report in reports:
        print(f"{report.source}: {len(report.ids):,} segments")
        console.print(_table(report))
    for one in comparisons:
        print(_sentence(one))
    for line in dict.fromkeys(line for report in reports for line in _signatures(report)):
        print(line)
    for line in dict.fromkeys(warning for report in reports for warning in report.warnings):
        print(f"warning: {line}")


def _print_json(reports: Sequence["ScoreReport"], comparisons: Sequence["SystemComparison"]) -> None:
    values: dict[str, Any] = (
        reports[0].as_dict() if len(reports) == 1 else {"systems": [one.as_dict() for one in reports]}
    )
    if comparisons:
        values["comparisons"] = [asdict(one) for one in comparisons]
    print(json_module.dumps(values, indent=1))


def _table(report: "ScoreReport") -> Any:
    """Scores by name, protocols side by side."""
    from rich.table import Table

    protocols = list(dict.fromkeys(entry.protocol for entry in report.scores))
    cells = {(entry.name, entry.protocol): _cell(entry) for entry in report.scores}
    table = Table("score", *protocols)
    for name in dict.fromkeys(entry.name for entry in report.scores):
        table.add_row(name, *(cells.get((name, protocol), "") for protocol in protocols))
    return table


def _signatures(report: "ScoreReport") -> list[str]:
    """Signatures; scores that differ in their names only share one line."""
    names: dict[str, list[str]] = {}
    for entry in report.scores:
        name, _, rest = entry.signature.partition("|")
        names.setdefault(rest, []).append(name)
    return [f"{','.join(same)}|{rest}" for rest, same in names.items()]


def _cell(entry: "MetricScore") -> str:
    digits = 2 if entry.scale in ("0-100", "0-1000") else 4
    value = f"{entry.value:.{digits}f}"
    if entry.interval is None:
        return value
    return f"{value} ({entry.interval[0]:.{digits}f} to {entry.interval[1]:.{digits}f})"


def _sentence(one: "SystemComparison") -> str:
    between = "" if one.interval is None else f" ({one.interval[0]:+.4g} to {one.interval[1]:+.4g})"
    return (
        f"{one.name} ({one.protocol}): {one.system_b} minus {one.system_a} = {one.difference:+.4g}{between}, "
        f"p = {one.p_value:.3g} ({one.method}), {one.num_ties:,} ties in {one.num_segments:,} segments"
    )
