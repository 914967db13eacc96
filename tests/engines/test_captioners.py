"""Captions for recipes by tiny random checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyglance.engines import EngineConfig, Failure, open_captioner


def captioner(kind: Any, folder: Path, **settings: Any) -> Any:
    return open_captioner(EngineConfig(kind=kind, path=folder, max_new_tokens=8, batch_size=2, **settings))


@pytest.mark.parametrize("kind", ["florence2", "llava"])
def test_captions_are_those_of_each_image_alone(
    kind: str, checkpoint: Callable[[str], Path], images: list[bytes]
) -> None:
    engine = captioner(kind, checkpoint(kind))
    together = engine.caption(images, style="paragraph")
    assert together[1] == Failure("image: not an image")
    assert together == [engine.caption([image], style="paragraph")[0] for image in images]
    assert len({text for text in together if isinstance(text, str)}) == 3
    assert engine.caption(images, style="short") != together, "each style has its own prompt"
    assert engine.name == f"tiny-{kind}"


def test_settings_reach_the_model(checkpoint: Callable[[str], Path], images: list[bytes]) -> None:
    plain = captioner("llava", checkpoint("llava"))
    assert plain.generation == {"do_sample": False, "num_beams": 1, "max_new_tokens": 8, "length_penalty": 1.0}
    asked = captioner("llava", checkpoint("llava"), prompt="the dog")
    assert asked.caption(images, style="short") == asked.caption(images, style="paragraph")
    assert asked.caption(images, style="short") != plain.caption(images, style="short")
    searched = captioner("florence2", checkpoint("florence2"), length_penalty=0.3)
    assert (searched.generation["num_beams"], searched.generation["length_penalty"]) == (4, 0.3)


def test_florence_gets_the_prompts_of_its_training(checkpoint: Callable[[str], Path]) -> None:
    engine = captioner("florence2", checkpoint("florence2"))
    prompts = engine.processor._construct_prompts([engine.style_prompt("paragraph")])
    assert prompts == ["Describe with a paragraph what is shown in the image."]
