"""What the grammar of one language has to say. The frame of every text is here, all words are in the languages.

For one scene, with what the languages supply in brackets:

    short     [The image shows] [a small red circle] [to the left of a large blue square] [and] [above two small green
              stars].
    detailed  [The image shows] [a small red circle], [a large blue square] [and] [two small green stars].
              [The red circle] [is at the top left], [to the left of the blue square] [and] [above the green stars].
              [The blue square] [is at the top right][, and] [the green stars] [are on the left].

Every language tells the same facts in the same order.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar

from polyglance.data.world.scene import Group, Scene

__all__ = ["Forms", "Grammar"]

Forms = Mapping[str, Mapping[str, Collection[str]]]
"""Attribute -> value -> every form (in lower case) that says it. Numbers are valued "2", "3", "4"."""


class Grammar(ABC):
    """One language's way to describe a scene."""

    code: ClassVar[str]
    """As in `polyglance.languages.LANGUAGES`."""
    prefix: ClassVar[str]
    """The words with which all captions begin."""
    conjunction: ClassVar[str] = ""
    """Between the last two parts of a list."""
    clause_conjunction: ClassVar[str] = ""
    """Between two main clauses, with the comma where the language wants one."""

    @abstractmethod
    def shown(self, group: Group) -> str:
        """The group as something new: "a small red circle"."""

    @abstractmethod
    def known(self, group: Group) -> str:
        """The group as the subject of a sentence, mentioned before: "the red circle"."""

    @abstractmethod
    def beside(self, relation: str, group: Group, *, known: bool) -> str:
        """A place told from a group: "to the left of a small red circle", of "the red circle" where known."""

    @abstractmethod
    def located(self, group: Group, zone: str) -> str:
        """What is said of the subject `known(group)`: "is at the top left"."""

    @abstractmethod
    def forms(self) -> Forms:
        """Every form of every word that carries an attribute: number, size, colour, shape, relation or zone."""

    def opening(self, groups: Sequence[Group]) -> str:  # noqa: ARG002 (Russian agrees with them)
        """The words before the groups that are shown."""
        return self.prefix

    def short(self, scene: Scene) -> str:
        """One sentence: what there is and how it lies."""
        first = scene.groups[0]
        words = [self.opening([first]), self.shown(first)]
        if scene.relations:
            words.append(self._places(scene, known=False))
        return " ".join(words) + "."

    def detailed(self, scene: Scene, zones: Sequence[str]) -> str:
        """Two or three sentences: what there is, how it lies, and where in the picture each group is.

        Args:
            zones: zone of the picture, for each group.
        """
        placed = [
            f"{self.known(group)} {self.located(group, zone)}" for group, zone in zip(scene.groups, zones, strict=True)
        ]
        sentences = [f"{self.opening(scene.groups)} {self.listed([self.shown(group) for group in scene.groups])}"]
        if scene.relations:
            sentences.append(f"{placed[0]}, {self._places(scene, known=True)}")
            sentences.append(f"{self.clause_conjunction} ".join(placed[1:]))
        else:
            sentences += placed
        return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)

    def listed(self, parts: Sequence[str]) -> str:
        """ "a", "a and b" or "a, b and c"."""
        *most, last = parts
        return f"{', '.join(most)} {self.conjunction} {last}" if most else last

    def _places(self, scene: Scene, *, known: bool) -> str:
        related = zip(scene.relations, scene.groups[1:], strict=True)
        return self.listed([self.beside(relation, group, known=known) for relation, group in related])
