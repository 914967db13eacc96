"""Builds: what comes out, that kills and workers change nothing in it, and that nothing is lost silently."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.config import load
from polyglance.data.build.build import BuildResult, build, steps_of
from polyglance.data.build.executors import Processes
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.tasks import Task
from polyglance.data.shard import read_manifest, read_records
from polyglance.data.world import attributes
from polyglance.data.world.translator import WorldTranslator
from polyglance.engines.protocol import Failure

from .recipes import NUM_IMAGES, world_recipe

POLYGLANCE = (sys.executable, "-m", "polyglance")
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world_recipe(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def built(recipe_path: Path) -> BuildResult:
    return build(load(Recipe, recipe_path))


def elsewhere(recipe_path: Path, out: Path, *overrides: str) -> Recipe:
    return load(Recipe, recipe_path, overrides=[f"out={out}", *overrides])


def shards(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/shards/*"))}


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
                    assert attributes(annotation.text, code) == attributes(source, "en")
                    assert annotation.origin == "world exact"
    manifest = read_manifest(built.out / "train")
    assert manifest.licence == "Apache-2.0"
    assert manifest.rows_per_cell["caption-en"] == built.images["train"]


def test_workers_change_nothing(built: BuildResult, recipe_path: Path, tmp_path: Path) -> None:
    build(elsewhere(recipe_path, tmp_path), Processes(2))
    assert shards(tmp_path) == shards(built.out)


def test_what_is_done_is_not_done_again(built: BuildResult, recipe_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.out.rglob("*") if path.is_file()}
    again = build(load(Recipe, recipe_path))
    changed = {p.name for p, at in before.items() if p.stat().st_mtime_ns != at}
    assert changed <= {"recipe.toml", ".lock"}
    assert again == built


def test_a_changed_setting_makes_again_what_depends_on_it(recipe_path: Path, tmp_path: Path) -> None:
    build(elsewhere(recipe_path, tmp_path))
    images = (tmp_path / "work" / "images" / "000_00000.json").stat().st_mtime_ns
    result = build(elsewhere(recipe_path, tmp_path, 'translate.languages=["ru"]'))
    assert (tmp_path / "work" / "images" / "000_00000.json").stat().st_mtime_ns == images
    cells = Counter(str(a.cell) for record in read_records(result.out / "train") for a in record.annotations)
    assert "translation-ru" in cells
    assert "translation-de" not in cells


def made_at(out: Path) -> dict[str, int]:
    """Report of each part -> when it was written."""
    reports = (path for path in (out / "work").glob("*/*.json") if path.name != "step.json")
    return {f"{path.parent.name}/{path.stem}": path.stat().st_mtime_ns for path in reports}


def changed_parts(recipe: Recipe, *, workers: int = 0) -> set[str]:
    """Build again; what was done for it."""
    before = made_at(recipe.out)
    build(recipe, Processes(workers) if workers else None)
    return {name for name, at in made_at(recipe.out).items() if before.get(name) != at}


def test_a_changed_source_is_noticed_and_only_what_depends_on_it_is_made_again(tmp_path: Path) -> None:
    recipe_path = world_recipe(tmp_path, num_images=40)
    images = sorted((tmp_path / "images").glob("*.png"))
    recipe = load(Recipe, recipe_path)
    build(recipe)
    assert changed_parts(recipe) == set()

    text = images[20].with_suffix(".txt")
    text.write_text(images[30].with_suffix(".txt").read_text())  # in the third of five pieces of eight images
    third = {f"{step}/000_00002-00000" for step in ("descriptions", "translations", "annotations")}
    assert changed_parts(recipe) == third | {"sources/000", "images/000_00002", "select/all"}

    for path in images:
        path.touch()
    assert changed_parts(recipe) == {"sources/000"} | {f"images/000_{piece:05d}" for piece in range(5)}

    images[39].unlink()
    (tmp_path / "images" / "zzz.png").write_bytes(images[0].read_bytes() + b"another file, the same picture")
    images[0].unlink()
    changed_parts(recipe, workers=2)
    new = elsewhere(recipe_path, tmp_path / "new")
    build(new)
    assert shards(recipe.out) == shards(new.out)

    for path in images[8:39]:
        path.unlink()
    changed_parts(recipe)  # one piece where there were five: nothing of the others may be left
    new = elsewhere(recipe_path, tmp_path / "newer")
    assert sum(build(new).images.values()) == 7  # the other has no text
    assert shards(recipe.out) == shards(new.out)


def test_a_changed_evaluation_set_is_noticed(tmp_path: Path) -> None:
    recipe_path = world_recipe(tmp_path, num_images=8)
    (tmp_path / "exam").mkdir()
    images = sorted((tmp_path / "images").glob("*.png"))
    shutil.copy(images[0], tmp_path / "exam")
    recipe = load(Recipe, recipe_path, overrides=[f'duplicates.exclude={{exam="{tmp_path / "exam"}"}}'])
    assert sum(build(recipe).images.values()) == 7
    shutil.copy(images[1], tmp_path / "exam")
    assert sum(build(recipe).images.values()) == 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("images=[]", "name at least one source"),
        ("images.0.path=nowhere", "no such file or folder"),
        ('translate.engine.kind="clip"', "needs path"),
        ("output.test_fraction=1.5", "share below 1"),
        ("translate.lanugages=1", "did you mean 'languages'?"),
        ('translate.languages=["cz"]', "did you mean 'cs'?"),
        ('translate.languages=["en"]', "which is what is translated from"),
        ('annotate.captions=["en", "klingon"]', "unknown language 'klingon'"),
    ],
)
def test_mistakes_are_one_line(override: str, message: str, recipe_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^[^\n]*" + message.replace("?", r"\?")):
        build(elsewhere(recipe_path, tmp_path, override))


def test_a_build_that_leaves_no_image_says_so(
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


def test_a_folder_of_shards_is_a_part_for_each(recipe_path: Path, tmp_path: Path, built: BuildResult) -> None:
    """WebDataset tars are read side by side; what comes out is what the images as files give, in another order."""
    images = sorted((recipe_path.parent / "images").iterdir())
    (tmp_path / "tars").mkdir()
    for number in range(3):
        with tarfile.open(tmp_path / "tars" / f"{number}.tar", "w") as tar:
            for path in images[40 * number : 40 * (number + 1)]:
                tar.add(path, arcname=path.name)
    recipe = elsewhere(recipe_path, tmp_path / "out", f"images.0.path={tmp_path / 'tars'}")
    result = build(recipe)
    assert {step.name: step.num_parts for step in result.steps}["images"] == 3

    def records(out: Path) -> dict[str, object]:
        return {record.key: record for name in ("train", "test") for record in read_records(out / name)}

    assert records(recipe.out) == records(built.out)

    with tarfile.open(tmp_path / "tars" / "0.tar", "w") as tar:
        for path in images[:10]:  # one file of images where there were three
            tar.add(path, arcname=path.name)
    build(recipe)
    assert len(records(recipe.out)) == NUM_IMAGES - 15


def test_engine_seconds_are_those_of_the_engine_alone(
    built: BuildResult, recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that moves on by one whenever it is looked at: a call takes one, whatever is done around it."""
    (step,) = (step for step in steps_of(load(Recipe, recipe_path)) if step.name == "translations")
    num_calls = 0

    class Counted(WorldTranslator):
        def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
            nonlocal num_calls
            num_calls += 1
            return super().translate(texts, language=language)

    monkeypatch.setattr("polyglance.data.build.describe.time.perf_counter", itertools.count().__next__)
    task = Task(engine=Counted(), part=step.parts()[0], out=built.out / "elsewhere")
    assert step.run(task).engine_s == num_calls > 0
    (built.out / "elsewhere.parquet").unlink()


