"""What tests of data share: ten small pictures."""

from pathlib import Path

import pytest
from importing import png


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten pictures, 0.png to 9.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.png").write_bytes(png(number))
    return folder
