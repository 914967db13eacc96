"""Cached features: what was stored for a row is what comes back for it, or nothing does."""

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from polyglance.coverage import Coverage
from polyglance.data.shard import ShardReader
from polyglance.mixture.config import MixtureConfig
from polyglance.mixture.dataset import Mixture
from polyglance.mixture.features import FeatureStore
from polyglance.mixture.tokenizer import train_tokenizer


def store(folder: Path, features: Tensor, sizes: tuple[int, ...]) -> Path:
    folder.mkdir()
    files = []
    for number, part in enumerate(features.split(list(sizes))):
        raw = part.view(torch.uint16).numpy() if part.dtype == torch.bfloat16 else part.numpy()
        data = raw.astype(raw.dtype.newbyteorder("<")).tobytes()
        (folder / f"{number:05d}.bin").write_bytes(data)
        files.append({"name": f"{number:05d}.bin", "rows": len(part), "sha256": hashlib.sha256(data).hexdigest()})
    info = {"format": 1, "fingerprint": "abc", "num_images": len(features), "image_tokens": features.shape[1]}
    info |= {"width": features.shape[2], "dtype": str(features.dtype).partition(".")[2], "files": files}
    (folder / "features.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_come_back_by_row(tmp_path: Path, dtype: torch.dtype) -> None:
    features = torch.randn(10, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = FeatureStore(store(tmp_path / "f", features, (4, 5, 1)), fingerprint="abc")
    rows = [9, 0, 4, 3, 0]
    assert len(found) == 10
    assert found[rows].dtype == dtype
    assert torch.equal(found[rows], features[rows])
    assert torch.equal(pickle.loads(pickle.dumps(found))[rows], features[rows])
    with pytest.raises(IndexError, match="row 10 of 10"):
        found[[10]]


def test_a_batch_has_features_in_place_of_images(tmp_path: Path, world: Path) -> None:
    reader = ShardReader(world / "train")
    features = torch.arange(200.0)[:, None, None].expand(200, 2, 3).contiguous()
    tokenizer = train_tokenizer(["a text"], vocab_size=50)

    def mixture(features: FeatureStore | None) -> Mixture:
        coverage, config = Coverage(caption=("en", "fr")), MixtureConfig(batch_size=8)
        return Mixture(config, coverage, reader, tokenizer, image_size=32, seed=0, features=features)

    cached = mixture(FeatureStore(store(tmp_path / "f", features, (200,))))
    with_images, batch = mixture(None).batch(3), cached.batch(3)
    assert batch.images.shape == (8, 0, 0, 3)
    assert torch.equal(batch.labels, with_images.labels)
    assert batch.features is not None
    rows = batch.features[:, 0, 0].long().tolist()
    expected = Mixture(
        MixtureConfig(batch_size=8), Coverage(caption=("en", "fr")), reader, tokenizer, image_size=32, seed=0
    )._images[rows]
    assert np.array_equal(with_images.images.numpy(), expected)
    part = cached.micro_batch(3, 1, 2)
    assert part.features is not None
    assert part.features.shape == (4, 2, 3)
    assert not cached.in_memory
    with pytest.raises(ValueError, match="features of 10 images; the data has 200"):
        mixture(FeatureStore(store(tmp_path / "g", features[:10], (10,))))


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no features"):
        FeatureStore(tmp_path)
    folder = store(tmp_path / "f", torch.zeros(4, 1, 1), (4,))
    with pytest.raises(ValueError, match=r"another tower.*abc, expected xyz"):
        FeatureStore(folder, fingerprint="xyz")
    (folder / "00000.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match="3 bytes, expected 16"):
        FeatureStore(folder)
    (folder / "00000.bin").unlink()
    with pytest.raises(ValueError, match=r"00000.bin: missing"):
        FeatureStore(folder)
    info = json.loads((folder / "features.json").read_text())
    info["files"][0]["name"] = "../../secret.bin"
    (folder / "features.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="is not the name of a file of features"):
        FeatureStore(folder)
