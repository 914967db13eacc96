"""Scores of the user's models: scores.json, and prediction.json beside it with model, benchmark, split and language.

The files are not trusted: a number outside its scale, or two for the same place, is an error that names the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyglance.config import parse_path
from polyglance.data.benchmarks import BENCHMARKS
from polyglance.evaluate.prediction_set import INFO_NAME, PREDICTIONS_NAME, PredictionInfo
from polyglance.evaluate.score_report import SCORES_NAME, MetricScore, read_metric_scores
from polyglance.languages import did_you_mean
from polyglance.report.published_results import PREFIXED, PUBLISHED_SCALES, Place

__all__ = ["ModelScores", "UserScore", "note_unscored", "read_models"]

_METRICS = {
    "bleu": "BLEU",
    "bleu4": "BLEU-4",
    "cider": "CIDEr",
    "clipscore": "CLIPScore",
    "mclipscore": "mCLIPScore",
    "multilingualclipscore": "mCLIPScore",
    "comet": "COMET-22",
    "comet22": "COMET-22",
    "accuracy": "accuracy",
    "accuracystrict": "accuracy",
    "strict": "accuracy",
}
"""Name of a score, in lower-case letters and digits only -> its name in the tables."""
_TOLERANCE = 1e-6
_NUM_NAMED = 5
"""Most folders without scores that a note names."""
_CHECKPOINTS = {
    "CLIPScore": "OpenAI's ViT-B/32",
    "mCLIPScore": "M-CLIP's XLM-Roberta-Large-ViT-B-16Plus",
}
"""Metric -> checkpoint that the published numbers were made with."""


@dataclass(frozen=True, kw_only=True)
class UserScore:
    """One number of one model, on the published scale."""

    value: float
    protocol: str
    """Protocol that the texts were tokenised by."""
    num_segments: int | None
    """Texts that it is made on; None where the file does not say."""
    folder: Path
    """Folder that it was read from."""


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """All numbers of one model."""

    name: str
    scores: Mapping[Place, UserScore]
    notes: tuple[tuple[Place | None, str], ...]
    """Reasons why a number does not compare with the published one, or is in no table (place None), a sentence each."""


def read_models(folders: Sequence[str | Path]) -> list[ModelScores]:
    """Read the scores in these folders, by model, in the order given.

    Args:
        folders: each holds scores.json and prediction.json, or folders that do. `NAME=FOLDER` gives the model another
            name, so that two settings of one model are two rows.

    Raises:
        ValueError: nothing to read, a file is damaged, a number is not on its scale, or two are for the same place.
    """
    by_model: dict[str, dict[Place, UserScore]] = {}
    notes: dict[str, list[tuple[Place | None, str]]] = {}
    for entry in folders:
        given, folder = _split_name(entry)
        for scored in _find_scored_folders(folder):
            info = PredictionInfo.read(scored)
            name = given or info.model
            scores = by_model.setdefault(name, {})
            if unknown := _explain_unknown(info):
                notes.setdefault(name, []).append((None, f"{unknown} ({scored})"))
            for place, score in _read_scores(scored, info).items():
                if place in scores:
                    raise ValueError(
                        f"{name} has {' '.join(place)} twice, in {scores[place].folder} and {scored}: "
                        "leave one out, or give different names (NAME=FOLDER)"
                    )
                scores[place] = score
                notes.setdefault(name, []).extend((place, note) for note in _compare_conditions(place, score))
    return [
        ModelScores(name=name, scores=scores, notes=tuple(notes.get(name, ()))) for name, scores in by_model.items()
    ]


def note_unscored(folders: Sequence[str | Path]) -> list[str]:
    """Return a sentence for each of these folders with predictions that have no scores: `read_models` leaves them out.

    Args:
        folders: as for `read_models`.
    """
    notes = []
    for _, folder in map(_split_name, folders):
        if (folder / SCORES_NAME).is_file():
            continue
        made = {path.parent for name in (INFO_NAME, PREDICTIONS_NAME) for path in folder.glob(f"*/{name}*")}
        names = sorted(path.name for path in made if not (path / SCORES_NAME).is_file())
        if names:
            listed = ", ".join([*names[:_NUM_NAMED], *(["..."] if len(names) > _NUM_NAMED else [])])
            count = "1 folder of predictions has" if len(names) == 1 else f"{len(names):,} folders of predictions have"
            notes.append(
                f"{count} no {SCORES_NAME}, left out, in {folder}: {listed}; the same `polyglance eval` as "
                "before finishes and scores them"
            )
    return notes


def _split_name(entry: str | Path) -> tuple[str, Path]:
    """Split `NAME=FOLDER`; the name is empty where only a folder is given."""
    name, separator, folder = str(entry).partition("=")
    if not separator or Path(entry).exists():
        return "", parse_path(str(entry))
    if not name.strip() or not folder.strip():
        raise ValueError(f"{entry}: expected a folder, or NAME=FOLDER with both a name and a folder")
    return name, parse_path(folder)


def _find_scored_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise ValueError(f"{folder}: {found}; expected a folder with {SCORES_NAME} and prediction.json, or of such")
    below = sorted(path.parent for path in folder.glob(f"*/{SCORES_NAME}"))
    if (folder / SCORES_NAME).is_file():
        if below:
            raise ValueError(
                f"{folder}: {SCORES_NAME} is in it and in {below[0].name} below it: move one away, or give the "
                "folders that are meant"
            )
        return [folder]
    if not below:
        raise ValueError(f"{folder}: no {SCORES_NAME} in it or in the folders of it; `polyglance eval` writes them")
    return below


def _explain_unknown(info: PredictionInfo) -> str:
    """Return a sentence if the tables have no place for these scores by the names in prediction.json; else nothing."""
    what = f"the scores of {info.benchmark} {info.split} {info.language} are in no table: there is no"
    benchmark = BENCHMARKS.get(info.benchmark)
    if benchmark is None:
        return f"{what} benchmark {info.benchmark!r}; {did_you_mean(info.benchmark, BENCHMARKS)}"
    if info.benchmark.startswith("shards-"):
        return ""
    if info.split not in benchmark.splits:
        return f"{what} split {info.split!r}; {did_you_mean(info.split, benchmark.splits)}"
    languages = benchmark.languages(info.split)
    if info.language not in languages:
        return f"{what} language {info.language!r}; {did_you_mean(info.language, languages)}"
    return ""


def _read_scores(folder: Path, info: PredictionInfo) -> dict[Place, UserScore]:
    by_metric: dict[str, dict[str, UserScore]] = {}
    names: dict[tuple[str, str], str] = {}
    for score in read_metric_scores(folder / SCORES_NAME):
        metric = _METRICS.get(_letters(score.name))
        if metric is None:
            continue
        if score.language != info.language:
            raise ValueError(
                f"{folder / SCORES_NAME}: {score.name} is of language {score.language!r}, but prediction.json beside "
                f"it says {info.language!r}"
            )
        first = names.setdefault((metric, score.protocol), score.name)
        name = f"{metric}{PREFIXED}" if info.prefix else metric
        by_protocol = by_metric.setdefault(name, {})
        if score.protocol in by_protocol:
            raise ValueError(
                f"{folder / SCORES_NAME}: two scores for {metric} of protocol {score.protocol!r}, {first} and "
                f"{score.name}: leave one out"
            )
        by_protocol[score.protocol] = _scale_score(score, metric, folder)
    published = _choose_protocol(info.benchmark)
    return {
        Place(info.benchmark, info.split, info.language, metric): scores.get(published) or next(iter(scores.values()))
        for metric, scores in by_metric.items()
    }


def _scale_score(score: MetricScore, metric: str, folder: Path) -> UserScore:
    """Put a score on the published scale."""
    where = f"{folder / SCORES_NAME}: {score.name}"
    published = PUBLISHED_SCALES[metric]
    ends = {f"0-{end:g}": end for end in (published / 100, published)}
    if score.scale not in ends:
        raise ValueError(f"{where}: the scale is {score.scale!r}, but that of {metric} is {' or '.join(ends)}")
    end = ends[score.scale]
    if score.value < 0:
        raise ValueError(f"{where}: {score.value:g} is below 0, where the scale {score.scale} begins")
    if score.value > end * (1 + _TOLERANCE):
        raise ValueError(
            f"{where}: {score.value:g} is not on the scale {score.scale}; one of the two is 100 times the other's"
        )
    return UserScore(
        value=score.value * published / end, protocol=score.protocol, num_segments=score.num_segments, folder=folder
    )


def _choose_protocol(benchmark: str) -> str:
    """Return the protocol of the paper's caption scores. Those of another are shown if there are none of this one."""
    return "paper" if benchmark == "xm3600" else "coco"


