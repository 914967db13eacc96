"""A whole build over real pictures with engines from local checkpoints: descriptions, translations, matched bitext.

Every record passes each engine once, in order, and comes out where it belongs; a kill in any step changes nothing.
"""

import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from polyglance.config import load
from polyglance.data.build.build import BuildResult, build, make_steps
from polyglance.data.build.executors import WorkerPool
from polyglance.data.build.parts import PartId
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.step import order_steps
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import read_records

from .recipes import engines_recipe, shards, with_out

faiss = pytest.importorskip("faiss", reason="the extra `search` is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

NUM_IMAGES = 30


@pytest.fixture(scope="module")
def recipe_path(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines_recipe(tmp_path_factory.mktemp("engines"), shared / "data/emoji", num_images=NUM_IMAGES)


@pytest.fixture(scope="module")
def built(recipe_path: Path) -> BuildResult:
    return build(load(Recipe, recipe_path))


def test_from_pictures_and_bitext_to_shards(built: BuildResult, recipe_path: Path) -> None:
    steps = {step.name: step for step in built.steps}
    assert list(steps)[:2] == ["image-pieces", "bitext-pieces"], "all sources are looked at before an engine is loaded"
    assert steps["images"].num_in == NUM_IMAGES + 1
    assert steps["images"].drops["image: not an image"]["count"] == 1
    assert sum(entry["count"] for entry in steps["pairs"].drops.values()) >= 2
    manifest = read_manifest(built.out / "train")
    assert manifest.drops.keys() >= steps["images"].drops.keys() | steps["pairs"].drops.keys()
    assert manifest.licence == "Apache-2.0; Unicode"

    matches = make_steps(load(Recipe, recipe_path)).matches
    assert matches is not None
    files = matches.select.list_files_with_images()
    vectors = matches.image_vectors.open_vectors(files).all()
    keys = [key for file in files for key in matches.select.read_kept_keys(file)]
    pairs = {}
    for code in ("fr", "zh"):
        similar = vectors @ matches.text_vectors.open_vectors(code).all().T
        of_language = matches.bitext.folder.list_files(PartId(language=code))
        lines = [row for file in of_language for row in matches.bitext.read_table(file).to_pylist()]
        assert similar.shape == (len(keys), len(lines))
        pairs.update({(code, key): (scores, lines) for key, scores in zip(keys, similar, strict=True)})
    taken: Counter[tuple[str, str]] = Counter()
    for record in read_records(built.out / "train"):
        for annotation in record.annotations:
            if annotation.origin == "bitext" and annotation.style == "short":
                scores, lines = pairs[annotation.language, record.key]
                same = [n for n, line in enumerate(lines) if line["source"] == annotation.source]
                assert any(lines[n]["target"] == annotation.text for n in same)
                assert any(np.isclose(scores[n], annotation.score, atol=2e-3) for n in same)
                taken[annotation.language, annotation.text] += 1
    assert taken
    assert max(taken.values()) <= 3, "no sentence is used without limit"


def build_until(recipe: Recipe, folder: str, *, kill: str, number: int) -> bool:
    """Build in a child process that kills itself; return whether it did.

    Args:
        folder: the step, or `shards` and `train` of the data set, in which the kill happens.
        kill: `file` or `report`: before the temporary file of which kind gets its name.
        number: which of them, from 1.
    """
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    try:
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        real, count = Path.replace, 0

        def replace(self: Path, target: Path) -> Path:
            nonlocal count
            is_report = target.suffix == ".json"
            if target.parent.name == folder and target.name != "step.json" and is_report == (kill == "report"):
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(self, target)

        Path.replace = replace  # type: ignore[method-assign]
        build(recipe)
        os._exit(0)
    finally:
        os._exit(1)


def test_killed_twice_in_every_step_the_shards_are_the_same(
    built: BuildResult, recipe_path: Path, tmp_path: Path
) -> None:
    """First while the second file is written (if there is one), then with a file but without its report."""
    recipe = with_out(recipe_path, tmp_path)
    moments = [(step.name, *when) for step in built.steps for when in (("file", min(2, step.num_parts)), ("report", 1))]
    for folder, kill, number in [*moments, ("shards", "file", 2), ("train", "report", 1)]:
        assert build_until(recipe, folder, kill=kill, number=number), f"no {number}. {kill} of {folder}"
        assert not (tmp_path / "train" / "manifest.json").exists()
    assert not build_until(recipe, "nowhere", kill="file", number=1)
    assert shards(tmp_path) == shards(built.out)
    for step in order_steps(make_steps(recipe)):
        inside = {path.name.partition(".")[0] for path in step.folder.path.iterdir()} - {"step"}
        of_whole = built.out / "work" / step.name
        assert inside == {path.name.partition(".")[0] for path in of_whole.iterdir()} - {"step"}, "nothing is left over"


def test_worker_processes_change_nothing(built: BuildResult, recipe_path: Path, tmp_path: Path) -> None:
    """Two steps again, one of them with an engine; the others are finished."""
    recipe = with_out(recipe_path, tmp_path / "out")
    shutil.copytree(built.out / "work", recipe.out / "work")
    for step in ("descriptions", "matches"):
        shutil.rmtree(recipe.out / "work" / step)
    build(recipe, WorkerPool(2))
    assert shards(recipe.out) == shards(built.out)
