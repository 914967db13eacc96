"""`import polyglance` is light; importing the model registers it with transformers' Auto classes."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_models import tiny_model


@pytest.mark.parametrize("name", ["AutoModel", "AutoModelForSeq2SeqLM"])
@pytest.mark.parametrize("order", ["{}; import transformers", "import transformers; {}"])
def test_auto_classes_know_the_model(order: str, name: str, tmp_path: Path) -> None:
    tiny_model("gemma2").save_pretrained(tmp_path)
    imports = order.format("from polyglance.model import Polyglance")
    program = f"import sys; {imports}; print(type(transformers.{name}.from_pretrained(sys.argv[1])).__name__)"
    ran = subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "Polyglance"


def test_import_is_light() -> None:
    program = (
        "import sys, polyglance.model, polyglance.cli; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"
