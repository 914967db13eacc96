"""Open engines of recipes and models under evaluation by their kind.

    translator = open_translator(EngineConfig(kind="nllb", path=Path("nllb-200-3.3B")))
    translator.translate(["A dog sits on the bank."], language="de")

    model = open_model(ModelConfig(model="blip2+nllb:blip2-opt-2.7b-coco,nllb-200-3.3B"))
    model.write_captions([Picture.read(Path("cat.jpg"))], "de")

Classes are imported when they are opened; `polyglance.engines.registry` lists them.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from polyglance.engines.config import EngineConfig, ModelConfig
from polyglance.engines.folders import find_folder, model_type
from polyglance.engines.protocol import Captioner, Embedder, EvaluatedModel, Scorer, Translator
from polyglance.engines.registry import CHAT_MODEL, ENGINES, MODEL_TYPES, SPECIFICATIONS
from polyglance.languages import did_you_mean

__all__ = ["open_captioner", "open_embedder", "open_model", "open_scorer", "open_translator"]


def open_captioner(config: EngineConfig) -> Captioner:
    """Load the engine as a captioner.

    Raises:
        ValueError: the kind is not a captioner, or its checkpoint cannot be used.
    """
    return _open("captioner", config)


def open_translator(config: EngineConfig) -> Translator:
    """Load the engine as a translator.

    Raises:
        ValueError: the kind is not a translator, or its checkpoint cannot be used.
    """
    return _open("translator", config)


def open_embedder(config: EngineConfig) -> Embedder:
    """Load the engine as an embedder.

    Raises:
        ValueError: the kind is not an embedder, or its checkpoint cannot be used.
    """
    return _open("embedder", config)


def open_scorer(config: EngineConfig) -> Scorer:
    """Load the engine as a scorer of texts for images.

    Raises:
        ValueError: the kind is not a scorer, or its checkpoint cannot be used.
    """
    return _open("scorer", config)


def open_model(config: ModelConfig) -> EvaluatedModel:
    """Open the model that `config.model` specifies; its weights are read when it is first used.

    Raises:
        ValueError: not a folder or a known specification, or a setting that the model does not have.
    """
    kind, separator, where = config.model.partition(":")
    if separator and kind in SPECIFICATIONS:
        target = SPECIFICATIONS[kind]
    elif separator and not Path(config.model).exists():
        raise ValueError(
            f"{config.model}: no such folder, and no kind of model {kind!r}: {did_you_mean(kind, SPECIFICATIONS)}"
        )
    else:
        folder = find_folder(config.model)
        kind, where = model_type(folder), str(folder)
        target = MODEL_TYPES.get(kind, CHAT_MODEL)
    if kind != "polyglance":
        for name, default in (("prefix", "none"), ("resolution", None)):
            if getattr(config, name) != default:
                raise ValueError(f"{config.model}: {name} is a setting of this project's models only")
    return _load_class(target).for_evaluation(where, config)


def _open(role: str, config: EngineConfig) -> Any:
    kinds = ENGINES[role]
    if config.kind not in kinds:
        roles = [name for name in ENGINES if config.kind in ENGINES[name]]
        raise ValueError(
            f"the engine {config.kind} cannot be used as {role}, but as {', '.join(roles)}; "
            f"kinds of {role}: {', '.join(kinds)}"
        )
    return _load_class(kinds[config.kind]).for_recipe(config)


def _load_class(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
