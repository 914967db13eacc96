"""What chat models are asked."""

from polyglance.languages import language
from polyglance.records import Style

__all__ = ["caption_prompt", "translation_prompt"]

_CAPTIONS: dict[Style, str] = {
    "short": "Describe the image in one short sentence. Answer with that sentence only.",
    "detailed": "Describe the image in two sentences. Answer with these sentences only.",
    "paragraph": "Describe in one paragraph what the image shows. Answer with that paragraph only.",
}
_TRANSLATION = (
    "Translate this English text into {language}. Keep every sentence, bracket and sign. "
    "Answer with the translation only.\n\n{text}"
)


def caption_prompt(style: Style, own: str = "") -> str:
    """The words beside an image.

    Args:
        own: words to be used for all styles.
    """
    return own or _CAPTIONS[style]


def translation_prompt(text: str, code: str, own: str = "") -> str:
    """A text and what is to be done with it.

    Args:
        own: words to be used instead, with `{language}` and `{text}`.

    Raises:
        ValueError: an unknown language, or own words that leave the text out.
    """
    if own and "{text}" not in own:
        raise ValueError("the prompt of a translator must say where the text goes: {text}")
    return (own or _TRANSLATION).replace("{language}", language(code).name).replace("{text}", text)
