"""The built-in world: rendered scenes of simple objects, described in each language by its grammar.

    scene = sample_scene("pairs", seed=0, index=7)
    render(scene, 32)                   # uint8 [32, 32, 3]
    describe(scene, "fr")               # "La photo montre un petit cercle rouge à gauche d'un grand carré bleu."
    read_attributes(text, "fr")["colour"]   # ("red", "blue")
    generate(WorldConfig(level="pairs"), "out")

Nothing is downloaded and the number of images is unlimited: a scene is a pure function of (level, seed, index, split).
One tenth of all contents is held out: no test image shows the content of a training image, whatever the seeds.
"""

from polyglance.data.world.ambiguous import AmbiguousPair, make_ambiguous_pair
from polyglance.data.world.describe import ATTRIBUTES, PREFIXES, CaptionStyle, describe, read_attributes
from polyglance.data.world.generate import WorldConfig, find_world_level, generate
from polyglance.data.world.grammars import GRAMMARS
from polyglance.data.world.layout import MIN_IMAGE_SIZE
from polyglance.data.world.render import render
from polyglance.data.world.scene import (
    LEVELS,
    Group,
    Level,
    LevelName,
    Scene,
    SplitName,
    is_test_content,
    sample_scene,
)

__all__ = [
    "ATTRIBUTES",
    "GRAMMARS",
    "LEVELS",
    "MIN_IMAGE_SIZE",
    "PREFIXES",
    "AmbiguousPair",
    "CaptionStyle",
    "Group",
    "Level",
    "LevelName",
    "Scene",
    "SplitName",
    "WorldConfig",
    "describe",
    "find_world_level",
    "generate",
    "is_test_content",
    "make_ambiguous_pair",
    "read_attributes",
    "render",
    "sample_scene",
]
