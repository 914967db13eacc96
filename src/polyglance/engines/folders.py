"""Type of the model in a checkpoint folder, and digests of its files, without loading the model."""

import hashlib
from functools import lru_cache
from pathlib import Path

from polyglance.files import DIGESTS_NAME, file_sha256, read_digests, read_json

__all__ = ["folder_digest", "model_type", "weights_version"]

_WEIGHTS = ("*.safetensors", "model.bin")
"""Weights of transformers, and of ctranslate2. Pickles are not read."""
_ALL = ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt")
"""Weights, configurations, vocabularies, chat templates."""


def model_type(folder: Path) -> str:
    """Return the `model_type` in a folder's config.json.

    Raises:
        ValueError: no such folder, or no config.json with a `model_type`.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    path = folder / "config.json"
    config = read_json(path)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ValueError(f"{path}: no model_type; expected a model saved by transformers")
    return config["model_type"]


def folder_digest(folder: Path) -> str:
    """Return the SHA-256, in hexadecimal digits, of names and contents of the files that a model's answers depend on.

    Where the folder lists digests of files, these are used; they are compared with the files when the model is loaded.
    """
    return _digest(folder, _ALL)


def weights_version(folder: Path) -> str:
    """Return the first 8 hexadecimal digits of a SHA-256 of the weights alone."""
    return _digest(folder, _WEIGHTS)[:8]


def _digest(folder: Path, patterns: tuple[str, ...]) -> str:
    total, listed = hashlib.sha256(), read_digests(folder)
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file()):
        if path.name == DIGESTS_NAME:
            continue
        stat = path.stat()
        known = listed[path.name].sha256 if path.name in listed else None
        total.update(f"{path.name} {known or _file_digest(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return total.hexdigest()


@lru_cache
def _file_digest(path: Path, size_bytes: int, changed_ns: int) -> str:  # noqa: ARG001 - another size or time, another file
    return file_sha256(path)
