"""BLIP-2 for captions and NLLB for their translation: the paper's Baseline-6B."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import Blip2ForConditionalGeneration

from polyglance.engines.evaluated import Failure, ModelConfig, Picture, Task, TextLoss
from polyglance.engines.library import LibraryModel, load_library_model
from polyglance.engines.nllb import Nllb
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE

__all__ = ["Blip2Nllb", "cut_context"]

_PROMPT = "a photo of"
_MIN_CHARACTERS = 6
"""A translation with fewer different characters than this is taken for a broken one."""


class Blip2Nllb(LibraryModel):
    """BLIP-2 writes an English caption (4 beams, 128 tokens after "a photo of"); NLLB translates it, or translates a
    text with it as context (official code section 4.3, type `base`)."""

    languages: Mapping[Task, frozenset[str] | None] = {
        "caption": frozenset(LANGUAGES),
        "translation": frozenset(LANGUAGES) - {SOURCE_LANGUAGE},
        "disambiguation": frozenset(LANGUAGES) - {SOURCE_LANGUAGE},
    }

    def __init__(self, captioner: Path, translator: Path, config: ModelConfig) -> None:
        super().__init__(captioner, config, beams=4, max_new_tokens=128)
        self._translator = Nllb(translator, config)
        self.name = f"{self.name}+{self._translator.name}"

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:
        prompts: dict[Task, str] = {
            "caption": "(caption)",
            "translation": "{source} ### ({caption}), cut at #, else {source}",
            "disambiguation": "{source} {caption}",
        }
        return {
            **super().facts(task, language),
            "prompt": _PROMPT,
            "translator": dict(self._translator.facts(task, language)) | {"prompt": prompts[task]},
        }

    def captions(self, images: Sequence[Picture], language: str) -> Sequence[str | Failure]:
        written = self._describe(images)
        return written if language == SOURCE_LANGUAGE else self._translator.translate(written, language)

    def translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Sequence[str | Failure]:
        captions = self._describe(images)
        with_context = [f"{source} ### ({caption})" for source, caption in zip(sources, captions, strict=True)]
        texts = [cut_context(text) for text in self._translator.translate(with_context, language)]
        again = [row for row, text in enumerate(texts) if text is None]
        plain = self._translator.translate([sources[row] for row in again], language) if again else []
        repaired = dict(zip(again, plain, strict=True))
        return [repaired[row] if text is None else text for row, text in enumerate(texts)]

    def losses(
        self,
        images: Sequence[Picture],
        sources: Sequence[str],
        candidates: Sequence[Sequence[str]],
        language: str,
    ) -> Sequence[Sequence[TextLoss] | Failure]:
        captions = self._describe(images)
        with_context = [f"{source} {caption}" for source, caption in zip(sources, captions, strict=True)]
        return self._translator.candidate_losses(with_context, candidates, language)

    @torch.no_grad()
    def _describe(self, images: Sequence[Picture]) -> list[str]:
        inputs = self.inputs([image.rgb for image in images], [_PROMPT] * len(images))
        if not (inputs["input_ids"] == self._model.config.image_token_index).any():
            raise ValueError(f"{self.folder}: its processor says no num_query_tokens, so that no image would be seen")
        ids = self._model.generate(**inputs, **self.generation)
        prompt = inputs["input_ids"]
        if ids.shape[1] >= prompt.shape[1] and torch.equal(ids[:, : prompt.shape[1]], prompt):
            ids = ids[:, prompt.shape[1] :]  # whether the prompt comes back depends on the kind of its language model
        return self.decoded(ids)

    @cached_property
    def _model(self) -> Any:
        return load_library_model(Blip2ForConditionalGeneration, self.folder, self.config)


def cut_context(translation: str) -> str | None:
    """The part before the context, which is kept apart by `#`; None where it cannot be told or says too little."""
    text, mark, _ = translation.partition("#")
    return text.strip() if mark and len(set(text.strip())) >= _MIN_CHARACTERS else None
