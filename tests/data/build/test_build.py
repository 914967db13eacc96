"""Builds: the data sets that come out, what is done again after a change, and that kills and workers change nothing."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.config import load
from polyglance.data.build import executors
from polyglance.data.build.build import BuildResult, build, make_steps
from polyglance.data.build.describe import TranslateStep
from polyglance.data.build.executors import WorkerPool
from polyglance.data.build.parts import PartWork
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.step import order_steps
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import read_records
from polyglance.data.world import read_attributes
from polyglance.data.world.translator import WorldTranslator
from polyglance.engines import Failure
from polyglance.files import locked
from polyglance.processes import number_workers

from .recipes import ENV, NUM_IMAGES, POLYGLANCE, DeadlyStep, shards, with_out, world_recipe


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world_recipe(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def built(recipe_path: Path) -> BuildResult:
    return build(load(Recipe, recipe_path))


def test_every_image_comes_out_with_its_translations(built: BuildResult) -> None:
    assert sum(built.images.values()) == NUM_IMAGES
    assert built.images["test"] > 0
    for name in built.images:
        for record in read_records(built.out / name):
            texts = {(a.task, a.language, a.style): a for a in record.annotations}
            source = texts["caption", "en", "detailed"].text
            assert {code for task, code, _ in texts if task == "translation"} == {"de", "fr"}
            for (task, code, _), annotation in texts.items():
                if task == "translation" and annotation.source == source:
                    assert read_attributes(annotation.text, code) == read_attributes(source, "en")
                    assert annotation.origin == "world exact"
    manifest = read_manifest(built.out / "train")
    assert manifest.licence == "Apache-2.0"
    assert manifest.rows_per_cell["caption-en"] == built.images["train"]


def test_finished_work_is_not_done_again(built: BuildResult, recipe_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.out.rglob("*") if path.is_file()}
    again = build(load(Recipe, recipe_path))
    changed = {p.name for p, at in before.items() if p.stat().st_mtime_ns != at}
    assert changed <= {"recipe.toml", ".lock"}
    assert again == built


def report_times(out: Path) -> dict[str, int]:
    """Part -> time at which its report was written."""
    reports = (path for path in (out / "work").glob("*/*.json") if path.name != "step.json")
    return {f"{path.parent.name}/{path.stem}": path.stat().st_mtime_ns for path in reports}


def redone(recipe: Recipe, *, workers: int = 0) -> set[str]:
    """Build again; return the parts that were done."""
    before = report_times(recipe.out)
    build(recipe, WorkerPool(workers) if workers else None)
    return {name for name, at in report_times(recipe.out).items() if before.get(name) != at}


def test_a_changed_setting_or_source_makes_again_what_depends_on_it(tmp_path: Path) -> None:
    recipe_path = world_recipe(tmp_path, num_images=40)
    images = sorted((tmp_path / "images").glob("*.png"))
    recipe = load(Recipe, recipe_path)
    build(recipe)
    other = with_out(recipe_path, recipe.out, 'translate.languages=["ru"]')
    pieces = [f"000_{piece:05d}" for piece in range(5)]
    files = [f"{piece}_00000" for piece in pieces]
    assert redone(other) == {f"{step}/{file}" for step in ("translations", "annotations") for file in files}
    cells = Counter(str(a.cell) for record in read_records(other.out / "train") for a in record.annotations)
    assert "translation-ru" in cells
    assert "translation-de" not in cells

    build(recipe)
    text = images[20].with_suffix(".txt")
    text.write_text(images[30].with_suffix(".txt").read_text())  # in the third of five pieces of eight images
    third = {f"{step}/{files[2]}" for step in ("descriptions", "translations", "annotations")}
    assert redone(recipe) == third | {"image-pieces/000", f"images/{pieces[2]}", "select/all"}

    for path in images:
        path.touch()
    assert redone(recipe) == {"image-pieces/000"} | {f"images/{piece}" for piece in pieces}

    images[39].unlink()
    (tmp_path / "images" / "zzz.png").write_bytes(images[0].read_bytes() + b"another file, the same picture")
    images[0].unlink()
    redone(recipe, workers=2)
    new = with_out(recipe_path, tmp_path / "new")
    build(new)
    assert shards(recipe.out) == shards(new.out)

    for path in images[8:39]:
        path.unlink()
    redone(recipe)  # one piece instead of five: no file of the others may be left
    new = with_out(recipe_path, tmp_path / "newer")
    assert sum(build(new).images.values()) == 7  # the other image has no text
    assert shards(recipe.out) == shards(new.out)

    (tmp_path / "exam").mkdir()
    shutil.copy(images[1], tmp_path / "exam")
    recipe = with_out(recipe_path, recipe.out, f'duplicates.exclude={{exam="{tmp_path / "exam"}"}}')
    assert sum(build(recipe).images.values()) == 6
    shutil.copy(images[2], tmp_path / "exam")
    assert sum(build(recipe).images.values()) == 5


_ASKED = '{kind = "endpoint", url = "http://127.0.0.1:1/v1", model = "m", prompt = "%s"}'


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("images=[]", "name at least one source"),
        ("images.0.path=nowhere", "no such file or folder"),
        ('translate.engine.kind="clip"', "needs path"),
        ("output.test_fraction=1.5", "at least 0 and below 1"),
        ("translate.lanugages=1", "did you mean 'languages'?"),
        (
            f"translate.engine={_ASKED % 'In {lang}: {text}'}",
            "{lang}, for which nothing is filled in; did you mean 'language'?",
        ),
        (
            f"translate.engine={_ASKED % 'In {language}: {Text}'}",
            "{Text}, for which nothing is filled in; did you mean",
        ),
        (f"translate.engine={_ASKED % 'Translate'}", "must say where the text goes: {text}"),
        (f"recaption={{engine={_ASKED % 'In {language}.'}}}", "{language}, for which nothing is filled in; write it"),
        ('translate.languages=["kr"]', "did you mean 'ko'?"),
        ('translate.languages=["en"]', "the source of all translations; leave it out"),
        ('annotate.captions=["en", "klingon"]', "unknown language 'klingon'"),
    ],
)
def test_mistakes_are_one_line(override: str, message: str, recipe_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^[^\n]*" + re.escape(message)):
        build(with_out(recipe_path, tmp_path, override))


def test_a_build_without_an_image_left_is_an_error(
    recipe_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    shutil.copy(next((recipe_path.parent / "images").glob("*.png")), tmp_path / "images")
    command = ["data", "build", str(recipe_path), "--set", f"out={tmp_path / 'out'}"]
    with pytest.raises(SystemExit) as caught:  # an image without a text
        main([*command, "--set", f"images.0.path={tmp_path / 'images'}"])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert "no text is left for it" in printed.out
    assert "not a single image is left" in printed.err


def test_a_part_may_make_several_files(recipe_path: Path, tmp_path: Path, built: BuildResult) -> None:
    """A tar is one part. The data sets equal those of the image files, in another order."""
    images = sorted((recipe_path.parent / "images").iterdir())
    (tmp_path / "tars").mkdir()
    for number in range(3):
        with tarfile.open(tmp_path / "tars" / f"{number}.tar", "w") as tar:
            for path in images[40 * number : 40 * (number + 1)]:
                tar.add(path, arcname=path.name)
    recipe = with_out(recipe_path, tmp_path / "out", f"images.0.path={tmp_path / 'tars'}")
    result = build(recipe)
    assert {step.name: step.num_parts for step in result.steps}["images"] == 3

    def records(out: Path) -> dict[str, object]:
        return {record.key: record for name in ("train", "test") for record in read_records(out / name)}

    assert records(recipe.out) == records(built.out)

    with tarfile.open(tmp_path / "tars" / "0.tar", "w") as tar:
        for path in images[:10]:  # one file of images instead of three
            tar.add(path, arcname=path.name)
    build(recipe)
    assert len(records(recipe.out)) == NUM_IMAGES - 15


def test_failed_records_are_tried_again_and_no_others(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = 'translate.context={mode="published"}'  # one try for each text
    expected = shards(build(with_out(recipe_path, tmp_path / "expected", published)).out)
    asked: list[str] = []

    class Failing(WorldTranslator):
        """Fails for one text in three, unless `works` is set."""

        works = False

        def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
            asked.extend(texts)
            answers = super().translate(texts, language=language)
            return [
                Failure("timed out") if len(text) % 3 == 0 and not self.works else answer
                for text, answer in zip(texts, answers, strict=True)
            ]

        alternatives = translate

    monkeypatch.setattr("polyglance.data.build.describe.open_translator", lambda config: Failing())
    recipe = with_out(recipe_path, tmp_path / "out", published)
    (step,) = (step for step in build(recipe).steps if step.name == "translations")
    assert 0 < step.num_failed < step.num_in == 2 * NUM_IMAGES
    assert step.drops["de: timed out"]["count"] + step.drops["fr: timed out"]["count"] == step.num_failed
    asked.clear()
    build(recipe)
    assert asked == []
    Failing.works = True
    (step,) = (step for step in build(recipe, retry_failed=True).steps if step.name == "translations")
    assert step.num_failed == 0
    assert asked
    assert all(len(text) % 3 == 0 for text in asked)
    assert shards(recipe.out) == expected


def test_damaged_work_is_made_again(recipe_path: Path, built: BuildResult, tmp_path: Path) -> None:
    """A byte of one file, and of one report, of each step of a build that was killed before its last step was done."""
    shutil.copytree(built.out, tmp_path / "out")
    recipe, work = with_out(recipe_path, tmp_path / "out"), tmp_path / "out" / "work"
    expected = shards(built.out)
    for step in sorted(path.name for path in work.iterdir()):
        for is_report in (False, True):
            shutil.rmtree(tmp_path / "out")
            shutil.copytree(built.out, tmp_path / "out")
            shutil.rmtree(tmp_path / "out" / "train")
            for report in (work / "annotations").glob("*.json"):
                report.unlink()
            paths = sorted(p for p in (work / step).iterdir() if p.is_file() and p.name != "step.json")
            paths = [path for path in paths if (path.suffix == ".json") == is_report]
            if not paths:
                continue
            content = bytearray(paths[-1].read_bytes())
            content[len(content) // 2] ^= 1
            paths[-1].write_bytes(content)
            build(recipe)
            assert shards(recipe.out) == expected, paths[-1]


def test_other_weights_in_an_engines_folder_make_its_step_and_later_ones_again(
    recipe_path: Path, tmp_path: Path
) -> None:
    engine = f'translate.engine={{kind="nllb", path="{tmp_path}"}}'
    fingerprints = []
    for weights in (b"weights", b"other weights"):
        (tmp_path / "model.safetensors").write_bytes(weights)
        last = make_steps(load(Recipe, recipe_path, overrides=[engine]))
        fingerprints.append({step.name: step.fingerprint for step in order_steps(last)})
    changed = {name for name in fingerprints[0] if fingerprints[0][name] != fingerprints[1][name]}
    assert changed == {"translations", "annotations"}


def test_engine_seconds_are_those_of_the_engine_alone(
    built: BuildResult, recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that advances by one at each look: a call of the engine takes one, whatever is done around it."""
    (step,) = (step for step in order_steps(make_steps(load(Recipe, recipe_path))) if isinstance(step, TranslateStep))
    num_calls = 0

    class Counted(WorldTranslator):
        def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
            nonlocal num_calls
            num_calls += 1
            return super().translate(texts, language=language)

    part, folder = step.parts()[0], step.folder
    folder.file(part).rename(folder.path / "kept")  # or its translations would be used again
    monkeypatch.setattr("polyglance.data.build.describe.time.perf_counter", itertools.count().__next__)
    assert step.run(PartWork(part=part, folder=folder, engine=Counted())).engine_s == num_calls > 0
    (folder.path / "kept").rename(folder.file(part))


