"""Predictions survive kills, do not depend on the number of processes, and are never taken for others."""

import json
import os
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
from polyglance.evaluate.parts import PREDICTIONS, Part, keep_whole_batches, merge
from polyglance.evaluate.predict import SIDECAR, PredictConfig, Prediction, _Work, predict
from polyglance.files import locked


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and benchmarks."""
    folder = tmp_path_factory.mktemp("evaluation")
    tiny_evaluation.tiny_model(folder / "model")
    tiny_evaluation.xm3600(folder / "root")
    tiny_evaluation.commute(folder / "root")
    return folder


def config(made: Path, out: Path, **changes: Any) -> PredictConfig:
    values = {"task": "caption", "benchmark": "xm3600", "language": "fr", "batch_size": 2, "limit": 11, **changes}
    model = values.pop("model", {})
    settings = ModelConfig(model=str(made / "model"), **{"max_new_tokens": 5, "beams": 2, **model})
    return PredictConfig(model=settings, root=made / "root", out=out, **values)


def files(prediction: Prediction) -> tuple[bytes, bytes]:
    assert sorted(path.name for path in prediction.folder.iterdir()) == [".lock", SIDECAR, PREDICTIONS]
    return (prediction.folder / PREDICTIONS).read_bytes(), (prediction.folder / SIDECAR).read_bytes()


KILLED = """
import os, signal, sys
from polyglance.evaluate import parts, predict
from {module} import config
done = 0
write = parts.Part.append
def append(self, rows):
    global done
    if done == 3:
        self._file.write(parts._lines(rows)[:-9])  # one line whole, one half
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
    write(self, rows)
def num_lines(folder):
    lines = counted(folder)
    if lines >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return lines
counted = parts.num_lines
if __name__ == "__main__":
    if {processes} == 1:
        parts.Part.append = append
    else:
        predict.num_lines = num_lines
    from pathlib import Path
    predict.predict(config(Path({made!r}), Path({out!r}), num_processes={processes}, task={task!r},
        benchmark={benchmark!r}, language={language!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "benchmark", "language", "processes"),
    [("caption", "xm3600", "fr", 1), ("disambiguation", "commute-disambiguation", "de", 2)],
)
def test_killed_and_resumed_is_uninterrupted(
    task: str, benchmark: str, language: str, processes: int, made: Path, tmp_path: Path
) -> None:
    chosen = {"task": task, "benchmark": benchmark, "language": language}
    whole = files(predict(config(made, tmp_path / "whole", **chosen)))
    out = tmp_path / "killed"
    script = tmp_path / "killed.py"
    values = {"made": str(made), "out": str(out), "processes": processes, "module": Path(__file__).stem}
    script.write_text(KILLED.format(**values, **chosen))
    code = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=_env(code))
    assert done.returncode == -9, done.stderr
    (folder,) = out.iterdir()
    assert not (folder / PREDICTIONS).exists()
    left = [line for part in folder.glob("*.partial*") for line in part.read_bytes().split(b"\n") if line]
    assert left, "something was done before the kill"
    assert files(predict(config(made, out, **chosen, num_processes=3 - processes))) == whole


def _env(changes: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **changes}


