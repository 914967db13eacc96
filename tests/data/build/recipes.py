"""Recipes of small builds that the tests run."""

from pathlib import Path

from polyglance.data.shard import read_records
from polyglance.data.world import WorldConfig, generate

__all__ = ["world_recipe"]

NUM_IMAGES = 60


def world_recipe(folder: Path, *, num_images: int = NUM_IMAGES, languages: str = '"de", "fr"') -> Path:
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
        languages = [{languages}]
        engine = {{ kind = "world" }}
        [output]
        test_fraction = 0.2
        rows_per_shard = 16
        """
    )
    return path
