"""Chat models behind an OpenAI-compatible server, such as vLLM's: captioner and translator of recipes, and model under
evaluation. Several requests are sent at a time; a request without an answer gives a `Failure`."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from polyglance.coverage import EvaluationTask
from polyglance.engines.config import EngineConfig, ModelConfig
from polyglance.engines.prompts import PromptedModel, caption_prompt, evaluation_prompt, translation_prompt
from polyglance.engines.protocol import Answers, Failure, Picture, TaskLanguages
from polyglance.engines.server import ChatServer, NoAnswer, image_content
from polyglance.images import ImageError
from polyglance.languages import LANGUAGES
from polyglance.records import Style

__all__ = ["EndpointEngine", "EndpointModel"]

_UNREACHABLE = Failure("endpoint: cannot be reached")


class EndpointEngine:
    """Captions and translations for recipes.

    Args:
        num_parallel: requests at a time.
        prompt: the recipe's prompt; the default one if empty.
    """

    name = "endpoint"

    def __init__(self, server: ChatServer, *, num_parallel: int, prompt: str = "") -> None:
        self.version = server.model
        self._server, self._num_parallel, self._prompt = server, num_parallel, prompt

    @classmethod
    def for_recipe(cls, config: EngineConfig) -> "EndpointEngine":
        """Open the engine of a recipe."""
        server = ChatServer(
            config.url,
            config.model,
            max_new_tokens=config.max_new_tokens,
            attempts=config.attempts,
            timeout_s=config.timeout_s,
            key_variable=config.api_key_env,
        )
        return cls(server, num_parallel=config.concurrency, prompt=config.prompt)

    def caption(self, images: Sequence[bytes], *, style: Style) -> list[str | Failure]:
        """Caption each encoded image, at temperature 0.

        Raises:
            ValueError: the server does not know the address, the model or the key, or cannot be reached at all.
        """
        prompt = caption_prompt(style, self._prompt)
        return self._ask_all([_content(image, prompt) for image in images])

    def recaption(self, images: Sequence[bytes], *, style: Style) -> list[str | Failure]:
        """Caption each image again, at temperature 0.7 with a fixed seed."""
        prompt = caption_prompt(style, self._prompt)
        return self._ask_all([_content(image, prompt) for image in images], temperature=0.7, seed=1)

    def translate(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Translate each text into the language, at temperature 0.

        Raises:
            ValueError: as `caption`, or an unknown language.
        """
        return self._ask_all([translation_prompt(text, language, self._prompt) for text in texts])

    def alternatives(self, texts: Sequence[str], *, language: str) -> list[str | Failure]:
        """Sample a translation of each text at temperature 0.7, with a fixed seed."""
        prompts = [translation_prompt(text, language, self._prompt) for text in texts]
        return self._ask_all(prompts, temperature=0.7, seed=1)

    def _ask_all(self, contents: Sequence[Any], **options: Any) -> list[str | Failure]:
        answers = _ask_all(
            self._server, contents, self._failure, num_parallel=self._num_parallel, must_be_whole=True, **options
        )
        if answers and all(answer == _UNREACHABLE for answer in answers):
            raise ValueError(f"{self._server.url}: cannot be reached, after {self._server.attempts} attempts each")
        return answers

    def _failure(self, problem: NoAnswer) -> Failure:
        return Failure(f"endpoint: {problem.reason}")


class EndpointModel(PromptedModel):
    """A model under evaluation, at temperature 0, 128 tokens (official code section 4.3).

    A request that the server refuses, or whose answer is not text, gives a `Failure`. A server that cannot be reached,
    or is still busy or broken after all attempts, ends the run; started again, the run continues from there.

    Args:
        num_parallel: largest number of requests at a time; a batch has at most one for each row.
    """

    languages: TaskLanguages = dict.fromkeys(("caption", "translation"), frozenset(LANGUAGES))

    def __init__(self, server: ChatServer, *, num_parallel: int = 32) -> None:
        self.name = server.model
        self._server, self._num_parallel = server, num_parallel

    @classmethod
    def for_evaluation(cls, where: str, config: ModelConfig) -> "EndpointModel":
        """Open the model `URL#NAME`.

        Raises:
            ValueError: not an http(s) address with a name, or beams.
        """
        url, _, name = where.partition("#")
        if (config.beams or 1) > 1:
            raise ValueError(f"{name}: an endpoint has no setting beams; leave it out")
        max_new_tokens = config.max_new_tokens or 128
        server = ChatServer(url, name, max_new_tokens=max_new_tokens, attempts=6, timeout_s=300.0, is_trusted=True)
        return cls(server)

    def prompt(self, task: EvaluationTask, language: str, source: str = "") -> str:
        return evaluation_prompt(task, language, source)

    def settings(self, task: EvaluationTask) -> dict[str, Any]:  # noqa: ARG002 - the same for all tasks
        return {
            "weights": f"{self.name} at {self._server.url}",
            "temperature": 0,
            "max_new_tokens": self._server.max_new_tokens,
        }

    def answer(self, images: Sequence[Picture], prompts: Sequence[str]) -> Answers:
        contents = [image_content(image.encoded, prompt) for image, prompt in zip(images, prompts, strict=True)]
        return _ask_all(self._server, contents, self._failure, num_parallel=self._num_parallel)

    def _failure(self, problem: NoAnswer) -> Failure:
        if problem.exhausted:
            where = f"{self._server.url}: no answer in {self._server.attempts} attempts"
            raise ValueError(f"{where}, the last time: {problem}") from None
        return Failure(str(problem))


def _ask_all(
    server: ChatServer,
    contents: Sequence[Any],
    failure: Callable[[NoAnswer], Failure],
    *,
    num_parallel: int,
    **options: Any,
) -> list[str | Failure]:
    """Return the answer to each message, several at a time.

    Args:
        contents: messages; a `Failure` in place of one is returned as it is.
        failure: makes a `Failure` of a request without an answer, or raises.
    """

    def ask(content: Any) -> str | Failure:
        if isinstance(content, Failure):
            return content
        try:
            return server.complete(content, **options)
        except NoAnswer as problem:
            return failure(problem)

    with ThreadPoolExecutor(num_parallel) as pool:
        return list(pool.map(ask, contents))


def _content(image: bytes, prompt: str) -> Any:
    try:
        return image_content(image, prompt)
    except ImageError as error:
        return Failure(f"image: {error.code}")
