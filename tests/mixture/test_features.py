"""Cached features: what was computed for a row comes back for it, or an error does."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader
from polyglance.distributed import Runtime
from polyglance.mixture import features
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.features import FeatureStore, write_features
from polyglance.mixture.images import ImageStore
from polyglance.mixture.tokenizer import train_tokenizer

NUM_IMAGES = 200


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_ROWS_PER_FILE", 64)


def write(world: Path, folder: Path, values: Tensor) -> Path:
    """Write a cache of these features in place of a tower's."""
    batches = iter(values.split(64))
    images = ImageStore(ShardReader(world / "train"), 8)
    dtype = str(values.dtype).removeprefix("torch.")
    runtime = Runtime.single()
    write_features(folder, lambda _: next(batches), images, fingerprint="abc", dtype=dtype, runtime=runtime)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_come_back_by_row(world: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.randn(NUM_IMAGES, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    store = FeatureStore(write(world, tmp_path, values), fingerprint="abc")
    rows = [199, 0, 64, 63, 0]
    assert len(store) == NUM_IMAGES
    assert store[rows].dtype == dtype
    assert torch.equal(store[rows], values[rows])
    assert torch.equal(pickle.loads(pickle.dumps(store))[rows], values[rows])
    with pytest.raises(IndexError, match="row 200 of 200"):
        store[[200]]


def test_a_batch_has_features_in_place_of_images(world: Path, tmp_path: Path) -> None:
    values = torch.arange(float(NUM_IMAGES))[:, None, None].expand(NUM_IMAGES, 2, 3).contiguous()
    reader, tokenizer = ShardReader(world / "train"), train_tokenizer(["a text"], vocab_size=50)

    def mixture(data: str, store: FeatureStore | None) -> Mixture:
        coverage, config = Coverage(caption=("en", "fr")), MixtureConfig(batch_size=8)
        return Mixture(config, coverage, ShardReader(world / data), tokenizer, image_size=32, seed=0, features=store)

    store = FeatureStore(write(world, tmp_path, values))
    cached = mixture("train", store)
    with_images, batch = mixture("train", None).batch(3), cached.batch(3)
    assert batch.images.shape == (8, 0, 0, 3)
    assert torch.equal(batch.labels, with_images.labels)
    assert batch.features is not None
    rows = batch.features[:, 0, 0].long().tolist()
    assert np.array_equal(with_images.images.numpy(), ImageStore(reader, 32)[rows])
    micro_batch = cached.micro_batch(3, 1, 2)
    assert micro_batch.features is not None
    assert micro_batch.features.shape == (4, 2, 3)
    assert not cached.in_memory
    with pytest.raises(ValueError, match="features of 200 images; the data has 40"):
        mixture("test", store)


def test_mistakes_are_one_line(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no features"):
        FeatureStore(tmp_path)
    folder = write(world, tmp_path / "features", torch.zeros(NUM_IMAGES, 1, 1))
    with pytest.raises(ValueError, match=r"another tower.*abc, expected xyz"):
        FeatureStore(folder, fingerprint="xyz")
    (folder / "00000.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match="3 bytes, expected 256"):
        FeatureStore(folder)
    (folder / "00000.bin").unlink()
    with pytest.raises(ValueError, match=r"00000.bin: missing"):
        FeatureStore(folder)
    info = json.loads((folder / "features.json").read_text())
    del info["seal"]
    for change, message in (
        ({"files": [{**info["files"][0], "name": "../../secret.bin"}]}, "is not the name of a file of features"),
        ({"num_images": 7}, "num_images is not the sum"),
        ({"format": 2}, "format 2; this polyglance reads 1"),
    ):
        (folder / "features.json").write_text(json.dumps(info | change))
        with pytest.raises(ValueError, match=message):
            FeatureStore(folder)
