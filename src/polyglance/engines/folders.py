"""Checkpoint folders without loading their models: where they are, the type of the model, and digests of its files."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from polyglance.config import parse_path
from polyglance.error_text import first_line
from polyglance.files import DIGESTS_NAME, file_sha256, read_digests, read_json

__all__ = ["MICRO_MODEL", "find_folder", "folder_digest", "model_type", "weights_version"]

MICRO_MODEL = Path(__file__).parents[1] / "model" / "micro_model"
"""Folder of the trained model in the package, which is called `micro` (`benchmarks/ship_micro_model.py`)."""
_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")
_PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt"]
_WEIGHTS = ("*.safetensors", "model.bin")
"""Weights of transformers, and of ctranslate2. Pickles are not read."""
_ALL = ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt")
"""Weights, configurations, vocabularies, chat templates."""


def find_folder(name: str | Path) -> Path:
    """Return the folder; for `micro` that of the model in the package; for NAME@COMMIT its copy from the Hugging Face
    hub. The commit, 40 hexadecimal digits, fixes the content of every file. Large files are compared with the SHA-256
    that the hub states.

    Raises:
        ValueError: neither a folder nor an available model of the hub, a name without its commit, or a file that
            differs from what the hub states.
    """
    if parse_path(str(name)).is_dir():
        return Path(name)
    if str(name) == "micro":
        return MICRO_MODEL
    repository, _, commit = str(name).partition("@")
    if not _COMMIT.fullmatch(commit):
        raise ValueError(
            f"{name}: no such folder; a model of the hub is named with its commit, NAME@COMMIT (40 hexadecimal "
            "digits), because the content under a name can change"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, revision=commit, allow_patterns=_PATTERNS))
        for path, sha256 in _list_stated(repository, commit, folder).items():
            if path.is_file() and file_sha256(path) != sha256:
                raise ValueError(f"{path}: differs from what the hub states; remove it and try again")
        return folder
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise ValueError(f"{name}: no such folder, and not available on the hub ({reason})") from None


def _list_stated(repository: str, commit: str, folder: Path) -> dict[Path, str]:
    """Return large file -> SHA-256 that the hub states. Without a connection to the hub it is taken from the file's
    name in the hub's cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        files = HfApi().model_info(repository, revision=commit, files_metadata=True).siblings or []
    except (HfHubHTTPError, OSError):
        names = {path: path.resolve().name for path in folder.rglob("*")}
        return {path: name for path, name in names.items() if _SHA256.fullmatch(name)}
    return {folder / file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None}


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