def test_two_builds_do_not_share_a_folder(recipe_path: Path, built: BuildResult) -> None:
    from polyglance.files import locked

    with locked(built.out, "polyglance data build"), pytest.raises(ValueError, match="another `polyglance data build`"):
        build(load(Recipe, recipe_path))


def shards_after_kills(
    command: list[str], out: Path, expected: dict[str, bytes], *, kills: int, seconds: float
) -> dict[str, bytes]:
    """What is there after so many kills of a running build, at random moments, and a run to the end. A build that ends
    before its moment has come has to give what is `expected`, and is begun again."""
    moments, killed = random.Random(3), 0
    while killed < kills:
        process = subprocess.Popen(command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=moments.uniform(0.5, seconds))
            assert shards(out) == expected
            shutil.rmtree(out)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)  # the process alone: its workers have to notice by themselves
            process.wait()
            killed += 1
    subprocess.run(command, check=True, env=ENV, capture_output=True)
    return shards(out)


@pytest.mark.slow
def test_killed_at_ten_random_moments_gives_the_same_shards(
    built: BuildResult, recipe_path: Path, tmp_path: Path
) -> None:
    command = [*POLYGLANCE, "data", "build", str(recipe_path), "--set", f"out={tmp_path / 'out'}", "--workers", "2"]
    expected = shards(built.out)
    assert shards_after_kills(command, tmp_path / "out", expected, kills=10, seconds=8) == expected
