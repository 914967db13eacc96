"""Sentences that ask the model for a task in a language (official code section 2.2)."""

from polyglance.coverage import Task
from polyglance.languages import LANGUAGES, get_language
from polyglance.records import Annotation, Style

__all__ = ["find_asked_language", "prompt_of", "write_prompt"]

_LANGUAGE = "The target language is "

_CAPTION: dict[Style, str] = {
    "short": "What does the image describe?",
    "detailed": "Describe in detail what is shown in the image.",
    "paragraph": "Describe with a paragraph what is shown in the image.",
}


def write_prompt(task: Task, code: str, *, style: Style = "short", source: str | None = None) -> str:
    """Return the encoder's text: first the language, then the task.

    Args:
        code: language code of the text that the model writes.
        style: length of the caption; ignored for translations.
        source: text to translate; required for translations.

    Raises:
        ValueError: an unknown language, or a translation without a source.
    """
    if task == "caption":
        request = _CAPTION[style]
    elif source is None:
        raise ValueError(f"a translation into {code} needs the text to translate")
    else:
        request = f"Translate the following text: {source}"
    return f"{_LANGUAGE}{get_language(code).name}. {request}"


def find_asked_language(prompt: str) -> str | None:
    """Return the code of the language that a prompt asks for in its first sentence; None if it asks for none."""
    if not prompt.startswith(_LANGUAGE):
        return None
    rest = prompt.removeprefix(_LANGUAGE)
    return next((code for code, entry in LANGUAGES.items() if rest.startswith(f"{entry.name}. ")), None)


def prompt_of(annotation: Annotation) -> str:
    """Return the prompt whose answer is the annotation's text."""
    return write_prompt(annotation.task, annotation.language, style=annotation.style, source=annotation.source)
