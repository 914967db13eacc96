"""Checkpoint folders, without loading them: what kind of model is in one, and which weights."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from polyglance.files import file_sha256

__all__ = ["check_folder", "model_type", "weights_version"]

_WEIGHTS = ("*.safetensors", "model.bin")
"""Of transformers, and of ctranslate2. Pickles are not read."""


def check_folder(folder: Path | None) -> Path:
    """The folder, which is there and holds weights.

    Raises:
        ValueError: it is not, or does not.
    """
    assert folder is not None, "a kind with a checkpoint has a path"
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    if not _weight_files(folder):
        raise ValueError(f"{folder}: no weights in it ({' or '.join(_WEIGHTS)})")
    return folder


def model_type(folder: Path) -> str:
    """What kind of model transformers saved in a folder.

    Raises:
        ValueError: its config.json does not say it.
    """
    path = folder / "config.json"
    try:
        kind = json.loads(path.read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, LookupError, TypeError):
        raise ValueError(f"{path}: no model_type: not a model that transformers saved") from None
    return str(kind)


def weights_version(folder: Path) -> str:
    """8 hexadecimal digits that change when the weights do (SHA-256)."""
    total = hashlib.sha256()
    for path in _weight_files(folder):
        stat = path.stat()
        total.update(f"{path.name} {_file_digest(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return total.hexdigest()[:8]


def _weight_files(folder: Path) -> list[Path]:
    return sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))


@lru_cache
def _file_digest(path: Path, size_bytes: int, changed_ns: int) -> str:  # noqa: ARG001 - another size or time, another file
    return file_sha256(path)
