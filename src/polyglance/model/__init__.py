"""The model family: a vision tower and encoder that read image and prompt, a decoder that writes.

Importing this package registers the model with transformers' Auto classes.
"""

from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM

from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig

__all__ = ["Polyglance", "PolyglanceConfig"]

AutoConfig.register(PolyglanceConfig.model_type, PolyglanceConfig)
AutoModel.register(PolyglanceConfig, Polyglance)
AutoModelForSeq2SeqLM.register(PolyglanceConfig, Polyglance)
