"""2,000 mutations of scores, predictions, laws, tables of frequencies, build reports and recipes.

As an accident, beside their digests: what is read is equal, or refused in one line. As an attack, with the digests
taken out: it is read, or refused in one line. Configurations in TOML have no digest: they load, or are refused.
"""

import random
import shutil
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polyglance.config import load
from polyglance.data.build.build import make_steps
from polyglance.data.build.parts import PartId, PartReport, PartWork, WorkFolder
from polyglance.data.build.recipe import Recipe
from polyglance.evaluate.metrics.document_frequency import DocumentFrequency
from polyglance.evaluate.prediction_set import PredictionInfo, read_prediction_rows
from polyglance.evaluate.score_report import Resampling, read_metric_scores, read_scores, select_segments
from polyglance.files import DIGESTS_NAME, write_record
from polyglance.laws import Law
from polyglance.prediction_records import RunPredictions
from polyglance.report.score_folders import read_models
from polyglance.study import StudyConfig
from polyglance.study.grid.inputs import digest_inputs
from polyglance.study.grid.jobs import list_jobs
from polyglance.train.config import RunConfig
from tests.study.small_records import write_laws, write_scored
from tests.study.test_hostile_json import mutate
from tests.study.tiny import write_tiny_study

EXAMPLES = Path(__file__).parents[2] / "examples"
NUM_EACH = 75
"""Mutations of each file and of each kind."""
NUM_OF_EACH_TOML = 90
PART = PartId((0,))
Read = Callable[[Path], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records")
    write_scored(root / "scored")
    write_laws(root / "laws")
    (root / "laws" / DIGESTS_NAME).unlink()  # the seals alone
    inputs = {"inputs": {"frozen 3.5b": {"place": "a", "digest": "b"}}}
    write_record(root / "laws" / "inputs.json", inputs)
    folder = WorkFolder(root / "step", ".txt")
    folder.open("settings")
    work = PartWork(part=PART, folder=folder)
    with work.writing() as path:
        path.write_text("records")
    drops = {"too small": {"count": 2, "examples": ["a", "b"]}}
    folder.write_report(PART, PartReport(num_in=3, num_out=1, drops=drops, inputs=("i",)), work.files)
    return root


def read_step(folder: Path) -> Any:
    work = WorkFolder(folder, ".txt")
    work.open("settings")
    reports, unfinished = work.sort_out({PART: ("i",)}, retry_failed=False)
    if unfinished:  # a damaged report is none: the part is done again
        return PartReport(num_in=3, num_out=1)
    return reports[PART]


def read_law(folder: Path) -> Any:
    law = Law.load(folder / "law.json")
    fit = law.first
    at = {name: np.array([5.0]) for name in fit.form.predictors}
    return law.summary(), fit.predict(at).mean.tolist(), fit.warnings


def readers() -> Mapping[str, Read]:
    def read_all_scores(folder: Path) -> Any:
        report = read_scores(folder)
        again = select_segments(report, None, Resampling(num_samples=0))
        return report.as_dict(), [asdict(score) for score in again.scores], read_metric_scores(folder / "scores.json")

    def read_predictions(folder: Path) -> Any:
        rows, info = read_prediction_rows(folder), PredictionInfo.read(folder)
        return [asdict(row) for row in rows], asdict(info), [model.name for model in read_models([folder])]

    return {
        "scored/scores.json": read_all_scores,
        "scored/scores.npz": read_all_scores,
        "scored/prediction.json": read_predictions,
        "scored/predictions.jsonl": read_predictions,
        f"scored/{DIGESTS_NAME}": read_all_scores,
        "laws/law.json": read_law,
        "laws/df.json": lambda folder: asdict(DocumentFrequency.load(folder / "df.json")),
        "laws/predictions.json": lambda folder: asdict(RunPredictions.read(folder / "predictions.json")),
        "step/000.json": read_step,
        "step/step.json": read_step,
    }


def change(content: bytes, name: str, draw: random.Random, *, is_attack: bool) -> bytes:
    """Change a byte, a run of bytes or the length; an attack also a key, a value or the nesting of JSON."""
    if is_attack and name.endswith((".json", ".jsonl")) and draw.random() < 0.8:
        first, separator, rest = content.decode().partition("\n") if name.endswith("l") else (content.decode(), "", "")
        return (mutate(first, draw) + separator + rest).encode(errors="surrogatepass")
    at = draw.randrange(len(content))
    match draw.randrange(4):
        case 0:
            return content[:at]
        case 1:
            return content + content[:at]
        case 2:
            return content[:at] + draw.randbytes(8) + content[at + 8 :]
    return content[:at] + bytes([content[at] ^ draw.randrange(1, 256)]) + content[at + 1 :]


def try_to_read(read: Callable[[], Any], what: str) -> tuple[Any, str]:
    with redirect_stderr(StringIO()), np.errstate(all="ignore"):
        try:
            return read(), ""
        except (ValueError, OSError) as error:
            assert "\n" not in str(error), (what, str(error))  # noqa: PT017
            return None, str(error)
        except BaseException as error:  # noqa: BLE001
            pytest.fail(f"{what}: {type(error).__name__}: {error}")


@pytest.mark.filterwarnings("ignore")
def test_mutated_records_are_equal_or_refused(place: Path, tmp_path: Path) -> None:
    draw, num, refused = random.Random(11), 0, 0
    for name, read in readers().items():
        content = (place / name).read_bytes()
        expected = read(shutil.copytree((place / name).parent, tmp_path / "whole"))
        shutil.rmtree(tmp_path / "whole")
        for number in range(2 * NUM_EACH):
            copy = shutil.copytree((place / name).parent, tmp_path / "copy")
            path, is_attack = copy / Path(name).name, number % 2 == 1
            changed = change(content, name, draw, is_attack=is_attack)
            if is_attack:
                (copy / DIGESTS_NAME).unlink(missing_ok=True)
            path.write_bytes(changed)
            found, message = try_to_read(lambda read=read, copy=copy: read(copy), f"{name}: {changed[:300]!r}")
            refused += bool(message)
            num += 1
            if not is_attack and not message:
                assert is_equal(found, expected), f"{name}: {changed[:300]!r}"
            shutil.rmtree(copy)
    assert num >= 1_500
    assert refused > num // 2


def is_equal(one: Any, other: Any) -> bool:
    """A part that is done again has an empty report, which is no wrong number."""
    return repr(one) == repr(other) or one == PartReport(num_in=3, num_out=1)


@pytest.mark.filterwarnings("ignore")
def test_mutated_configurations_load_or_are_refused(tmp_path: Path) -> None:
    study = write_tiny_study(tmp_path)
    files: dict[Path, Callable[[Path], Any]] = {
        study: lambda path: list_jobs(load(StudyConfig, path)),
        EXAMPLES / "paper-finetune.toml": lambda path: (
            load(StudyConfig, path),
            digest_inputs(load(StudyConfig, path)),
        ),
        EXAMPLES / "finetune-mix.toml": lambda path: load(Recipe, path),
        EXAMPLES / "build-small.toml": lambda path: make_steps(load(Recipe, path)),
        EXAMPLES / "run.toml": lambda path: load(RunConfig, path),
    }
    draw, num, refused = random.Random(3), 0, 0
    for source, read in files.items():
        text = source.read_text()
        for _ in range(NUM_OF_EACH_TOML):
            path = tmp_path / "changed.toml"
            changed = change_toml(text, draw)
            path.write_bytes(changed.encode(errors="surrogatepass"))
            _, message = try_to_read(lambda read=read, path=path: read(path), f"{source.name}: {changed}")
            refused += bool(message)
            num += 1
    assert num >= 450
    assert refused > num // 3


ODD = (
    '""', '"="', "-1", "0", "1e400", "nan", "inf", "9" * 5000, "true", "[]", "{}", '["a"]', "[[1]]", "[{}]", "{a = 1}",
    '"../../etc/passwd"', '"\\u0000"', '"a\\nb"', "1979-05-27", "07:32:00", '"{size}{0}"', '"' + "x" * 5000 + '"',
    "[" * 500 + "]" * 500, "{a=" * 300 + "1" + "}" * 300,
)  # fmt: skip


def change_toml(text: str, draw: random.Random) -> str:
    lines = text.splitlines()
    settings = [number for number, line in enumerate(lines) if "=" in line and not line.lstrip().startswith("#")]
    number = draw.choice(settings)
    key, _, value = lines[number].partition("=")
    match draw.randrange(7):
        case 0:
            del lines[number]
        case 1:
            lines.insert(number, lines[number])
        case 2:
            lines[number] = f"{key.strip()}x = {value}"
        case 3:
            at = draw.randrange(len(text))
            return text[:at] + draw.choice("\"'[]{}=#.,\x00\ud800\u202e0-") + text[at + 1 :]
        case _:
            lines[number] = f"{key} = {draw.choice(ODD)}"
    return "\n".join(lines)
