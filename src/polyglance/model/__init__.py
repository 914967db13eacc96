"""The model family: a vision tower and an encoder read image and prompt, a decoder writes.

Importing this package registers the model with transformers' Auto classes; it takes seconds, because it imports torch.

import polyglance.model
model = AutoModel.from_pretrained("out")
"""

from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.generate import Captioner

__all__ = ["Captioner", "Polyglance", "PolyglanceConfig"]
