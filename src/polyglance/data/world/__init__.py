"""The built-in world: rendered scenes of simple objects, described in every language by a grammar of its own.

    scene = sample_scene("pairs", seed=0, index=7)
    render(scene, 32)                   # uint8 [32, 32, 3]
    describe(scene, "fr")               # "La photo montre un petit cercle rouge à gauche d'un grand carré bleu."
    attributes(text, "fr")["colour"]    # ("red", "blue")
    generate(WorldConfig(level="pairs"), "out")

Nothing is downloaded and there is no end to it: a scene is a pure function of (level, seed, index, split). One tenth of
all contents is held out: no test image shows what a training image shows, whatever the seeds.
"""

from polyglance.data.world.describe import ATTRIBUTES, PREFIXES, CaptionStyle, attributes, describe
from polyglance.data.world.generate import WorldConfig, generate
from polyglance.data.world.render import render
from polyglance.data.world.scene import (
    LEVELS,
    Group,
    Level,
    LevelName,
    Scene,
    SplitName,
    is_held_out,
    num_scenes,
    sample_scene,
)

__all__ = [
    "ATTRIBUTES",
    "LEVELS",
    "PREFIXES",
    "CaptionStyle",
    "Group",
    "Level",
    "LevelName",
    "Scene",
    "SplitName",
    "WorldConfig",
    "attributes",
    "describe",
    "generate",
    "is_held_out",
    "num_scenes",
    "render",
    "sample_scene",
]