def test_finished_predictions_are_read(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = predict(config(made, tmp_path))
    assert len(first.rows) == len(first.examples) == 11
    assert len({row["text"] for row in first.rows}) > 5, "or a mix-up would not show"
    monkeypatch.setattr("polyglance.evaluate.predict._ask", None)
    again = predict(config(made, tmp_path))
    assert again.rows == first.rows
    assert again.sidecar == first.sidecar


def test_batches_that_are_done_are_not_made_again(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = predict(config(made, tmp_path))
    lines = (first.folder / PREDICTIONS).read_bytes().splitlines(keepends=True)
    (first.folder / SIDECAR).unlink()
    (first.folder / PREDICTIONS).write_bytes(b"".join(lines[:7]) + b'{"id": "half')
    from polyglance.evaluate import predict as module

    asked: list[int] = []
    ask = module._ask
    monkeypatch.setattr(module, "_ask", lambda work, examples: asked.append(len(examples)) or ask(work, examples))
    assert predict(config(made, tmp_path)).rows == first.rows
    assert asked == [2, 2, 1], "the fourth batch was half done and is made again"


def test_other_settings_go_to_other_folders(made: Path, tmp_path: Path) -> None:
    base = config(made, tmp_path, limit=1)
    changed = [
        base,
        config(made, tmp_path, limit=1, model={"prefix": "auto"}),
        config(made, tmp_path, limit=1, model={"beams": 1}),
        config(made, tmp_path, limit=1, model={"max_new_tokens": 4}),
        config(made, tmp_path, limit=1, batch_size=1),
        config(made, tmp_path, limit=2),
        config(made, tmp_path, limit=1, language="zh"),
    ]
    tiny_evaluation.tiny_model(tmp_path / "retrained", seed=1)
    changed.append(replace(base, model=replace(base.model, model=str(tmp_path / "retrained"))))
    names = [_Work(each, open_model(each.model)).folder.name for each in changed]
    assert len(set(names)) == len(changed)
    assert names[0].startswith("xm3600-all-fr-beams2-32px-first1-")
    assert names[1].startswith("xm3600-all-fr-prefix-beams2-32px-first1-")


def test_changed_sources_are_predicted_again(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(made / "root" / "CoMMuTE", root / "CoMMuTE")
    chosen = {"task": "translation", "benchmark": "commute-translation", "language": "de", "limit": 2}
    ask = replace(config(made, tmp_path / "out", **chosen), root=root)
    first = predict(ask)
    sources = root / "CoMMuTE" / "CoMMuTE" / "en-de" / "src.en"
    sources.write_text(sources.read_text().replace("bank", "river"))
    assert predict(ask).folder != first.folder


def test_images_that_cannot_be_read_are_rows_with_an_error(made: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(made / "root" / "xm3600", root / "xm3600", copy_function=_link)
    broken = root / "xm3600" / "images" / f"{3:016x}.jpg"
    broken.unlink()
    broken.write_bytes(b"no image")
    prediction = predict(replace(config(made, tmp_path / "out"), root=root))
    good = predict(config(made, tmp_path / "good"))
    assert prediction.rows[3]["text"] == ""
    assert "not an image" in prediction.rows[3]["error"]
    assert prediction.sidecar["num_errors"] == 1
    assert sum(prediction.errors.values()) == 1
    others = [row for number, row in enumerate(prediction.rows) if number != 3]
    assert others == [row for number, row in enumerate(good.rows) if number != 3]


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


class Stub:
    """A model whose answers are made up."""

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


def test_what_models_answer(made: Path, tmp_path: Path) -> None:
    captions = predict(config(made, tmp_path, limit=3, batch_size=3), Stub())
    assert captions.rows[0] == {"id": f"{0:016x}", "text": "", "error": "too hard"}
    assert captions.rows[1]["text"] == "half ? a \u2028 text"
    chosen = {"task": "disambiguation", "benchmark": "commute-disambiguation", "language": "de"}
    losses = predict(config(made, tmp_path, **chosen, limit=3, batch_size=3), Stub())
    row = {"id": "1", "correct": 1.0, "incorrect": 1.3, "correct_tokens": 4, "incorrect_tokens": 3}
    assert losses.rows[0] == row, "losses are means: the shorter text is not favoured"
    assert losses.rows[1:] == [
        {"id": "2", "error": "the loss is not a finite number"},
        {"id": "3", "error": "too long"},
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmark": "xm360"}, "there is no benchmark 'xm360'"),
        ({"task": "translation"}, "xm3600 is a benchmark of caption, not of translation"),
        ({"language": "xx"}, "does not know the language 'xx'"),
        ({"split": "test"}, "test"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"num_processes": 0}, "num_processes is 0; expected at least 1"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str, made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        predict(config(made, tmp_path / "out", **changes))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists(), "nothing is left behind"


def test_one_process_at_a_time(made: Path, tmp_path: Path) -> None:
    hold = partial(locked, tmp_path, "polyglance eval")
    with hold(), pytest.raises(ValueError, match="another `polyglance eval`"), hold():
        pass


def test_parts_of_any_run_are_joined(tmp_path: Path) -> None:
    """Left by three processes: whole batches, halves, damaged lines."""
    batches = [["a", "b"], ["c", "d"], ["e", "f"], ["g"]]
    rows = {name: {"id": name, "text": name.upper() + "\u2028"} for name in "abcdefg"}
    with Part(tmp_path, 0) as part:
        part.append([rows["c"], rows["d"]])
        part.append([rows["e"]])
    with Part(tmp_path, 2) as part:
        part.append([rows["a"], rows["b"]])
    with (tmp_path / f"{PREDICTIONS}.partial-1").open("wb") as file:
        file.write(b'\x00\x00\x00\n[1, 2]\n{"text": "x"}\n{"id": "g", "te')
    assert keep_whole_batches(tmp_path, batches) == {0, 1}
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREDICTIONS}.partial"]
    with Part(tmp_path, 1) as part:
        part.append([rows["g"]])
    with Part(tmp_path, 0) as part:
        part.append([rows["e"], rows["f"]])
    assert merge(tmp_path, list("abcdefg")) == list(rows.values())
    assert [path.name for path in tmp_path.iterdir()] == [PREDICTIONS]
    lines = (tmp_path / PREDICTIONS).read_bytes().decode().rstrip("\n").split("\n")
    assert [json.loads(line)["id"] for line in lines] == list("abcdefg")
