"""A whole build over real pictures: descriptions, translations and matched bitext by engines from local checkpoints.

The engines are tiny and random, so what they write means nothing; that every record passes through them, in order,
once, and comes out where it belongs, is what is looked at.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from polyglance.config import load
from polyglance.data.align import Embeddings
from polyglance.data.build.build import build
from polyglance.data.build.executors import Processes
from polyglance.data.build.ingest import kept_keys, pair_parts, read_pairs
from polyglance.data.build.recipe import Recipe
from polyglance.data.shard import read_manifest, read_records

from .test_build import POLYGLANCE, shards, shards_after_kills

sys.path.insert(0, str(Path(__file__).parents[2] / "engines"))

NUM_IMAGES = 40


@pytest.fixture(scope="module")
def recipe_path(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_checkpoints

    folder = tmp_path_factory.mktemp("engines")
    rows = [json.loads(line) for line in (shared / "data/emoji/captions.jsonl").read_text().splitlines()]
    rows = [row for row in rows if {"en", "fr", "zh"} <= row["texts"].keys()][: 3 * NUM_IMAGES]
    images = folder / "images"
    images.mkdir()
    for row in rows[:NUM_IMAGES]:
        name = Path(row["image"]).name
        (images / name).write_bytes((shared / "data/emoji" / row["image"]).read_bytes())
    (images / "broken.png").write_bytes(b"not an image")
    for code in ("fr", "zh"):  # bitext of other pictures' names as well: twice as many as there are images
        lines = [f"the picture of {row['texts']['en']}\t{row['texts'][code]}\n" for row in rows]
        (folder / f"en-{code}.tsv").write_text("".join([*lines, "only one side\t\n"]))
    checkpoints = {kind: getattr(tiny_checkpoints, kind)(folder / kind) for kind in ("florence2", "nllb")}
    checkpoints["clip"] = tiny_checkpoints.dual_encoder(folder / "clip", "clip")
    path = folder / "recipe.toml"
    path.write_text(
        f"""
        out = "{folder / "out"}"
        images_per_part = 16
        pairs_per_part = 50
        [[images]]
        path = "{images}"
        licence = "Apache-2.0"
        [[bitext]]
        path = "{folder / "en-fr.tsv"}"
        language = "fr"
        licence = "Unicode"
        [[bitext]]
        path = "{folder / "en-zh.tsv"}"
        language = "zh"
        [duplicates]
        near = {{ max_distance = 0, max_colour_difference = 1.0 }}
        [recaption]
        engine = {{ kind = "florence2", path = "{checkpoints["florence2"]}", max_new_tokens = 8, batch_size = 8 }}
        [translate]
        languages = ["de"]
        engine = {{ kind = "nllb", path = "{checkpoints["nllb"]}", max_new_tokens = 8, batch_size = 8 }}
        context = {{ mode = "published" }}
        [match]
        engine = {{ kind = "clip", path = "{checkpoints["clip"]}", batch_size = 8 }}
        align = {{ top_n = 2, hubs = {{ max_per_sentence = 3 }} }}
        """
    )
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_from_pictures_and_bitext_to_shards(recipe_path: Path, tmp_path: Path) -> None:
    recipe = load(Recipe, recipe_path)
    result = build(recipe)
    steps = {step.name: step for step in result.steps}
    assert steps["images"].num_in == NUM_IMAGES + 1
    assert "image: undecodable" in " ".join(steps["images"].drops) or steps["images"].num_out == NUM_IMAGES
    assert sum(entry["count"] for entry in steps["pairs"].drops.values()) >= 2
    manifest = read_manifest(recipe.out / "train")
    assert manifest.drops.keys() >= steps["images"].drops.keys() | steps["pairs"].drops.keys()
    assert manifest.licence == "Apache-2.0; Unicode"

    work, pairs = recipe.out / "work", {}
    for code in ("fr", "zh"):
        parts = [part for part in steps_parts(work) if kept_keys(work, part)]
        vectors = Embeddings([work / "image-vectors" / f"{part}.npy" for part in parts]).all()
        texts = Embeddings([work / "text-vectors" / f"{code}-{path.stem}.npy" for path in pair_parts(work, code)]).all()
        lines = [row for path in pair_parts(work, code) for row in read_pairs(path).to_pylist()]
        assert len(lines) == len(texts)
        similar = vectors @ texts.T
        for row, key in enumerate(key for part in parts for key in kept_keys(work, part)):
            pairs[code, key] = (similar[row], lines)
    taken: dict[tuple[str, str], int] = {}
    for record in read_records(recipe.out / "train"):
        for annotation in record.annotations:
            if annotation.origin == "bitext" and "\n" not in annotation.text and annotation.style == "short":
                scores, lines = pairs[annotation.language, record.key]
                found = [n for n, line in enumerate(lines) if line["source"] == annotation.source]
                assert any(lines[n]["target"] == annotation.text for n in found)
                assert any(np.isclose(scores[n], annotation.score, atol=2e-3) for n in found)
                taken[annotation.language, annotation.text] = taken.get((annotation.language, annotation.text), 0) + 1
    assert taken
    assert max(taken.values()) <= 3, "no sentence is taken without limit"

    again = load(Recipe, recipe_path, overrides=[f"out={tmp_path}"])
    build(again, Processes(2))
    assert shards(tmp_path) == shards(recipe.out)


def steps_parts(work: Path) -> list[str]:
    return [f"{path.parent.name}-{path.stem}" for path in sorted((work / "images").glob("*/*.parquet"))]


@pytest.mark.slow
def test_killed_at_random_moments_the_bitext_comes_out_the_same(recipe_path: Path, tmp_path: Path) -> None:
    """Every step that a build can have, killed ten times."""
    recipe = load(Recipe, recipe_path)
    build(recipe)
    command = [*POLYGLANCE, "data", "build", str(recipe_path), "--set", f"out={tmp_path / 'out'}", "--workers", "2"]
    expected = shards(recipe.out)
    assert shards_after_kills(command, tmp_path / "out", expected, kills=10, seconds=30) == expected
