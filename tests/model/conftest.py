from pathlib import Path

import pytest
from transformers.utils import logging


@pytest.fixture(autouse=True, scope="session")
def quiet() -> None:
    """No progress bars of transformers between the tests' results."""
    logging.disable_progress_bar()


@pytest.fixture(params=("florence-based", "gemma-based"))
def golden(request: pytest.FixtureRequest, shared: Path) -> Path:
    """The folder of one golden checkpoint of the published code."""
    return shared / "golden" / request.param


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Tiny Florence-2 and Gemma-2 checkpoint folders."""
    from small_models import tiny_sources

    return tiny_sources(tmp_path_factory.mktemp("sources"))
