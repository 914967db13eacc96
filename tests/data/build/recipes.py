"""Recipes of small builds, a step that kills its worker, and shards to compare."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from polyglance.config import load
from polyglance.data.build.parts import PartId, PartReport, PartWork
from polyglance.data.build.recipe import Recipe
from polyglance.data.build.step import Step
from polyglance.data.shard import read_records
from polyglance.data.world import WorldConfig, generate

NUM_IMAGES = 60
POLYGLANCE = (sys.executable, "-m", "polyglance")
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def world_recipe(folder: Path, *, num_images: int = NUM_IMAGES) -> Path:
    """A recipe over a folder of world images with English captions beside them, translated exactly."""
    generate(
        WorldConfig(languages=("en",), styles=("detailed",), num_train_images=num_images, num_test_images=1),
        folder / "world",
    )
    images = folder / "images"
    images.mkdir()
    for record in read_records(folder / "world" / "train"):
        (images / f"{record.key}.png").write_bytes(record.image)
        text = next(a.text for a in record.annotations if a.task == "caption")
        (images / f"{record.key}.txt").write_text(text + "\n")
    path = folder / "recipe.toml"
    path.write_text(
        f"""
        out = "{folder / "out"}"
        images_per_part = 8
        [[images]]
        path = "{images}"
        texts = "captions"
        text_style = "detailed"
        text_origin = "world"
        licence = "Apache-2.0"
        [duplicates]
        near = {{ max_distance = 0, max_colour_difference = 1.0 }}
        [translate]
        languages = ["de", "fr"]
        engine = {{ kind = "world" }}
        [output]
        test_fraction = 0.2
        rows_per_shard = 16
        """
    )
    return path


def engines_recipe(folder: Path, emoji: Path, *, num_images: int) -> Path:
    """A recipe with every step that a build can have: emoji, bitext of their names, tiny random engines.

    The engines write nonsense; the tests look at the way of the records.
    """
    sys.path.insert(0, str(Path(__file__).parents[2] / "engines"))
    import tiny_checkpoints

    rows = [json.loads(line) for line in (emoji / "captions.jsonl").read_text().splitlines()]
    rows = [row for row in rows if {"en", "fr", "zh"} <= row["texts"].keys()][:300]
    images = folder / "images"
    images.mkdir()
    for row in rows[:num_images]:
        (images / Path(row["image"]).name).write_bytes((emoji / row["image"]).read_bytes())
    (images / "broken.png").write_bytes(b"not an image")
    for code in ("fr", "zh"):
        lines = [f"the picture of {row['texts']['en']}\t{row['texts'][code]}\n" for row in rows]
        (folder / f"en-{code}.tsv").write_text("".join([*lines, "only one side\t\n"]))
    paths = {kind: getattr(tiny_checkpoints, kind)(folder / kind) for kind in ("florence2", "nllb")}
    paths["clip"] = tiny_checkpoints.dual_encoder(folder / "clip", "clip")
    path = folder / "recipe.toml"
    path.write_text(
        f"""
        out = "{folder / "out"}"
        images_per_part = 12
        pairs_per_part = 160
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
        engine = {{ kind = "florence2", path = "{paths["florence2"]}", max_new_tokens = 4, batch_size = 8 }}
        [translate]
        languages = ["de"]
        engine = {{ kind = "nllb", path = "{paths["nllb"]}", max_new_tokens = 4, batch_size = 8 }}
        context = {{ mode = "published" }}
        [match]
        engine = {{ kind = "clip", path = "{paths["clip"]}", batch_size = 8 }}
        [match.align]
        top_n = 2
        method = "faiss"
        faiss = {{ num_lists = 4, num_probes = 4, code_bytes = 4 }}
        hubs = {{ max_per_sentence = 3 }}
        num_recall_images = 4
        [output]
        rows_per_shard = 16
        """
    )
    return path


def with_out(recipe_path: Path, out: Path, *overrides: str) -> Recipe:
    """The recipe with another output folder."""
    return load(Recipe, recipe_path, overrides=[f"out={out}", *overrides])


def shards(out: Path) -> dict[str, bytes]:
    """Content of all shard files below a folder."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/shards/*"))}


@dataclass(frozen=True, kw_only=True)
class DeadlyStep(Step):
    """A step whose part kills its worker the first `num_deaths` times."""

    name = "deadly"
    unit = "things"
    suffix = ".txt"

    num_deaths: int

    def parts(self) -> Sequence[PartId]:
        return [PartId(images=(number,)) for number in range(3)]

    def run(self, work: PartWork) -> PartReport:
        marks = list(self.work_dir.glob("death-*"))
        if work.part.images == (1,) and len(marks) < self.num_deaths:
            (self.work_dir / f"death-{len(marks)}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with work.writing() as path:
            path.write_text("done")
        return PartReport(num_in=1, num_out=1)
