"""Captions and translations by a chat model behind an OpenAI-compatible server, such as vLLM's."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from polyglance.engines.config import EngineConfig
from polyglance.engines.prompts import caption_prompt, translation_prompt
from polyglance.engines.protocol import Failure
from polyglance.engines.server import ChatServer, NoAnswer, image_url
from polyglance.images import ImageError
from polyglance.records import Style

__all__ = ["EndpointCaptioner", "EndpointTranslator"]


_UNREACHABLE = Failure("endpoint: cannot be reached")


class _Endpoint:
    """Several requests at a time; one that gets no answer fails alone.

    Args:
        first_wait_s: pause before a request is tried a second time; doubled before every further attempt.
    """

    def __init__(self, config: EngineConfig, *, first_wait_s: float = 1.0) -> None:
        self.name, self.version = "endpoint", config.model
        self._config = config
        self._server = ChatServer(
            config.url,
            key_variable=config.api_key_env,
            attempts=config.attempts,
            timeout_s=config.timeout_s,
            first_wait_s=first_wait_s,
        )

    def _ask_all(self, contents: Sequence[Any], **settings: Any) -> list[str | Failure]:
        """An answer to each message that is not failed already.

        Raises:
            ValueError: the server does not know what it is asked for, or cannot be reached for any of them.
        """
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            answers = list(pool.map(lambda content: self._ask(content, settings), contents))
        if answers and all(answer == _UNREACHABLE for answer in answers):
            raise ValueError(f"{self._server.url}: cannot be reached, after {self._config.attempts} attempts each")
        return answers

    def _ask(self, content: Any, settings: dict[str, Any]) -> str | Failure:
        if isinstance(content, Failure):
            return content
        body = {
            "model": self._config.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._config.max_new_tokens,
            **settings,
        }
        try:
            return self._server.complete(body)
        except NoAnswer as problem:
            return Failure(f"endpoint: {problem.reason}")


class EndpointCaptioner(_Endpoint):
    """Captions at temperature 0."""

    def caption(self, images: Sequence[bytes], *, style: Style) -> list[str | Failure]:
        """A caption of each encoded image.

        Raises:
            ValueError: the server does not know the model, the address or the key, or there is none.
        """
        prompt = caption_prompt(style, self._config.prompt)
        return self._ask_all([_content(image, prompt) for image in images], temperature=0)


class EndpointTranslator(_Endpoint):
    """Translations at temperature 0, and second candidates at 0.7."""

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Each text in the language.

        Raises:
            ValueError: the server does not know the model, the address or the key, or there is none.
        """
        return self._ask_all(self._prompts(texts, language), temperature=0)

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """A sample for each text, with a fixed seed."""
        return self._ask_all(self._prompts(texts, language), temperature=0.7, seed=1)

    def _prompts(self, texts: Sequence[str], language: str) -> list[str]:
        return [translation_prompt(text, language, self._config.prompt) for text in texts]


def _content(image: bytes, prompt: str) -> list[dict[str, Any]] | Failure:
    try:
        url = image_url(image)
    except ImageError as error:
        return Failure(f"image: {error.code}")
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
