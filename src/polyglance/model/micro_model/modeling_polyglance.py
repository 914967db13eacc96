"""Loads a Polyglance with transformers' Auto classes and trust_remote_code=True.

The model's code is in the package: pip install polyglance.
"""

from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.processor import Processor

__all__ = ["Polyglance", "PolyglanceConfig", "Processor"]
