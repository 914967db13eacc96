"""What chat models are asked, in the words of one sentence per task."""

from polyglance.engines.evaluated import Task
from polyglance.languages import language as language_of

__all__ = ["MAX_NEW_TOKENS", "request"]

MAX_NEW_TOKENS = 128
"""Published limit for chat models (official code section 4.3)."""


def request(task: Task, language: str, source: str = "") -> str:
    """The text beside the image.

    Raises:
        ValueError: an unknown language.
    """
    name = language_of(language).name
    if task == "caption":
        return f"Describe the image in one short sentence in {name}. Answer with that sentence only."
    return (
        f"Translate this English text about the image into {name}. Answer with the translation only, "
        f"in one line.\n\n{source}"
    )
