"""The sentences that ask the model for a task in a language (official code section 2.2)."""

from polyglance.coverage import Task
from polyglance.languages import language
from polyglance.records import Annotation, Style

__all__ = ["prompt", "prompt_of"]

_CAPTION: dict[Style, str] = {
    "short": "What does the image describe?",
    "detailed": "Describe in detail what is shown in the image.",
    "paragraph": "Describe with a paragraph what is shown in the image.",
}


def prompt(task: Task, code: str, *, style: Style = "short", source: str | None = None) -> str:
    """The encoder's text: first the language, then the task.

    Args:
        code: language code of the text to be written.
        style: how long a caption is asked for; translations have none.
        source: the text to translate.

    Raises:
        ValueError: an unknown language, or a translation without a source.
    """
    if task == "caption":
        request = _CAPTION[style]
    elif source is None:
        raise ValueError(f"a translation into {code} needs the text to translate")
    else:
        request = f"Translate the following text: {source}"
    return f"The target language is {language(code).name}. {request}"


def prompt_of(annotation: Annotation) -> str:
    """The prompt whose answer the annotation's text is."""
    return prompt(annotation.task, annotation.language, style=annotation.style, source=annotation.source)
