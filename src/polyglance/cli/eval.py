"""`polyglance eval caption | translate | disambiguate | loss | list`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.table import Table
from tyro.conf import OmitArgPrefixes
from tyro.extras import SubcommandApp

from polyglance.cli.output import show

__all__ = ["eval_app"]

eval_app = SubcommandApp()
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every verb that asks a model takes."""

    model: str
    """A folder (this project's, Florence-2, PaliGemma, NLLB, a chat model), nllb:FOLDER, blip2+nllb:FOLDER,FOLDER, or
    endpoint:http://HOST:PORT/v1#NAME."""
    root: Path
    """Folder of the benchmarks; for the project's own shards, of the data sets."""
    lang: str = ""
    """Languages, separated by commas; all of the benchmark's that the model knows if not given."""
    split: str | None = None
    """The benchmark's first if not given."""
    resolution: int | None = None
    """Side of the square image, in pixels; as the model's folder says if not given."""
    batch_size: int = 8
    """Examples at a time."""
    limit: int | None = None
    """Only the first so many examples."""
    processes: int = 1
    """At work at the same time, each with its model."""
    device: str = "auto"
    """Where to run: auto (a GPU if there is one), cpu, cuda, cuda:1."""
    dtype: Dtype = "auto"
    """Precision of the weights; auto is float32 on a CPU and in disambiguation, else bfloat16."""
    out: Path = Path("eval")
    """Folder that gets a folder for each language."""
    score: bool = True
    """Score the predictions."""
    json: bool = False
    """Print the result for machines."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the verbs that write texts take beside that."""

    benchmark: str
    """See `polyglance eval list`."""
    beams: int | None = None
    """As published for the model if not given."""
    max_new_tokens: int | None = None
    """Longest text; as published for the model if not given."""
    metrics: str = ""
    """Separated by commas; those of the benchmark if not given."""


@eval_app.command(name="caption")
def eval_caption(
    asked: Annotated[Asked, OmitArgPrefixes],
    written: Annotated[Written, OmitArgPrefixes],
    prefix: str = "none",
    protocol: str = "",
    clip: Path | None = None,
    clip_prefix: str = "",
) -> None:
    """Caption a benchmark's images with a model and score the captions. Goes on where it was stopped.

    Args:
        prefix: Words that captions start with: auto (the language's own), none, or the words. They are not scored.
        protocol: Separated by commas; those of the benchmark if not given.
        clip: A CLIP-like checkpoint's folder; adds CLIPScore.
        clip_prefix: Words before every caption that CLIPScore reads.
    """
    texts = {"beams": written.beams, "max_new_tokens": written.max_new_tokens, "prefix": prefix}
    scoring = {
        "metrics": _list(written.metrics),
        "protocols": _list(protocol),
        "clip": clip,
        "clip_prefix": clip_prefix,
    }
    _evaluate("caption", written.benchmark, asked, texts, scoring)


@eval_app.command(name="translate")
def eval_translate(asked: Annotated[Asked, OmitArgPrefixes], written: Annotated[Written, OmitArgPrefixes]) -> None:
    """Translate a benchmark's English texts with a model and score the translations. Goes on where it was stopped."""
    texts = {"beams": written.beams, "max_new_tokens": written.max_new_tokens}
    _evaluate("translation", written.benchmark, asked, texts, {"metrics": _list(written.metrics)})


@eval_app.command(name="disambiguate")
def eval_disambiguate(asked: Annotated[Asked, OmitArgPrefixes], benchmark: str = "commute-disambiguation") -> None:
    """Measure how often a model finds the translation that fits the image likelier. Goes on where it was stopped.

    Args:
        benchmark: See `polyglance eval list`.
    """
    _evaluate("disambiguation", benchmark, asked, {}, {})