def _compare_conditions(place: Place, score: UserScore) -> list[str]:
    """Return the reasons why a number does not compare with the published ones, a sentence each."""
    notes = []
    what = f"{place.metric} on {place.benchmark} {place.split} {place.language}"
    published = _choose_protocol(place.benchmark)
    if place.metric.startswith(("CIDEr", "BLEU-4")) and score.protocol != published:
        notes.append(f"{what} is of protocol {score.protocol!r}, the published of {published!r}: not the same measure")
    size = _count_examples(place)
    if size is not None and score.num_segments is not None and score.num_segments != size:
        notes.append(f"{what} is made on {score.num_segments:,} segments, the published on {size:,}")
    if checkpoint := _CHECKPOINTS.get(place.metric.removesuffix(PREFIXED)):
        notes.append(f"{place.metric}: the published are by {checkpoint}; those of another checkpoint do not compare")
    if 0 < score.value <= 1:
        notes.append(f"{what} is {score.value:.3g} after scaling: is it a share that says its scale is 0-100?")
    return notes


def _count_examples(place: Place) -> int | None:
    """Return the number of examples of a benchmark's split; None for a place that no benchmark has."""
    benchmark = BENCHMARKS.get(place.benchmark)
    if benchmark is None or place.split not in benchmark.splits:
        return None
    if place.language not in benchmark.languages(place.split):
        return None
    return benchmark.num_examples(place.split, place.language)


def _letters(name: str) -> str:
    """Return a name in lower-case letters and digits only."""
    return "".join(character for character in name.lower() if character.isalnum())
