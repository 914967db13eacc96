"""Fixtures of the training tests."""

from pathlib import Path

import pytest

from tests.train.runs import write_tokenizer


@pytest.fixture(scope="session")
def tokenizer_path(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json of the world's texts."""
    return write_tokenizer(world, tmp_path_factory.mktemp("tokenizer"))