@eval_app.command(name="loss")
def eval_loss(
    model: Path,
    data: Path,
    captioned: str = "",
    translated: str = "",
    initial: Path | None = None,
    samples_per_cell: int = 1000,
    max_target_tokens: int = 512,
    batch_size: int = 32,
    device: str = "auto",
    dtype: Dtype = "auto",
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Measure a model's losses per task and language on a data set, with and without prefix; UC, ST, SC and T.

    Args:
        model: Folder of a model of this project.
        data: Held-out data set: the folder with manifest.json.
        captioned: Languages the model was trained to caption in, separated by commas.
        translated: Languages it was trained to translate into; with the former this says what UC, ST and SC are.
        initial: Folder of the model before training; its loss on UC is T.
        samples_per_cell: Images of each cell, the first ones.
        max_target_tokens: Targets are cut to this length.
        batch_size: Samples at a time.
        device: Where to run: auto (a GPU if there is one), cpu, cuda, cuda:1.
        dtype: Precision of the weights; auto is float32 on a CPU and bfloat16 on a GPU.
        out: File that gets the losses, such as losses.json.
        json: Print the result for machines.
    """
    from polyglance.evaluate.folder_loss import LossConfig, measure_folder

    config = LossConfig(
        model=model,
        data=data,
        captioned=tuple(_list(captioned)),
        translated=tuple(_list(translated)),
        initial=initial,
        samples_per_cell=samples_per_cell,
        max_target_tokens=max_target_tokens,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
    )
    show(measure_folder(config, out).to_json(summary=True), json, _losses)


@eval_app.command(name="list")
def eval_list(benchmark: str = "", json: bool = False) -> None:
    """Print the benchmarks with their splits, languages and licences, and the files that they expect.

    Args:
        benchmark: One of them, with its files; all if not given.
        json: Print the result for machines.
    """
    from polyglance.data.benchmarks import BENCHMARKS, find_benchmark

    chosen = [find_benchmark(benchmark)] if benchmark else list(BENCHMARKS.values())
    show([_listed(entry) for entry in chosen], json, lambda rows: _benchmarks(rows, files=bool(benchmark)))


def _evaluate(task: str, benchmark: str, asked: Asked, texts: dict[str, Any], scoring: dict[str, Any]) -> None:
    from polyglance.config import from_dict
    from polyglance.evaluate.prediction_job import PredictConfig
    from polyglance.evaluate.run import ScoringConfig, evaluate_benchmark

    model = {"model": asked.model, "device": asked.device, "dtype": asked.dtype, "resolution": asked.resolution}
    values = {
        "model": {name: value for name, value in {**model, **texts}.items() if value is not None},
        "task": task,
        "benchmark": benchmark,
        "root": asked.root,
        "out": asked.out,
        "language": "",
        "split": asked.split,
        "batch_size": asked.batch_size,
        "limit": asked.limit,
        "num_processes": asked.processes,
    }
    config = from_dict(PredictConfig, values)
    results = evaluate_benchmark(config, _list(asked.lang), from_dict(ScoringConfig, {**scoring, "score": asked.score}))
    show([asdict(result) for result in results], asked.json, _scores)


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _listed(entry: Any) -> dict[str, Any]:
    splits = {}
    for split in entry.splits:
        languages = entry.languages(split)
        files = entry.expected_files(split, languages[0])
        splits[split] = {"languages": list(languages), "files": [_expected(file) for file in files]}
    return {"name": entry.name, "task": entry.task, "licence": entry.licence, "splits": splits}


def _expected(file: Any) -> dict[str, str]:
    return {"path": file.path, "published_at": file.published_at}


def _benchmarks(rows: list[dict[str, Any]], *, files: bool) -> Table:
    table = Table("benchmark", "task", "split", "languages", "files" if files else "licence")
    for row in rows:
        for split, found in row["splits"].items():
            paths = "\n".join(f"{file['path']}  <- {file['published_at']}" for file in found["files"])
            last = paths if files else row["licence"]
            table.add_row(row["name"], row["task"], split, " ".join(found["languages"]), last)
    return table


def _scores(results: list[dict[str, Any]]) -> Table:
    table = Table("language", "score", "value", "interval", "protocol", "errors", "folder")
    for result in results:
        errors, folder = str(result["num_errors"]), str(result["folder"])
        for score in result["scores"]:
            interval = score["interval"]
            shown = f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
            cells = (score["name"], f"{score['value']:.4f}", shown, score["protocol"])
            table.add_row(result["language"], *cells, errors, folder)
        if not result["scores"]:
            table.add_row(result["language"], "", "", "", "", errors, folder)
    table.caption = "\n".join(warning for result in results for warning in result["warnings"])
    return table


def _losses(record: dict[str, Any]) -> Table:
    table = Table("cell", "split", "loss, nats per token", "after the prefix")
    for name, cell in record["cells"].items():
        plain, prefix = (cell["losses"][variant]["mean_nats"] for variant in ("plain", "prefix"))
        table.add_row(name, cell["split"] or "", f"{plain:.4f}", f"{prefix:.4f}")
    for name in ("UC", "ST", "SC", "T"):
        if name in record:
            table.add_row(name, "", f"{record[name]:.4f}", f"{record[f'{name}_prefix']:.4f}")
    return table
