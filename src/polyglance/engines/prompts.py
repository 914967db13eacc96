"""Prompts of data builds and of evaluations, and the base of models that are evaluated by prompts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from polyglance.coverage import EvaluationTask
from polyglance.engines.protocol import Answers, CandidateLosses, Candidates, Picture, TaskLanguages
from polyglance.languages import get_language
from polyglance.records import Style
from polyglance.settings import refuse_unknown_slots

__all__ = ["PromptedModel", "caption_prompt", "check_translation_prompt", "evaluation_prompt", "translation_prompt"]

_CAPTIONS: dict[Style, str] = {
    "short": "Describe the image in one short sentence. Answer with that sentence only.",
    "detailed": "Describe the image in two sentences. Answer with these sentences only.",
    "paragraph": "Describe in one paragraph what the image shows. Answer with that paragraph only.",
}
_TRANSLATION = (
    "Translate this English text into {language}. Keep every sentence, bracket and sign. "
    "Answer with the translation only.\n\n{text}"
)
_EVALUATED_CAPTION = "Describe the image in one short sentence in {language}. Answer with that sentence only."
_EVALUATED_TRANSLATION = (
    "Translate this English text about the image into {language}. Answer with the translation only, "
    "in one line.\n\n{text}"
)


def caption_prompt(style: Style, custom: str = "") -> str:
    """Return the prompt of a data build for an English caption.

    Args:
        custom: the recipe's prompt, for all styles; the default one if empty.
    """
    return custom or _CAPTIONS[style]


def check_translation_prompt(custom: str) -> None:
    """Check a recipe's prompt for translations, which may be empty.

    Raises:
        ValueError: it lacks `{text}`, or has another word in braces than `text` and `language`.
    """
    if custom:
        refuse_unknown_slots("engine.prompt", custom, ("language", "text"))
        if "{text}" not in custom:
            raise ValueError("engine.prompt: the prompt of a translator must say where the text goes: {text}")


def translation_prompt(text: str, language: str, custom: str = "") -> str:
    """Return the prompt of a data build for a translation.

    Args:
        custom: the recipe's prompt, with `{language}` and `{text}`; the default one if empty.

    Raises:
        ValueError: an unknown language, or a `custom` without `{text}`.
    """
    check_translation_prompt(custom)
    return _filled(custom or _TRANSLATION, text, language)


def evaluation_prompt(task: EvaluationTask, language: str, text: str = "") -> str:
    """Return the prompt of an evaluation, which goes with the image.

    Args:
        text: English text, for other tasks than `caption`.

    Raises:
        ValueError: an unknown language.
    """
    return _filled(_EVALUATED_CAPTION if task == "caption" else _EVALUATED_TRANSLATION, text, language)


def _filled(prompt: str, text: str, language: str) -> str:
    return prompt.replace("{language}", get_language(language).name).replace("{text}", text)


class PromptedModel(ABC):
    """Base of models under evaluation: for each task a prompt, which is part of the model's facts."""

    name: str
    reads_images = True
    languages: TaskLanguages

    @abstractmethod
    def prompt(self, task: EvaluationTask, language: str, source: str = "") -> str:
        """Return what the model is asked beside the image.

        Args:
            source: the English text to translate.
        """

    @abstractmethod
    def settings(self, task: EvaluationTask) -> dict[str, Any]:
        """Return the facts that do not depend on the language."""

    def answer(self, images: Sequence[Picture], prompts: Sequence[str]) -> Answers:
        """Write a text for each image and prompt."""
        raise NotImplementedError

    def facts(self, task: EvaluationTask, language: str) -> Mapping[str, Any]:
        return {**self.settings(task), "prompt": self.prompt(task, language, "{source}")}

    def write_captions(self, images: Sequence[Picture], language: str) -> Answers:
        return self.answer(images, [self.prompt("caption", language)] * len(images))

    def write_translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Answers:
        return self.answer(images, [self.prompt("translation", language, source) for source in sources])

    def measure_losses(
        self, images: Sequence[Picture], sources: Sequence[str], candidates: Candidates, language: str
    ) -> CandidateLosses:
        raise NotImplementedError
