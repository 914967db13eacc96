"""Captions and translations by a server on loopback that answers as it is told to."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import tiny_engines

from polyglance.engines import EngineConfig, Failure
from polyglance.engines.endpoint import EndpointCaptioner, EndpointTranslator

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
Answer = tuple[int, bytes]
Answering = Callable[[dict[str, Any], int], Answer | None]


def completion(text: Any) -> Answer:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class Server:
    """Answers each request with `answer(body, how many there were before)`; where that is None, not while it lives; at
    status 0 it hangs up."""

    def __init__(self, answer: Answering) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.most_at_a_time = 0
        lock, at_work = threading.Lock(), 0
        server, closing = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal at_work
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    at_work += 1
                    server.most_at_a_time = max(server.most_at_a_time, at_work)
                    number = len(server.requests)
                    server.requests.append({"path": self.path, **body})
                    server.keys.append(self.headers["Authorization"])
                answered = answer(body, number)
                with lock:
                    at_work -= 1
                if answered is None:
                    closing.wait()
                    return
                status, content = answered
                if not status:
                    return  # hang up
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self._closing = closing
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answering], Server]]:
    made: list[Server] = []

    def start(answer: Answering) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield start
    for server in made:
        server.close()


def config(server: Server, **settings: Any) -> EngineConfig:
    return EngineConfig(kind="endpoint", url=server.url, model="chatty", **settings)


def translator(server: Server, **settings: Any) -> EndpointTranslator:
    return EndpointTranslator(config(server, **settings), first_wait_s=0.0)


def test_what_is_sent(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_KEY", "secret")
    server = serve(lambda body, number: completion(" a caption \n"))
    captioner = config(server, max_new_tokens=7, api_key_env="OWN_KEY").captioner()
    assert (captioner.name, captioner.version) == ("endpoint", "chatty")
    images = [tiny_engines.noise(0), b"no image", tiny_engines.noise(1, "JPEG"), tiny_engines.noise(2, "BMP")]
    assert captioner.caption(images, style="short") == ["a caption", Failure("image: not an image"), *["a caption"] * 2]
    assert server.keys == ["Bearer secret"] * 3
    sent = server.requests[0]
    settings = [sent[name] for name in ("path", "model", "max_tokens", "temperature")]
    assert settings == ["/v1/chat/completions", "chatty", 7, 0]
    urls = [request["messages"][0]["content"][0]["image_url"]["url"] for request in server.requests]
    assert sorted(url.partition(";")[0] for url in urls) == ["data:image/jpeg", "data:image/png", "data:image/png"]
    files = [base64.b64decode(url.partition(",")[2]) for url in urls]
    assert {images[0], images[2]} < set(files), "PNG and JPEG go as they are"


def test_each_style_and_language_is_asked_for_in_words(serve: Any) -> None:
    server = serve(lambda body, number: completion("so"))
    EndpointCaptioner(config(server)).caption([tiny_engines.noise(0)], style="paragraph")
    assert "one paragraph" in server.requests[0]["messages"][0]["content"][1]["text"]
    translator(server).translate(["a {language} dog"], language="zh")
    assert "into simplified Chinese" in server.requests[1]["messages"][0]["content"]
    assert server.requests[1]["messages"][0]["content"].endswith("\n\na {language} dog")
    own = translator(server, prompt="{text} ({language})")
    own.alternatives(["a dog"], language="de")
    assert server.requests[2]["messages"][0]["content"] == "a dog (German)"
    assert server.requests[2]["temperature"] > 0
    with pytest.raises(ValueError, match="must say where the text goes"):
        translator(server, prompt="Translate!").translate(["a dog"], language="de")


def test_answers_are_in_order_and_requests_few(serve: Any) -> None:
    server = serve(lambda body, number: completion(body["messages"][0]["content"].rsplit("\n", 1)[1].upper()))
    sources = [f"text {number}" for number in range(24)]
    assert translator(server, concurrency=3).translate(sources, language="fr") == [text.upper() for text in sources]
    assert server.most_at_a_time <= 3


def test_busy_servers_are_asked_again(serve: Any) -> None:
    troubles = {0: (429, b"slow down"), 1: (503, b"loading")}
    server = serve(lambda body, number: troubles.get(number) or completion("da"))
    assert translator(server).translate(["here"], language="de") == ["da"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "reason", "num_requests"),
    [
        ((200, b"<html>welcome</html>"), "the answer is not a chat completion", 1),
        ((200, b'{"choices": []}'), "the answer is not a chat completion", 1),
        ((200, b"\xff\xfe"), "the answer is not a chat completion", 1),
        (completion(None), "the answer holds no text", 1),
        (completion("  "), "the answer holds no text", 1),
        ((400, b'{"error":\n "too long"}'), "HTTP 400", 1),
        ((429, b"slow down"), "HTTP 429", 3),
        ((500, b"out of memory"), "HTTP 500", 3),
        (None, "timed out", 3),
        ((0, b""), "cannot be reached", 3),
    ],
)
def test_what_gets_no_answer_fails_alone(answer: Answer | None, reason: str, num_requests: int, serve: Any) -> None:
    def answering(body: dict[str, Any], number: int) -> Answer | None:
        return answer if "bad" in body["messages"][0]["content"] else completion("gut")

    server = serve(answering)
    asked = translator(server, attempts=3, timeout_s=0.3 if answer is None else 30.0)
    assert asked.translate(["bad", "fine"], language="de") == [Failure(f"endpoint: {reason}"), "gut"]
    assert len(server.requests) == num_requests + 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_users_mistakes_end_the_run(status: int, serve: Any) -> None:
    server = serve(lambda body, number: (status, b"who are you"))
    with pytest.raises(ValueError, match=f"HTTP {status}: who are you"):
        translator(server).translate(["a"], language="de")
    assert len(server.requests) == 1


def test_no_server(serve: Any) -> None:
    server = serve(lambda body, number: completion("da"))
    server.close()
    with pytest.raises(ValueError, match="cannot be reached, after 2 attempts each"):
        translator(server, attempts=2).translate(["a", "b"], language="de")
    assert translator(server).translate([], language="de") == []
