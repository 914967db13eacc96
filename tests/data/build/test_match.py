"""The steps that match bitext to images, with an embedder that gives every content a direction of its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from polyglance.config import load
from polyglance.data.align import AlignConfig, FaissConfig
from polyglance.data.build.executors import InProcess
from polyglance.data.build.ingest import BitextStep, ImagesStep, PairsStep, SelectStep
from polyglance.data.build.match import AlignStep, HubsStep, ImageVectorsStep, IndexStep, TextVectorsStep, TuneStep
from polyglance.data.build.plan import PlanStep
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.tasks import Report, Step, open_step, output_digests, read_report
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


@dataclass(frozen=True, kw_only=True)
class OwnImageVectors(ImageVectorsStep):
    def start(self) -> Directions:
        return Directions()


@dataclass(frozen=True, kw_only=True)
class OwnTextVectors(TextVectorsStep):
    def start(self) -> Directions:
        return Directions()


@pytest.fixture
def sources(tmp_path: Path) -> tuple:
    lines = [f"sentence {n}\tSatz {n}\n" for n in range(600)]
    (tmp_path / "de.tsv").write_text("".join(lines))
    images = load(Recipe, world_recipe(tmp_path, num_images=20)).images
    return (*images, BitextSource(path=tmp_path / "de.tsv", language="de"))


def steps_to_matches(work_dir: Path, sources: tuple, align: AlignConfig) -> list[Step]:
    engine = EngineConfig(kind="world")
    plan = PlanStep(work_dir=work_dir, sources=sources, images_per_part=8, pairs_per_part=100)
    images = ImagesStep(work_dir=work_dir, plan=plan)
    select = SelectStep(work_dir=work_dir, images=images, config=Recipe(out=work_dir, images=sources[:1]).duplicates)
    pairs = PairsStep(work_dir=work_dir, plan=plan)
    bitext = BitextStep(work_dir=work_dir, pairs=pairs)
    image_vectors = OwnImageVectors(work_dir=work_dir, select=select, engine=engine)
    text_vectors = OwnTextVectors(work_dir=work_dir, bitext=bitext, engine=engine)
    index = IndexStep(work_dir=work_dir, texts=text_vectors, config=align)
    tune = TuneStep(work_dir=work_dir, images=image_vectors, index=index, config=align)
    hubs = HubsStep(work_dir=work_dir, align=AlignStep(work_dir=work_dir, tune=tune))
    return [plan, images, select, pairs, bitext, image_vectors, text_vectors, index, tune, hubs.align, hubs]


def matches(work_dir: Path, sources: tuple, align: AlignConfig) -> tuple[dict[str, str], list[Report]]:
    """Digests of the matches, and the reports of tuning."""
    steps = steps_to_matches(work_dir, sources, align)
    for step in steps:
        open_step(step, work_dir / step.name)
        list(InProcess().run(step, work_dir / step.name, step.parts()))
    tuned = [read_report(work_dir / "tuning", part) for part in steps[-3].parts()]
    return dict(output_digests(work_dir / "matches", "de")), tuned


def test_an_index_that_is_searched_through_finds_what_the_exact_search_does(sources: tuple, tmp_path: Path) -> None:
    exact, no_tuning = matches(tmp_path / "exact", sources, AlignConfig(top_n=3))
    assert len(exact) == 3
    assert no_tuning == []
    whole = FaissConfig(num_lists=4, num_probes=4, refine_factor=64)
    found, (tuned,) = matches(tmp_path / "whole", sources, AlignConfig(top_n=3, method="faiss", faiss=whole))
    assert (tuned.recall, tuned.num_in) == (1.0, 10)
    assert "the exact search may well be faster" in tuned.warning
    assert found == exact
    # The search of every part is the tuned one, not the one that was asked for.
    poor = FaissConfig(num_lists=4, num_probes=1, refine_factor=1, recall=None)
    untuned, (measured,) = matches(tmp_path / "poor", sources, AlignConfig(top_n=3, method="faiss", faiss=poor))
    asked = AlignConfig(top_n=3, method="faiss", faiss=replace(poor, recall=0.95))
    found, (tuned,) = matches(tmp_path / "tuned", sources, asked)
    assert measured.recall is not None
    assert tuned.recall is not None
    assert measured.recall < tuned.recall
    assert found != untuned
