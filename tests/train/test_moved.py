"""A run is the same wherever its folder and its inputs lie, and another one when their content is another."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from polyglance.config import save
from polyglance.study.work.measure import train_run
from polyglance.train.config import StartConfig
from polyglance.train.run import train
from polyglance.train.signals import Stopped
from polyglance.train.watch import WatchConfig
from tests.train.runs import assert_identical, measured_run, small_run, stop_after, write_checkpoint


def test_a_run_is_moved_between_every_two_checkpoints(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run and data: to another folder, named in full, from the working folder, and by a link; once copied."""
    train_run(measured_run(world, tmp_path / "whole"), lambda: False)
    monkeypatch.chdir(tmp_path)
    data = shutil.copytree(world, tmp_path / "data")
    out = tmp_path / "place-0"
    for number in range(1, 5):
        with pytest.raises(Stopped):
            train_run(measured_run(data, out), iter([False, True]).__next__)
        text = "".join(path.read_text() for path in out.rglob("*.json") if "tokenizer" not in path.name)
        assert str(tmp_path) not in text + (out / "config.toml").read_text().replace(f'data = "{data}', "")
        new = tmp_path / f"place-{number}"
        shutil.copytree(out, new)
        shutil.rmtree(out.resolve())
        data = data.rename(tmp_path / f"data-{number}")
        out = new
        match number % 3:
            case 1:
                out, data = Path(os.path.relpath(out)), Path(os.path.relpath(data)).absolute()
            case 2:
                (tmp_path / "link").symlink_to(new)
                out = tmp_path / "link"
    train_run(measured_run(data, out), lambda: False)
    assert_identical(out, tmp_path / "whole")
    for name in ("losses.json", "captions.jsonl", "initial.json"):
        content = (out / name).read_text().replace(f'"run": "{out.name}"', '"run": "whole"')
        assert _unsealed(content) == _unsealed((tmp_path / "whole" / name).read_text())


def _unsealed(text: str) -> str:
    return text.partition('"seal"')[0]


def test_a_start_that_moved_is_the_same_and_one_that_changed_is_not(
    world: Path, tokenizer_path: Path, tmp_path: Path
) -> None:
    start = write_checkpoint(tmp_path / "start", tokenizer_path, vocab_size=1024)
    config = small_run(world, None, tokenizer=None, start=StartConfig(checkpoint=start), save_every_steps=4)
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", hooks=stop_after(4))
    moved = start.rename(tmp_path / "moved")
    config = replace(config, start=StartConfig(checkpoint=moved))
    with pytest.raises(Stopped):
        train(config, tmp_path / "run", hooks=stop_after(2))
    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-7] ^= 1
    (moved / "model.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"other settings \(start.checkpoint has other content: .*moved\)"):
        train(config, tmp_path / "run")


def test_a_run_of_an_older_version_goes_on_in_its_place(world: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """Its settings are noted with paths; there are no seals and no digests of its inputs."""
    config = small_run(world, tokenizer_path, save_every_steps=4, watch=WatchConfig())
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "old", hooks=stop_after(4))
    (tmp_path / "old" / "settings.json").unlink()
    save(config, tmp_path / "old" / "config.toml")
    path = tmp_path / "old" / "checkpoints" / "step-00000004" / "checkpoint.json"
    record = json.loads(path.read_text())
    del record["seal"], record["state"]["log"]
    path.write_text(json.dumps(record | {"format": 1, "settings": config.settings}))
    moved = tokenizer_path.parent / "copy.json"
    shutil.copy(tokenizer_path, moved)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        train(replace(config, tokenizer=moved), tmp_path / "old")
    train(config, tmp_path / "old")
    assert_identical(tmp_path / "old", tmp_path / "whole")
