"""Chat completions of an OpenAI-compatible server over HTTP, without a client library, tried again while it is busy."""

import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from polyglance.engines.addresses import make_opener
from polyglance.files import parse_json
from polyglance.images import to_rgb

__all__ = ["ChatServer", "NoAnswer", "image_content"]

_MAX_ANSWER_BYTES = 2**20
_TO_RETRY = frozenset({408, 409, 429, 500, 502, 503, 504})
_USERS_MISTAKE = frozenset({401, 403, 404, 405})
_SENT_AS_THEY_ARE = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


class NoAnswer(Exception):
    """A request that got no answer."""

    def __init__(self, reason: str, detail: str = "", *, exhausted: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """Short reason, the same for the same cause."""
        self.exhausted = exhausted
        """Whether all attempts were used up, so that the server is at fault, not the request."""


class ChatServer:
    """A model behind `POST <url>/chat/completions`.

    Args:
        url: address, up to and including `/v1`.
        model: name of the model on the server.
        max_new_tokens: longest answer, in tokens.
        attempts: number of times that a request is tried.
        timeout_s: longest wait for an answer, in seconds.
        key_variable: environment variable with the server's key. The key is sent if it is set, and never written.
        first_wait_s: pause before the second attempt, in seconds; doubled before every further one.
        is_trusted: the address is the user's own, not a recipe's: it may be private.

    Raises:
        ValueError: not an http(s) address, or no model; on a request, a private address that is not allowed
            (`polyglance.engines.addresses`).
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        max_new_tokens: int,
        attempts: int,
        timeout_s: float,
        key_variable: str = "OPENAI_API_KEY",
        first_wait_s: float = 1.0,
        is_trusted: bool = False,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not model:
            raise ValueError(f"{url}#{model}: expected an address and a model such as http://HOST:PORT/v1#MODEL")
        self.url, self.model, self.attempts = url.rstrip("/") + "/chat/completions", model, attempts
        self.max_new_tokens = max_new_tokens
        self._opener = make_opener((parts.hostname,) if is_trusted else ())
        self._timeout_s, self._key_variable, self._first_wait_s = timeout_s, key_variable, first_wait_s

    def complete(
        self,
        content: str | Sequence[Mapping[str, Any]],
        *,
        temperature: float = 0,
        must_be_whole: bool = False,
        **options: Any,
    ) -> str:
        """Return the answer to one message of a user.

        Args:
            content: text, or pieces of text and images.
            must_be_whole: an answer that the server cut off or filtered counts as no answer.
            options: further fields of the request.

        Raises:
            NoAnswer: none after all attempts, a refusal of this request, or an answer without text.
            ValueError: the server does not know the address, the model or the key.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.max_new_tokens,
            "temperature": temperature,
            **options,
        }
        return _answer_text(self._post(json.dumps(body).encode()), must_be_whole=must_be_whole)

    def _post(self, body: bytes) -> bytes:
        problem = NoAnswer("not asked")
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self._first_wait_s * 2 ** (attempt - 1))
            try:
                with self._opener.open(self._request(body), timeout=self._timeout_s) as response:
                    return response.read(_MAX_ANSWER_BYTES)
            except urllib.error.HTTPError as error:
                with error:
                    detail = _first_words(error.read(_MAX_ANSWER_BYTES))
                if error.code in _USERS_MISTAKE:
                    raise ValueError(f"{self.url}: HTTP {error.code}: {detail}") from None
                if error.code not in _TO_RETRY:
                    raise NoAnswer(f"HTTP {error.code}", detail) from None
                problem = NoAnswer(f"HTTP {error.code}", detail, exhausted=True)
            except (OSError, HTTPException) as error:
                cause = getattr(error, "reason", error)
                reason = "timed out" if isinstance(cause, TimeoutError) else "cannot be reached"
                problem = NoAnswer(reason, str(cause) or type(cause).__name__, exhausted=True)
        raise problem

    def _request(self, body: bytes) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._key_variable):
            headers["Authorization"] = f"Bearer {key}"
        return urllib.request.Request(self.url, data=body, headers=headers, method="POST")


def image_content(image: bytes, prompt: str) -> list[dict[str, Any]]:
    """Return the content of a message with an image: JPEG and PNG files as they are, others as a PNG.

    Raises:
        ImageError: not an image.
    """
    kind = next((kind for start, kind in _SENT_AS_THEY_ARE.items() if image.startswith(start)), None)
    if kind is None:
        file = BytesIO()
        to_rgb(image).save(file, "PNG")
        image, kind = file.getvalue(), "image/png"
    url = f"data:{kind};base64,{base64.b64encode(image).decode()}"
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]


def _answer_text(answer: bytes, *, must_be_whole: bool) -> str:
    try:
        choice = parse_json(answer.decode("utf-8-sig"), "answer")["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
        refusal = choice["message"].get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise NoAnswer("the answer is not a chat completion", _first_words(answer)) from None
    if must_be_whole and reason in ("length", "content_filter"):
        raise NoAnswer("cut off at max_new_tokens" if reason == "length" else "held back by the content filter")
    if must_be_whole and refusal:
        raise NoAnswer("refusal", _first_words(str(refusal).encode()))
    if not isinstance(text, str) or not text.strip():
        raise NoAnswer("the answer holds no text")
    return text.strip()


def _first_words(text: bytes) -> str:
    return " ".join(text[:400].decode(errors="replace").split())[:200]
