"""Chat models behind an OpenAI-compatible server, such as vLLM's."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from polyglance.engines.evaluated import Failure, ModelConfig, Picture, Task, TextLoss
from polyglance.engines.requests import MAX_NEW_TOKENS, request
from polyglance.engines.server import ChatServer, NoAnswer, image_url
from polyglance.languages import LANGUAGES

__all__ = ["Endpoint"]

_KEY_VARIABLE = "OPENAI_API_KEY"
"""Environment variable of the key, where the server asks for one; it is sent and written nowhere else."""


class Endpoint:
    """`POST <url>/chat/completions`, at temperature 0, 128 tokens; several requests at a time.

    A row whose answer is not one (not JSON, no text, cut off, refused for what is in it) fails alone. Where the server
    cannot be reached, or answers that it is busy or broken after all attempts, the run ends; it goes on from there when
    it is started again.

    Args:
        url: up to and with `/v1`.
        model: name that the server gives the model.
        num_parallel: requests at a time, at most; there are no more than a batch has rows.
        num_attempts: how often one is tried.
        first_wait_s: pause before the second attempt; doubled before every further one.
        timeout_s: how long an answer may take.

    Raises:
        ValueError: not an http(s) address, or an option that only models of this project have.
    """

    reads_images = True
    languages: Mapping[Task, frozenset[str] | None] = dict.fromkeys(("caption", "translation"), frozenset(LANGUAGES))

    def __init__(
        self,
        url: str,
        model: str,
        config: ModelConfig,
        *,
        num_parallel: int = 32,
        num_attempts: int = 6,
        first_wait_s: float = 1.0,
        timeout_s: float = 300.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not model:
            raise ValueError(f"endpoint:{url}#{model}: expected endpoint:http://HOST:PORT/v1#MODEL")
        if config.prefix != "none" or config.resolution is not None or (config.beams or 1) > 1:
            raise ValueError(f"{model}: prefix, resolution and beams are no options of an endpoint")
        self.name = model
        self._server = ChatServer(
            url, key_variable=_KEY_VARIABLE, attempts=num_attempts, timeout_s=timeout_s, first_wait_s=first_wait_s
        )
        self._parallel, self._attempts = num_parallel, num_attempts
        self._max_new_tokens = config.max_new_tokens or MAX_NEW_TOKENS

    def facts(self, task: Task, language: str) -> Mapping[str, Any]:
        return {
            "weights": f"{self.name} at {self._server.url}",
            "prompt": request(task, language, "{source}"),
            "temperature": 0,
            "max_new_tokens": self._max_new_tokens,
        }

    def captions(self, images: Sequence[Picture], language: str) -> Sequence[str | Failure]:
        return self._ask_all(images, [request("caption", language)] * len(images))

    def translations(self, images: Sequence[Picture], sources: Sequence[str], language: str) -> Sequence[str | Failure]:
        return self._ask_all(images, [request("translation", language, source) for source in sources])

    def losses(
        self,
        images: Sequence[Picture],
        sources: Sequence[str],
        candidates: Sequence[Sequence[str]],
        language: str,
    ) -> Sequence[Sequence[TextLoss] | Failure]:
        raise NotImplementedError

    def _ask_all(self, images: Sequence[Picture], prompts: Sequence[str]) -> list[str | Failure]:
        with ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(self._ask, images, prompts))

    def _ask(self, image: Picture, prompt: str) -> str | Failure:
        content = [
            {"type": "image_url", "image_url": {"url": image_url(image.encoded)}},
            {"type": "text", "text": prompt},
        ]
        body = {
            "model": self.name,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._max_new_tokens,
            "temperature": 0,
        }
        try:
            return self._server.complete(body)
        except NoAnswer as problem:
            if problem.exhausted:
                where = f"{self._server.url}: no answer in {self._attempts} attempts"
                raise ValueError(f"{where}, the last time: {problem}") from None
            return Failure(str(problem))
