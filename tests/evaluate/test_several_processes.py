"""Evaluations and captions by several processes are those of one: torchrun's, which talk by gloo, and workers."""

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import launched
import pytest
import tiny_evaluation
from tests.train.runs import call_torchrun

from polyglance.cli import main
from polyglance.data.shard import read_annotations
from polyglance.distributed import Runtime
from polyglance.model import caption_files
from polyglance.model.caption_request import CaptionRequest
from polyglance.model.config import GenerateConfig
from polyglance.model.generate import IMAGES_PER_BATCH_SIZE, Generated


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, world: Path) -> Path:
    folder = tmp_path_factory.mktemp("several")
    texts = {one.text for _, annotations in read_annotations(world / "test") for one in annotations}
    tiny_evaluation.tiny_model(folder / "model", texts=tuple(sorted(texts)))
    tiny_evaluation.tiny_model(folder / "start", texts=tuple(sorted(texts)), seed=1)
    tiny_evaluation.xm3600(folder / "root")
    shutil.copytree(world / "test", folder / "data")
    return folder


@pytest.fixture(scope="module")
def alone(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes."""
    out = tmp_path_factory.mktemp("alone")
    launched.work(inputs, out)
    return out


def contents(out: Path) -> dict[str, bytes]:
    """All files of predictions and scores, and what the first process has printed, without the place."""
    files = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    return {
        name: path.read_bytes().replace(str(out).encode(), b"OUT")
        for name, path in files.items()
        if "apart" not in name and path.suffix != ".npz" and path.stat().st_size
    }


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_of_torchrun_make_what_one_makes(
    num_processes: int, inputs: Path, alone: Path, tmp_path: Path
) -> None:
    call_torchrun(num_processes, str(Path(launched.__file__)), str(inputs), str(tmp_path / "out"))
    expected, made = contents(alone), contents(tmp_path / "out")
    assert {"scores-0", "losses-0", "captions-0"} <= expected.keys()
    assert sum(name.endswith("predictions.jsonl") for name in expected) == 2
    assert made.keys() == expected.keys()  # the other processes print nothing
    digests = {name for name in expected if name.endswith("digests.json")}
    assert {name for name in expected if made[name] != expected[name]} <= digests  # they hold those of scores.npz


def test_worker_processes_caption_as_one_does(inputs: Path, alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in (alone / "captions-0").read_text().splitlines()]
    assert len(lines) == 11
    assert lines[0] == lines[9]  # a file that is given twice
    assert "error" in lines[10]
    assert len({line.get("text") for line in lines}) > 3, "or a mix-up would not show"
    options = ["--model", str(inputs / "model"), "--lang", "fr", "--batch-size", "1"]
    main(["caption", *(line["image"] for line in lines[:10]), *options, "--processes", "2"])
    shown = capsys.readouterr()
    assert [json.loads(line) for line in shown.out.splitlines()] == lines[:10]
    assert "images: 9/9, " in shown.err


@pytest.mark.parametrize("is_launched", [False, True])
def test_captions_come_as_they_are_made(is_launched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made before a process dies is not lost, under torchrun neither; nor where a file is given twice."""
    captioned: list[str] = []

    class Request(CaptionRequest):
        def load(self) -> Any:
            return None

        def caption(self, captioner: Any, files: Sequence[str]) -> list[Generated]:
            captioned.extend(files)
            return [Generated(image=name, language=code) for name in files for code in self.languages]

    if is_launched:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setattr(caption_files, "join_for_messages", lambda: nullcontext(Runtime.single()))
    request = Request(model=Path("model"), languages=("fr", "zh"), config=GenerateConfig(batch_size=1))
    size = IMAGES_PER_BATCH_SIZE
    names = [f"{number}.png" for number in range(3 * size)]
    for given in (names, [*names, names[0]]):
        captioned.clear()
        results = caption_files.caption_files(given, request)
        next(results)
        assert captioned == names[:size]
        made = [(result.image, result.language) for result in results]
        assert made == [(name, code) for name in given for code in ("fr", "zh")][1:]
        assert captioned == names


def test_mistakes_are_one_line(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    caption = ["caption", "a.png", "--model", str(inputs / "model")]
    for options, message in (
        (["--processes", "0"], "--processes is 0; expected at least 1"),
        (["--processes", "2", "--model", str(tmp_path)], str(tmp_path)),
    ):
        with pytest.raises(SystemExit):
            main([*caption[: 2 if "--model" in options else 4], *options])
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    for verb in (
        [*caption, "--processes", "2"],
        ["eval", "caption", *caption[2:], "--benchmark", "xm3600", "--root", str(inputs / "root"), "--processes", "2"],
    ):
        with pytest.raises(SystemExit):
            main(verb)
        assert "--processes has no effect under torchrun" in capsys.readouterr().err
