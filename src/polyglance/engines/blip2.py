"""BLIP-2 for captions and NLLB for their translation: the paper's Baseline-6B."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import Blip2ForConditionalGeneration

from polyglance.coverage import EvaluationTask
from polyglance.engines.checkpoints import WritingCheckpoint
from polyglance.engines.config import ModelConfig
from polyglance.engines.protocol import Answers, CandidateLosses, Candidates, Picture, TaskLanguages
from polyglance.engines.translators import Nllb
from polyglance.languages import LANGUAGES, SOURCE_LANGUAGE

__all__ = ["Blip2Nllb", "cut_context"]

_MIN_CHARACTERS = 6
"""Smallest number of different characters of a translation; with fewer it counts as broken."""
_TRANSLATOR_PROMPTS: Mapping[EvaluationTask, str] = {
    "caption": "(caption)",
    "translation": "{source} ### ({caption}), cut at #, else {source}",
    "disambiguation": "{source} {caption}",
}


class Blip2Nllb(WritingCheckpoint):
    """BLIP-2 writes an English caption (after "a photo of"); NLLB translates it, or translates a text with it as
    context (official code section 4.3, type `base`)."""

    model_class = Blip2ForConditionalGeneration
    languages: TaskLanguages = MappingProxyType({"caption": frozenset(LANGUAGES), **Nllb.languages})

    def __init__(self, captioner: Path, translator: Path, config: ModelConfig) -> None:
        super().__init__(captioner, config)
        self.translator = Nllb(translator, config)
        self.name = f"{self.name}+{self.translator.name}"

    @classmethod
    def for_evaluation(cls, where: str, config: ModelConfig) -> "Blip2Nllb":
        captioner, comma, translator = where.partition(",")
        if not comma:
            raise ValueError(f"BLIP-2 needs a translator: give blip2+nllb:{where},FOLDER_OF_NLLB")
        return cls(Path(captioner), Path(translator), config)

    def prompt(self, task: EvaluationTask, language: str, source: str = "") -> str:  # noqa: ARG002 - the caption's alone
        return "a photo of"

    def facts(self, task: EvaluationTask, language: str) -> Mapping[str, Any]:
        translator = {**self.translator.facts(task, language), "prompt": _TRANSLATOR_PROMPTS[task]}
        return {**super().facts(task, language), "translator": translator}

    def write_captions(self, images: Sequence[Picture], language: str) -> Answers:
        captions = self.describe(images)
        return captions if language == SOURCE_LANGUAGE else self.translator.translate_batch(captions, language)

    def write_translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Answers:
        with_context = [
            f"{source} ### ({caption})" for source, caption in zip(sources, self.describe(images), strict=True)
        ]
        texts = [cut_context(text) for text in self.translator.translate_batch(with_context, language)]
        again = [row for row, text in enumerate(texts) if text is None]
        plain = self.translator.translate_batch([sources[row] for row in again], language) if again else []
        repaired = dict(zip(again, plain, strict=True))
        return [repaired[row] if text is None else text for row, text in enumerate(texts)]

    def measure_losses(
        self, images: Sequence[Picture], sources: Sequence[str], candidates: Candidates, language: str
    ) -> CandidateLosses:
        with_context = [f"{source} {caption}" for source, caption in zip(sources, self.describe(images), strict=True)]
        return self.translator.measure_losses((), with_context, candidates, language)

    @torch.no_grad()
    def describe(self, images: Sequence[Picture]) -> list[str]:
        """Write an English caption of each image."""
        inputs = self.process([image.rgb for image in images], [self.prompt("caption", SOURCE_LANGUAGE)] * len(images))
        prompt = inputs["input_ids"]
        if not (prompt == self.model.config.image_token_index).any():
            raise ValueError(
                f"{self.folder}: its processor has no num_query_tokens, without which the model sees no image"
            )
        ids = self.model.generate(**inputs, **self.generation)
        if ids.shape[1] >= prompt.shape[1] and torch.equal(ids[:, : prompt.shape[1]], prompt):
            ids = ids[:, prompt.shape[1] :]  # some kinds of language models repeat the prompt, others do not
        return self.decode(ids)


def cut_context(translation: str) -> str | None:
    """Return the text before the context, which begins at `#`; None without `#`, or with too little text before it."""
    text, mark, _ = translation.partition("#")
    return text.strip() if mark and len(set(text.strip())) >= _MIN_CHARACTERS else None
