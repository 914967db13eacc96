"""`polyglance eval caption | translate | disambiguate | loss | list`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from polyglance.cli.options import Options
from polyglance.cli.output import show
from polyglance.coverage import EvaluationTask
from polyglance.data.benchmarks import BENCHMARKS, find_benchmark
from polyglance.distributed import is_main_process
from polyglance.evaluate.config import LossConfig, PredictConfig, PredictOptions, ScoringConfig
from polyglance.files import check_output_file
from polyglance.study.evaluation_place import EvaluationPlace

__all__ = [
    "evaluate_captions",
    "evaluate_disambiguation",
    "evaluate_translations",
    "list_benchmarks",
    "measure_losses",
]


def evaluate_captions(
    benchmark: str,
    options: Options[PredictOptions],
    scoring: Options[ScoringConfig],
    place: Options[EvaluationPlace],
    lang: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Caption a benchmark's images with a model and score the captions. Continues where it was stopped.

    Args:
        benchmark: Name of the benchmark: see `polyglance eval list`.
        lang: Languages; all of the benchmark's that the model knows if not given.
        json: Print the result as JSON.
    """
    _evaluate("caption", benchmark, options, scoring, place, lang, json)


def evaluate_translations(
    benchmark: str,
    options: Options[PredictOptions],
    scoring: Options[ScoringConfig],
    place: Options[EvaluationPlace],
    lang: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Translate a benchmark's English texts with a model and score the translations. Continues where it was stopped.

    Args:
        benchmark: Name of the benchmark: see `polyglance eval list`.
        lang: Languages; all of the benchmark's that the model knows if not given.
        json: Print the result as JSON.
    """
    _evaluate("translation", benchmark, options, scoring, place, lang, json)


def evaluate_disambiguation(
    options: Options[PredictOptions],
    scoring: Options[ScoringConfig],
    place: Options[EvaluationPlace],
    benchmark: str = "commute-disambiguation",
    lang: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Measure how often a model finds the translation that fits the image likelier. Continues where it was stopped.

    Args:
        benchmark: Name of the benchmark: see `polyglance eval list`.
        lang: Languages; all of the benchmark's that the model knows if not given.
        json: Print the result as JSON.
    """
    _evaluate("disambiguation", benchmark, options, scoring, place, lang, json)


def measure_losses(
    config: Options[LossConfig], place: Options[EvaluationPlace], out: Path | None = None, json: bool = False
) -> None:
    """Measure a model's losses per task and language on a data set, with and without prefix; UC, ST, SC and T.

    Args:
        out: File that gets the losses, such as losses.json. On a cluster, rows of the jobs go to a folder beside it.
        json: Print the result as JSON.
    """
    if out is not None:
        check_output_file(out, "--out", (".json",))
    if place.on == "local":
        from polyglance.evaluate.folder_loss import measure_folder

        record = measure_folder(config, out)
    else:
        from polyglance.study.evaluation import measure_on_cluster

        if out is None:
            raise ValueError("--on needs --out, a file such as /shared/losses.json: rows of the jobs go beside it")
        record = measure_on_cluster(config, out, place)
    if is_main_process():
        show(record.to_json(summary=True), json, _make_loss_table)


def list_benchmarks(benchmark: str = "", json: bool = False) -> None:
    """Print the benchmarks with their splits, languages and licences, and the files that they expect.

    Args:
        benchmark: One of them, with its files; all if not given.
        json: Print the result as JSON.
    """
    chosen = [find_benchmark(benchmark)] if benchmark else list(BENCHMARKS.values())
    entries = [_describe_benchmark(entry) for entry in chosen]
    show(entries, json, lambda entries: _make_benchmark_table(entries, files=bool(benchmark)))


def _evaluate(
    task: EvaluationTask,
    benchmark: str,
    options: PredictOptions,
    scoring: ScoringConfig,
    place: EvaluationPlace,
    languages: Sequence[str],
    as_json: bool,
) -> None:
    from polyglance.evaluate.run import evaluate_benchmark
    from polyglance.study.evaluation import evaluate_on_cluster

    config = PredictConfig(**vars(options), task=task, benchmark=benchmark, language="")
    if place.on == "local":
        results = evaluate_benchmark(config, languages, scoring)
    else:
        results = evaluate_on_cluster(config, languages, scoring, place)
    if is_main_process():
        show(results, as_json, _make_score_table)


def _describe_benchmark(entry: Any) -> dict[str, Any]:
    splits = {}
    for split in entry.splits:
        languages = entry.languages(split)
        files = entry.expected_files(split, languages[0])
        listed = [{"path": file.path, "published_at": file.published_at} for file in files]
        splits[split] = {"languages": list(languages), "files": listed}
    return {"name": entry.name, "task": entry.task, "licence": entry.licence, "splits": splits}


def _make_benchmark_table(entries: Sequence[dict[str, Any]], *, files: bool) -> Table:
    table = Table("benchmark", "task", "split", "languages", "files" if files else "licence")
    for entry in entries:
        for split, content in entry["splits"].items():
            paths = "\n".join(f"{file['path']}  <- {file['published_at']}" for file in content["files"])
            last = paths if files else entry["licence"]
            table.add_row(entry["name"], entry["task"], split, " ".join(content["languages"]), last)
    return table


def _make_score_table(results: Sequence[Any]) -> Table:
    table = Table("language", "score", "value", "interval", "protocol", "errors", "folder")
    for result in results:
        errors, folder = str(result.num_errors), result.folder
        for score in result.scores:
            interval = f"{score.interval[0]:.4f} to {score.interval[1]:.4f}" if score.interval else ""
            cells = (score.name, f"{score.value:.4f}", interval, score.protocol)
            table.add_row(result.language, *cells, errors, folder)
        if not result.scores:
            table.add_row(result.language, "", "", "", "", errors, folder)
    table.caption = "\n".join(warning for result in results for warning in result.warnings)
    return table


def _make_loss_table(record: dict[str, Any]) -> Table:
    table = Table("cell", "split", "loss, nats per token", "after the prefix")
    for name, cell in record["cells"].items():
        losses = [f"{cell['losses'][name]['mean_nats']:.4f}" for name in ("plain", "prefix") if name in cell["losses"]]
        table.add_row(name, cell["split"] or "", *losses)
    for name in ("UC", "ST", "SC", "T"):
        if name in record:
            table.add_row(name, "", *(f"{record[key]:.4f}" for key in (name, f"{name}_prefix") if key in record))
    return table
