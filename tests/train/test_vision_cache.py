"""Features of a frozen tower from disk train the same model as the tower itself."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyglance.data.shard import ShardReader
from polyglance.mixture.features import FeatureStore
from polyglance.mixture.images import ImageStore
from polyglance.model.components import COMPONENTS
from polyglance.model.micro import MicroConfig
from polyglance.model.vision import normalise_pixels
from polyglance.train import features
from polyglance.train.config import StartConfig, TrainConfig, VisionCacheConfig
from polyglance.train.features import CachePlan
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from tests.train.runs import small_run, weights, write_tokenizer

FROZEN = tuple(part for part in COMPONENTS if part != "vision")


@pytest.fixture(scope="module")
def config(world: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run with a frozen tower, whose cache is its own."""
    folder = tmp_path_factory.mktemp("cache")
    return small_run(
        world,
        write_tokenizer(world, folder),
        start=StartConfig(model=MicroConfig(width=16), trained=FROZEN),
        vision_cache=VisionCacheConfig(use="always", folder=folder / "features"),
        optim=OptimConfig(eps=1e-2),  # larger than gradients that are only rounding
        log_every_steps=1,
    )


def test_a_run_on_kept_features_is_the_run_on_pixels(
    config: TrainConfig, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(features, "_ROWS_PER_FILE", 64)
    model = train(config, tmp_path / "cached")
    assert "vision cache: 200 images, 0.00 GB on disk" in capfd.readouterr().err
    train(replace(config, vision_cache=VisionCacheConfig(use="never")), tmp_path / "pixels")
    losses = [
        [json.loads(line)["loss_nats"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("cached", "pixels")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    pixels = weights(tmp_path / "pixels")
    assert all(torch.allclose(t, pixels[name], atol=1e-4) for name, t in weights(tmp_path / "cached").items())
    # Every row holds what the tower makes of that image.
    assert config.vision_cache.folder is not None
    (folder,) = config.vision_cache.folder.iterdir()
    store = FeatureStore(folder)
    assert [file.rows for file in store.info.files] == [64, 64, 64, 8]
    images = ImageStore(ShardReader(world / "train"), 32)[[0, 63, 64, 199]]
    with torch.no_grad():
        grid = model.vision_tower(normalise_pixels(torch.from_numpy(images)))
    torch.testing.assert_close(store[[0, 63, 64, 199]], grid.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_another_tower_has_another_cache_and_bfloat16_is_half_as_large(config: TrainConfig, tmp_path: Path) -> None:
    small = VisionCacheConfig(use="always", folder=tmp_path / "features", dtype="bfloat16")
    for run, seed in (("a", 1), ("b", 2), ("c", 2)):
        train(replace(config, num_samples=8, vision_cache=small, seed=seed), tmp_path / run)
    folders = sorted((tmp_path / "features").iterdir())
    assert len(folders) == 2
    assert (folders[0] / "00000.bin").stat().st_size == 200 * 16 * 16 * 2
    # One that was not finished is made again.
    shutil.copytree(tmp_path / "features", tmp_path / "copy")
    for folder in folders:
        (folder / "features.json").unlink()
        (folder / "00000.bin").write_bytes(b"half")
    train(replace(config, num_samples=8, vision_cache=small, seed=1), tmp_path / "d")
    (made,) = (tmp_path / "features").glob("*/features.json")
    assert made.with_name("00000.bin").read_bytes() == (tmp_path / "copy" / made.parent.name / "00000.bin").read_bytes()


def test_it_is_made_where_it_saves_work_and_fits() -> None:
    usual = CachePlan(num_images=100, size_bytes=10**9, free_bytes=10**10, tower_gmac=2.0, num_samples=1000)
    assert usual.is_worth_it
    assert usual.saved_gmac == 1800
    assert not replace(usual, num_samples=90).is_worth_it  # fewer samples than images: most would never be read
    assert not replace(usual, free_bytes=10**9 + 1).is_worth_it


def test_a_trained_tower_has_no_cache(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this run trains the vision tower"):
        train(replace(config, start=StartConfig(model=MicroConfig(width=16))), tmp_path)
