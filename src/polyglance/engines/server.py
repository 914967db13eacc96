"""Requests to an OpenAI-compatible server over HTTP, without any library: several at a time, tried again while it is
busy."""

import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from polyglance.images import to_rgb

__all__ = ["ChatServer", "NoAnswer", "image_url"]

_MAX_ANSWER_BYTES = 2**20
_TO_RETRY = frozenset({408, 409, 429, 500, 502, 503, 504})
_USERS_MISTAKE = frozenset({401, 403, 404, 405})
_SENT_AS_THEY_ARE = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


class NoAnswer(Exception):
    """There is no answer to one request."""

    def __init__(self, reason: str, detail: str = "", *, exhausted: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        """In a few words, the same for the same cause."""
        self.exhausted = exhausted
        """Whether all attempts were used up, so that the server rather than the request is at fault."""


class ChatServer:
    """`POST <url>/chat/completions`.

    Args:
        url: up to and with `/v1`.
        key_variable: environment variable of the key, which is sent where it is set and written nowhere.
        attempts: how often a request is tried.
        first_wait_s: pause before the second attempt; doubled before every further one.
        timeout_s: how long an answer may take.

    Raises:
        ValueError: not an http(s) address.
    """

    def __init__(
        self, url: str, *, key_variable: str, attempts: int, timeout_s: float, first_wait_s: float = 1.0
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url}: expected an address such as http://HOST:PORT/v1")
        self.url = url.rstrip("/") + "/chat/completions"
        self._key_variable, self._attempts = key_variable, attempts
        self._timeout_s, self._first_wait_s = timeout_s, first_wait_s

    def complete(self, body: Mapping[str, Any]) -> str:
        """The text of the answer to a request for a chat completion.

        Raises:
            NoAnswer: none after all attempts, a refusal of this request, or an answer that holds no text.
            ValueError: the server does not know the address, the model or the key.
        """
        return _text_of(self._post(json.dumps(body).encode()))

    def _post(self, body: bytes) -> bytes:
        problem = NoAnswer("not asked")
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._first_wait_s * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(self._request(body), timeout=self._timeout_s) as response:
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


def image_url(image: bytes) -> str:
    """An image as a data URL: JPEG and PNG files as they are, anything else as a PNG.

    Raises:
        ImageError: not an image.
    """
    for start, kind in _SENT_AS_THEY_ARE.items():
        if image.startswith(start):
            return f"data:{kind};base64,{base64.b64encode(image).decode()}"
    file = BytesIO()
    to_rgb(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _text_of(answer: bytes) -> str:
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise NoAnswer("the answer is not a chat completion", _first_words(answer)) from None
    if not isinstance(text, str) or not text.strip():
        raise NoAnswer("the answer holds no text")
    return text.strip()


def _first_words(text: bytes) -> str:
    return " ".join(text[:400].decode(errors="replace").split())[:200]
