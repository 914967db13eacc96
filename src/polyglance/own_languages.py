"""A user's own languages, read from a TOML file: the tables `[languages.xx]` of a study, a run, a recipe, or a file of
their own.

    declare_languages_from(Path("yoruba.toml"))
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from polyglance.config import from_dict, parse_toml
from polyglance.files import read_text
from polyglance.languages import OwnLanguage, declare_languages

__all__ = ["declare_languages_from"]


@dataclass(frozen=True, kw_only=True)
class _LanguageTables:
    languages: Mapping[str, OwnLanguage] = field(metadata={"on_read": declare_languages})


def declare_languages_from(path: Path) -> tuple[str, ...]:
    """Declare the languages of a file (`polyglance.languages.declare_languages`), and return their codes.

    Raises:
        ValueError: no such file, not TOML, no language in it, or one that is built in.
    """
    values = parse_toml(read_text(path), str(path))
    if not values.get("languages"):
        raise ValueError(f'{path}: no table [languages.xx]; expected [languages.yo] with name = "Yoruba", for example')
    try:
        tables = from_dict(_LanguageTables, {"languages": values["languages"]})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return tuple(tables.languages)
