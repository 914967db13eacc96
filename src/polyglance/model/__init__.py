"""The model family: a vision tower and an encoder read image and prompt, a decoder writes.

    from polyglance.model import Polyglance     # registers the model with transformers' Auto classes
    model = AutoModel.from_pretrained("out")

Names are imported on first use, so that configurations in this folder can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyglance.model.architecture import Polyglance
    from polyglance.model.configuration import PolyglanceConfig
    from polyglance.model.generate import Captioner

__all__ = ["Captioner", "Polyglance", "PolyglanceConfig"]

_MODULES = {"Captioner": "generate", "Polyglance": "architecture", "PolyglanceConfig": "configuration"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
