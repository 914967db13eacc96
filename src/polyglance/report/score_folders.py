"""Scores of the user's models: scores.json, with prediction.json beside it that says what was predicted by whom.

Both are read as files, and neither is trusted: a number that is not on its scale, or two numbers for the same thing,
is an error that names the file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyglance.data.benchmarks import BENCHMARKS
from polyglance.report.published_results import PREFIXED, PUBLISHED_SCALES, Place

__all__ = ["SCORES_NAME", "SIDECAR_NAME", "ModelScores", "UserScore", "read_models"]

SCORES_NAME = "scores.json"
SIDECAR_NAME = "prediction.json"
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
"""Name of a score in small letters and digits only -> as the tables call it."""
_TOLERANCE = 1e-6
_LARGEST = 1e9
_CHECKPOINTS = {
    "CLIPScore": "OpenAI's ViT-B/32",
    "mCLIPScore": "M-CLIP's XLM-Roberta-Large-ViT-B-16Plus",
}
"""What the published numbers are by."""


@dataclass(frozen=True, kw_only=True)
class UserScore:
    """One number of one model, on the published scale."""

    value: float
    protocol: str
    num_segments: int | None
    folder: Path


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """All numbers of one model."""

    name: str
    scores: Mapping[Place, UserScore]
    notes: tuple[tuple[Place, str], ...]
    """What a reader has to know about a number, one sentence each."""


def read_models(folders: Sequence[str | Path]) -> list[ModelScores]:
    """The scores in these folders, by model, in the order given.

    Args:
        folders: each holds scores.json and prediction.json, or folders that do. `NAME=FOLDER` gives the model another
            name, so that two settings of one model are two rows.

    Raises:
        ValueError: nothing to read, a file is damaged, a number is not on its scale, or two are of the same thing.
    """
    found: dict[str, dict[Place, UserScore]] = {}
    notes: dict[str, list[tuple[Place, str]]] = {}
    for entry in folders:
        given, folder = _named(entry)
        for scored in _scored_folders(folder):
            sidecar = _read_object(scored / SIDECAR_NAME)
            name = given or _text(sidecar, "model", scored / SIDECAR_NAME)
            scores = found.setdefault(name, {})
            for place, score in _folder_scores(scored, sidecar).items():
                if place in scores:
                    raise ValueError(
                        f"{name} has {' '.join(place)} twice, in {scores[place].folder} and {scored}: "
                        "leave one out, or name them apart (NAME=FOLDER)"
                    )
                scores[place] = score
                notes.setdefault(name, []).extend((place, note) for note in _notes(place, score))
    return [ModelScores(name=name, scores=found[name], notes=tuple(notes.get(name, ()))) for name in found]


def _named(entry: str | Path) -> tuple[str, Path]:
    name, separator, folder = str(entry).partition("=")
    return (name, Path(folder)) if separator and not Path(entry).exists() else ("", Path(entry))


def _scored_folders(folder: Path) -> list[Path]:
    if (folder / SCORES_NAME).is_file():
        return [folder]
    below = sorted(path.parent for path in folder.glob(f"*/{SCORES_NAME}"))
    if not below:
        raise ValueError(f"{folder}: no {SCORES_NAME} in it or in the folders of it; `polyglance eval` writes them")
    return below


def _folder_scores(folder: Path, sidecar: Mapping[str, Any]) -> dict[Place, UserScore]:
    benchmark, split, language = (
        _text(sidecar, key, folder / SIDECAR_NAME) for key in ("benchmark", "split", "language")
    )
    details = _read_object(folder / SCORES_NAME).get("details")
    if not isinstance(details, list):
        raise ValueError(f"{folder / SCORES_NAME}: no list 'details'; was it written by `polyglance score`?")
    by_metric: dict[str, dict[str, UserScore]] = {}
    for number, detail in enumerate(details, 1):
        if not isinstance(detail, dict):
            raise ValueError(f"{folder / SCORES_NAME}: entry {number} of 'details' is not an object")
        metric = _METRICS.get(_letters(str(detail.get("name"))))
        if metric is not None:
            score = _score(detail, metric, folder)
            name = f"{metric}{PREFIXED}" if sidecar.get("prefix") else metric
            by_metric.setdefault(name, {})[score.protocol] = score
    published = _published_protocol(benchmark)
    return {
        Place(benchmark, split, language, metric): scores.get(published) or next(iter(scores.values()))
        for metric, scores in by_metric.items()
    }


def _score(detail: Mapping[str, Any], metric: str, folder: Path) -> UserScore:
    where = f"{folder / SCORES_NAME}: {detail['name']}"
    value = detail.get("value")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST < value < _LARGEST:
        raise ValueError(f"{where}: the value is missing or not a finite number")
    published = PUBLISHED_SCALES[metric]
    ends = {f"0-{end:g}": end for end in (published / 100, published)}
    scale = detail.get("scale")
    if not isinstance(scale, str) or scale not in ends:
        raise ValueError(f"{where}: the scale is {scale!r}, but that of {metric} is {' or '.join(ends)}")
    if value > ends[scale] * (1 + _TOLERANCE):
        raise ValueError(f"{where}: {value:g} is not on the scale {scale}; one of the two is 100 times the other's")
    segments = detail.get("num_segments")
    return UserScore(
        value=value * published / ends[scale],
        protocol=str(detail.get("protocol", "")),
        num_segments=segments if isinstance(segments, int) else None,
        folder=folder,
    )


def _published_protocol(benchmark: str) -> str:
    """The protocol of the paper's caption scores. (Scores under another are shown where there are none under it.)"""
    return "paper" if benchmark == "xm3600" else "coco"


def _notes(place: Place, score: UserScore) -> list[str]:
    """What keeps a number from standing beside the published ones."""
    notes = []
    what = f"{place.metric} on {place.benchmark} {place.split} {place.language}"
    published = _published_protocol(place.benchmark)
    if place.metric.startswith(("CIDEr", "BLEU-4")) and score.protocol != published:
        notes.append(f"{what} is of protocol {score.protocol!r}, the published of {published!r}: not the same measure")
    size = _split_size(place)
    if size is not None and score.num_segments is not None and score.num_segments != size:
        notes.append(f"{what} is made on {score.num_segments:,} segments, the published on {size:,}")
    if checkpoint := _CHECKPOINTS.get(place.metric.removesuffix(PREFIXED)):
        notes.append(f"{place.metric}: the published are by {checkpoint}; those of another checkpoint do not compare")
    if 0 < score.value <= 1:
        notes.append(f"{what} is {score.value:.3g} after scaling: is it a share that says its scale is 0-100?")
    return notes


def _split_size(place: Place) -> int | None:
    known = BENCHMARKS.get(place.benchmark)
    if known is None or place.split not in known.splits or place.language not in known.languages(place.split):
        return None
    return known.num_examples(place.split, place.language)


def _read_object(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; it says which model, benchmark, split and language it is") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return content


def _text(record: Mapping[str, Any], key: str, path: Path) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{path}: the field {key!r} is missing or not text")
    return value


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
