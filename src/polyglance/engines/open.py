"""Models that are evaluated, this project's and others', behind one interface.

model = open_model(ModelConfig(model="blip2+nllb:blip2-opt-2.7b-coco,nllb-200-3.3B"))
model.captions([Picture.read(Path("cat.jpg"))], "de")
"""

from pathlib import Path

from polyglance.engines.evaluated import EvaluatedModel, ModelConfig, Picture, check_capability

__all__ = ["EvaluatedModel", "ModelConfig", "Picture", "check_capability", "open_model"]


def open_model(config: ModelConfig) -> EvaluatedModel:
    """The model that `config.model` names; its weights are read when it is first asked something.

    A folder is what its config.json says: this project's, Florence-2, PaliGemma, NLLB, or else a chat model. Beside
    that: `nllb:FOLDER`, `blip2+nllb:FOLDER,FOLDER` and `endpoint:URL#NAME`, a model that an OpenAI-compatible server
    has.

    Raises:
        ValueError: a specification that is none of these, a folder that is not there, an option the model has not.
    """
    kind, separator, rest = config.model.partition(":")
    if separator and kind == "endpoint":
        from polyglance.engines.endpoint_model import Endpoint

        url, _, name = rest.partition("#")
        return Endpoint(url, name, config)
    if separator and kind == "nllb":
        from polyglance.engines.nllb import Nllb

        return Nllb(Path(rest), config)
    if separator and kind == "blip2+nllb":
        from polyglance.engines.blip2 import Blip2Nllb

        captioner, comma, translator = rest.partition(",")
        if not comma:
            raise ValueError(f"{config.model}: expected blip2+nllb:FOLDER,FOLDER")
        return Blip2Nllb(Path(captioner), Path(translator), config)
    return _open_folder(Path(config.model), config)


def _open_folder(folder: Path, config: ModelConfig) -> EvaluatedModel:
    from polyglance.engines.library import model_type

    match model_type(folder):
        case "polyglance":
            from polyglance.model.engine import OwnModel

            return OwnModel(folder, config)
        case "florence2":
            from polyglance.engines.florence import Florence2

            return Florence2(folder, config)
        case "paligemma":
            from polyglance.engines.paligemma import PaliGemma

            return PaliGemma(folder, config)
        case "m2m_100":
            from polyglance.engines.nllb import Nllb

            return Nllb(folder, config)
        case "blip-2":
            raise ValueError(f"{folder}: BLIP-2 needs a translator: give blip2+nllb:{folder},FOLDER_OF_NLLB")
        case _:
            from polyglance.engines.chat import Chat

            return Chat(folder, config)
