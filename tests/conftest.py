"""What all tests share: where the reference data is, and a small data set of the built-in world."""

import os
import random
from collections.abc import Generator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

if TYPE_CHECKING:
    from polyglance.engines import Picture
    from tests.study.clusters import RayNodes

# No deadlines and no check of speed: they would measure the machine. Derandomised, so that a red run can be repeated.
settings.register_profile("polyglance", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("polyglance")

os.fsync = lambda descriptor: None  # tests lose no power, except those that record the calls

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """Every fixture and every test starts from the same seeds: neither knows what ran before it in its process."""
    seed_all()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    seed_all()
    return (yield)


def seed_all() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with references and real data; tests that need it are skipped where it is not."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data not found at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train` and `test`: 200 and 40 images of the built-in world, in English, French and Chinese."""
    from polyglance.data.world import WorldConfig, generate

    out = tmp_path_factory.mktemp("world")
    generate(WorldConfig(languages=("en", "fr", "zh"), num_train_images=200, num_test_images=40), out)
    return out


@pytest.fixture
def ray_nodes() -> "Generator[RayNodes, None, None]":
    """A Ray cluster of two nodes on this machine, which can be killed."""
    from tests.study.clusters import open_ray_nodes

    with open_ray_nodes() as nodes:
        yield nodes


@pytest.fixture(scope="session")
def pictures() -> "list[Picture]":
    """Three images of noise: a PNG, a JPEG and a BMP."""
    from polyglance.engines import Picture

    noisy = []
    for seed, kind in enumerate(("PNG", "JPEG", "BMP")):
        file = BytesIO()
        noise = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file, kind)
        noisy.append(Picture.read(file.getvalue()))
    return noisy
