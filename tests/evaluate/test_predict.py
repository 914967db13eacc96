"""Predictions survive kills, do not depend on the number of processes, and are never taken for others."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_evaluation

from polyglance.engines import Failure, ModelConfig, Picture, open_model
from polyglance.engines.protocol import TextLoss
from polyglance.evaluate.config import PredictConfig
from polyglance.evaluate.predict import predict_benchmark
from polyglance.evaluate.prediction_job import PredictionJob
from polyglance.evaluate.prediction_set import (
    INFO_NAME,
    PREDICTIONS_NAME,
    PredictionInfo,
    PredictionRow,
    PredictionSet,
    read_prediction_rows,
)
from polyglance.evaluate.row_files import RowFile, join_row_files, keep_whole_batches
from polyglance.files import DIGESTS_NAME, locked


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and benchmarks."""
    folder = tmp_path_factory.mktemp("evaluation")
    tiny_evaluation.tiny_model(folder / "model")
    tiny_evaluation.xm3600(folder / "root")
    tiny_evaluation.commute(folder / "root")
    return folder


def config(inputs: Path, out: Path, **changes: Any) -> PredictConfig:
    values = {"task": "caption", "benchmark": "xm3600", "language": "fr", "batch_size": 2, "limit": 11, **changes}
    model = values.pop("model", {})
    writing = {} if values["task"] == "disambiguation" else {"max_new_tokens": 5, "beams": 2}
    settings = ModelConfig(model=str(inputs / "model"), **{**writing, **model})
    return PredictConfig(model=settings, root=inputs / "root", out=out, **values)


def files(prediction: PredictionSet) -> tuple[bytes, bytes]:
    names = {path.name for path in prediction.folder.iterdir()}
    assert names == {".lock", INFO_NAME, PREDICTIONS_NAME, DIGESTS_NAME}
    return (prediction.folder / PREDICTIONS_NAME).read_bytes(), (prediction.folder / INFO_NAME).read_bytes()


KILLED = """
import os, signal, sys
from polyglance.evaluate import predict, row_files
from {module} import config
done = 0
write = row_files.RowFile.append
def append(self, rows):
    global done
    if done == 3:
        self._file.write(row_files._format_checked(row.format_line() for row in rows)[:-9])  # one line whole, one half
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    write(self, rows)
def count_rows(folder, name):
    num_rows = counted(folder, name)
    if num_rows >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return num_rows
counted = row_files.count_rows
if __name__ == "__main__":
    if {processes} == 1:
        row_files.RowFile.append = append
    else:
        predict.count_rows = count_rows
    from pathlib import Path
    predict.predict_benchmark(config(Path({inputs!r}), Path({out!r}), processes={processes}, task={task!r},
        benchmark={benchmark!r}, language={language!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "benchmark", "language", "processes"),
    [("caption", "xm3600", "fr", 1), ("disambiguation", "commute-disambiguation", "de", 2)],
)
def test_killed_and_resumed_is_uninterrupted(
    task: str, benchmark: str, language: str, processes: int, inputs: Path, tmp_path: Path
) -> None:
    chosen = {"task": task, "benchmark": benchmark, "language": language}
    whole = files(predict_benchmark(config(inputs, tmp_path / "whole", **chosen)))
    out = tmp_path / "killed"
    script = tmp_path / "killed.py"
    values = {"inputs": str(inputs), "out": str(out), "processes": processes, "module": Path(__file__).stem}
    script.write_text(KILLED.format(**values, **chosen))
    code = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=_env(code))
    assert done.returncode == -9, done.stderr
    (folder,) = out.iterdir()
    assert not (folder / PREDICTIONS_NAME).exists()
    left = [line for part in folder.glob("*.partial*") for line in part.read_bytes().split(b"\n") if line]
    assert left, "something was done before the kill"
    assert files(predict_benchmark(config(inputs, out, **chosen, processes=3 - processes))) == whole


def _env(changes: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **changes}


def test_finished_predictions_are_read(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = predict_benchmark(config(inputs, tmp_path))
    assert len(first.rows) == len(first.examples) == 11
    assert len({row.text for row in first.rows}) > 5, "or a mix-up would not show"
    monkeypatch.setattr("polyglance.evaluate.predict_batches.predict_batch", None)
    again = predict_benchmark(config(inputs, tmp_path))
    assert again.rows == first.rows
    assert again.info == first.info


def test_done_batches_are_not_made_again(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = predict_benchmark(config(inputs, tmp_path))
    for name in (PREDICTIONS_NAME, INFO_NAME, DIGESTS_NAME):
        (first.folder / name).unlink()
    with RowFile(first.folder, 0, PREDICTIONS_NAME) as file:
        file.append(first.rows[:7])
    from polyglance.evaluate import predict_batches

    asked: list[int] = []
    ask = predict_batches._ask
    monkeypatch.setattr(predict_batches, "_ask", lambda *args: asked.append(len(args[2])) or ask(*args))
    assert predict_benchmark(config(inputs, tmp_path)).rows == first.rows
    assert asked == [2, 2, 1], "the fourth batch was half done and is made again"


def test_a_changed_byte_of_unfinished_predictions_is_found(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the rows of batches that are done, and in those that lack their description only: made again, or refused."""
    first = predict_benchmark(config(inputs, tmp_path))
    expected = (first.folder / PREDICTIONS_NAME).read_bytes()
    from polyglance.evaluate import predict_batches

    asked: list[int] = []
    ask = predict_batches._ask
    monkeypatch.setattr(predict_batches, "_ask", lambda *args: asked.append(len(args[2])) or ask(*args))
    draw, messages = random.Random(2), []
    for number in range(14):
        (first.folder / INFO_NAME).unlink(missing_ok=True)
        if number % 2:
            for name in (PREDICTIONS_NAME, DIGESTS_NAME):
                (first.folder / name).unlink(missing_ok=True)
            with RowFile(first.folder, 0, PREDICTIONS_NAME) as file:
                file.append(first.rows[:8])
        paths = [path for path in first.folder.iterdir() if path.name != ".lock"]
        path = draw.choice(paths)
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= draw.randrange(1, 256)
        path.write_bytes(content)
        try:
            predict_benchmark(config(inputs, tmp_path))
        except ValueError as error:
            messages.append(str(error))
            path.unlink()
            predict_benchmark(config(inputs, tmp_path))
        assert (first.folder / PREDICTIONS_NAME).read_bytes() == expected, (number, path)
    assert asked
    assert len(messages) < 7
    assert not any("\n" in message for message in messages)


