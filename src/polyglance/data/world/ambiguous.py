"""Ambiguous sentences of the built-in world, which only the image settles, as in CoMMuTE."""

from dataclasses import dataclass, replace

import numpy as np

from polyglance.data.world.describe import describe
from polyglance.data.world.grammars import grammar
from polyglance.data.world.scene import LevelName, Scene, find_level, sample_scene
from polyglance.languages import SOURCE_LANGUAGE

__all__ = ["AmbiguousPair", "make_ambiguous_pair"]

_PURPOSE = 12  # number of the random stream


@dataclass(frozen=True, kw_only=True)
class AmbiguousPair:
    """A sentence without the colour of its first group, and two scenes that it describes, alike but for that colour."""

    source: str
    """English sentence."""
    scenes: tuple[Scene, Scene]

    def texts(self, language: str) -> tuple[str, str]:
        """Return the translation that is right for each scene."""
        first, second = self.scenes
        return describe(first, language), describe(second, language)


def make_ambiguous_pair(level: LevelName, seed: int, index: int) -> AmbiguousPair:
    """Make the pair with this index from the held-out scene with this index; a pure function of the arguments.

    The other scene has the same places and sizes. Its content may occur in training, its picture does not.
    """
    scene = sample_scene(level, seed, index, "test")
    first, *others = scene.groups
    taken = {first.colour, *(group.colour for group in others if group.shape == first.shape)}
    colours = [colour for colour in find_level(level).colours if colour not in taken]
    colour = colours[int(np.random.default_rng([seed, index, _PURPOSE]).integers(len(colours)))]
    twin = replace(scene, groups=(replace(first, colour=colour), *others))
    return AmbiguousPair(source=_drop_colour(describe(scene, SOURCE_LANGUAGE), first.colour), scenes=(scene, twin))


def _drop_colour(text: str, colour: str) -> str:
    """Return an English sentence without the first mention of the colour, which is that of its first group."""
    (word,) = grammar(SOURCE_LANGUAGE).word_forms["colour"][colour]
    before, found, after = text.partition(f" {word} ")
    assert found, (text, colour)
    return f"{before} {after}"
