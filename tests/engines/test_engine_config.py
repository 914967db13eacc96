"""Which engines can do what, and what is said where they cannot."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polyglance.config import from_dict, load, save
from polyglance.engines import EngineConfig


@pytest.mark.parametrize(
    ("kind", "role", "message"),
    [
        (
            "nllb",
            "captioner",
            "the engine nllb is no captioner but a translator; captioners are: florence2, llava, end",
        ),
        (
            "florence2",
            "translator",
            "the engine florence2 is no translator but a captioner; translators are: nllb, mad",
        ),
        (
            "endpoint",
            "embedder",
            "the engine endpoint is no embedder but a captioner and a translator; embedders are: c",
        ),
        ("world", "embedder", "the engine world is no embedder"),
        ("clip", "translator", "the engine clip is no translator"),
    ],
)
def test_kinds_that_cannot_do_it(kind: Any, role: str, message: str) -> None:
    config = EngineConfig(kind=kind, path=Path("nowhere"), url="http://localhost/v1", model="m")
    with pytest.raises(ValueError, match=message):
        getattr(config, role)()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "nllb"}, "nllb needs path"),
        ({"kind": "endpoint", "url": "http://localhost/v1"}, "an endpoint needs url .* and model"),
        ({"kind": "endpoint", "url": "localhost:8000", "model": "m"}, "an endpoint needs url"),
        ({"kind": "nllb", "path": "x", "dtype": "int8"}, "int8 is for ctranslate2; nllb runs in"),
        ({"kind": "world", "batch_size": 0}, "batch_size is 0; expected at least 1"),
        ({"kind": "world", "timeout_s": 0}, "timeout_s is 0"),
        ({"kind": "nlb", "path": "x"}, "'nlb' is not a choice; did you mean 'nllb'"),
        ({"kind": "nllb", "pth": "x"}, "unknown key; did you mean 'path'"),
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


def test_naming_engines_loads_none() -> None:
    code = (
        "from polyglance.engines import EngineConfig; import polyglance.data.context, sys\n"
        "EngineConfig(kind='world').translator().translate(['a'], language='de')\n"
        "assert not {'torch', 'transformers', 'ctranslate2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
