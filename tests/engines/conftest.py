from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from polyglance.engines.open import Picture


def picture(seed: int, kind: str = "PNG") -> Picture:
    """An image of noise."""
    file = BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, kind)
    return Picture.read(file.getvalue())


@pytest.fixture(scope="session")
def pictures() -> list[Picture]:
    """Three images, in formats that are sent as they are and one that is not."""
    return [picture(0, "PNG"), picture(1, "JPEG"), picture(2, "BMP")]
