"""The model family: a vision tower and an encoder read image and prompt, a decoder writes the text.

    from polyglance.model import Polyglance     # registers model and processor with transformers' Auto classes
    model = AutoModel.from_pretrained("out")

Names are imported on first use, so that configurations in this folder can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyglance.model.architecture import Polyglance
    from polyglance.model.configuration import PolyglanceConfig
    from polyglance.model.generate import PolyglanceCaptioner
    from polyglance.model.processor import Processor

__all__ = ["Polyglance", "PolyglanceCaptioner", "PolyglanceConfig", "Processor"]

_MODULES = {
    "Polyglance": "architecture",
    "PolyglanceCaptioner": "generate",
    "PolyglanceConfig": "configuration",
    "Processor": "processor",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
