"""The model family: a vision tower and encoder that read image and prompt, a decoder that writes.

Names are loaded when they are asked for, so that the command line can list its verbs without importing torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyglance.model.architecture import Polyglance
    from polyglance.model.configuration import PolyglanceConfig
    from polyglance.model.generate import PolyglanceCaptioner

__all__ = ["Polyglance", "PolyglanceCaptioner", "PolyglanceConfig"]

_MODULES = {"Polyglance": "architecture", "PolyglanceCaptioner": "generate", "PolyglanceConfig": "configuration"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