def test_other_settings_go_to_other_folders(inputs: Path, tmp_path: Path) -> None:
    base = config(inputs, tmp_path, limit=1)
    changed = [
        base,
        config(inputs, tmp_path, limit=1, model={"prefix": "auto"}),
        config(inputs, tmp_path, limit=1, model={"beams": 1}),
        config(inputs, tmp_path, limit=1, model={"max_new_tokens": 4}),
        config(inputs, tmp_path, limit=1, batch_size=1),
        config(inputs, tmp_path, limit=2),
        config(inputs, tmp_path, limit=1, language="zh"),
    ]
    tiny_evaluation.tiny_model(tmp_path / "retrained", seed=1)
    changed.append(replace(base, model=replace(base.model, model=str(tmp_path / "retrained"))))
    names = [PredictionJob(each, open_model(each.model)).folder.name for each in changed]
    assert len(set(names)) == len(changed)
    assert names[0].startswith("xm3600-all-fr-beams2-32px-first1-")
    assert names[1].startswith("xm3600-all-fr-prefix-beams2-32px-first1-")


def test_changed_sources_are_predicted_again(inputs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(inputs / "root" / "CoMMuTE", root / "CoMMuTE")
    chosen = {"task": "translation", "benchmark": "commute-translation", "language": "de", "limit": 2}
    ask = replace(config(inputs, tmp_path / "out", **chosen), root=root)
    first = predict_benchmark(ask)
    sources = root / "CoMMuTE" / "CoMMuTE" / "en-de" / "src.en"
    sources.write_text(sources.read_text().replace("bank", "river"))
    assert predict_benchmark(ask).folder != first.folder


def test_images_that_cannot_be_read_are_rows_with_an_error(inputs: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(inputs / "root" / "xm3600", root / "xm3600", copy_function=_link)
    broken = root / "xm3600" / "images" / f"{3:016x}.jpg"
    broken.unlink()
    broken.write_bytes(b"no image")
    prediction = predict_benchmark(replace(config(inputs, tmp_path / "out"), root=root))
    good = predict_benchmark(config(inputs, tmp_path / "good"))
    assert prediction.rows[3].text == ""
    assert "not an image" in str(prediction.rows[3].error)
    assert prediction.info.num_errors == prediction.count_errors().total() == 1
    others = [row for number, row in enumerate(prediction.rows) if number != 3]
    assert others == [row for number, row in enumerate(good.rows) if number != 3]


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


class Stub:
    """A model whose answers are inputs up."""

    name = "stub"
    reads_images = True
    languages = dict.fromkeys(("caption", "translation", "disambiguation"))

    def facts(self, task: str, language: str) -> dict[str, Any]:
        return {"weights": "none"}

    def write_captions(self, images: Sequence[Picture], language: str) -> Sequence[str | Failure]:
        return [Failure("too hard"), *["half \ud83d a \u2028 text"] * (len(images) - 1)]

    def write_translations(self, images: Any, sources: Any, language: str) -> Sequence[str | Failure]:
        raise NotImplementedError

    def measure_losses(self, images: Any, sources: Any, candidates: Any, language: str) -> Sequence[Any]:
        right = TextLoss(nats=4.0, num_tokens=4)
        answers = [(right, TextLoss(nats=3.9, num_tokens=3)), (TextLoss(nats=float("nan"), num_tokens=1), right)]
        return [*answers, *[Failure("too long")] * (len(images) - 2)]


def test_what_models_answer(inputs: Path, tmp_path: Path) -> None:
    captions = predict_benchmark(config(inputs, tmp_path, limit=3, batch_size=3), Stub())
    assert captions.rows[0] == PredictionRow(id=f"{0:016x}", text="", error="too hard")
    assert captions.rows[1].text == "half ? a \u2028 text"
    chosen = {"task": "disambiguation", "benchmark": "commute-disambiguation", "language": "de"}
    losses = predict_benchmark(config(inputs, tmp_path, **chosen, limit=3, batch_size=3), Stub())
    row = PredictionRow(id="1", correct=1.0, incorrect=1.3, correct_tokens=4, incorrect_tokens=3)
    assert losses.rows[0] == row, "losses are means: the shorter text is not favoured"
    assert losses.rows[1:] == [
        PredictionRow(id="2", error="the loss is not a finite number"),
        PredictionRow(id="3", error="too long"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "xm360"}, "there is no benchmark 'xm360'"),
        ({"task": "translation"}, "xm3600 is a benchmark of caption, not of translation"),
        ({"language": "xx"}, "does not know the language 'xx'"),
        ({"split": "test"}, "test"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"processes": 0}, "processes is 0; expected at least 1"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str, inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        predict_benchmark(config(inputs, tmp_path / "out", **changes))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_one_process_at_a_time(inputs: Path, tmp_path: Path) -> None:
    hold = partial(locked, tmp_path, "polyglance eval")
    with hold(), pytest.raises(ValueError, match="another `polyglance eval`"), hold():
        pass


def test_rows_of_any_run_are_joined(tmp_path: Path) -> None:
    """Left by three processes: whole batches, halves, damaged lines."""
    batches = [["a", "b"], ["c", "d"], ["e", "f"], ["g"]]
    rows = {name: PredictionRow(id=name, text=name.upper() + "\u2028") for name in "abcdefg"}
    with RowFile(tmp_path, 0, PREDICTIONS_NAME) as file:
        file.append([rows["c"], rows["d"]])
        file.append([rows["e"]])
    with RowFile(tmp_path, 2, PREDICTIONS_NAME) as file:
        file.append([rows["a"], rows["b"]])
    with (tmp_path / f"{PREDICTIONS_NAME}.partial-1").open("wb") as damaged:
        damaged.write(b'\x00\x00\x00\n[1, 2]\n{"id": "g", "text": "y"}\n00000000 {"id": "g", "te')
    assert keep_whole_batches(tmp_path, batches, PREDICTIONS_NAME) == {0, 1}
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREDICTIONS_NAME}.partial"]
    with RowFile(tmp_path, 1, PREDICTIONS_NAME) as file:
        file.append([rows["g"]])
    with RowFile(tmp_path, 0, PREDICTIONS_NAME) as file:
        file.append([rows["e"], rows["f"]])
    join_row_files(tmp_path, list("abcdefg"), PREDICTIONS_NAME)
    assert {path.name for path in tmp_path.iterdir()} == {PREDICTIONS_NAME, DIGESTS_NAME}
    assert read_prediction_rows(tmp_path) == list(rows.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "text": "x"}\n{"id": "b", "te', r"predictions\.jsonl:2: not valid JSON"),
        ('{"id": "a", "text": 3}\n', r"predictions\.jsonl:1: 'text' is 3"),
        ('{"id": "a", "correct": NaN}\n', "'correct' is nan"),
        ('{"id": "a", "score": 1}\n', "'score' is 1"),
        ('{"text": "a"}\n', "expected an object with an id"),
        ('{"id": "a", "correct": 1.0}\n', "expected a text, two losses or an error"),
    ],
)
def test_damaged_predictions_are_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / PREDICTIONS_NAME).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_prediction_rows(tmp_path)


def test_predictions_of_other_rows_are_refused(inputs: Path, tmp_path: Path) -> None:
    """A finished file that somebody has shortened since."""
    whole = predict_benchmark(config(inputs, tmp_path, limit=2))
    path = whole.folder / PREDICTIONS_NAME
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    with pytest.raises(ValueError, match="damaged or changed"):
        predict_benchmark(config(inputs, tmp_path, limit=2))
    (whole.folder / DIGESTS_NAME).unlink()
    with pytest.raises(ValueError, match="its rows are not those of the benchmark"):
        predict_benchmark(config(inputs, tmp_path, limit=2))


def test_information_comes_back(tmp_path: Path) -> None:
    info = PredictionInfo(benchmark="xm3600", split="all", language="fr", model="m", facts={"beams": 4}, limit=3)
    info.write(tmp_path)
    assert PredictionInfo.read(tmp_path) == info
