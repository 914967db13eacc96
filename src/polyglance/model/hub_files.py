"""Files of a model's folder for transformers' Auto classes: names in its JSON files, and a module to import.

The module contains none of the model's code, so that a folder works with every later release of the package. Auto
classes import the module only with `trust_remote_code=True`; after an import of `polyglance.model` they need neither.
"""

from pathlib import Path

from polyglance.files import write_atomically

__all__ = ["CONFIG_AUTO_MAP", "PROCESSOR_AUTO_MAP", "write_module"]

_MODULE = "modeling_polyglance"
CONFIG_AUTO_MAP = {
    "AutoConfig": f"{_MODULE}.PolyglanceConfig",
    "AutoModel": f"{_MODULE}.Polyglance",
    "AutoModelForSeq2SeqLM": f"{_MODULE}.Polyglance",
    "AutoModelForImageTextToText": f"{_MODULE}.Polyglance",
}
"""Auto class -> what it loads, in config.json."""
PROCESSOR_AUTO_MAP = {"AutoProcessor": f"{_MODULE}.Processor"}
"""Auto class -> what it loads, in processor_config.json."""

_SOURCE = '''"""Loads a Polyglance with transformers' Auto classes and trust_remote_code=True.

The model's code is in the package: pip install polyglance.
"""

from polyglance.model.architecture import Polyglance
from polyglance.model.configuration import PolyglanceConfig
from polyglance.model.processor import Processor

__all__ = ["Polyglance", "PolyglanceConfig", "Processor"]
'''


def write_module(folder: str | Path) -> None:
    """Write the module that Auto classes import into a model's folder."""
    write_atomically(Path(folder) / f"{_MODULE}.py", _SOURCE)
