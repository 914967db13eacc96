"""`manifest.json`: what a data set holds. It is written last; a folder without it is not a data set.

read_manifest("out/train").rows_per_cell        # {"caption-de": 12, ...}
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyglance import __version__, config
from polyglance.data.location import Location, parse_location
from polyglance.files import parse_json, unseal, write_record
from polyglance.languages import LANGUAGES, OwnLanguage, declare_new_languages

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "SHARD_NAME",
    "Manifest",
    "ShardInfo",
    "choose_prefixes",
    "is_finished",
    "read_manifest",
    "write_manifest",
]

FORMAT_VERSION = 1
"""Version of the format; increased when older versions cannot read it."""
MANIFEST_NAME = "manifest.json"
SHARD_NAME = re.compile(r"\d{5,}\.parquet")
"""Pattern of the names of shard files."""


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """One shard file.

    Raises:
        ValueError: a name that is not a shard's. Other names are refused because names become paths.
    """

    name: str
    """File name under `shards/`."""
    rows: int
    """Images in it."""
    sha256: str
    """Hexadecimal digest of the file."""
    bytes: int | None = None
    """Size of the file; None in a data set that an older version has written, as the following."""
    sums_sha256: str | None = None
    """Digest of the file with the sums of its blocks (`polyglance.block_sums`)."""

    def __post_init__(self) -> None:
        if not SHARD_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is not the name of a shard")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of a data set, its source, and what was left out of it."""

    format_version: int = FORMAT_VERSION
    polyglance_version: str = __version__
    source: str
    """Source of the data, in words."""
    licence: str
    """Licence of images and texts, as stated by the person who built the data set; empty if none was stated."""
    prefixes: Mapping[str, str]
    """Language code -> words with which all its captions begin; empty if captions begin freely."""
    num_images: int
    shards: tuple[ShardInfo, ...]
    rows_per_cell: Mapping[str, int]
    """Annotations per cell (`caption-de`)."""
    rows_per_cell_and_style: Mapping[str, Mapping[str, int]]
    """Annotations per cell and style (`caption-de` -> `short`)."""
    drops: Mapping[str, Any]
    """Reason -> count and first places (`Drops.to_dict`)."""
    fingerprint: str = ""
    """Fingerprint of the step that built the data set. A data set with the same fingerprint is not built again."""
    languages: Mapping[str, OwnLanguage] | None = field(default=None, metadata={"on_read": declare_new_languages})
    """Languages of the texts that were declared where the data set was made; None where there are none."""


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into the folder of a data set whose shards are complete."""
    write_record(directory / MANIFEST_NAME, config.to_dict(manifest), indent=2)


def read_manifest(directory: str | Location) -> Manifest:
    """Read the manifest of a data set.

    Raises:
        ValueError: not a (finished) data set, written by a newer polyglance, or damaged.
    """
    path = parse_location(directory) / MANIFEST_NAME
    try:
        values = parse_json(path.read_bytes().decode(), MANIFEST_NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{directory}: not a data set ({_explain_absence(parse_location(directory))})") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # not UTF-8 or not JSON
        raise ValueError(f"{path}: damaged ({error})") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format {version} is newer than this polyglance reads ({FORMAT_VERSION}); "
            f"it was written by version {values.get('polyglance_version')}"
        )
    try:
        manifest = config.from_dict(Manifest, unseal(values, MANIFEST_NAME))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if manifest.num_images != sum(shard.rows for shard in manifest.shards):
        raise ValueError(f"{path}: damaged (num_images is not the sum of the shards' rows)")
    return manifest


def _explain_absence(directory: Location) -> str:
    """Return why there is no manifest: no folder, a file, a folder of data sets, or one that was not finished."""
    if isinstance(directory, Path):
        if not directory.exists():
            return "no such folder"
        if not directory.is_dir():
            return "a file; expected the folder that holds the manifest"
        if within := sorted(path.parent.name for path in directory.glob(f"*/{MANIFEST_NAME}")):
            return f"a folder of several; name one: {', '.join(str(directory / name) for name in within[:5])}"
    return f"no {MANIFEST_NAME}: never written, or not to the end"


def choose_prefixes(directory: Path, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return language code -> prefix: the one that is given, else the data set's, else the language's.

    Args:
        directory: held-out data set; one that is not there yet has no prefixes of its own.
        given: prefixes of a configuration; an empty one means none.
    """
    usual = {code: entry.prefix for code, entry in LANGUAGES.items()}
    of_data = read_manifest(directory).prefixes if (directory / MANIFEST_NAME).exists() else {}
    return {**usual, **of_data, **(given or {})}


def is_finished(directory: Path, fingerprint: str) -> bool:
    """Tell whether the folder holds a finished data set with this fingerprint."""
    return (directory / MANIFEST_NAME).exists() and read_manifest(directory).fingerprint == fingerprint
