"""Comparison of whole folders (a data set, a run, a study, a model) with the digests of their files.

verify_folder(Path("out/study")).problems        # empty: every file that has a digest is as it was written
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polyglance.config import from_dict
from polyglance.data.manifest import MANIFEST_NAME, read_manifest
from polyglance.data.shard_sums import SUMS_SUFFIX
from polyglance.files import DIGESTS_NAME, file_sha256, read_digests, read_json, unseal
from polyglance.mixture.features import FeatureStore
from polyglance.mixture.token_cache import verify_token_cache
from polyglance.train.checkpoint import CheckpointManifest

__all__ = ["Verification", "verify_folder", "verify_place"]

_MAX_RECORD_BYTES = 2**28
_NOT_COUNTED = (".lock", DIGESTS_NAME)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Result of a comparison."""

    num_files: int
    """Files that have a digest, or are sealed, and were compared."""
    num_bytes: int
    """Size of these files."""
    problems: tuple[str, ...]
    """Files that are damaged, changed or missing; one line each."""
    without_digest: tuple[str, ...]
    """Files without a digest: of an older version, of an unfinished run, or of another program."""


def verify_folder(folder: Path) -> Verification:
    """Read every file with a digest in a folder and its subfolders, also those behind links, and compare it.

    A folder in which nothing has a digest is a problem: nothing is known of it.

    Raises:
        ValueError: no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: {'a file; expected a folder' if folder.exists() else 'no such folder'}")
    folders, files, unread = _list_tree(folder)
    checked: dict[Path, str] = {}
    for path in sorted([*folders, *(path for path in files if path.suffix == ".json")]):
        for found, problem in verify_place(path):
            checked[found] = checked.get(found) or problem
    problems = [*unread, *(problem for problem in checked.values() if problem)]
    if not checked and not problems:
        problems.append(
            f"{folder}: no file with a digest; it is not of polyglance, or its manifest or {DIGESTS_NAME} is lost"
        )
    sizes = [_size_of(path) for path in checked]
    counted = [path for path in sorted(files) if _is_file(path) and path.name not in _NOT_COUNTED]
    return Verification(
        num_files=len(checked),
        num_bytes=sum(sizes),
        problems=tuple(problems),
        without_digest=tuple(str(path.relative_to(folder)) for path in counted if path not in checked),
    )


def _size_of(path: Path) -> int:
    """Return the size of a file in bytes; 0 for a folder, and for what is not there or has no possible name."""
    return path.stat().st_size if _is_file(path) else 0


def _is_file(path: Path) -> bool:
    """Tell whether a path is that of a file; it is not, if its folder may not be entered."""
    try:
        return path.is_file()
    except OSError:
        return False


def _list_tree(folder: Path) -> tuple[list[Path], list[Path], list[str]]:
    """Return all folders, all files, and a line for each folder that cannot be read. A folder that several links lead
    to is listed once."""
    folders, files, unread, seen = [], [], [], set()

    def note(error: OSError) -> None:
        unread.append(f"{error.filename}: cannot be read ({error.strerror or error})")

    for root, names, inside in os.walk(folder, followlinks=True, onerror=note):
        real = os.path.realpath(root)
        if real in seen:
            names.clear()
            continue
        seen.add(real)
        folders.append(Path(root))
        files += [Path(root) / name for name in inside]
    return folders, files, unread


def verify_place(path: Path) -> Iterator[tuple[Path, str]]:
    """Compare the files that one place has digests of; yield each file and its problem (empty if there is none).

    Args:
        path: a folder that lists files, or a record (`manifest.json`, `tokens.json`, ...) that covers some.
    """
    try:
        if path.is_dir():
            for listed in read_digests(path).values():
                yield _compare(path / Path(listed.name).name, listed.sha256)
        else:
            yield from _verify_record(path)
    except OSError as error:
        yield path, f"{error.filename or path}: cannot be read ({error.strerror or error})"
    except ValueError as error:
        yield path, str(error) if str(path.name) in str(error) else f"{path}: {error}"


def _verify_record(path: Path) -> Iterator[tuple[Path, str]]:
    values = read_json(path, max_bytes=_MAX_RECORD_BYTES)
    if not isinstance(values, dict):
        return
    is_sealed = "seal" in values
    content = unseal(values, str(path))
    if is_sealed:
        yield path, ""
    match path.name:
        case "manifest.json" if path.name == MANIFEST_NAME and "shards" in content:
            for shard in read_manifest(path.parent).shards:
                where = path.parent / "shards" / shard.name
                yield _compare(where, shard.sha256)
                if shard.sums_sha256 is not None:
                    yield _compare(where.with_suffix(SUMS_SUFFIX), shard.sums_sha256)
        case "checkpoint.json":
            for file in from_dict(CheckpointManifest, content, allow_nan=True).files:
                yield _compare(path.parent / Path(file.name).name, file.sha256)
        case "tokens.json":
            yield from verify_token_cache(path.parent)
        case "features.json":
            for feature_file in FeatureStore(path.parent).info.files:
                where = path.parent / feature_file.name
                yield _compare(where, feature_file.sha256)
                if feature_file.sums_sha256 is not None:
                    yield _compare(where.with_suffix(SUMS_SUFFIX), feature_file.sums_sha256)


def _compare(path: Path, sha256: str) -> tuple[Path, str]:
    try:
        if not path.is_file():
            return path, f"{path}: missing"
        return path, "" if file_sha256(path) == sha256 else f"{path}: damaged or changed (its SHA-256 differs)"
    except OSError as error:
        return path, f"{path}: cannot be read ({error.strerror or error})"
