"""The trained model in the package captions a scene that it has not seen, in languages that it had no captions in."""

import json
from pathlib import Path

import pytest
from PIL import Image

from polyglance.cli import main
from polyglance.data.world import WorldConfig, describe, generate, render, sample_scene
from polyglance.engines.config import ModelConfig
from polyglance.engines.folders import MICRO_MODEL, find_folder
from polyglance.engines.open import open_model
from polyglance.evaluate.config import LossConfig
from polyglance.evaluate.folder_loss import measure_folder
from polyglance.model import PolyglanceCaptioner

PICTURE = Path(__file__).parents[2] / "examples" / "scene.png"
SCENE = sample_scene("pairs", seed=1, index=1, split="test")


def test_the_command_of_the_readme_gives_right_captions(capsys: pytest.CaptureFixture[str]) -> None:
    main(["caption", str(PICTURE), "--model", "micro", "--lang", "en,fr,zh"])
    texts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [text["text"] for text in texts] == [describe(SCENE, code) for code in ("en", "fr", "zh")]


def test_it_is_whole_and_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(path.stat().st_size for path in MICRO_MODEL.iterdir()) < 3e6
    assert Image.open(PICTURE).tobytes() == render(SCENE).tobytes()
    assert find_folder("micro") == MICRO_MODEL
    (tmp_path / "micro").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_folder("micro") == Path("micro"), "one's own folder comes first"
    [result] = PolyglanceCaptioner.load(MICRO_MODEL).caption(PICTURE, "es")
    assert result.text == describe(SCENE, "es")


def test_eval_knows_it_by_its_name(tmp_path: Path) -> None:
    facts = [open_model(ModelConfig(model=name)).facts("caption", "fr") for name in ("micro", str(MICRO_MODEL))]
    assert facts[0] == facts[1]
    generate(WorldConfig(num_train_images=1, num_test_images=2), tmp_path)
    by_name, by_folder = (
        measure_folder(LossConfig(model=Path(model), data=tmp_path / "test")) for model in ("micro", MICRO_MODEL)
    )
    assert by_name.cells == by_folder.cells
