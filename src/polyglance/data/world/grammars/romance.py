"""Base of French and Spanish: two genders, and adjectives with four forms."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from polyglance.data.world.grammars.grammar import Grammar
from polyglance.data.world.scene import Group

__all__ = ["RomanceGrammar", "RomanceNoun"]

_Adjective = tuple[str, str, str, str]
"""Masculine, feminine, masculine plural, feminine plural."""


class RomanceNoun(NamedTuple):
    """A noun with its gender."""

    feminine: bool
    singular: str
    plural: str


class RomanceGrammar(Grammar):
    """A Romance language, with its nouns and colours."""

    articles: ClassVar[tuple[str, str]]
    """Indefinite article, masculine and feminine."""
    nouns: ClassVar[Mapping[str, RomanceNoun]]
    colours: ClassVar[Mapping[str, _Adjective]]

    def name_with_colour(self, group: Group) -> str:
        """Return noun and colour, without an article."""
        noun = self.nouns[group.shape]
        return f"{noun.plural if group.number > 1 else noun.singular} {self.agree(self.colours[group.colour], group)}"

    def count(self, group: Group) -> str:
        """Return the numeral or indefinite article of a group."""
        return self.numbers[group.number] if group.number > 1 else self.articles[self.nouns[group.shape].feminine]

    def agree(self, adjective: _Adjective, group: Group) -> str:
        """Return the form of an adjective that agrees with the group's noun."""
        return adjective[self.nouns[group.shape].feminine + 2 * (group.number > 1)]
