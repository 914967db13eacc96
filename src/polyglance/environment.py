"""Environment of a computation: versions of packages, machine and GPU."""

import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from polyglance import __version__

__all__ = ["describe_environment", "describe_gpus", "read_commit", "read_versions"]

_PACKAGES = ("polyglance", "torch", "transformers", "tokenizers", "numpy", "pyarrow")


def read_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return package -> version; `not installed` where Python finds no such package.

    The version of this package is read from its code, because its folder may be on the path without an installation.
    """
    return {name: __version__ if name == "polyglance" else _read_version(name) for name in packages}


def describe_environment() -> dict[str, Any]:
    """Return the versions, machine and GPUs of this process, as JSON: the content of env.json."""
    return {
        "python": platform.python_version(),
        "packages": read_versions(_PACKAGES),
        "machine": platform.machine(),
        "system": platform.platform(),
        **describe_gpus(),
    }


@cache
def read_commit() -> str:
    """Return the short hash of the last commit of this package's folder; empty outside of a git checkout."""
    folder = Path(__file__).parent
    return _ask(["git", "-C", str(folder), "log", "-1", "--format=%h", "--", str(folder)], timeout_s=10)


def describe_gpus() -> dict[str, Any]:
    """Return names and memory of the GPUs that torch sees, the driver, and the CUDA and cuDNN that torch was built for;
    empty without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return {
        "gpus": [f"{device.name}, {device.total_memory / 1e9:.0f} GB" for device in devices],
        "driver": _read_driver(),
        "cuda": torch.version.cuda or "none",
        "cudnn": torch.backends.cudnn.version(),
    }


def _read_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _read_driver() -> str:
    """Ask the driver's own tool, because torch does not give the driver's version."""
    answer = _ask(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], timeout_s=30)
    return answer.splitlines()[0].strip() if answer else "unknown"


def _ask(command: Sequence[str], *, timeout_s: float) -> str:
    """Return what a program prints; empty if it is not installed, fails or does not answer in time."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout_s)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
