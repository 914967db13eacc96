"""What a run was made with."""

import platform
from importlib.metadata import version
from typing import Any

__all__ = ["environment"]


def environment() -> dict[str, Any]:
    """What a run was made with: versions and machine."""
    packages = ("polyglance", "torch", "transformers", "tokenizers", "numpy", "pyarrow")
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "machine": platform.machine(),
        "system": platform.platform(),
    }
