"""The world as data sets on disk."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyglance import config as configs
from polyglance.data.manifest import read_manifest
from polyglance.data.shard import read_records
from polyglance.data.world import PREFIXES, WorldConfig, describe, generate, render, sample_scene

CONFIG = WorldConfig(level="full", styles=("short", "detailed"), num_train_images=20, num_test_images=5, seed=3)


def test_two_data_sets_with_everything_that_was_asked_for(tmp_path: Path) -> None:
    result = generate(CONFIG, tmp_path)
    assert result["num_train_images"] == 20
    for split, num in (("train", 20), ("test", 5)):
        manifest = read_manifest(tmp_path / split)
        assert manifest.num_images == num
        assert manifest.prefixes == {code: PREFIXES[code] for code in CONFIG.languages}
        assert manifest.licence == "Apache-2.0"
        cells = {f"{task}-{language}" for task in ("caption", "translation") for language in CONFIG.languages}
        assert manifest.rows_per_cell_and_style == {cell: {"detailed": num, "short": num} for cell in cells}


def test_a_record_holds_the_rendered_scene_and_its_captions(tmp_path: Path) -> None:
    generate(CONFIG, tmp_path)
    scene = sample_scene("full", 3, 4, "test")
    record = list(read_records(tmp_path / "test"))[4]
    assert record.key == "test-00000004"
    with Image.open(io.BytesIO(record.image)) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), render(scene, 32))
    texts = {(a.task, a.language, a.style): (a.text, a.source, a.origin) for a in record.annotations}
    assert texts["caption", "ru", "short"] == (describe(scene, "ru"), None, "world")
    detailed = describe(scene, "zh", "detailed"), describe(scene, "en", "detailed"), "world"
    assert texts["translation", "zh", "detailed"] == detailed


def test_the_same_config_gives_the_same_bytes_and_is_not_built_twice(tmp_path: Path) -> None:
    generate(CONFIG, tmp_path / "a")
    generate(CONFIG, tmp_path / "b")
    assert list(read_records(tmp_path / "a/train")) == list(read_records(tmp_path / "b/train"))
    before = (tmp_path / "a/train/manifest.json").stat().st_mtime_ns
    (tmp_path / "a/test/manifest.json").unlink()  # as if it had been interrupted in between
    generate(CONFIG, tmp_path / "a")
    assert (tmp_path / "a/train/manifest.json").stat().st_mtime_ns == before
    assert read_manifest(tmp_path / "a/test").num_images == 5


def test_another_world_is_not_overwritten(tmp_path: Path) -> None:
    generate(CONFIG, tmp_path)
    with pytest.raises(ValueError, match="finished data set"):
        generate(WorldConfig(num_train_images=1, num_test_images=1), tmp_path)


def test_languages_can_be_chosen_without_english(tmp_path: Path) -> None:
    generate(WorldConfig(languages=("de", "zh"), num_train_images=2, num_test_images=0), tmp_path)
    assert read_manifest(tmp_path / "train").rows_per_cell == {"caption-de": 2, "caption-zh": 2}
    assert read_manifest(tmp_path / "test").num_images == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"level": "ful"}, "level: 'ful' is not a choice; did you mean 'full'"),
        ({"image_size": 8}, "image_size is 8: the world needs 32 pixels or more"),
        ({"test_share": 1.0}, "test_share is 1.0: it must lie between 0 and 1"),
        ({"num_test_images": -1}, "num_test_images is -1: it must not be negative"),
        ({"seed": -1}, "seed is -1: it must not be negative"),
        ({"languages": []}, r"languages is \[\]: name one or more, each once"),
        ({"styles": ["short", "short"]}, "styles is .*: name one or more, each once"),
        ({"styles": ["paragraph"]}, "styles.0: 'paragraph' is not a choice"),
        ({"languages": ["de", "eo"]}, "unknown language 'eo'"),
        ({"languages": ["de", "it"]}, "no grammar for Italian"),
    ],
)
def test_a_bad_config_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configs.from_dict(WorldConfig, values)
