"""`import polyglance` is light, and transformers' Auto classes know the model all the same, in any order of imports."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_models import tiny_model

PROGRAMS = {
    "ours first": "import polyglance; from transformers import AutoModel as Auto",
    "transformers first": "from transformers import AutoModel as Auto; import polyglance",
    "transformers unloaded": "import transformers, polyglance; Auto = transformers.AutoModel",
    "in the midst of transformers": "import polyglance, transformers.models.bart.modeling_bart;"
    "from transformers import AutoModelForSeq2SeqLM as Auto",
    "the model already there": "from polyglance.model import Polyglance; from transformers import AutoModel as Auto",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("saved")
    tiny_model("gemma2").save_pretrained(out)
    return out


@pytest.mark.parametrize("imports", PROGRAMS.values(), ids=PROGRAMS)
def test_auto_classes_know_the_model(imports: str, folder: Path) -> None:
    program = f"import sys; {imports}; print(type(Auto.from_pretrained(sys.argv[1])).__name__)"
    ran = subprocess.run([sys.executable, "-c", program, folder], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "Polyglance"


def test_import_is_light() -> None:
    program = "import sys, polyglance, polyglance.cli; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
