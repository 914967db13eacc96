"""Kinds of engines and of evaluated models, and errors that name what is wrong and what would be right."""

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from polyglance.config import from_dict, load, save
from polyglance.engines import (
    EngineConfig,
    ModelConfig,
    open_captioner,
    open_embedder,
    open_model,
    open_scorer,
    open_translator,
)
from polyglance.engines.protocol import check_capability
from polyglance.engines.registry import CHAT_MODEL, ENGINES, MODEL_TYPES, SPECIFICATIONS

OPEN = {
    "captioner": open_captioner,
    "translator": open_translator,
    "embedder": open_embedder,
    "scorer": open_scorer,
}


@pytest.mark.parametrize(
    ("kind", "role", "message"),
    [
        (
            "nllb",
            "captioner",
            "nllb cannot be used as captioner, but as translator; kinds of captioner: florence2, llava, end",
        ),
        ("florence2", "translator", "cannot be used as translator, but as captioner; kinds of translator: nllb, mad"),
        ("endpoint", "embedder", "cannot be used as embedder, but as captioner, translator; kinds of embedder: clip"),
        ("world", "scorer", "cannot be used as scorer, but as translator"),
    ],
)
def test_kinds_that_do_not_have_the_role(kind: Any, role: str, message: str) -> None:
    needed: dict[str, dict[str, Any]] = {"endpoint": {"url": "http://localhost/v1", "model": "m"}, "world": {}}
    where = needed.get(kind, {"path": Path("x")})
    with pytest.raises(ValueError, match=message):
        OPEN[role](EngineConfig(kind=kind, **where))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "nllb"}, "nllb needs path"),
        ({"kind": "endpoint", "url": "http://localhost/v1"}, "an endpoint needs url .* and model"),
        ({"kind": "endpoint", "url": "localhost:8000", "model": "m"}, "an endpoint needs url"),
        ({"kind": "nllb", "path": "x", "dtype": "int8"}, "int8 is for ctranslate2; nllb runs in"),
        ({"kind": "words", "path": "x"}, "path is a setting of .*clip.* only; words has none"),
        ({"kind": "world", "device": "cuda"}, "device is a setting of .* only; world has none"),
        ({"kind": "words", "dtype": "bfloat16"}, "dtype is a setting of .* only; words has none"),
        ({"kind": "world", "batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"kind": "world", "timeout_s": 0}, "timeout_s is 0"),
        ({"kind": "nllb", "path": "x", "language_codes": {"zh": "a", "zho": "b"}}, "names a language twice: zh, zho"),
        ({"kind": "nlb", "path": "x"}, "kind: 'nlb' is not a choice; did you mean 'nllb'"),
        ({"kind": "nllb", "pth": "x"}, "unknown key; did you mean 'path'"),
        ({"kind": "florence2", "path": "x", "prompt": "Hi"}, "prompt is a setting of llava and endpoint only"),
        ({"kind": "nllb", "path": "x", "ambiguous": True}, "ambiguous is a setting of world only; nllb has none"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(EngineConfig, values)


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    for config in (
        EngineConfig(kind="world"),
        EngineConfig(kind="nllb", path=Path("nllb-200"), num_beams=5, length_penalty=0.9),
        EngineConfig(kind="endpoint", url="http://localhost:8000/v1", model="m", prompt="In {language}: {text}"),
    ):
        save(config, tmp_path / "engine.toml")
        assert load(EngineConfig, tmp_path / "engine.toml") == config


@pytest.mark.parametrize("target", sorted({*MODEL_TYPES.values(), *SPECIFICATIONS.values(), CHAT_MODEL}))
def test_every_evaluated_class_is_there(target: str) -> None:
    module, _, name = target.partition(":")
    assert callable(getattr(import_module(module), name).for_evaluation)


@pytest.mark.parametrize("target", sorted({target for kinds in ENGINES.values() for target in kinds.values()}))
def test_every_engine_class_is_there(target: str) -> None:
    module, _, name = target.partition(":")
    assert callable(getattr(import_module(module), name).for_recipe)


def test_naming_engines_imports_no_library() -> None:
    code = (
        "from polyglance.engines import EngineConfig, open_translator; import polyglance.data.context, sys\n"
        "open_translator(EngineConfig(kind='world')).translate(['a'], language='de')\n"
        "open_translator(EngineConfig(kind='endpoint', url='http://localhost/v1', model='m'))\n"
        "EngineConfig(kind='nllb', path='.').weights\n"
        "assert not {'torch', 'transformers', 'ctranslate2'} & set(sys.modules)"
    )
    code = code.replace("path='.'", "path=__import__('pathlib').Path('.')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{tmp}/none", "none: no such folder"),
        ("{tmp}/empty", "config.json: no such file"),
        ("{blip2}", r"BLIP-2 needs a translator: give blip2\+nllb:.*blip2,FOLDER_OF_NLLB"),
        ("blip2+nllb:{blip2}", r"give blip2\+nllb:.*blip2,FOLDER_OF_NLLB"),
        ("nllb:{tmp}/none", "none: no such folder"),
        ("nllb:{blip2}", "a blip-2 model; nllb is m2m_100 or nllb-moe"),
        ("nlb:{tmp}/none", "no kind of model 'nlb': did you mean 'nllb'"),
        ("endpoint:ftp://host/v1#m", "ftp://host/v1#m: expected .* such as http://HOST:PORT/v1#MODEL"),
        ("endpoint:http://host/v1", "expected .* such as http://HOST:PORT/v1#MODEL"),
    ],
)
def test_specifications_of_no_model(spec: str, message: str, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        open_model(ModelConfig(model=spec.format(tmp=tmp_path, blip2=checkpoint("blip2"))))


def test_settings_of_other_models(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="florence2: prefix is a setting of this project's models only"):
        open_model(ModelConfig(model=str(checkpoint("florence2")), prefix="auto"))
    with pytest.raises(ValueError, match="nllb: resolution is a setting of this project's models only"):
        open_model(ModelConfig(model=str(checkpoint("nllb")), resolution=224))
    with pytest.raises(ValueError, match="an endpoint has no setting beams"):
        open_model(ModelConfig(model="endpoint:http://host/v1#m", beams=2))
    with pytest.raises(ValueError, match="beams is 0; expected at least 1"):
        ModelConfig(model="x", beams=0)


@pytest.mark.parametrize(
    ("name", "task", "language", "message"),
    [
        ("florence2", "caption", "de", "florence2 does not know the language 'de'; it knows en"),
        ("florence2", "disambiguation", "en", "florence2 cannot do disambiguation; it can: caption"),
        ("nllb", "caption", "de", "nllb cannot do caption; it can: translation, disambiguation"),
        ("nllb", "translation", "en", "nllb does not know the language 'en'"),
        ("gemma3", "caption", "xx", "gemma3 does not know the language 'xx'"),
    ],
)
def test_tasks_and_languages_that_a_model_does_not_have(
    name: str, task: Any, language: str, message: str, checkpoint: Callable[[str], Path]
) -> None:
    with pytest.raises(ValueError, match=message):
        check_capability(open_model(ModelConfig(model=str(checkpoint(name)))), task, language)
