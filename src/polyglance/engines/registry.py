"""Classes of engines and evaluated models by kind, as strings: nothing is imported before it is opened.

A new engine or baseline is one file and one line here. Strings may name classes that this folder must not import.
"""

from collections.abc import Mapping

__all__ = ["CHAT_MODEL", "ENGINES", "KINDS", "MODEL_TYPES", "SPECIFICATIONS"]

ENGINES: Mapping[str, Mapping[str, str]] = {
    "captioner": {
        "florence2": "polyglance.engines.captioners:Florence2",
        "llava": "polyglance.engines.captioners:ChatModel",
        "endpoint": "polyglance.engines.endpoint:EndpointEngine",
    },
    "translator": {
        "nllb": "polyglance.engines.translators:CheckpointTranslator",
        "madlad": "polyglance.engines.translators:CheckpointTranslator",
        "marian": "polyglance.engines.translators:CheckpointTranslator",
        "ctranslate2": "polyglance.engines.translators:ConvertedTranslator",
        "endpoint": "polyglance.engines.endpoint:EndpointEngine",
        "world": "polyglance.data.world.translator:WorldTranslator",
    },
    "embedder": {
        "clip": "polyglance.engines.embedders:DualEncoder",
        "words": "polyglance.engines.words:WordEmbedder",
    },
    "scorer": {"clip": "polyglance.engines.embedders:DualEncoder"},
}
"""Role -> kind of an `EngineConfig` -> class with `for_recipe(config)`, which returns the loaded engine."""
KINDS = tuple(dict.fromkeys(kind for kinds in ENGINES.values() for kind in kinds))
"""Kinds of all roles."""

SPECIFICATIONS: Mapping[str, str] = {
    "nllb": "polyglance.engines.translators:Nllb",
    "blip2+nllb": "polyglance.engines.blip2:Blip2Nllb",
    "endpoint": "polyglance.engines.endpoint:EndpointModel",
}
"""KIND of the specification `KIND:WHERE` of an evaluated model -> class with `for_evaluation(where, config)`."""
MODEL_TYPES: Mapping[str, str] = {
    "polyglance": "polyglance.model.engine:PolyglanceEngine",
    "florence2": "polyglance.engines.captioners:Florence2",
    "paligemma": "polyglance.engines.paligemma:PaliGemma",
    "m2m_100": "polyglance.engines.translators:Nllb",
    "blip-2": "polyglance.engines.blip2:Blip2Nllb",
}
"""`model_type` in the config.json of an evaluated folder -> class, as above, with the folder as `where`."""
CHAT_MODEL = "polyglance.engines.captioners:ChatModel"
"""Class for folders with any other `model_type`."""
