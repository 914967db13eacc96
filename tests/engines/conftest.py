from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints

from polyglance.engines import Picture

DUAL_ENCODERS = ("clip", "siglip", "metaclip_2", "altclip", "vision-text-dual-encoder")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Checkpoint folders by kind, each made once."""
    root = tmp_path_factory.mktemp("checkpoints")

    def get(kind: str) -> Path:
        folder = root / f"tiny-{kind}"
        if not folder.exists():
            if kind in DUAL_ENCODERS:
                tiny_checkpoints.dual_encoder(folder, kind)
            else:
                getattr(tiny_checkpoints, kind)(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def images(pictures: list[Picture]) -> list[bytes]:
    """The pictures' files, with one among them that is no image."""
    return [pictures[0].encoded, b"no image", *(picture.encoded for picture in pictures[1:])]
