"""Base of the languages' grammars. The frame of every text is here, all words are in the languages.

One scene, with the parts that a language supplies in brackets:

    short     [The image shows] [a small red circle] [to the left of a large blue square] [and] [above two small green
              stars].
    detailed  [The image shows] [a small red circle], [a large blue square] [and] [two small green stars].
              [The red circle] [is at the top left], [to the left of the blue square] [and] [above the green stars].
              [The blue square] [is at the top right][, and] [the green stars] [are on the left].

Every language states the same facts in the same order.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from polyglance.data.world.scene import Group, Scene
from polyglance.languages import get_language

__all__ = ["Forms", "Grammar"]

Forms = Mapping[str, Mapping[str, Collection[str]]]
"""Attribute -> value -> every word form (in lower case) for it. The values of numbers are "2", "3", "4"."""


class Grammar(ABC):
    """One language's way to describe a scene.

    A language supplies its words as class attributes and at least `name_new` and `name_known`.
    """

    code: ClassVar[str]
    """Code in `polyglance.languages.LANGUAGES`."""
    prefix: ClassVar[str]
    """Words with which all captions begin."""
    conjunction: ClassVar[str] = ""
    """Word between the last two items of a list."""
    clause_conjunction: ClassVar[str] = ""
    """Text between two main clauses, with the comma if the language has one there."""
    verb: ClassVar[tuple[str, str]]
    """"is" and "are", before a zone."""
    numbers: ClassVar[Mapping[int, str]]
    """Number of objects -> numeral; 1 only if the language has one word for it."""
    relations: ClassVar[Mapping[str, str]]
    """Relation -> words before the other group."""
    zones: ClassVar[Mapping[str, str]]
    """Zone of the picture -> words for it."""
    word_forms: ClassVar[Forms]
    """Every form of the words for size, colour and shape."""
    dual_forms: ClassVar[Mapping[str, Collection[str]]] = {}
    """Shape -> forms of its word that say "two" as well; not among `word_forms`."""
    numeral_follows: ClassVar[bool] = False
    """Whether a numeral stands after the word for the shape, not before it."""
    proclitic: ClassVar[str] = ""
    """Conjunction that is written as a part of the next word."""

    @abstractmethod
    def name_new(self, group: Group) -> str:
        """Name a group that is mentioned for the first time: "a small red circle"."""

    @abstractmethod
    def name_known(self, group: Group) -> str:
        """Name a group that was mentioned before, as the subject of a sentence: "the red circle"."""

    def say_relation(self, relation: str, group: Group, *, known: bool) -> str:
        """Say where something lies relative to a group: "to the left of a small red circle", of "the ..." if known."""
        return f"{self.relations[relation]} {self.name_known(group) if known else self.name_new(group)}"

    def say_zone(self, group: Group, zone: str) -> str:
        """Say in which zone the subject `name_known(group)` lies: "is at the top left"."""
        return f"{self.verb[group.number > 1]} {self.zones[zone]}"

    def forms(self) -> Forms:
        """Return every form of every word that carries an attribute: number, size, colour, shape, relation or zone."""
        return {
            "number": {str(number): [numeral] for number, numeral in self.numbers.items() if number > 1},
            **self.word_forms,
            "relation": {relation: [words] for relation, words in self.relations.items()},
            "zone": {zone: [words.lower()] for zone, words in self.zones.items()},
        }

    def open_sentence(self, groups: Sequence[Group]) -> str:  # noqa: ARG002 (Russian agrees with them)
        """Return words before the groups that are shown."""
        return self.prefix

    def short(self, scene: Scene) -> str:
        """Describe a scene in one sentence: its groups and relations."""
        first = scene.groups[0]
        words = [self.open_sentence([first]), self.name_new(first)]
        if scene.relations:
            words.append(self._say_relations(scene, known=False))
        return " ".join(words) + get_language(self.code).full_stop

    def detailed(self, scene: Scene, zones: Sequence[str]) -> str:
        """Describe a scene in two or three sentences: its groups, their relations and their zones.

        Args:
            zones: zone of the picture, for each group.
        """
        clauses = [
            f"{self.name_known(group)} {self.say_zone(group, zone)}"
            for group, zone in zip(scene.groups, zones, strict=True)
        ]
        sentences = [self.introduce(scene.groups)]
        if scene.relations:
            sentences.append(f"{clauses[0]}, {self._say_relations(scene, known=True)}")
            sentences.append(f"{self.clause_conjunction} ".join(clauses[1:]))
        else:
            sentences += clauses
        return self.join_sentences(sentences)

    def introduce(self, groups: Sequence[Group]) -> str:
        """Return the first sentence, which says what there is."""
        return f"{self.open_sentence(groups)} {self.join_list([self.name_new(group) for group in groups])}"

    def join_sentences(self, sentences: Sequence[str]) -> str:
        """Join sentences to a text: each with a large letter and a full stop."""
        stop = get_language(self.code).full_stop
        return " ".join(f"{sentence[0].upper()}{sentence[1:]}{stop}" for sentence in sentences)

    def join_list(self, items: Sequence[str]) -> str:
        """Join items to "a", "a and b" or "a, b and c"."""
        *most, last = items
        return f"{', '.join(most)} {self.conjunction} {last}" if most else last

    def _say_relations(self, scene: Scene, *, known: bool) -> str:
        related = zip(scene.relations, scene.groups[1:], strict=True)
        return self.join_list([self.say_relation(relation, group, known=known) for relation, group in related])
