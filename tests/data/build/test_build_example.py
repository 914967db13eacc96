"""examples/build-small.toml as its comments say."""

import runpy
from pathlib import Path

import pytest

from polyglance.cli import main
from polyglance.data.shard import read_records

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_small_recipe_builds_a_data_set_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "draw_scenes.py"))["draw_scenes"](Path("out/scenes"), num_scenes=30)
    main(["data", "build", str(EXAMPLES / "build-small.toml")])
    main(["data", "audit", "out/build-small/train", "--out", "out/audit.html"])
    records = [record for split in ("train", "test") for record in read_records(Path("out/build-small") / split)]
    assert len(records) == 30
    drawn = {
        path.read_bytes(): path.with_suffix(".txt").read_text().strip() for path in Path("out/scenes").glob("*.png")
    }
    for record in records:
        texts = {(text.task, text.language): text.text for text in record.annotations}
        assert texts["caption", "en"] == drawn[record.image]
        assert {key[1] for key in texts} == {"en", "de", "fr", "es", "ru", "zh"}
        assert {key[1] for key in texts if key[0] == "caption"} == {"en", "de"}
    assert Path("out/audit.html").stat().st_size > 1000
