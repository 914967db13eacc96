"""A server on loopback that answers as it is told to."""

import base64
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from polyglance.engines.endpoint_model import Endpoint
from polyglance.engines.evaluated import Failure
from polyglance.engines.open import ModelConfig, Picture, open_model

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
Answer = tuple[int, bytes]


def completion(text: Any) -> Answer:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class Server:
    """Answers each request with `answer(body, how many requests there were before)`."""

    def __init__(self, answer: Callable[[dict[str, Any], int], Answer]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_a_time = 0
        lock, at_work = threading.Lock(), 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal at_work
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    at_work += 1
                    server.most_at_a_time = max(server.most_at_a_time, at_work)
                    number = len(server.requests)
                    server.requests.append({"path": self.path, **body})
                    server.headers.append(dict(self.headers))
                status, content = answer(body, number)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                with lock:
                    at_work -= 1

            def log_message(self, *args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[dict[str, Any], int], Answer]], Server]]:
    made: list[Server] = []

    def start(answer: Callable[[dict[str, Any], int], Answer]) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield start
    for server in made:
        server.close()


def endpoint(url: str, **settings: Any) -> Endpoint:
    return Endpoint(url, "chatty", ModelConfig(model="unused"), first_wait_s=0.0, **settings)


def text_of(body: dict[str, Any]) -> str:
    return body["messages"][0]["content"][1]["text"]


def test_what_is_sent(serve: Any, pictures: Sequence[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = serve(lambda body, number: completion(" ein Satz\n"))
    model = open_model(ModelConfig(model=f"endpoint:{server.url}#chatty", max_new_tokens=7))
    assert model.captions(pictures, "de") == ["ein Satz"] * 3
    assert "secret" not in str(model.facts("caption", "de"))
    sent = server.requests[0]
    assert (sent["path"], sent["model"], sent["max_tokens"], sent["temperature"]) == (
        "/v1/chat/completions",
        "chatty",
        7,
        0,
    )
    assert text_of(sent) == model.facts("caption", "de")["prompt"]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    kinds = {}
    for request in server.requests:
        start, _, data = request["messages"][0]["content"][0]["image_url"]["url"].partition(";base64,")
        kinds[start] = kinds.get(start, 0) + 1
        picture = Picture.read(base64.b64decode(data))
        assert picture.rgb.tobytes() in [original.rgb.tobytes() for original in pictures]
    assert kinds == {"data:image/png": 2, "data:image/jpeg": 1}, "the BMP went as a PNG"


def test_answers_are_in_order_and_requests_few(serve: Any, pictures: Sequence[Picture]) -> None:
    server = serve(lambda body, number: completion(text_of(body).rsplit("\n", 1)[1].upper()))
    sources = [f"text {number}" for number in range(24)]
    model = endpoint(server.url, num_parallel=3)
    assert model.translations(list(pictures) * 8, sources, "fr") == [source.upper() for source in sources]
    assert server.most_at_a_time <= 3


def test_busy_servers_are_asked_again(serve: Any, pictures: Sequence[Picture]) -> None:
    troubles = {0: (429, b"slow down"), 1: (503, b"loading")}
    server = serve(lambda body, number: troubles.get(number) or completion("da"))
    assert endpoint(server.url).captions(pictures[:1], "de") == ["da"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, b"<html>welcome</html>"), "the answer is not a chat completion: <html>welcome</html>"),
        ((200, b'{"choices": []}'), "the answer is not a chat completion"),
        ((200, b"\xff\xfe"), "the answer is not a chat completion"),
        (completion(None), "the answer holds no text"),
        (completion("  "), "the answer holds no text"),
        (completion([{"type": "text"}]), "the answer holds no text"),
        ((400, b'{"error":\n "image too large"}'), 'HTTP 400: {"error": "image too large"}'),
    ],
)
def test_garbage_fails_its_own_row(answer: Answer, reason: str, serve: Any, pictures: Sequence[Picture]) -> None:
    server = serve(lambda body, number: answer if "bad" in text_of(body) else completion("gut"))
    failed, good = endpoint(server.url).translations(pictures[:2], ["bad", "fine"], "de")
    assert isinstance(failed, Failure)
    assert failed.reason.startswith(reason)
    assert good == "gut"
    assert len(server.requests) == 2, "it is not asked again"


@pytest.mark.parametrize(
    ("answer", "message", "num_requests"),
    [
        ((500, b"out of memory"), "no answer in 4 attempts, the last time: HTTP 500: out of memory", 4),
        ((404, b"no such model"), "HTTP 404: no such model", 1),
        ((401, b"who are you"), "HTTP 401: who are you", 1),
    ],
)
def test_servers_that_do_not_serve_end_the_run(
    answer: Answer, message: str, num_requests: int, serve: Any, pictures: Sequence[Picture]
) -> None:
    server = serve(lambda body, number: answer)
    with pytest.raises(ValueError, match=message):
        endpoint(server.url, num_attempts=4).captions(pictures[:1], "de")
    assert len(server.requests) == num_requests


def test_no_server(serve: Any, pictures: Sequence[Picture]) -> None:
    server = serve(lambda body, number: completion("da"))
    server.close()
    with pytest.raises(ValueError, match=r"no answer in 2 attempts, the last time: .*refused"):
        endpoint(server.url, num_attempts=2).captions(pictures[:1], "de")
