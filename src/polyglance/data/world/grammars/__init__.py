"""Languages in which the world can be described. To add one, write a module with a `Grammar` and enter it here."""

from collections.abc import Mapping
from types import MappingProxyType

from polyglance.data.world.grammars.ar import Arabic
from polyglance.data.world.grammars.de import German
from polyglance.data.world.grammars.en import English
from polyglance.data.world.grammars.es import Spanish
from polyglance.data.world.grammars.fi import Finnish
from polyglance.data.world.grammars.fr import French
from polyglance.data.world.grammars.grammar import Forms, Grammar
from polyglance.data.world.grammars.hi import Hindi
from polyglance.data.world.grammars.ja import Japanese
from polyglance.data.world.grammars.ru import Russian
from polyglance.data.world.grammars.sw import Swahili
from polyglance.data.world.grammars.tr import Turkish
from polyglance.data.world.grammars.uk import Ukrainian
from polyglance.data.world.grammars.zh import Chinese
from polyglance.language_tags import find_code
from polyglance.languages import get_language

__all__ = ["GRAMMARS", "Forms", "Grammar", "grammar"]

GRAMMARS: Mapping[str, Grammar] = MappingProxyType(
    {
        entry.code: entry
        for entry in (
            *(English(), German(), French(), Spanish(), Russian(), Chinese()),
            *(Arabic(), Hindi(), Japanese(), Turkish(), Finnish(), Swahili(), Ukrainian()),
        )
    }
)
"""Code -> grammar: the languages of the paper, then others."""


def grammar(code: str) -> Grammar:
    """Return the grammar of a language, by its code or as people write it.

    Raises:
        ValueError: an unknown language, or one for which the world has no grammar.
    """
    if code in GRAMMARS:
        return GRAMMARS[code]
    has = f"the built-in world has {', '.join(GRAMMARS)}"
    try:
        found = find_code(code)
    except ValueError as error:
        message, _, hint = str(error).partition(": ")
        raise ValueError(f"{message}: {has if hint.startswith('known') else hint}") from None
    if found not in GRAMMARS:
        raise ValueError(f"the world has no grammar for {get_language(found).name}; {has}")
    return GRAMMARS[found]
