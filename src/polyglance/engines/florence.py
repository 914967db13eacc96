"""Stock Florence-2: captions in English."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import Florence2ForConditionalGeneration

from polyglance.engines.evaluated import Failure, ModelConfig, Picture, Task
from polyglance.engines.library import LibraryModel, load_library_model

__all__ = ["Florence2"]

_PROMPT = "<CAPTION>"


class Florence2(LibraryModel):
    """Florence-2 as transformers has it (not the hub's remote code): 4 beams, 128 tokens, as this project's models."""

    languages: Mapping[Task, frozenset[str] | None] = {"caption": frozenset({"en"})}

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        super().__init__(folder, config, beams=4, max_new_tokens=128)

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:
        return {**super().facts(task, language), "prompt": _PROMPT}

    @torch.no_grad()
    def captions(
        self,
        images: Sequence[Picture],
        language: str,  # noqa: ARG002 - English is all it writes
    ) -> Sequence[str | Failure]:
        inputs = self.inputs([image.rgb for image in images], [_PROMPT] * len(images))
        ids = self._model.generate(**inputs, **self.generation)
        return self.decoded(ids)

    @cached_property
    def _model(self) -> Any:
        return load_library_model(Florence2ForConditionalGeneration, self.folder, self.config)
