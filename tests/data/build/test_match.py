"""The steps that match bitext to images, with an embedder that gives every content a direction of its own."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from polyglance.config import load
from polyglance.data.align import AlignConfig, FaissConfig
from polyglance.data.build.build import do_step, make_matches_step
from polyglance.data.build.describe import DescribeStep
from polyglance.data.build.executors import InProcess
from polyglance.data.build.ingest import BitextStep, ImagesStep, PairsStep, SelectStep
from polyglance.data.build.match import MatchConfig
from polyglance.data.build.parts import PartId, PartReport
from polyglance.data.build.pieces import BitextPiecesStep, ImagePiecesStep
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.step import order_steps
from polyglance.data.sources.bitext import BitextSource
from polyglance.engines import EngineConfig

from .recipes import world_recipe

pytest.importorskip("faiss", reason="the extra `search` is not installed")


class Directions:
    name, version, dim = "directions", "1", 16

    def embed_images(self, images: Sequence[bytes]) -> np.ndarray:
        rows = [np.random.default_rng(list(sha256(image).digest())).standard_normal(self.dim) for image in images]
        vectors = np.array(rows, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.embed_images([text.encode() for text in texts])


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr("polyglance.data.build.match.open_embedder", lambda config: Directions())
    (tmp_path / "de.tsv").write_text("".join(f"sentence {n}\tSatz {n}\n" for n in range(600)))
    return load(Recipe, world_recipe(tmp_path, num_images=20))


def match(work_dir: Path, recipe: Recipe, align: AlignConfig) -> tuple[dict[PartId, str], list[PartReport]]:
    """Files of matches with their digests, and the reports of tuning."""
    images = ImagesStep(
        work_dir=work_dir, pieces=ImagePiecesStep(work_dir=work_dir, sources=recipe.images, records_per_piece=8)
    )
    select = SelectStep(work_dir=work_dir, images=images, config=recipe.duplicates)
    describe = DescribeStep(work_dir=work_dir, images=images, select=select, config=None)
    german = BitextSource(path=recipe.out.parent / "de.tsv", language="de")
    pieces = BitextPiecesStep(work_dir=work_dir, sources=(german,), records_per_piece=100)
    bitext = BitextStep(work_dir=work_dir, pairs=PairsStep(work_dir=work_dir, pieces=pieces))
    config = MatchConfig(engine=EngineConfig(kind="world"), align=align)
    files: dict[str, dict[PartId, str]] = {}
    tuned: list[PartReport] = []
    for step in order_steps(make_matches_step(describe, bitext, config)):
        reports = do_step(step, files, InProcess())
        files[step.name] = step.folder.digests(reports.values())
        tuned += reports.values() if step.name == "tuning" else ()
    return files["matches"], tuned


def test_an_index_that_is_searched_through_finds_what_the_exact_search_does(recipe: Recipe, tmp_path: Path) -> None:
    exact, no_tuning = match(tmp_path / "exact", recipe, AlignConfig(top_n=3))
    assert list(exact) == [PartId((0, piece, 0), "de") for piece in range(3)]
    assert no_tuning == []
    whole = FaissConfig(num_lists=4, num_probes=4, refine_factor=64)
    matches, (tuned,) = match(tmp_path / "whole", recipe, AlignConfig(top_n=3, method="faiss", faiss=whole))
    assert (tuned.recall, tuned.num_in) == (1.0, 10)
    assert "the exact search may well be faster" in tuned.warning
    assert matches == exact


def test_every_part_is_searched_with_the_tuned_settings(recipe: Recipe, tmp_path: Path) -> None:
    poor = FaissConfig(num_lists=4, num_probes=1, refine_factor=1, recall=None)
    untuned, (measured,) = match(tmp_path / "poor", recipe, AlignConfig(top_n=3, method="faiss", faiss=poor))
    asked = AlignConfig(top_n=3, method="faiss", faiss=replace(poor, recall=0.95))
    matches, (tuned,) = match(tmp_path / "tuned", recipe, asked)
    assert measured.recall is not None
    assert tuned.recall is not None
    assert measured.recall < tuned.recall
    assert matches != untuned
