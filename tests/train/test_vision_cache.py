"""Cached features of a frozen tower train the same model as the tower itself."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyglance.data.shard import ShardReader
from polyglance.mixture import features
from polyglance.mixture.features import FeatureStore
from polyglance.mixture.images import ImageStore
from polyglance.model.components import COMPONENTS
from polyglance.model.micro import MicroConfig
from polyglance.model.vision import normalise_pixels
from polyglance.train.config import StartConfig, TrainConfig, VisionCacheConfig
from polyglance.train.optim import OptimConfig
from polyglance.train.run import train
from polyglance.train.vision_cache import CachePlan
from tests.train.runs import read_rows, read_weights, small_run


@pytest.fixture(scope="module")
def config(world: Path, tokenizer_path: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run with a frozen tower and a folder of caches of its own."""
    return small_run(
        world,
        tokenizer_path,
        start=StartConfig(model=MicroConfig(width=16), trained=tuple(c for c in COMPONENTS if c != "vision")),
        vision_cache=VisionCacheConfig(use="always", folder=tmp_path_factory.mktemp("features")),
        optim=OptimConfig(eps=1e-2),  # larger than gradients that are only rounding
        log_every_steps=1,
    )


def test_a_run_on_cached_features_is_the_run_on_pixels(
    config: TrainConfig, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(features, "_ROWS_PER_FILE", 64)
    model = train(config, tmp_path / "cached")
    assert "vision cache: 200 images, 0.00 GB on disk" in capfd.readouterr().err
    train(replace(config, vision_cache=VisionCacheConfig(use="never")), tmp_path / "pixels")
    losses = [[row["loss_nats"] for row in read_rows(tmp_path / run)] for run in ("cached", "pixels")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    pixels = read_weights(tmp_path / "pixels")
    assert all(torch.allclose(t, pixels[name], atol=1e-4) for name, t in read_weights(tmp_path / "cached").items())
    # Every row holds the tower's features of that image.
    assert config.vision_cache.folder is not None
    (folder,) = config.vision_cache.folder.iterdir()
    store = FeatureStore(folder)
    assert [file.rows for file in store.info.files] == [64, 64, 64, 8]
    images = ImageStore(ShardReader(world / "train"), 32)[[0, 63, 64, 199]]
    with torch.no_grad():
        grid = model.vision_tower(normalise_pixels(torch.from_numpy(images)))
    torch.testing.assert_close(store[[0, 63, 64, 199]], grid.flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_another_tower_has_another_cache_and_an_unfinished_one_is_made_again(
    config: TrainConfig, tmp_path: Path
) -> None:
    """In bfloat16, which takes half the space."""
    short = replace(
        config, num_samples=8, vision_cache=VisionCacheConfig(use="always", folder=tmp_path / "f", dtype="bfloat16")
    )
    for run, seed in (("a", 1), ("b", 2), ("c", 2)):
        train(replace(short, seed=seed), tmp_path / run)
    folders = sorted((tmp_path / "f").iterdir())
    assert len(folders) == 2
    assert (folders[0] / "00000.bin").stat().st_size == 200 * 16 * 16 * 2
    shutil.copytree(tmp_path / "f", tmp_path / "copy")
    for folder in folders:
        (folder / "features.json").unlink()
        (folder / "00000.bin").write_bytes(b"half")
    train(replace(short, seed=1), tmp_path / "d")
    (info,) = (tmp_path / "f").glob("*/features.json")
    file = info.with_name("00000.bin")
    assert file.read_bytes() == (tmp_path / "copy" / info.parent.name / file.name).read_bytes()


def test_a_cache_is_made_if_it_saves_work_and_fits() -> None:
    plan = CachePlan(num_images=100, size_bytes=10**9, free_bytes=10**10, tower_gmac=2.0, num_samples=1000)
    assert plan.is_worth_it
    assert plan.saved_gmac == 1800
    assert not replace(plan, num_samples=90).is_worth_it  # fewer samples than images
    assert not replace(plan, free_bytes=10**9 + 1).is_worth_it


def test_a_trained_tower_has_no_cache(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this run trains the vision tower"):
        train(replace(config, start=StartConfig(model=MicroConfig(width=16))), tmp_path)
