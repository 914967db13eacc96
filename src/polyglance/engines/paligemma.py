"""PaliGemma: captions in the languages of COCO-35L."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration

from polyglance.engines.evaluated import Failure, ModelConfig, Picture, Task
from polyglance.engines.library import LibraryModel, load_library_model

__all__ = ["PaliGemma", "without_spaces_in_chinese"]

_HAN = r"[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]"
_SPACES = re.compile(rf"(?<={_HAN})\s+(?={_HAN})")


class PaliGemma(LibraryModel):
    """Checkpoints tuned for captions, such as paligemma-3b-ft-coco35l-448: greedy, 100 tokens (code section 4.3)."""

    languages: Mapping[Task, frozenset[str] | None] = {"caption": None}

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        super().__init__(folder, config, beams=1, max_new_tokens=100)

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:
        facts = {**super().facts(task, language), "prompt": _prompt(language)}
        return facts | ({"output": "no spaces between Han characters"} if language == "zh" else {})

    @torch.no_grad()
    def captions(self, images: Sequence[Picture], language: str) -> Sequence[str | Failure]:
        inputs = self._inputs([image.rgb for image in images], [f"<image>{_prompt(language)}"] * len(images))
        ids = self._model.generate(**inputs, **self.generation)
        texts = self.decoded(ids[:, inputs["input_ids"].shape[1] :])
        return [without_spaces_in_chinese(text) for text in texts] if language == "zh" else texts

    def _inputs(self, images: Sequence[Image.Image], texts: Sequence[str]) -> dict[str, Any]:
        """By way of numpy: the processor makes labels of its inputs, which it can only of arrays. They are left out."""
        made = self._processor(images=list(images), text=list(texts), return_tensors="np", padding=True)
        return self.placed({name: torch.from_numpy(made[name]) for name in made if name != "labels"})

    @cached_property
    def _model(self) -> Any:
        return load_library_model(PaliGemmaForConditionalGeneration, self.folder, self.config)


def without_spaces_in_chinese(text: str) -> str:
    """Without the spaces between Han characters: the model was trained on texts cut into words, references are not."""
    return _SPACES.sub("", text)


def _prompt(language: str) -> str:
    return f"caption {language}"
