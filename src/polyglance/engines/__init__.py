"""Engines: models that write, translate, compare and score texts, in checkpoint folders, on a server, or built in.

`polyglance.engines.protocol` has their interfaces, `polyglance.engines.open` opens them. Importing this loads neither
torch nor transformers.
"""

from polyglance.engines.config import EngineConfig, ModelConfig
from polyglance.engines.open import open_captioner, open_embedder, open_model, open_scorer, open_translator
from polyglance.engines.protocol import Captioner, Embedder, EvaluatedModel, Failure, Picture, Scorer, Translator

__all__ = [
    "Captioner",
    "Embedder",
    "EngineConfig",
    "EvaluatedModel",
    "Failure",
    "ModelConfig",
    "Picture",
    "Scorer",
    "Translator",
    "open_captioner",
    "open_embedder",
    "open_model",
    "open_scorer",
    "open_translator",
]