def test_two_builds_do_not_share_a_folder(recipe_path: Path, built: BuildResult) -> None:
    with locked(built.out, "polyglance data build"), pytest.raises(ValueError, match="another `polyglance data build`"):
        build(load(Recipe, recipe_path))


def test_workers_take_turns_at_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "end_with_parent", lambda: None)
    monkeypatch.setattr(executors, "_Worker", lambda step: step)
    monkeypatch.setattr(executors, "_worker", None, raising=False)
    numbers = number_workers(get_context("spawn"), 3)
    used = []
    for _ in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
        executors._start_worker(None, numbers)  # type: ignore[arg-type]
        used.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert used == ["4", "7", "4"]


def test_a_dead_worker_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = DeadlyStep(work_dir=tmp_path, num_deaths=2)
    step.folder.open(step.fingerprint)
    inputs = dict.fromkeys(step.parts(), ())
    assert {part for part, _ in WorkerPool(1).run(step, inputs)} == set(inputs)
    monkeypatch.setattr("polyglance.data.build.executors._MAX_BROKEN", 1)
    with pytest.raises(ValueError, match=r"workers were killed 1 times .* the first part left: 001"):
        list(WorkerPool(1).run(replace(step, num_deaths=3), inputs))


def kill_when(command: Sequence[str], report: Path, environment: Mapping[str, str] = ENV) -> None:
    """Run a build and kill it as soon as a report is there; its workers have to notice by themselves."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(report.parent.glob(report.name)):
            time.sleep(0.02)  # looks at what another process does; nothing is timed
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"


@pytest.mark.slow
def test_killed_with_its_workers_at_work_the_shards_are_the_same(
    built: BuildResult, recipe_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [*POLYGLANCE, "data", "build", str(recipe_path), "--set", f"out={out}", "--workers", "2"]
    for step in ("images", "translations"):
        kill_when(command, out / "work" / step / "000_*.json")
    subprocess.run(command, check=True, env=ENV, capture_output=True)
    assert shards(out) == shards(built.out)
